//! Inner packets on their way to the TUN: TCP segments, and UDP datagrams, in
//! a row are handed over as one.

use std::io::IoSlice;
use std::ops::Range;

use seedwire_core::tunnel::offload::{Merge, Segment, VnetHeader};
use tracing::debug;

use super::tun::Tun;

/// The most segments in one packet.
const MOST: usize = 64;

/// Inner packets side by side, of which those that follow one another wait to be merged.
pub(super) struct Handover<'a> {
    tun: &'a Tun,
    buffer: Box<[u8]>,
    /// How much of the buffer is in use.
    used: usize,
    merge: Option<Merge>,
    first: Range<usize>,
    /// The payloads after the first packet.
    rest: [(usize, usize); MOST],
    count: usize,
}

impl<'a> Handover<'a> {
    /// With a buffer of this size.
    pub(super) fn new(tun: &'a Tun, size: usize) -> Self {
        Self {
            tun,
            buffer: vec![0; size].into_boxed_slice(),
            used: 0,
            merge: None,
            first: 0..0,
            rest: [(0, 0); MOST],
            count: 0,
        }
    }

    /// The room for the next packets, `length` bytes at least.
    pub(super) fn room(&mut self, length: usize) -> &mut [u8] {
        if self.buffer.len() - self.used < length {
            self.flush();
        }
        &mut self.buffer[self.used..]
    }

    /// Hands over those of the packets in that room, each with the number of its peer, that are
    /// `wanted`, now or with those after them.
    pub(super) fn add(
        &mut self,
        packets: impl Iterator<Item = (Range<usize>, u32)>,
        mut wanted: impl FnMut(&[u8], u32) -> bool,
    ) {
        let base = self.used;
        for (packet, peer) in packets {
            let at = base + packet.start..base + packet.end;
            if wanted(&self.buffer[at.clone()], peer) {
                self.add_one(at);
            }
        }
    }

    fn add_one(&mut self, at: Range<usize>) {
        let packet = &self.buffer[at.clone()];
        let Some(segment) = self.segment_of(packet) else {
            self.flush();
            let packet = &self.buffer[at];
            self.write(VnetHeader::default(), packet, &[]);
            return;
        };
        if let Some(merge) = &mut self.merge
            && self.count < MOST
            && merge.append(&self.buffer[self.first.clone()], &segment, packet)
        {
            self.rest[self.count] = (at.start + segment.payload_at(), at.end);
            self.count += 1;
        } else {
            self.flush();
            self.merge = Some(Merge::new(segment));
            self.first = at.clone();
        }
        self.used = at.end;
    }

    fn segment_of(&self, packet: &[u8]) -> Option<Segment> {
        let taken = |segment: &Segment| !segment.is_udp() || self.tun.takes_udp();
        let segment = self.tun.has_vnet().then(|| Segment::of(packet))?;
        segment.filter(taken)
    }

    /// Hands over what still waits. What lies behind it in the buffer stays where it is.
    pub(super) fn flush(&mut self) {
        if let Some(merge) = self.merge.take() {
            let header = merge.finish(&mut self.buffer[self.first.clone()]);
            let first = &self.buffer[self.first.clone()];
            self.write(header, first, &self.rest[..self.count]);
            self.count = 0;
        }
        self.used = 0;
    }

    fn write(&self, header: VnetHeader, first: &[u8], rest: &[(usize, usize)]) {
        let header = header.write();
        let skip = usize::from(!self.tun.has_vnet());
        let mut slices = [IoSlice::new(&[]); MOST + 2];
        slices[0] = IoSlice::new(&header);
        slices[1] = IoSlice::new(first);
        for (slice, (start, end)) in slices[2..].iter_mut().zip(rest) {
            *slice = IoSlice::new(&self.buffer[*start..*end]);
        }
        // EIO while the interface is down, as any packet is lost then.
        if let Err(error) = self.tun.write(&slices[skip..2 + rest.len()]) {
            debug!(%error, "packet not taken by the interface");
        }
    }
}
