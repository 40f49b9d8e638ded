//! Putting back what others changed.

use std::collections::HashSet;
use std::slice;
use std::time::Instant;

use seedwire_core::netstate::{Conflict, Contests, Desired, Held, Step, plan_around};

use crate::netlink;

use super::apply::{self, Left};
use super::{Kernel, NetState};

/// What became of a repair.
#[derive(Debug, Default)]
pub struct Repair {
    /// What was put back, in order.
    pub done: Vec<Step>,
    /// What waits, because others keep taking it back.
    pub held: Vec<Held>,
    /// What belongs to someone else and is in the way.
    pub conflicts: Vec<Conflict>,
    /// What the kernel refused.
    pub failed: Vec<Left>,
}

impl<K: Kernel> NetState<K> {
    /// Puts back what differs from what is desired and was applied before. Unlike
    /// [`NetState::apply`] it does as much as it can: half of the state that is desired is better
    /// than less. What others keep changing waits as `contests` says.
    ///
    /// # Errors
    /// When the state can't be read; nothing was changed then.
    pub fn repair(
        &mut self,
        desired: &Desired,
        contests: &mut Contests,
        now: Instant,
    ) -> Result<Repair, netlink::Error> {
        let observed = self.observe()?;
        let (steps, conflicts) = plan_around(desired, &observed);
        let (mut done, held) = contests.admit(steps, now);
        let is_sysctl = |step: &Step| matches!(step, Step::Sysctl { .. });
        // A sysctl may only be set when those before it are: a host that forwards IPv6 loses its
        // default route where router advertisements were not seen to first.
        let mut in_order = !held.iter().any(|held| is_sysctl(&held.step));
        let mut failed = Vec::new();
        done.retain(|step| {
            if is_sysctl(step) && in_order {
                let ran = apply::as_many_as_possible(&mut self.kernel, slice::from_ref(step));
                in_order = ran.is_ok();
                failed.extend(ran.err().unwrap_or_default());
                in_order
            } else {
                !is_sysctl(step)
            }
        });
        let others = done.iter().filter(|step| !is_sysctl(step));
        let others: Vec<Step> = others.cloned().collect();
        let ran = apply::as_many_as_possible(&mut self.kernel, &others);
        failed.extend(ran.err().unwrap_or_default());
        let texts: HashSet<&str> = failed.iter().map(|left| left.step.as_str()).collect();
        done.retain(|step| texts.is_empty() || !texts.contains(step.to_string().as_str()));
        if done.iter().any(|step| matches!(step, Step::Table { .. })) {
            self.remember(desired, &done);
        }
        Ok(Repair {
            done,
            held,
            conflicts,
            failed,
        })
    }
}
