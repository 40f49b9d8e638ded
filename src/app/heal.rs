//! Keeping the network state as desired while others change it, and following what it depends on.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use seedwire_core::config::{Config, Peer};
use seedwire_core::netstate::{Contests, Held, Object, Step, desired};
use tokio::time::{Instant, sleep_until};

use super::facts;
use super::instance::{Instance, known_endpoints, narrowest};
use crate::netlink::{self, Monitor};
use crate::netstate::Repair;

/// How long changes may gather after the first: those who change something rarely change one thing.
const SETTLE: Duration = Duration::from_millis(50);
/// Of the time, at most one part in this many goes into looking, however much others change.
const SHARE: u32 = 10;
/// The settings of the kernel that tell no one when they change are looked at this often.
const SAFETY_CHECK: Duration = Duration::from_secs(60);
/// A state that could not be read is read again after this long.
const RETRY: Duration = Duration::from_secs(1);
/// Lines in the log for one repair; what is beyond is counted.
const MOST_LINES: usize = 20;

/// When to look, and what was seen.
pub(super) struct Healing {
    monitor: Monitor,
    contests: Contests,
    /// Nothing is looked at before.
    rests_until: Instant,
    /// When it is looked at next, whatever happens.
    next: Instant,
    /// What was said about what is wrong, so that it is said once.
    told: Vec<String>,
}

impl Healing {
    /// Begins to watch the network state.
    pub(super) fn start() -> anyhow::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            monitor: Monitor::open().context("failed to watch the network state")?,
            contests: Contests::default(),
            rests_until: now,
            next: now + SAFETY_CHECK,
            told: Vec::new(),
        })
    }

    /// Waits until it is time to look. Nothing is lost when the future is dropped.
    pub(super) async fn due(&mut self) -> Result<(), netlink::Error> {
        loop {
            tokio::select! {
                () = sleep_until(self.next) => return Ok(()),
                changed = self.monitor.changed() => {
                    changed?;
                    let soon = self.rests_until.max(Instant::now() + SETTLE);
                    self.next = self.next.min(soon);
                }
            }
        }
    }

    /// Takes note of a look that began then.
    fn looked(&mut self, started: Instant, held: &[Held]) {
        let now = Instant::now();
        self.rests_until = now + (now - started) * SHARE;
        let released = held.iter().map(|held| held.until.into()).min();
        let check = now + SAFETY_CHECK;
        self.next = released.map_or(check, |released| check.min(released));
    }

    /// Says in the log what is wrong and was not said yet.
    fn tell(&mut self, wrong: Vec<String>) {
        for text in wrong.iter().filter(|text| !self.told.contains(text)) {
            tracing::error!(error = %text, "failed to keep the network state");
        }
        if wrong.is_empty() && !self.told.is_empty() {
            tracing::info!("the network state is as desired again");
        }
        self.told = wrong;
    }
}

impl Instance {
    /// Brings the network state to what is desired now: endpoints and the paths to them may have
    /// moved, and others may have changed what was applied.
    pub(super) fn heal(&mut self, config: &Config) {
        let started = Instant::now();
        let followed = self.follow(config);
        let (Some(net), Some(healing), Some(desired)) =
            (&mut self.net, &mut self.healing, &self.applied)
        else {
            return;
        };
        let repair = net.repair(desired, &mut healing.contests, started.into_std());
        let repair = match repair {
            Ok(repair) => repair,
            Err(error) => {
                let trouble = format!("{:#}", anyhow::Error::new(error));
                healing.looked(started, &[]);
                healing.next = Instant::now() + RETRY;
                self.state.set_network_trouble(trouble.clone());
                healing.tell(vec![trouble]);
                return;
            }
        };
        healing.looked(started, &repair.held);
        self.show(repair, followed);
    }

    /// Follows a path that takes less, or more, than before, which the kernel tells no one.
    pub(super) fn follow_path(&mut self, config: &Config) {
        let (Some(tunnel), Some(net)) = (&config.tunnel, &mut self.net) else {
            return;
        };
        let rests = |peer: &Peer| peer.endpoints.is_empty() && peer.probe.is_none();
        if tunnel.peers.iter().all(rests) {
            return;
        }
        let endpoints = known_endpoints(config, self.tunnel.as_ref());
        let before = self.state.mtu();
        let narrowest = narrowest(self.tunnel.as_ref());
        let (_, found) = facts::gather(tunnel, endpoints, net, before.clone(), narrowest);
        if before != Some(found) {
            self.heal(config);
        }
    }

    /// Recomputes what is desired; what is routed and the MTU depend on where the endpoints are.
    fn follow(&mut self, config: &Config) -> anyhow::Result<()> {
        let (Some(tunnel), Some(net)) = (&config.tunnel, &mut self.net) else {
            return Ok(());
        };
        let endpoints = known_endpoints(config, self.tunnel.as_ref());
        let narrowest = narrowest(self.tunnel.as_ref());
        let (facts, mtu) = facts::gather(tunnel, endpoints, net, self.state.mtu(), narrowest);
        let desired = desired(net.instance().clone(), config, &facts);
        if self.applied.as_ref() != Some(&desired) {
            let fwmark = self.applied.as_ref().and_then(|applied| applied.fwmark);
            let mark_changes = fwmark != desired.fwmark;
            self.apply(desired)?;
            if mark_changes {
                self.set_tunnel(config, tunnel)?;
            }
        }
        self.take_mtu(mtu);
        Ok(())
    }

    /// Says in log, metrics and status what was put back and what is wrong.
    fn show(&mut self, repair: Repair, followed: anyhow::Result<()>) {
        for step in repair.done.iter().take(MOST_LINES) {
            tracing::warn!(step = step.summary(), "put back what others changed");
        }
        if let more @ 1.. = repair.done.len().saturating_sub(MOST_LINES) {
            tracing::warn!(more, "put back what others changed");
        }
        for step in &repair.done {
            self.state.repaired(step.kind());
        }
        self.in_force.extend(repair.done);
        let contested: HashMap<Object, String> = repair.held.iter().map(contest).collect();
        let conflicts = repair.conflicts.iter().map(ToString::to_string);
        let failures = repair.failed.iter().map(ToString::to_string);
        let followed = followed.err().map(|error| format!("{error:#}"));
        let trouble: Vec<String> = followed
            .into_iter()
            .chain(conflicts)
            .chain(failures)
            .collect();
        self.state.set_network(self.in_force.shown(&contested));
        if !trouble.is_empty() {
            self.state.set_network_trouble(trouble.join("; "));
            self.state.failed(trouble.join("; "));
        }
        let held = repair
            .held
            .iter()
            .map(|held| told(&held.step, held.repairs));
        let wrong = trouble.into_iter().chain(held).collect();
        if let Some(healing) = &mut self.healing {
            healing.tell(wrong);
        }
    }
}

fn contest(held: &Held) -> (Object, String) {
    (held.step.object(), told(&held.step, held.repairs))
}

fn told(step: &Step, repairs: u32) -> String {
    let step = step.summary();
    format!(
        "another program keeps taking back \"{step}\", which was repeated {repairs} times; it rests for a while"
    )
}
