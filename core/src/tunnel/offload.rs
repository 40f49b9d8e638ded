//! Segmentation and merging of inner packets: what a network card would do, for a TUN link with
//! vnet headers (`struct virtio_net_hdr` in linux/virtio_net.h).

/// The length of the header before each packet.
pub const VNET_HEADER: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP: u8 = 5;
const GSO_ECN: u8 = 0x80;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const CWR: u8 = 0x80;

/// What the kernel says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct VnetHeader {
    flags: u8,
    kind: u8,
    header_length: u16,
    segment: u16,
    checksum_start: u16,
    checksum_offset: u16,
}

impl VnetHeader {
    /// Reads the first [`VNET_HEADER`] bytes, which are in the byte order of this machine.
    pub fn read(bytes: &[u8; VNET_HEADER]) -> Self {
        let number = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            kind: bytes[1],
            header_length: number(2),
            segment: number(4),
            checksum_start: number(6),
            checksum_offset: number(8),
        }
    }

    /// The bytes that stand before a packet.
    pub fn write(&self) -> [u8; VNET_HEADER] {
        let mut bytes = [self.flags, self.kind, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[2..4].copy_from_slice(&self.header_length.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.segment.to_ne_bytes());
        bytes[6..8].copy_from_slice(&self.checksum_start.to_ne_bytes());
        bytes[8..10].copy_from_slice(&self.checksum_offset.to_ne_bytes());
        bytes
    }
}

/// A packet that may be longer than the link's MTU, as packets that are not.
#[derive(Debug)]
pub struct Segments<'a> {
    packet: &'a mut [u8],
    vnet: VnetHeader,
    /// Where the transport header and the payload start; 0 when it is one packet.
    transport: usize,
    payload: usize,
    /// How many payload bytes were given out.
    done: usize,
    count: u16,
}

impl<'a> Segments<'a> {
    /// Looks at a packet; `None` when the header does not fit it.
    pub fn new(vnet: VnetHeader, packet: &'a mut [u8]) -> Option<Self> {
        let kind = vnet.kind & !GSO_ECN;
        let transport = usize::from(vnet.checksum_start);
        let mut payload = 0;
        if kind == 0 {
            if vnet.flags & NEEDS_CHECKSUM != 0 {
                let field = transport + usize::from(vnet.checksum_offset);
                if transport < 20 || field + 2 > packet.len() {
                    return None;
                }
                // The field holds the sum of the pseudo header.
                let sum = fold(add(0, &packet[transport..]));
                packet[field..field + 2].copy_from_slice(&(!sum).to_be_bytes());
            }
        } else {
            let least = if kind == GSO_UDP { 8 } else { 20 };
            if vnet.segment == 0 || transport < 20 || transport + least > packet.len() {
                return None;
            }
            payload = match kind {
                GSO_UDP => transport + 8,
                GSO_TCP4 | GSO_TCP6 => transport + usize::from(packet[transport + 12] >> 4) * 4,
                _ => return None,
            };
            let ipv4 = packet[0] >> 4 == 4;
            let network = if ipv4 { 20 } else { 40 };
            if transport < network || payload < transport + least || payload >= packet.len() {
                return None;
            }
        }
        Some(Self {
            packet,
            vnet,
            transport,
            payload,
            done: 0,
            count: 0,
        })
    }

    /// The packet that was looked at.
    pub fn whole(&self) -> &[u8] {
        self.packet
    }

    /// The length of the next packet.
    pub fn next_length(&self) -> Option<usize> {
        if self.payload == 0 {
            return (self.count == 0).then_some(self.packet.len());
        }
        let rest = self.packet.len() - self.payload - self.done;
        let take = rest.min(usize::from(self.vnet.segment));
        (take != 0).then_some(self.payload + take)
    }

    /// Writes the next packet into `out`, which is as long as the whole; returns its length.
    pub fn next_into(&mut self, out: &mut [u8]) -> Option<usize> {
        let length = self.next_length()?;
        if self.payload == 0 {
            self.count = 1;
            out[..length].copy_from_slice(self.packet);
            return Some(length);
        }
        let take = length - self.payload;
        let from = self.payload + self.done;
        let out = &mut out[..length];
        out[..self.payload].copy_from_slice(&self.packet[..self.payload]);
        out[self.payload..].copy_from_slice(&self.packet[from..from + take]);
        self.number(out, from + take == self.packet.len());
        self.done += take;
        self.count = self.count.wrapping_add(1);
        Some(length)
    }

