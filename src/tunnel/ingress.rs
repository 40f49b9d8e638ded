//! Out of UDP, into the TUN.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use seedwire_core::tunnel::{HANDSHAKE_ROOM, Refusal, packet};
use tracing::debug;

use super::handover::Handover;
use super::noise::{Addressee, data_index};
use super::peer::{Opening, Peer};
use super::shared::{Shared, Table};
use super::threads::{MOST_BYTES, MOST_PACKETS, ROOM, is_nothing};
use super::tun::Tun;
use super::udp::{self, Place, Received};

/// Takes datagrams and hands what is in them to the TUN.
pub(super) struct Ingress<'a> {
    buffer: Vec<u8>,
    handover: Handover<'a>,
    opening: Opening,
}

impl<'a> Ingress<'a> {
    pub(super) fn new(tun: &'a Tun) -> Self {
        Self {
            buffer: vec![0; ROOM],
            handover: Handover::new(tun, 4 * ROOM),
            opening: Opening::default(),
        }
    }

    /// Hands over what waits in the socket, as much as fits a turn.
    pub(super) fn turn(&mut self, shared: &Shared, socket: BorrowedFd<'_>) {
        let mut bytes = 0;
        for _ in 0..MOST_PACKETS {
            match udp::receive(socket, &mut self.buffer) {
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

    /// Opens what was received and hands it over, now or with what follows.
    fn pass(&mut self, shared: &Shared, received: Received) {
        let Self {
            buffer,
            handover,
            opening,
        } = self;
        let table = shared.table.load();
        let from = received.from;
        let datagrams = buffer[..received.length].chunks(received.segment);
        let mut datagrams = datagrams.peekable();
        while let Some(datagram) = datagrams.next() {
            let out = handover.room(received.length + HANDSHAKE_ROOM);
            let peer = match addressee(shared, &table, from, datagram, out) {
                Ok(peer) => peer,
                Err(refusal) => {
                    shared.refused.count(refusal);
                    continue;
                }
            };
            peer.receive(shared, from, datagram, &mut datagrams, out, opening);
            handover.add(opening.drain(), |packet| {
                let source = packet::source(packet);
                let owner = source.and_then(|source| table.allowed.lookup(source));
                if owner != Some(peer.index) {
                    shared.refused.count(Refusal::WrongSource);
                }
                owner == Some(peer.index)
            });
        }
    }
}

/// The peer that a datagram is for. `out` is scratch, [`HANDSHAKE_ROOM`] bytes at least.
fn addressee<'t>(
    shared: &Shared,
    table: &'t Table,
    from: Place,
    datagram: &[u8],
    out: &mut [u8],
) -> Result<&'t Arc<Peer>, Refusal> {
    let addressee = match (data_index(datagram), &table.identity) {
        (Some(index), _) => Addressee::Index(index),
        (None, Some(identity)) => identity.dispatch(from.address.ip(), datagram, out)?,
        // Without a key of ours none can be for us.
        (None, None) => return Err(Refusal::WrongMac),
    };
    match addressee {
        Addressee::Index(index) => table.by_index.get(&index).ok_or(Refusal::UnknownIndex),
        Addressee::Key(key) => table.by_key.get(&key).ok_or(Refusal::UnknownKey),
        Addressee::Prove(length) => {
            if let Some(udp) = shared.udp.load().as_ref() {
                let _ = udp.send(&from, &out[..length], length, true);
            }
            Err(Refusal::Unproven)
        }
    }
}
