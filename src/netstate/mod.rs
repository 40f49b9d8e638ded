//! Brings the kernel's network state to what is desired, and back.
//!
//! What is desired and which steps lead there is decided in [`seedwire_core::netstate`]; here the
//! state is observed, the steps are run with a journal, and an error takes all of them back.

mod apply;
#[cfg(test)]
mod fake;
mod kernel;
mod repair;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use seedwire_core::netstate::{
    Conflict, Desired, Instance, LINK_ALIAS, Link, Observed, Step, Table, plan,
};
use seedwire_core::types::InterfaceName;

use crate::netlink;

pub use apply::Left;
pub use kernel::{Kernel, LiveKernel};
pub use repair::Repair;

/// The network state of one instance, in the network namespace of the thread that first uses it.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct NetState<K = LiveKernel> {
    instance: Instance,
    kernel: K,
    /// The nft table that this process made last.
    applied: Option<Applied>,
}

/// A table that this process made.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Applied {
    table: Table,
    /// What the kernel then held; `None` where it could not be read.
    fingerprint: Option<u64>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The steps in order; empty when all was as desired.
    pub steps: Vec<Step>,
}

/// The desired state could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The state could not be read; nothing was changed.
    #[error("failed to observe the network state")]
    Observe(#[source] netlink::Error),
    /// Something of someone else is in the way; nothing was changed.
    #[error("failed to plan the network state")]
    Conflict(#[source] Conflict),
    /// A step failed; those before it were taken back.
    #[error(
        "failed to apply the network state at \"{what}\"{}",
        apply::describe_left(left)
    )]
    Step {
        /// The step.
        what: String,
        /// The cause.
        source: Box<netlink::Error>,
        /// The steps that were taken back, as text.
        rolled_back: Vec<String>,
        /// What could not be taken back.
        left: Vec<Left>,
    },
}

/// Not everything could be removed.
#[derive(Debug, thiserror::Error)]
pub enum ClearError {
    /// The state could not be read; nothing was removed.
    #[error("failed to observe the network state")]
    Observe(#[source] netlink::Error),
    /// Some steps failed; all others were done.
    #[error("failed to remove the network state{}", apply::describe_left(.0))]
    Left(Vec<Left>),
}

impl NetState {
    /// The network state of the instance of this interface.
    pub fn new(interface: InterfaceName) -> Self {
        Self::with_kernel(interface, LiveKernel::default())
    }

    /// The MTU of the path to an endpoint, in bytes: that of the route, else of the link it leaves
    /// by; `None` when there is no route. `mark` is that of the tunnel's own packets.
    pub fn path_mtu(
        &mut self,
        endpoint: IpAddr,
        mark: Option<u32>,
    ) -> Result<Option<u32>, netlink::Error> {
        self.kernel.path_mtu(endpoint, mark)
    }
}

impl<K: Kernel> NetState<K> {
    /// The network state of the instance of this interface in this kernel.
    pub fn with_kernel(interface: InterfaceName, kernel: K) -> Self {
        Self {
            instance: Instance::new(interface),
            kernel,
            applied: None,
        }
    }

    /// Whose network state it is; what [`seedwire_core::netstate::desired`] asks for.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The state as it is: whole, or an error.
    pub fn observe(&mut self) -> Result<Observed, netlink::Error> {
        let mut observed = self.kernel.observe(&self.instance)?;
        if let (Some(there), Some(applied)) = (&mut observed.table, &self.applied)
            && there.comment.as_deref() == Some(&applied.table.comment())
        {
            there.content = Some(applied.table.clone());
            there.edited = applied.fingerprint.is_some_and(|f| f != there.fingerprint);
        }
        Ok(observed)
    }

    /// Brings the state to what is desired. On an error it is as it was before, but for what the
    /// error lists. Blocks for as long as the kernel takes, milliseconds as a rule.
    pub fn apply(&mut self, desired: &Desired) -> Result<Report, ApplyError> {
        let observed = self.observe().map_err(ApplyError::Observe)?;
        let steps = plan(desired, &observed).map_err(ApplyError::Conflict)?;
        apply::all_or_nothing(&mut self.kernel, &steps)?;
        self.remember(desired, &steps);
        Ok(Report { steps })
    }

    /// Keeps what the table of these steps, which were run, is compared with from now on.
    fn remember(&mut self, desired: &Desired, steps: &[Step]) {
        let written = steps.iter().any(|step| matches!(step, Step::Table { .. }));
        let known = self.applied.as_ref().map(|applied| &applied.table);
        if !written && known == desired.table.as_ref() {
            return;
        }
        let there = self.kernel.table(&self.instance).ok().flatten();
        self.applied = desired.table.clone().map(|table| Applied {
            table,
            fingerprint: there.map(|there| there.fingerprint),
        });
    }

    /// Removes everything that is this instance's, whichever process made it. Goes on past errors
    /// and returns them all. A TUN link goes with the process that holds it.
    pub fn clear(&mut self) -> Result<Report, ClearError> {
        let observed = self.observe().map_err(ClearError::Observe)?;
        let nothing = Desired::nothing(self.instance.clone());
        // Nothing conflicts with nothing.
        let mut steps = plan(&nothing, &observed).unwrap_or_default();
        steps.extend(self.link_that_stays(&observed));
        apply::as_many_as_possible(&mut self.kernel, &steps).map_err(ClearError::Left)?;
        self.applied = None;
        Ok(Report { steps })
    }

    /// A link of the kernel's WireGuard: unlike a TUN link it outlives its process.
    fn link_that_stays(&self, observed: &Observed) -> Option<Step> {
        let link = observed.link(self.instance.interface().as_str())?;
        let is_ours = link.alias.as_deref() == Some(LINK_ALIAS);
        let stays = link.kind.as_deref() == Some("wireguard");
        (is_ours && stays).then(|| Step::RemoveLink {
            name: link.name.clone(),
            index: link.index,
        })
    }

    /// The steps that [`NetState::apply`] would run now, as text. Where the tunnel link is not
    /// there yet, those for a new one, after the one that makes it.
    pub fn plan_text(&mut self, desired: &Desired) -> Result<Vec<String>, ApplyError> {
        let mut observed = self.observe().map_err(ApplyError::Observe)?;
        let name = self.instance.interface().as_str();
        let mut text = Vec::new();
        let link = observed.link(name);
        let is_ours = |link: &Link| link.alias.as_deref() == Some(LINK_ALIAS);
        if desired.mtu.is_some() && link.is_some_and(|link| !is_ours(link)) {
            return Err(ApplyError::Conflict(Conflict::Foreign(name.to_owned())));
        }
        if desired.mtu.is_some() && link.is_none() {
            text.push(format!("add link {name}"));
            observed.links.push(Link {
                index: 0,
                name: name.to_owned(),
                alias: None,
                kind: Some("tun".to_owned()),
                mtu: 1500,
                up: false,
                address_generation: None,
            });
        }
        let steps = plan(desired, &observed).map_err(ApplyError::Conflict)?;
        text.extend(steps.iter().map(ToString::to_string));
        Ok(text)
    }
}