    /// Makes the copied headers those of this segment.
    fn number(&self, out: &mut [u8], last: bool) {
        let at = self.transport;
        if out[0] >> 4 == 4 {
            let id = u16::from_be_bytes([out[4], out[5]]).wrapping_add(self.count);
            out[4..6].copy_from_slice(&id.to_be_bytes());
        }
        set_length(out, out.len(), at);
        let checksum = if self.vnet.kind & !GSO_ECN == GSO_UDP {
            let length = (out.len() - at) as u16;
            out[at + 4..at + 6].copy_from_slice(&length.to_be_bytes());
            at + 6
        } else {
            let sequence: [u8; 4] = [out[at + 4], out[at + 5], out[at + 6], out[at + 7]];
            let sequence = u32::from_be_bytes(sequence).wrapping_add(self.done as u32);
            out[at + 4..at + 8].copy_from_slice(&sequence.to_be_bytes());
            if !last {
                out[at + 13] &= !(FIN | PSH);
            }
            if self.count != 0 {
                out[at + 13] &= !CWR;
            }
            at + 16
        };
        out[checksum..checksum + 2].fill(0);
        let sum = !fold(add(pseudo_sum(out, at), &out[at..]));
        // A UDP checksum of zero would mean that there is none.
        let sum = if sum == 0 && checksum == at + 6 {
            !0
        } else {
            sum
        };
        out[checksum..checksum + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Sets the length (and for IPv4 the checksum) in the network header.
fn set_length(packet: &mut [u8], length: usize, transport: usize) {
    if packet[0] >> 4 == 4 {
        packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        packet[10..12].fill(0);
        let sum = !fold(add(0, &packet[..transport]));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        packet[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
    }
}

/// The sum of the pseudo header of a packet as long as `packet` (RFC 9293, 3.1; RFC 8200, 8.1).
fn pseudo_sum(packet: &[u8], transport: usize) -> u64 {
    pseudo_sum_of(packet, packet.len() - transport)
}

fn pseudo_sum_of(packet: &[u8], length: usize) -> u64 {
    let (addresses, protocol) = if packet[0] >> 4 == 4 {
        (&packet[12..20], packet[9])
    } else {
        // Extension headers are never segmented by offset 40; TCP and UDP follow at once.
        (&packet[8..40], packet[6])
    };
    add(u64::from(protocol) + length as u64, addresses)
}

/// The checksum of the Internet (RFC 1071) over these bytes and a sum that was begun before.
pub(super) fn checksum(sum: u64, bytes: &[u8]) -> u16 {
    !fold(add(sum, bytes))
}

/// Adds the bytes, 2 MiB at most, as big-endian 16-bit words, to a sum that [`fold`] brings down.
///
/// Words are added in the byte order of this machine: swapping the bytes of such a sum is the same
/// as adding swapped words (RFC 1071, section 2). Their halves are added apart, several at a time,
/// so that none overflows and the compiler makes vectors of them.
fn add(sum: u64, bytes: &[u8]) -> u64 {
    let (mut low, mut high) = ([0u32; 8], [0u32; 8]);
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        for lane in 0..8 {
            let at = lane * 4;
            let word = [block[at], block[at + 1], block[at + 2], block[at + 3]];
            let word = u32::from_ne_bytes(word);
            low[lane] += word & 0xffff;
            high[lane] += word >> 16;
        }
    }
    let (words, rest) = rest.as_chunks();
    let last = std::array::from_fn(|at| rest.get(at).copied().unwrap_or(0));
    let mut native = u64::from(u32::from_ne_bytes(last));
    for word in words {
        native += u64::from(u32::from_ne_bytes(*word));
    }
    native += low
        .iter()
        .chain(&high)
        .map(|sum| u64::from(*sum))
        .sum::<u64>();
    sum + u64::from(u16::from_be(fold(native)))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A TCP segment or UDP datagram that may be merged with those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    udp: bool,
    transport: usize,
    payload: usize,
    length: usize,
    sequence: u32,
    ends: bool,
}

impl Segment {
    /// Looks at a packet; `None` for all that is passed on alone: neither TCP nor UDP, no payload,
    /// options in the network header, a fragment, a TCP flag beside ACK and PSH, or a wrong or
    /// missing checksum.
    pub fn of(packet: &[u8]) -> Option<Self> {
        let (transport, protocol) = match packet.first()? {
            0x45 if packet.len() > 28 => {
                let fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff;
                let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
                let sound = fragment == 0 && fold(add(0, &packet[..20])) == 0xffff;
                (sound && length == packet.len()).then_some((20, packet[9]))?
            }
            first if first >> 4 == 6 && packet.len() > 48 => {
                let length = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
                (length + 40 == packet.len()).then_some((40, packet[6]))?
            }
            _ => return None,
        };
        let segment = match protocol {
            TCP => Self::of_tcp(packet, transport),
            UDP => Self::of_udp(packet, transport),
            _ => None,
        }?;
        let sum = add(pseudo_sum(packet, transport), &packet[transport..]);
        (fold(sum) == 0xffff).then_some(segment)
    }

    fn of_tcp(packet: &[u8], transport: usize) -> Option<Self> {
        let tcp = packet[transport..].get(..20)?;
        let header = usize::from(tcp[12] >> 4) * 4;
        let flags = tcp[13];
        let plain = flags & !PSH == ACK && header >= 20 && transport + header < packet.len();
        plain.then(|| Self {
            udp: false,
            transport,
            payload: transport + header,
            length: packet.len(),
            sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
            ends: flags & PSH != 0,
        })
    }

    fn of_udp(packet: &[u8], transport: usize) -> Option<Self> {
        let udp = &packet[transport..];
        let length = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
        let summed = udp[6..8] != [0, 0];
        (summed && length == udp.len()).then(|| Self {
            udp: true,
            transport,
            payload: transport + 8,
            length: packet.len(),
            sequence: 0,
            ends: false,
        })
    }

    /// Whether it is UDP, of which not every kernel takes merged packets (Linux 6.2).
    pub fn is_udp(&self) -> bool {
        self.udp
    }

    /// Where the payload starts.
    pub fn payload_at(&self) -> usize {
        self.payload
    }
}

/// TCP segments or UDP datagrams in a row that are handed on as one.
#[derive(Clone, Copy, Debug)]
pub struct Merge {
    first: Segment,
    size: usize,
    total: usize,
    count: u16,
    closed: bool,
}

impl Merge {
    /// The longest packet that there is.
    const LONGEST: usize = 65535;

    /// Starts with one segment.
    pub fn new(first: Segment) -> Self {
        Self {
            first,
            size: first.length - first.payload,
            total: first.length,
            count: 1,
            closed: first.ends,
        }
    }

    /// Whether there is more than one segment in it.
    pub fn is_merged(&self) -> bool {
        self.count > 1
    }

    /// Takes the next segment in when it follows; `first` is the packet that it began with.
    pub fn append(&mut self, first: &[u8], next: &Segment, packet: &[u8]) -> bool {
        let payload = next.length - next.payload;
        let follows = !self.closed
            && next.udp == self.first.udp
            && next.payload == self.first.payload
            && next.transport == self.first.transport
            && payload <= self.size
            && self.total + payload <= Self::LONGEST
            && (next.udp || next.sequence == self.next_sequence())
            && self.same_flow(first, packet);
        if follows {
            self.total += payload;
            self.count += 1;
            self.closed = next.ends || payload < self.size;
        }
        follows
    }

    fn next_sequence(&self) -> u32 {
        let done = self.total - self.first.payload;
        self.first.sequence.wrapping_add(done as u32)
    }

    /// Whether all that a merged packet says but once is the same in both.
    fn same_flow(&self, first: &[u8], packet: &[u8]) -> bool {
        let at = self.first.transport;
        let network = if at == 20 {
            let id = |packet: &[u8]| u16::from_be_bytes([packet[4], packet[5]]);
            let unfragmented = first[6] & 0x40 != 0;
            first[1] == packet[1]
                && first[6..9] == packet[6..9]
                && first[12..20] == packet[12..20]
                && (unfragmented || id(packet) == id(first).wrapping_add(self.count))
        } else {
            first[..4] == packet[..4] && first[7..40] == packet[7..40]
        };
        let ports = network && first[at..at + 4] == packet[at..at + 4];
        if self.first.udp {
            return ports;
        }
        let options = at + 20..self.first.payload;
        ports
            && first[at + 8..at + 13] == packet[at + 8..at + 13]
            && first[at + 14..at + 16] == packet[at + 14..at + 16]
            && first[options.clone()] == packet[options]
    }

    /// Makes the headers of the first packet those of the whole, and says what goes before it.
    pub fn finish(&self, first: &mut [u8]) -> VnetHeader {
        if !self.is_merged() {
            return VnetHeader::default();
        }
        let at = self.first.transport;
        set_length(first, self.total, at);
        let (kind, checksum) = match (self.first.udp, at) {
            (true, _) => (GSO_UDP, 6),
            (false, 20) => (GSO_TCP4, 16),
            (false, _) => (GSO_TCP6, 16),
        };
        if self.first.udp {
            let length = (self.total - at) as u16;
            first[at + 4..at + 6].copy_from_slice(&length.to_be_bytes());
        } else if self.closed {
            first[at + 13] |= PSH;
        }
        let sum = fold(pseudo_sum_of(first, self.total - at));
        first[at + checksum..at + checksum + 2].copy_from_slice(&sum.to_be_bytes());
        VnetHeader {
            flags: NEEDS_CHECKSUM,
            kind,
            header_length: self.first.payload as u16,
            segment: self.size as u16,
            checksum_start: at as u16,
            checksum_offset: checksum as u16,
        }
    }
}

#[cfg(test)]
#[path = "offload_tests.rs"]
mod tests;
