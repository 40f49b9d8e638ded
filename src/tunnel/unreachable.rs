//! Tells local programs and forwarded hosts that a packet has no way.

use std::io::IoSlice;
use std::time::Duration;

use seedwire_core::tunnel::offload::VnetHeader;
use seedwire_core::tunnel::{Allowance, LONGEST_UNREACHABLE, unreachable};
use tracing::debug;

use super::tun::Tun;

/// Answers packets that nobody is there for.
pub(super) struct Unreachable<'a> {
    tun: &'a Tun,
    allowance: Allowance,
    answer: [u8; LONGEST_UNREACHABLE],
}

impl<'a> Unreachable<'a> {
    pub(super) fn new(tun: &'a Tun) -> Self {
        Self {
            tun,
            allowance: Allowance::default(),
            answer: [0; LONGEST_UNREACHABLE],
        }
    }

    /// Answers one, as far as that is allowed.
    pub(super) fn tell(&mut self, packet: &[u8], now: Duration) {
        if !self.allowance.take(now) {
            return;
        }
        let Some(length) = unreachable(packet, &mut self.answer) else {
            return;
        };
        let header = VnetHeader::default().write();
        let slices = [IoSlice::new(&header), IoSlice::new(&self.answer[..length])];
        let skip = usize::from(!self.tun.has_vnet());
        if let Err(error) = self.tun.write(&slices[skip..]) {
            debug!(%error, "answer not taken by the interface");
        }
    }
}
