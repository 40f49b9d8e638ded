//! Views of inner IP packets.

use std::net::{IpAddr, SocketAddr};

/// Where the packet goes; `None` for what is no IPv4 or IPv6 packet.
pub fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 if packet.len() >= 20 => Some(v4(packet, 16)),
        6 if packet.len() >= 40 => v6(packet, 24),
        _ => None,
    }
}

/// Where the packet comes from; `None` for what is no IPv4 or IPv6 packet.
pub fn source(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 if packet.len() >= 20 => Some(v4(packet, 12)),
        6 if packet.len() >= 40 => v6(packet, 8),
        _ => None,
    }
}

/// The length that the packet's header states; 0 where the packet is shorter than that, or is no
/// IPv4 or IPv6 packet.
pub fn stated_length(packet: &[u8]) -> usize {
    let stated = match packet.first().map(|first| first >> 4) {
        Some(4) if packet.len() >= 20 => usize::from(u16::from_be_bytes([packet[2], packet[3]])),
        Some(6) if packet.len() >= 40 => {
            40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]))
        }
        _ => 0,
    };
    if stated <= packet.len() { stated } else { 0 }
}

fn v4(packet: &[u8], at: usize) -> IpAddr {
    IpAddr::from([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}

fn v6(packet: &[u8], at: usize) -> Option<IpAddr> {
    let bytes: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
    Some(IpAddr::from(bytes))
}

/// Where a UDP datagram comes from and goes to; `None` for all else, and for a fragment that is not
/// the first.
pub fn udp(packet: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    const UDP: u8 = 17;
    const FRAGMENT: u8 = 44;
    let (protocol, offset, at) = match packet.first()? >> 4 {
        4 if packet.len() >= 20 => (packet[9], &packet[6..8], usize::from(packet[0] & 0xf) * 4),
        6 if packet.len() >= 48 && packet[6] == FRAGMENT => (packet[40], &packet[42..44], 48),
        6 if packet.len() >= 40 => (packet[6], &[0; 2][..], 40),
        _ => return None,
    };
    // IPv4 keeps flags above the offset, IPv6 below it.
    let mask = if at == 48 { 0xfff8 } else { 0x1fff };
    let is_first = u16::from_be_bytes([offset[0], offset[1]]) & mask == 0;
    let ports = packet
        .get(at..at + 4)
        .filter(|_| protocol == UDP && is_first)?;
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    let from = SocketAddr::new(source(packet)?, port(0));
    Some((from, SocketAddr::new(destination(packet)?, port(2))))
}

/// The length that a packet is padded to before it is sealed: the next multiple of 16, but not
/// past the MTU (the WireGuard paper, 5.4.6).
pub fn padded(length: usize, mtu: usize) -> usize {
    if mtu == 0 {
        return length.next_multiple_of(16);
    }
    // A packet above the MTU was cut elsewhere; only its last piece is padded.
    let last = if length > mtu { length % mtu } else { length };
    length - last + last.next_multiple_of(16).min(mtu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn padding_stops_at_the_mtu() {
        assert_eq!(padded(0, 1420), 0);
        assert_eq!(padded(84, 1420), 96);
        assert_eq!(padded(1410, 1420), 1420);
        assert_eq!(padded(1299, 1299), 1299);
        assert_eq!(padded(1500, 1420), 1420 + 80);
    }

    #[test]
    fn both_ends_of_a_datagram_are_read() {
        let mut v4 = vec![
            0x45, 0, 0, 28, 0, 0, 0x20, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ];
        v4.extend([0x12, 0x34, 0xca, 0x6c]);
        let ends = ("10.0.0.1:4660".parse(), "10.0.0.2:51820".parse());
        let ends = Some((ends.0.expect("an address"), ends.1.expect("an address")));
        assert_eq!(udp(&v4), ends);
        v4[7] = 1;
        assert_eq!(udp(&v4), None, "a later fragment");
        v4[7] = 0;
        v4[9] = 6;
        assert_eq!(udp(&v4), None, "TCP");
        let mut v6 = vec![0x60, 0, 0, 0, 0, 16, 17, 64];
        v6.extend([[0xfd; 16], [0xfc; 16]].concat());
        let mut fragment = v6.clone();
        v6.extend([0x12, 0x34, 0xca, 0x6c]);
        let ends = udp(&v6);
        assert_eq!(
            ends.map(|(from, to)| (from.port(), to.port())),
            Some((4660, 51820))
        );
        fragment[6] = 44;
        fragment.extend([17, 0, 0, 1, 0, 0, 0, 0, 0x12, 0x34, 0xca, 0x6c]);
        assert_eq!(udp(&fragment), ends);
        fragment[43] = 9;
        assert_eq!(udp(&fragment), None, "a later fragment");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(packet in prop::collection::vec(any::<u8>(), 0..80)) {
            let short = match packet.first() {
                Some(first) if first >> 4 == 4 => packet.len() < 20,
                Some(first) if first >> 4 == 6 => packet.len() < 40,
                _ => true,
            };
            prop_assert!(udp(&packet).is_none() || !short);
            prop_assert_eq!(source(&packet).is_none(), short);
            prop_assert_eq!(destination(&packet).is_none(), short);
        }
    }
}
