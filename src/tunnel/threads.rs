//! The two packet threads: out of the TUN into UDP, and out of UDP into the TUN.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use seedwire_core::tunnel::offload::{Segments, VNET_HEADER, VnetHeader};
use seedwire_core::tunnel::{HANDSHAKE_ROOM, OVERHEAD, Refusal, packet};
use tracing::debug;

use super::batch::Batch;
use super::error::Failure;
use super::handover::Handover;
use super::noise::{Addressee, data_index};
use super::peer::{Opening, Peer};
use super::shared::{Shared, Table};
use super::tun::{MtuReader, Tun};
use super::udp::{self, Place, Received};
use super::unreachable::Unreachable;

/// Room for the longest IP packet with its padding, sealed.
const ROOM: usize = VNET_HEADER + 65536 + 16 + OVERHEAD;

/// How many packets are taken before the other sources get their turn.
const RUN: usize = 64;

/// How often the link's MTU, which anybody may change, is looked at while packets pass.
const LOOK_AT_MTU: Duration = Duration::from_secs(1);

/// Takes inner packets and sends them to their peers.
pub(super) fn run_egress(shared: &Shared, tun: &Tun, mtu: &MtuReader) {
    let mut buffer = vec![0; ROOM];
    let mut inner = vec![0; ROOM];
    let mut batch = Batch::new(ROOM);
    let mut unreachable = Unreachable::new(tun);
    let mut look = Duration::ZERO;
    while wait(shared, &[tun.as_fd()]) {
        let now = shared.now();
        if now >= look {
            look = now + LOOK_AT_MTU;
            // In another namespace the link keeps the MTU that was seen last.
            if let Ok(mtu) = mtu.read() {
                shared.mtu.store(mtu, Ordering::Relaxed);
            }
        }
        for _ in 0..RUN {
            match tun.read(&mut buffer) {
                Ok(length) => {
                    let read = &mut buffer[..length];
                    if let Some(lost) = egress(shared, tun, read, &mut inner, &mut batch) {
                        unreachable.tell(lost, shared.now());
                    }
                }
                Err(error) if is_nothing(&error) => break,
                Err(error) if error.raw_os_error() == Some(libc::EBADFD) => {
                    shared.fail(Failure::InterfaceDeleted(shared.name.clone()));
                    return;
                }
                Err(error) => {
                    debug!(%error, "no packet from the interface");
                    break;
                }
            }
        }
        batch.send(shared);
    }
}

/// Sends what was read to its peer; a packet that has no way is returned.
fn egress<'p>(
    shared: &Shared,
    tun: &Tun,
    read: &'p mut [u8],
    inner: &mut [u8],
    batch: &mut Batch,
) -> Option<&'p [u8]> {
    let (vnet, packet) = if tun.has_vnet() {
        let (header, packet) = read.split_first_chunk_mut::<VNET_HEADER>()?;
        (VnetHeader::read(header), packet)
    } else {
        (VnetHeader::default(), read)
    };
    let table = shared.table.load();
    let Some(peer) = table.peer_of(packet::destination(packet)?) else {
        return Some(packet);
    };
    let packets = Segments::new(vnet, packet)?;
    let sent = peer.transmit(shared, packets, inner, batch);
    (!sent).then_some(packet)
}

/// Takes datagrams and hands what is in them to the TUN.
pub(super) fn run_ingress(shared: &Shared, tun: &Tun) {
    let mut buffer = vec![0; ROOM];
    let mut handover = Handover::new(tun, 4 * ROOM);
    let mut opening = Opening::default();
    loop {
        let udp = shared.udp.load_full();
        let sockets = udp.iter().flat_map(|udp| udp.sockets()).flatten();
        let sockets: Vec<_> = sockets.chain([shared.rebound.as_fd()]).collect();
        if !wait(shared, &sockets) {
            return;
        }
        let mut idle = true;
        for socket in udp.iter().flat_map(|udp| udp.sockets()).flatten() {
            for _ in 0..RUN {
                match udp::receive(socket, &mut buffer) {
                    Ok(received) => {
                        idle = false;
                        ingress(shared, &buffer, received, &mut handover, &mut opening);
                    }
                    Err(error) if is_nothing(&error) => break,
                    // Such as an ICMP error for something that was sent before.
                    Err(error) => debug!(%error, "no datagram"),
                }
            }
            handover.flush();
        }
        if idle {
            // Empties the counter that says the sockets are others; they are looked at anew anyway.
            let _ = shared.rebound.read();
        }
    }
}

fn ingress(
    shared: &Shared,
    buffer: &[u8],
    received: Received,
    handover: &mut Handover<'_>,
    opening: &mut Opening,
) {
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

fn is_nothing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Waits until one of these is readable; false once the device stops.
pub(super) fn wait(shared: &Shared, readable: &[std::os::fd::BorrowedFd<'_>]) -> bool {
    let mut all = [const { None }; 8];
    let sources = readable.iter().copied().chain([shared.stop.as_fd()]);
    let mut count = 0;
    for (slot, source) in all.iter_mut().zip(sources) {
        *slot = Some(PollFd::new(source, PollFlags::POLLIN));
        count += 1;
    }
    let mut all =
        all.map(|slot| slot.unwrap_or(PollFd::new(shared.stop.as_fd(), PollFlags::POLLIN)));
    // An interrupted wait is one that found nothing.
    let _ = poll(&mut all[..count], PollTimeout::NONE);
    !shared.is_stopping()
}
