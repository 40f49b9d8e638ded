//! Where peers are dialled: names are resolved, and addresses tried one after the other.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use seedwire_core::tunnel::{PeerState, PeerStatus};
use seedwire_core::types::{Endpoint, Host, PublicKey};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::{DeviceHandle, Dialled};
use crate::resolve::Resolve;

/// The pause before a name that could not be resolved is tried again, first and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// After so many unanswered rounds, of 10 s each, another source port is taken.
const ROUNDS_PER_PORT: u32 = 3;

/// The task that gives a device's peers their addresses: at first, and again whenever one is down.
/// Between these nothing is resolved. While resolution fails the last address stays.
pub struct Dialer {
    device: DeviceHandle,
    resolve: Arc<dyn Resolve>,
    peers: HashMap<PublicKey, Target>,
    /// The unanswered rounds of all peers, and how many of them since one was up.
    rounds: u64,
    silent: u32,
}

/// Where one peer is dialled.
#[derive(Default)]
struct Target {
    endpoints: Vec<Endpoint>,
    /// The addresses of all endpoints, as they were resolved last, in order.
    candidates: Vec<SocketAddr>,
    current: Option<SocketAddr>,
    rounds: u64,
    /// How long after a failure the next try comes; `None`: nothing failed.
    pause: Option<Duration>,
}

impl Dialer {
    /// Starts the task, which ends with the device.
    pub fn spawn(device: DeviceHandle, resolve: Arc<dyn Resolve>) -> JoinHandle<()> {
        let dialer = Self {
            device,
            resolve,
            peers: HashMap::new(),
            rounds: 0,
            silent: 0,
        };
        tokio::spawn(dialer.run())
    }

    async fn run(mut self) {
        let mut changes = self.device.changes();
        while !self.device.is_stopped() {
            changes.mark_unchanged();
            self.look().await;
            let pause = self.peers.values().filter_map(|target| target.pause).min();
            // Unanswered rounds of a peer that stays down change no state, so they are looked for.
            let pause = pause.unwrap_or(Duration::from_secs(5));
            let changed = tokio::time::timeout(pause, changes.changed()).await;
            if matches!(changed, Ok(Err(_))) {
                return;
            }
        }
    }

    /// Takes another source port once no peer has answered for a while: a NAT or a balancer on the
    /// way may hold on to where a hub was, for as long as packets of this port come.
    fn change_port(&mut self, dialled: &[Dialled]) {
        let all = dialled.iter().map(|(.., rounds)| rounds).sum();
        if std::mem::replace(&mut self.rounds, all) == all {
            return;
        }
        let is_up = |peer: &PeerStatus| peer.state == PeerState::Up;
        self.silent = match self.device.peers().iter().any(is_up) {
            true => 0,
            false => self.silent + 1,
        };
        if self.silent == ROUNDS_PER_PORT {
            self.silent = 0;
            self.device.change_port();
        }
    }

    /// Finds the peers that need another address and dials them.
    async fn look(&mut self) {
        let dialled = self.device.dialled();
        self.change_port(&dialled);
        let keys: HashSet<&PublicKey> = dialled.iter().map(|(key, ..)| key).collect();
        self.peers.retain(|key, _| keys.contains(key));
        for (key, endpoints, rounds) in dialled {
            let target = self.peers.entry(key).or_default();
            let others = target.endpoints != endpoints;
            if others {
                target.replace(endpoints, rounds);
            }
            let unanswered = std::mem::replace(&mut target.rounds, rounds) != rounds;
            if others || unanswered || target.pause.is_some() {
                target.find(&*self.resolve).await;
                if let Some(next) = target.next(unanswered) {
                    self.device.dial(&key, next);
                }
            }
        }
    }
}

impl Target {
    /// Takes other endpoints over. The address in use stays in use where it is one of theirs.
    fn replace(&mut self, endpoints: Vec<Endpoint>, rounds: u64) {
        *self = Self {
            endpoints,
            rounds,
            current: self.current,
            ..Self::default()
        };
    }

    /// Resolves all endpoints anew; those whose name can't be keep their last addresses.
    async fn find(&mut self, resolve: &dyn Resolve) {
        let mut found = Vec::new();
        let mut failed = false;
        for endpoint in &self.endpoints {
            match &endpoint.host {
                Host::Address(address) => found.push(SocketAddr::new(*address, endpoint.port)),
                Host::Name(name) => match resolve.resolve(name).await {
                    Ok(addresses) => {
                        let port = endpoint.port;
                        found.extend(addresses.iter().map(|a| SocketAddr::new(*a, port)));
                    }
                    Err(error) => {
                        failed = true;
                        if self.pause.is_none() {
                            let cause = error.source.to_string();
                            warn!(%name, cause, "endpoint not resolved; it is tried again");
                        }
                    }
                },
            }
        }
        if failed {
            found.extend(
                self.candidates
                    .iter()
                    .copied()
                    .filter(|old| !found.contains(old))
                    .collect::<Vec<_>>(),
            );
        }
        let mut unique = Vec::new();
        for address in found {
            if !unique.contains(&address) {
                unique.push(address);
            }
        }
        self.candidates = unique;
        self.pause = failed.then(|| {
            self.pause
                .map_or(FIRST_PAUSE, |pause| (2 * pause).min(LONGEST_PAUSE))
        });
    }

