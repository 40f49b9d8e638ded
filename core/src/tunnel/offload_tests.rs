use super::*;
use proptest::prelude::*;

/// A TCP packet with an empty checksum.
fn tcp(ipv6: bool, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = if ipv6 {
        let mut header = vec![0x60, 0, 0, 0, 0, 0, 6, 64];
        header.extend([0xfd; 16]);
        header.extend([0xfc; 16]);
        header
    } else {
        vec![
            0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2,
        ]
    };
    let transport = packet.len();
    packet.extend([0x0b, 0xb8, 0x14, 0x51, 0xff, 0xff, 0xff, 0, 0, 0, 0, 9]);
    packet.extend([0x80, flags, 1, 2, 0, 0, 0, 0]);
    packet.extend([1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
    packet.extend(payload);
    let length = packet.len();
    set_length(&mut packet, length, transport);
    packet
}

/// A UDP packet with an empty checksum.
fn udp(ipv6: bool, payload: &[u8]) -> Vec<u8> {
    let mut packet = tcp(ipv6, 0, &[]);
    let transport = if ipv6 { 40 } else { 20 };
    packet.truncate(transport);
    packet[if ipv6 { 6 } else { 9 }] = UDP;
    packet.extend([1, 2, 3, 4]);
    packet.extend((payload.len() as u16 + 8).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    let length = packet.len();
    set_length(&mut packet, length, transport);
    packet
}

fn vnet(ipv6: bool, segment: u16) -> VnetHeader {
    VnetHeader {
        flags: NEEDS_CHECKSUM,
        kind: if ipv6 { GSO_TCP6 } else { GSO_TCP4 },
        header_length: 0,
        segment,
        checksum_start: if ipv6 { 40 } else { 20 },
        checksum_offset: 16,
    }
}

fn cut(vnet: VnetHeader, packet: &mut [u8]) -> Vec<Vec<u8>> {
    let mut room = vec![0; packet.len()];
    let mut segments = Segments::new(vnet, packet).expect("a sound packet");
    let mut all = Vec::new();
    while let Some(length) = segments.next_into(&mut room) {
        all.push(room[..length].to_vec());
    }
    all
}

#[test]
fn nothing_overflows_in_the_sum_of_the_longest_packet() {
    assert_eq!(checksum(0, &[0xff; 65535]), !0xff00);
}

proptest! {
    #[test]
    fn the_checksum_is_that_of_one_word_after_the_other(
        start in 0u64..1 << 32,
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let sum = checksum(start, &bytes);
        if bytes.len() % 2 == 1 {
            bytes.push(0);
        }
        let words = bytes.chunks(2).map(|word| u64::from(word[0]) << 8 | u64::from(word[1]));
        prop_assert_eq!(sum, !fold(start + words.sum::<u64>()));
    }

    #[test]
    fn what_was_cut_is_sound_and_merges_to_the_same(
        ipv6: bool,
        push: bool,
        payload in prop::collection::vec(any::<u8>(), 1..9000),
        size in 100u16..1400,
    ) {
        let mut whole = tcp(ipv6, if push { ACK | PSH } else { ACK }, &payload);
        let segments = cut(vnet(ipv6, size), &mut whole);
        prop_assert_eq!(segments.len(), payload.len().div_ceil(usize::from(size)));
        // Segment::of checks lengths and both checksums.
        let parsed: Vec<_> = segments.iter().map(|s| Segment::of(s).expect("sound")).collect();
        let mut merge = Merge::new(parsed[0]);
        for (segment, packet) in parsed.iter().zip(&segments).skip(1) {
            prop_assert!(merge.append(&segments[0], segment, packet));
        }
        let mut merged = segments[0].clone();
        let header = merge.finish(&mut merged);
        for (segment, packet) in parsed.iter().zip(&segments).skip(1) {
            merged.extend(&packet[segment.payload_at()..]);
        }
        if segments.len() > 1 {
            prop_assert_eq!(header.segment, size);
            prop_assert_eq!(VnetHeader::read(&header.write()), header);
        }
        let again = cut(header, &mut merged);
        // PSH is set on a merged packet that ended short; it tells nothing else.
        prop_assert_eq!(again.len(), segments.len());
        prop_assert!(again.iter().zip(&segments).all(|(a, b)| a[parsed[0].payload..] == b[parsed[0].payload..]));
        prop_assert!(again.iter().all(|packet| Segment::of(packet).is_some()));
    }

    #[test]
    fn a_changed_bit_is_never_merged(ipv6: bool, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut whole = tcp(ipv6, ACK, &[7; 2000]);
        let segments = cut(vnet(ipv6, 1000), &mut whole);
        let mut wrong = segments[1].clone();
        let at = at.index(wrong.len());
        wrong[at] ^= 1 << bit;
        let first = Segment::of(&segments[0]).expect("sound");
        let merged = Segment::of(&wrong)
            .is_some_and(|next| Merge::new(first).append(&segments[0], &next, &wrong));
        prop_assert!(!merged);
    }

    #[test]
    fn any_bytes_are_taken(
        header: [u8; VNET_HEADER],
        mut packet in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = Segment::of(&packet);
        let mut room = vec![0; packet.len()];
        if let Some(mut segments) = Segments::new(VnetHeader::read(&header), &mut packet) {
            while segments.next_into(&mut room).is_some() {}
        }
    }

    #[test]
    fn udp_is_cut_into_sound_datagrams_and_merges_to_the_same(
        ipv6: bool,
        payload in prop::collection::vec(any::<u8>(), 1..5000),
        size in 100u16..1400,
    ) {
        let mut whole = udp(ipv6, &payload);
        let at = whole.len() - payload.len();
        let vnet = VnetHeader { kind: GSO_UDP, checksum_offset: 6, ..vnet(ipv6, size) };
        let datagrams = cut(vnet, &mut whole);
        prop_assert_eq!(datagrams.len(), payload.len().div_ceil(usize::from(size)));
        let parsed: Vec<_> = datagrams.iter().map(|d| Segment::of(d).expect("sound")).collect();
        prop_assert!(parsed.iter().all(Segment::is_udp));
        let mut merge = Merge::new(parsed[0]);
        let mut merged = datagrams[0].clone();
        for (segment, packet) in parsed.iter().zip(&datagrams).skip(1) {
            prop_assert!(merge.append(&datagrams[0], segment, packet));
            merged.extend(&packet[segment.payload_at()..]);
        }
        let header = merge.finish(&mut merged);
        prop_assert_eq!(&merged[at..], &payload);
        if datagrams.len() > 1 {
            prop_assert_eq!(header.segment, size);
        }
        prop_assert_eq!(&cut(header, &mut merged), &datagrams);
        // One that is longer, and one after a shorter one, go alone.
        let mut longer = udp(ipv6, &payload[..payload.len().min(usize::from(size))]);
        longer.push(0);
        let other = cut(VnetHeader { segment: 9000, ..vnet }, &mut longer).remove(0);
        let segment = Segment::of(&other);
        prop_assert!(segment.is_none_or(|next| !merge.append(&datagrams[0], &next, &other)));
    }
}
