//! What passes through a peer: echo requests of our own, sealed beside what others send, so that
//! they may be longer than the link allows and need no privilege.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use seedwire_core::tunnel::noise::Opened;
use seedwire_core::tunnel::{EchoFlow, OVERHEAD, PathProbe, PeerState, ProbeStatus};
use tracing::debug;

use super::peer::{Live, Peer};
use super::shared::Shared;
use super::udp::Manner;

/// The probe of one peer.
pub(super) struct Probe {
    flow: EchoFlow,
    path: PathProbe,
    answered: Option<SystemTime>,
    /// Whether the peer was up when it was looked at last.
    was_up: bool,
}

impl Probe {
    fn new(from: IpAddr, to: IpAddr, now: Duration) -> Self {
        // Answers to others' requests have other identifiers, but for an accident.
        let id = getrandom::u32().unwrap_or_default() as u16;
        Self {
            flow: EchoFlow { from, to, id },
            path: PathProbe::new(now),
            answered: None,
            was_up: false,
        }
    }

    pub(super) fn status(&self) -> ProbeStatus {
        ProbeStatus {
            address: self.flow.to,
            answered: self.answered,
            limit: self.path.limit(),
        }
    }

    /// When it is to be looked at again, while the peer is up.
    pub(super) fn deadline(&self) -> Duration {
        self.path.deadline()
    }

    pub(super) fn on_path_changed(&mut self, now: Duration) {
        self.path.on_path_changed(now);
    }

    /// An inner packet came from the peer.
    pub(super) fn on_packet(&mut self, packet: &[u8], now: Duration) {
        if let Some(sequence) = self.flow.answered(packet)
            && self.path.on_answer(now, sequence)
        {
            self.answered = Some(SystemTime::now());
        }
    }
}

impl Live {
    /// Asks `to` from our address `from` from now on; `None` asks nobody.
    pub(super) fn set_probe(&mut self, between: Option<(IpAddr, IpAddr)>, now: Duration) {
        let before = self
            .probe
            .as_ref()
            .map(|probe| (probe.flow.from, probe.flow.to));
        if before != between {
            self.probe = between.map(|(from, to)| Box::new(Probe::new(from, to, now)));
        }
    }
}

impl Peer {
    /// Sends the echo requests whose time has come.
    pub(super) fn probe(&self, shared: &Shared, live: &mut Live, now: Duration) {
        let is_up = live.timers.state() == PeerState::Up;
        let Some(probe) = &mut live.probe else {
            return;
        };
        if !std::mem::replace(&mut probe.was_up, is_up) && is_up {
            probe.on_path_changed(now);
        }
        if !is_up {
            return;
        }
        let before = probe.path.limit();
        let most = shared.most.load(Ordering::Relaxed);
        let echoes = probe.path.poll(now, most);
        if probe.path.limit() != before {
            shared.tick();
        }
        let flow = probe.flow;
        for echo in echoes {
            let packet = flow.request(echo.sequence, echo.size);
            self.send_whole(shared, live, now, &packet);
        }
    }

    /// Sends one inner packet in one datagram that must not be cut on its way.
    fn send_whole(&self, shared: &Shared, live: &mut Live, now: Duration, packet: &[u8]) {
        let (Some(engine), Some(place)) = (&live.engine, live.place) else {
            return;
        };
        let length = packet.len() + OVERHEAD;
        let mut datagram = vec![0; length];
        datagram[Opened::PACKET..][..packet.len()].copy_from_slice(packet);
        let sealed = engine
            .sending(now)
            .is_some_and(|it| it.seal(now, &mut datagram, packet.len()).is_ok());
        if !sealed {
            return;
        }
        live.timers.on_sent(now, true);
        let udp = shared.udp.load();
        let sent = udp
            .as_ref()
            .map(|udp| udp.send(&place, &datagram, length, Manner::Whole));
        match sent {
            Some(Ok(_)) => {
                self.transmitted.fetch_add(length as u64, Ordering::Relaxed);
            }
            // One that is too long for the way that the kernel knows is one that is lost.
            Some(Err(error)) => debug!(peer = live.name, %error, "echo request not sent"),
            None => {}
        }
    }
}
