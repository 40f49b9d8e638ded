//! Cutting and merging of inner packets, against a slow and plain reading of the RFCs.

use seedwire_core::tunnel::offload::{Merge, Segment, Segments, VNET_HEADER, VnetHeader};

const TCP: u8 = 6;
const UDP: u8 = 17;
const PSH: u8 = 0x08;
/// The kinds of a vnet header (linux/virtio_net.h).
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP: u8 = 5;

/// A vnet header as the kernel gives it, and a packet: what is cut from it is sound, and merges
/// and cuts to the same again.
pub fn packet_cut(data: &[u8]) {
    let Some((header, packet)) = data.split_first_chunk::<VNET_HEADER>() else {
        return;
    };
    let _ = Segment::of(packet);
    // The TUN never hands over more than the longest IP packet.
    let packet = &packet[..packet.len().min(65535)];
    let vnet = VnetHeader::read(header);
    assert_eq!(vnet.write(), *header);
    let Some(pieces) = cut(vnet, packet) else {
        return;
    };
    if header[1] == 0 {
        assert_eq!(pieces.len(), 1);
        assert_eq!(pieces[0].len(), packet.len());
        return;
    }
    let Some(whole) = Headers::of(packet).filter(|headers| headers.fit(header)) else {
        return;
    };
    let mut payload = Vec::new();
    for piece in &pieces {
        let headers = Headers::of(piece).expect("what is cut has the headers of the whole");
        assert_eq!(headers, whole);
        assert!(headers.is_sound(piece), "{piece:02x?}");
        let segment = u16::from_ne_bytes([header[4], header[5]]);
        assert!(piece.len() - headers.payload <= usize::from(segment));
        if headers.protocol == TCP {
            let sequence = sequence(packet, whole.transport).wrapping_add(payload.len() as u32);
            assert_eq!(self::sequence(piece, headers.transport), sequence);
        }
        payload.extend_from_slice(&piece[headers.payload..]);
    }
    assert_eq!(payload, packet[whole.payload..]);
    merge_and_cut(&pieces);
}

/// Packets, each with its length in front, as they come out of the tunnel: cut again after they
/// were merged they are the same. Where the first byte is odd their lengths and checksums are made
/// right first, since hardly any would be by chance.
pub fn packet_merge(data: &[u8]) {
    let Some((mode, mut rest)) = data.split_first() else {
        return;
    };
    let mut packets = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(behind.len());
        let mut packet = behind[..length].to_vec();
        if mode & 1 == 1
            && let Some(headers) = Headers::of(&packet)
        {
            headers.repair(&mut packet);
        }
        packets.push(packet);
        rest = &behind[length..];
    }
    merge_and_cut(&packets);
}

/// The packets that one from the kernel stands for.
fn cut(vnet: VnetHeader, packet: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut packet = packet.to_vec();
    let mut room = vec![0; packet.len()];
    let mut segments = Segments::new(vnet, &mut packet)?;
    let mut pieces = Vec::new();
    while let Some(length) = segments.next_length() {
        assert_eq!(segments.next_into(&mut room), Some(length));
        pieces.push(room[..length].to_vec());
    }
    assert_eq!(segments.next_into(&mut room), None);
    Some(pieces)
}

fn merge_and_cut(packets: &[Vec<u8>]) {
    let mut rest = packets;
    while let Some((first, others)) = rest.split_first() {
        let Some(segment) = Segment::of(first) else {
            rest = others;
            continue;
        };
        let headers = Headers::of(first).expect("what may be merged has headers");
        assert!(headers.is_sound(first), "{first:02x?}");
        assert_eq!(segment.payload_at(), headers.payload);
        let (mut merge, mut merged, mut count) = (Merge::new(segment), first.clone(), 1);
        for packet in others {
            let next = Segment::of(packet);
            if !next.is_some_and(|next| merge.append(first, &next, packet)) {
                break;
            }
            merged.extend_from_slice(&packet[headers.payload..]);
            count += 1;
        }
        let vnet = merge.finish(&mut merged[..headers.payload]);
        if count > 1 {
            assert!(headers.fit(&vnet.write()));
            assert_eq!(Headers::of(&merged), Some(headers));
            assert!(headers.lengths_fit(&merged), "{merged:02x?}");
            let pieces = cut(vnet, &merged).expect("what is merged can be cut");
            assert_eq!(pieces.len(), count);
            for (piece, packet) in pieces.iter().zip(&rest[..count]) {
                assert!(headers.is_sound(piece), "{piece:02x?}");
                assert_eq!(headers.essence(piece), headers.essence(packet));
            }
        } else {
            assert_eq!(vnet, VnetHeader::default());
            assert_eq!(merged, *first);
        }
        rest = &rest[count..];
    }
}

