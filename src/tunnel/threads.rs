//! The packet threads. One carries both directions; while that is too much for it, a second one
//! carries what goes out.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use seedwire_core::tunnel::OVERHEAD;
use seedwire_core::tunnel::offload::VNET_HEADER;
use tracing::debug;

use super::egress::Egress;
use super::ingress::Ingress;
use super::load::Load;
use super::shared::Shared;
use super::tun::Tun;

/// Room for the longest IP packet with its padding, sealed.
pub(super) const ROOM: usize = VNET_HEADER + 65536 + 16 + OVERHEAD;

/// How many packets, and how many bytes, are taken before the other sources get their turn: fewer
/// would gather too few acknowledgements of bulk, more would let others wait too long.
pub(super) const MOST_PACKETS: usize = 64;
pub(super) const MOST_BYTES: usize = 1 << 20;

/// Carries both directions, less what goes out while `second` has it.
pub(super) fn run(shared: &Shared, tun: &Arc<Tun>, egress: Egress, second: &Second) {
    let mut ingress = Ingress::new(tun);
    let mut egress = Some(egress);
    let mut load = Load::new(shared.now(), used());
    loop {
        let udp = shared.udp.load_full();
        let [v4, v6] = udp.as_ref().map_or([None; 2], |udp| udp.sockets());
        let out = egress.is_some().then(|| tun.as_fd());
        let woken = Some(shared.rebound.as_fd());
        let Some(ready) = wait(shared, [v4, v6, out, woken]) else {
            return;
        };
        if ready[3] {
            // The sockets are others and are looked up anew anyway, or this comes back.
            let _ = shared.rebound.read();
            egress = egress.or_else(|| second.take_back());
        }
        let start = shared.now();
        if ready[2]
            && let Some(egress) = &mut egress
            && let Err(failure) = egress.turn(shared, start)
        {
            shared.fail(failure);
            return;
        }
        let middle = shared.now();
        for (socket, _) in [v4, v6].into_iter().zip(ready).filter(|(_, ready)| *ready) {
            if let Some(socket) = socket {
                ingress.turn(shared, socket);
            }
        }
        let end = shared.now();
        if let Some(shares) = load.add(middle - start, end - middle, end, used)
            && shares.want_two()
        {
            egress = egress.and_then(|egress| second.give(egress));
        }
    }
}

/// The way to the second thread, and back.
pub(super) struct Second {
    pub(super) there: SyncSender<Egress>,
    pub(super) back: Receiver<Egress>,
}

impl Second {
    /// Lets the second thread do it; returns what it does not take because it has ended.
    fn give(&self, egress: Egress) -> Option<Egress> {
        debug!("a second thread carries packets");
        self.there.try_send(egress).err().map(|error| match error {
            std::sync::mpsc::TrySendError::Full(egress)
            | std::sync::mpsc::TrySendError::Disconnected(egress) => egress,
        })
    }

    fn take_back(&self) -> Option<Egress> {
        self.back.try_recv().ok()
    }
}

/// Carries what goes out, each time that it is given to this thread and for as long as it is much.
pub(super) fn run_second(
    shared: &Shared,
    tun: &Tun,
    there: &Receiver<Egress>,
    back: &SyncSender<Egress>,
) {
    while let Ok(mut egress) = there.recv() {
        let mut load = Load::new(shared.now(), used());
        loop {
            if wait(shared, [Some(tun.as_fd())]).is_none() {
                return;
            }
            let start = shared.now();
            if let Err(failure) = egress.turn(shared, start) {
                shared.fail(failure);
                return;
            }
            let end = shared.now();
            let shares = load.add(end - start, Duration::ZERO, end, used);
            if shares.is_some_and(|shares| shares.want_one()) {
                break;
            }
        }
        debug!("one thread carries both directions");
        if back.send(egress).is_err() {
            return;
        }
        let _ = shared.rebound.write(1);
    }
}

/// What this thread has used of a processor's time.
fn used() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

pub(super) fn is_nothing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// The most that is waited for at once, with the one that ends all.
const MOST_SOURCES: usize = 5;

/// Waits until one of these is readable, and tells which are; `None` once the device stops.
pub(super) fn wait<const N: usize>(
    shared: &Shared,
    readable: [Option<BorrowedFd<'_>>; N],
) -> Option<[bool; N]> {
    const { assert!(N < MOST_SOURCES) };
    // In the place of what is absent, too, stands the one that ends all.
    let stop = || PollFd::new(shared.stop.as_fd(), PollFlags::POLLIN);
    let mut all = std::array::from_fn::<_, MOST_SOURCES, _>(|_| stop());
    for (slot, fd) in all.iter_mut().zip(readable) {
        if let Some(fd) = fd {
            *slot = PollFd::new(fd, PollFlags::POLLIN);
        }
    }
    // An interrupted wait is one that found nothing.
    let found = poll(&mut all[..=N], PollTimeout::NONE).is_ok();
    let ready = std::array::from_fn(|at| found && all[at].any().unwrap_or(true));
    (!shared.is_stopping()).then_some(ready)
}
