//! Out of the TUN, into UDP.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use seedwire_core::tunnel::offload::{Segments, VNET_HEADER, VnetHeader};
use seedwire_core::tunnel::packet;
use tracing::debug;

use super::batch::Batch;
use super::error::Failure;
use super::shared::Shared;
use super::threads::{MOST_BYTES, MOST_PACKETS, ROOM, is_nothing};
use super::tun::{MtuReader, Tun};
use super::unreachable::Unreachable;

/// How often the link's MTU, which anybody may change, is looked at while packets pass.
const LOOK_AT_MTU: Duration = Duration::from_secs(1);

/// Takes inner packets and sends them to their peers; for one thread at a time.
pub(super) struct Egress {
    tun: Arc<Tun>,
    mtu: MtuReader,
    buffer: Vec<u8>,
    batch: Batch,
    unreachable: Unreachable,
    look: Duration,
}

impl Egress {
    pub(super) fn new(tun: Arc<Tun>, mtu: MtuReader) -> Self {
        Self {
            tun,
            mtu,
            buffer: vec![0; ROOM],
            batch: Batch::new(ROOM),
            unreachable: Unreachable::new(),
            look: Duration::ZERO,
        }
    }

    /// Sends what waits in the TUN, as much as fits a turn. An error ends the device.
    pub(super) fn turn(&mut self, shared: &Shared, now: Duration) -> Result<(), Failure> {
        self.look_at_mtu(shared, now);
        let mut bytes = 0;
        for _ in 0..MOST_PACKETS {
            match self.tun.read(&mut self.buffer) {
                Ok(length) => {
                    self.pass(shared, length);
                    bytes += length;
                }
                Err(error) if is_nothing(&error) => break,
                Err(error) if error.raw_os_error() == Some(libc::EBADFD) => {
                    return Err(Failure::InterfaceDeleted(shared.name.clone()));
                }
                Err(error) => {
                    debug!(%error, "no packet from the interface");
                    break;
                }
            }
            if bytes >= MOST_BYTES {
                break;
            }
        }
        self.batch.send(shared);
        Ok(())
    }

    fn look_at_mtu(&mut self, shared: &Shared, now: Duration) {
        if now >= self.look {
            self.look = now + LOOK_AT_MTU;
            // In another namespace the link keeps the MTU that was seen last.
            if let Ok(mtu) = self.mtu.read() {
                shared.mtu.store(mtu, Ordering::Relaxed);
            }
        }
    }

    /// Seals what was read and sends it, now or with what follows; answers a packet that has no
    /// way.
    fn pass(&mut self, shared: &Shared, length: usize) {
        let read = &mut self.buffer[..length];
        if let Some(lost) = pass(shared, &self.tun, read, &mut self.batch) {
            self.unreachable.tell(&self.tun, lost, shared.now());
        }
    }
}

/// Seals what was read and sends it; a packet that has no way is returned.
fn pass<'p>(shared: &Shared, tun: &Tun, read: &'p mut [u8], batch: &mut Batch) -> Option<&'p [u8]> {
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
    let sent = peer.transmit(shared, packets, batch);
    (!sent).then_some(packet)
}