    /// The address to dial, when it is another one.
    fn next(&mut self, unanswered: bool) -> Option<SocketAddr> {
        let at = |address| {
            self.candidates
                .iter()
                .position(|candidate| *candidate == address)
        };
        let current = self.current.and_then(at);
        let next = match current {
            Some(index) if unanswered => self.candidates[(index + 1) % self.candidates.len()],
            Some(_) => return None,
            None => *self.candidates.first()?,
        };
        if let Some(before) = self.current.replace(next).filter(|before| *before != next) {
            info!(endpoint = %next, %before, "the next address of the peer is tried");
        }
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Mutex;

    use seedwire_core::types::DnsName;

    use super::*;
    use crate::resolve::{Lookup, ResolveError};

    /// Answers with what it was given last; with an error where that is nothing.
    struct Fake(Mutex<Vec<IpAddr>>);

    impl Resolve for Fake {
        fn resolve<'a>(&'a self, name: &'a DnsName) -> Lookup<'a> {
            let found = self.0.lock().expect("no test panics here").clone();
            let failed = ResolveError {
                name: name.clone(),
                source: Arc::new(std::io::Error::other("no answer")),
            };
            Box::pin(async move {
                if found.is_empty() {
                    Err(failed)
                } else {
                    Ok(found)
                }
            })
        }
    }

    fn target(endpoints: &[&str]) -> Target {
        let endpoints = endpoints
            .iter()
            .map(|text| text.parse().expect("an endpoint"));
        Target {
            endpoints: endpoints.collect(),
            ..Target::default()
        }
    }

    async fn step(target: &mut Target, fake: &Fake, unanswered: bool) -> Option<String> {
        target.find(fake).await;
        target.next(unanswered).map(|address| address.to_string())
    }

    #[tokio::test]
    async fn addresses_are_tried_in_order_and_from_the_start_again() {
        let fake = Fake(Mutex::new(vec![
            [192, 0, 2, 1].into(),
            "2001:db8::1".parse().expect("an address"),
        ]));
        let mut target = target(&["hub.example.com:1", "192.0.2.9:2"]);
        let mut tried = vec![step(&mut target, &fake, false).await];
        assert_eq!(step(&mut target, &fake, false).await, None);
        for _ in 0..3 {
            tried.push(step(&mut target, &fake, true).await);
        }
        let tried: Vec<_> = tried.into_iter().flatten().collect();
        assert_eq!(
            tried,
            [
                "192.0.2.1:1",
                "[2001:db8::1]:1",
                "192.0.2.9:2",
                "192.0.2.1:1"
            ]
        );
    }

    #[tokio::test]
    async fn another_list_keeps_the_address_in_use_only_where_it_has_it() {
        let fake = Fake(Mutex::new(Vec::new()));
        let mut target = target(&["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"]);
        step(&mut target, &fake, false).await;
        step(&mut target, &fake, true).await;
        let shrunk = ["192.0.2.3:1", "192.0.2.2:1"].map(|text| text.parse().expect("one"));
        target.replace(shrunk.to_vec(), 1);
        assert_eq!(step(&mut target, &fake, false).await, None);
        target.replace(shrunk[..1].to_vec(), 1);
        assert_eq!(
            step(&mut target, &fake, false).await.as_deref(),
            Some("192.0.2.3:1")
        );
        // The only address there is, is called again and again by the timers alone.
        assert_eq!(
            step(&mut target, &fake, true).await.as_deref(),
            Some("192.0.2.3:1")
        );
    }

    #[tokio::test]
    async fn a_name_that_moved_is_followed_and_an_address_stays_while_resolution_fails() {
        let fake = Fake(Mutex::new(Vec::new()));
        let mut target = target(&["hub.example.com:1"]);
        assert_eq!(step(&mut target, &fake, false).await, None);
        assert_eq!(target.pause, Some(FIRST_PAUSE));
        *fake.0.lock().expect("no panic") = vec![[192, 0, 2, 1].into()];
        assert_eq!(
            step(&mut target, &fake, false).await.as_deref(),
            Some("192.0.2.1:1")
        );
        assert_eq!(target.pause, None);
        *fake.0.lock().expect("no panic") = Vec::new();
        assert_eq!(
            step(&mut target, &fake, true).await.as_deref(),
            Some("192.0.2.1:1")
        );
        *fake.0.lock().expect("no panic") = vec![[192, 0, 2, 7].into()];
        assert_eq!(
            step(&mut target, &fake, true).await.as_deref(),
            Some("192.0.2.7:1")
        );
    }
}
