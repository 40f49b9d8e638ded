//! Inner packets on their way to the TUN: TCP segments in a row are handed over as one.

use std::io::IoSlice;
use std::ops::Range;

use seedwire_core::tunnel::offload::{Merge, Segment, VnetHeader};
use tracing::debug;

use super::tun::Tun;

/// The most segments in one packet.
const MOST: usize = 64;

/// The packets of one receive, side by side in one buffer.
pub(super) struct Handover<'a> {
    tun: &'a Tun,
    merge: Option<Merge>,
    first: Range<usize>,
    /// The payloads after the first packet.
    rest: [(usize, usize); MOST],
    count: usize,
}

impl<'a> Handover<'a> {
    pub(super) fn new(tun: &'a Tun) -> Self {
        Self {
            tun,
            merge: None,
            first: 0..0,
            rest: [(0, 0); MOST],
            count: 0,
        }
    }

    /// Hands over the packet in this part of the buffer, now or with those after it.
    pub(super) fn add(&mut self, buffer: &mut [u8], at: Range<usize>) {
        let packet = &buffer[at.clone()];
        let segment = if self.tun.has_vnet() {
            Segment::of(packet)
        } else {
            None
        };
        let Some(segment) = segment else {
            self.flush(buffer);
            self.write(VnetHeader::default(), &buffer[at], &[], &[]);
            return;
        };
        if let Some(merge) = &mut self.merge
            && self.count < MOST
            && merge.append(&buffer[self.first.clone()], &segment, packet)
        {
            self.rest[self.count] = (at.start + segment.payload_at(), at.end);
            self.count += 1;
            return;
        }
        self.flush(buffer);
        self.merge = Some(Merge::new(segment));
        self.first = at;
    }

    /// Hands over what still waits.
    pub(super) fn flush(&mut self, buffer: &mut [u8]) {
        if let Some(merge) = self.merge.take() {
            let header = merge.finish(&mut buffer[self.first.clone()]);
            let first = &buffer[self.first.clone()];
            self.write(header, first, &self.rest[..self.count], buffer);
            self.count = 0;
        }
    }

    fn write(&self, header: VnetHeader, first: &[u8], rest: &[(usize, usize)], buffer: &[u8]) {
        let header = header.write();
        let skip = usize::from(!self.tun.has_vnet());
        let mut slices = [IoSlice::new(&[]); MOST + 2];
        slices[0] = IoSlice::new(&header);
        slices[1] = IoSlice::new(first);
        for (slice, (start, end)) in slices[2..].iter_mut().zip(rest) {
            *slice = IoSlice::new(&buffer[*start..*end]);
        }
        // EIO while the interface is down, as any packet is lost then.
        if let Err(error) = self.tun.write(&slices[skip..2 + rest.len()]) {
            debug!(%error, "packet not taken by the interface");
        }
    }
}
