//! Out of UDP, into the TUN.

use std::os::fd::BorrowedFd;

use seedwire_core::tunnel::noise::{Addressee, HANDSHAKE_ROOM, Identity, data_index};
use seedwire_core::tunnel::{Refusal, packet};
use tracing::debug;

use super::handover::Handover;
use super::peer::{Opening, Run};
use super::shared::{Shared, Table, random};
use super::threads::{MOST_BYTES, MOST_PACKETS, ROOM, is_nothing};
use super::tun::Tun;
use super::udp::{self, Manner, Place, Received};

/// Takes datagrams and hands what is in them to the TUN.
pub(super) struct Ingress<'a> {
    handover: Handover<'a>,
    opening: Opening,
}

impl<'a> Ingress<'a> {
    pub(super) fn new(tun: &'a Tun) -> Self {
        Self {
            handover: Handover::new(tun, 4 * ROOM),
            opening: Opening::default(),
        }
    }

    /// Hands over what waits in the socket, as much as fits a turn.
    pub(super) fn turn(&mut self, shared: &Shared, socket: BorrowedFd<'_>) {
        let mut bytes = 0;
        for _ in 0..MOST_PACKETS {
            match udp::receive(socket, self.handover.room(ROOM)) {
                Ok(received) => {
                    self.pass(shared, received);
                    bytes += received.length;
                }
                Err(error) if is_nothing(&error) => break,
                // Such as an ICMP error for something that was sent before.
                Err(error) => debug!(%error, "no datagram"),
            }
            if bytes >= MOST_BYTES {
                break;
            }
        }
        self.handover.flush();
    }

    /// Opens what was received where it lies and hands it over, now or with what follows.
    fn pass(&mut self, shared: &Shared, received: Received) {
        let table = shared.table.load();
        let mut run = Run {
            from: received.from,
            // Nothing was added since it was received, so that it is the same room.
            datagrams: &mut self.handover.room(ROOM)[..received.length],
            segment: received.segment,
            at: 0,
        };
        while let Some(at) = run.next() {
            let datagram = &run.datagrams[at.clone()];
            let done = match (data_index(datagram), &table.identity) {
                (Some(index), Some(identity)) => match table.by_index.get(&identity.peer(index)) {
                    Some(peer) => {
                        peer.receive(shared, &mut run, &mut self.opening);
                        continue;
                    }
                    None => Err(Refusal::UnknownIndex),
                },
                (_, Some(identity)) => handshake(shared, &table, identity, run.from, datagram),
                // Without a key of ours none can be for us.
                (_, None) => Err(Refusal::WrongMac),
            };
            if let Err(refusal) = done {
                shared.refused.count(refusal);
            }
            run.at = at.end;
        }
        // Most packets of a run are of one source.
        let (mut last, mut owner) = (None, None);
        self.handover.add(self.opening.drain(), |packet, peer| {
            let source = packet::source(packet);
            if source != last {
                owner = source.and_then(|source| table.allowed.lookup(source));
                last = source;
            }
            if owner != Some(peer) {
                shared.refused.count(Refusal::WrongSource);
            }
            owner == Some(peer)
        });
    }
}

/// Takes what is not a sealed packet.
fn handshake(
    shared: &Shared,
    table: &Table,
    identity: &Identity,
    from: Place,
    message: &[u8],
) -> Result<(), Refusal> {
    let mut out = [0; HANDSHAKE_ROOM];
    let now = shared.now();
    match identity.dispatch(now, from.address, message, &mut out, &mut random)? {
        Addressee::Initiation(initiation) => {
            let peer = table.by_key.get(initiation.peer());
            let peer = peer.ok_or(Refusal::UnknownKey)?;
            Ok(peer.respond(shared, from, *initiation)?)
        }
        Addressee::Peer(index) => {
            let peer = table.by_index.get(&index).ok_or(Refusal::UnknownIndex)?;
            Ok(peer.take(shared, from, message)?)
        }
        Addressee::Prove { length } => {
            if let Some(udp) = shared.udp.load().as_ref() {
                let _ = udp.send(&from, &out[..length], length, Manner::OneByOne);
            }
            Err(Refusal::Unproven)
        }
    }
}