fn sequence(packet: &[u8], transport: usize) -> u32 {
    let at = transport + 4;
    u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}

/// Where the headers of a TCP or UDP packet without IPv6 extension headers end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Headers {
    protocol: u8,
    transport: usize,
    payload: usize,
}

impl Headers {
    fn of(packet: &[u8]) -> Option<Self> {
        let (protocol, transport) = match packet.first()? >> 4 {
            4 => (*packet.get(9)?, usize::from(packet[0] & 15) * 4),
            6 => (*packet.get(6)?, 40),
            _ => return None,
        };
        let length = match protocol {
            TCP => usize::from(packet.get(transport + 12)? >> 4) * 4,
            UDP => 8,
            _ => return None,
        };
        let least = if protocol == TCP { 20 } else { 8 };
        let payload = transport + length;
        (transport >= 20 && length >= least && payload <= packet.len()).then_some(Self {
            protocol,
            transport,
            payload,
        })
    }

    /// Where the checksum of the transport stands.
    fn checksum(&self) -> usize {
        self.transport + if self.protocol == TCP { 16 } else { 6 }
    }

    /// Whether a vnet header speaks of such a packet.
    fn fit(&self, vnet: &[u8; VNET_HEADER]) -> bool {
        let start = usize::from(u16::from_ne_bytes([vnet[6], vnet[7]]));
        let offset = usize::from(u16::from_ne_bytes([vnet[8], vnet[9]]));
        let kind = match (self.protocol, self.transport) {
            (UDP, _) => GSO_UDP,
            (_, 40) if vnet[1] & 0x7f == GSO_TCP6 => GSO_TCP6,
            _ => GSO_TCP4,
        };
        start == self.transport
            && start + offset == self.checksum()
            && vnet[0] == 1
            && vnet[1] & 0x7f == kind
    }

    fn lengths_fit(&self, packet: &[u8]) -> bool {
        let word = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
        let network = if packet[0] >> 4 == 4 {
            word(2) == packet.len() && sum(&packet[..self.transport]) == 0xffff
        } else {
            word(4) + 40 == packet.len()
        };
        let udp = self.protocol != UDP || word(self.transport + 4) == packet.len() - self.transport;
        network && udp
    }

    /// Whether lengths and checksums are right.
    fn is_sound(&self, packet: &[u8]) -> bool {
        self.lengths_fit(packet) && sum(&self.summed(packet)) == 0xffff
    }

    /// The pseudo header, with what follows it.
    fn summed(&self, packet: &[u8]) -> Vec<u8> {
        let addresses = if packet[0] >> 4 == 4 { 12..20 } else { 8..40 };
        let length = (packet.len() - self.transport) as u32;
        let mut summed = packet[addresses].to_vec();
        summed.extend_from_slice(&length.to_be_bytes());
        summed.extend_from_slice(&[0, 0, 0, self.protocol]);
        summed.extend_from_slice(&packet[self.transport..]);
        summed
    }

    /// Makes lengths and checksums right.
    fn repair(&self, packet: &mut [u8]) {
        let length = packet.len() as u16;
        if packet[0] >> 4 == 4 {
            packet[2..4].copy_from_slice(&length.to_be_bytes());
            packet[10..12].fill(0);
            let checksum = !sum(&packet[..self.transport]);
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        } else {
            packet[4..6].copy_from_slice(&length.wrapping_sub(40).to_be_bytes());
        }
        if self.protocol == UDP {
            let length = length - self.transport as u16;
            packet[self.transport + 4..][..2].copy_from_slice(&length.to_be_bytes());
        }
        let at = self.checksum();
        packet[at..at + 2].fill(0);
        let checksum = match !sum(&self.summed(packet)) {
            // For UDP, 0 would mean that there is none.
            0 if self.protocol == UDP => !0,
            checksum => checksum,
        };
        packet[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }

    /// The packet without what merging may change: PSH, the urgent pointer, which means nothing
    /// without URG (RFC 9293, 3.1), the ID of an IPv4 packet that is never fragmented (RFC 6864,
    /// 4.1), and the checksums over them.
    fn essence(&self, packet: &[u8]) -> Vec<u8> {
        let mut essence = packet.to_vec();
        if packet[0] >> 4 == 4 {
            if packet[6] & 0x40 != 0 {
                essence[4..6].fill(0);
            }
            essence[10..12].fill(0);
        }
        if self.protocol == TCP {
            essence[self.transport + 13] &= !PSH;
            essence[self.transport + 18..][..2].fill(0);
        }
        essence[self.checksum()..][..2].fill(0);
        essence
    }
}

/// The sum of RFC 1071, word for word.
fn sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0, |sum: u16, word| {
        let word = u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]);
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}
