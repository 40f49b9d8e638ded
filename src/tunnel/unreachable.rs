//! Tells local programs and forwarded hosts that a packet has no way.

use std::io::IoSlice;
use std::time::Duration;

use seedwire_core::tunnel::offload::VnetHeader;
use seedwire_core::tunnel::{Allowance, LONGEST_UNREACHABLE, unreachable};
use tracing::debug;

use super::tun::Tun;

/// Answers packets that nobody is there for.
pub(super) struct Unreachable {
    allowance: Allowance,
    answer: [u8; LONGEST_UNREACHABLE],
}

impl Unreachable {
    pub(super) fn new() -> Self {
        Self {
            allowance: Allowance::default(),
            answer: [0; LONGEST_UNREACHABLE],
        }
    }

    /// Answers one, as far as that is allowed.
    pub(super) fn tell(&mut self, tun: &Tun, packet: &[u8], now: Duration) {
        if !self.allowance.take(now) {
            return;
        }
        let Some(length) = unreachable(packet, &mut self.answer) else {
            return;
        };
        let header = VnetHeader::default().write();
        let slices = [IoSlice::new(&header), IoSlice::new(&self.answer[..length])];
        let skip = usize::from(!tun.has_vnet());
        if let Err(error) = tun.write(&slices[skip..]) {
            debug!(%error, "answer not taken by the interface");
        }
    }
}
