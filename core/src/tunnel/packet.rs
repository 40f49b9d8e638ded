//! Views of inner IP packets.

use std::net::IpAddr;

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

    proptest! {
        #[test]
        fn any_bytes_are_read(packet in prop::collection::vec(any::<u8>(), 0..80)) {
            let short = match packet.first() {
                Some(first) if first >> 4 == 4 => packet.len() < 20,
                Some(first) if first >> 4 == 6 => packet.len() < 40,
                _ => true,
            };
            prop_assert_eq!(source(&packet).is_none(), short);
            prop_assert_eq!(destination(&packet).is_none(), short);
        }
    }
}
