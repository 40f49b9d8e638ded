use proptest::prelude::*;

use super::*;

fn answer(packet: &[u8]) -> Option<Vec<u8>> {
    let mut out = [0xee; LONGEST_UNREACHABLE];
    unreachable(packet, &mut out).map(|length| out[..length].to_vec())
}

fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0, 0, 0, 0, 7, 0, 0, 64, protocol, 0, 0];
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet.extend([10, 88, 0, 2, 10, 88, 0, 9]);
    packet.extend(payload);
    packet
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = (payload.len() as u16).to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, high, low, next, 64];
    for last in [2, 9] {
        packet.extend([0xfd, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend(payload);
    packet
}

/// Adds up all 16-bit words, as a receiver does; a sound checksum makes it 0xffff.
fn sum(parts: &[&[u8]]) -> u32 {
    let bytes = parts.concat();
    let words = bytes
        .chunks(2)
        .map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |b| u32::from(*b)));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16)
}

#[test]
fn an_ipv4_packet_is_answered_from_its_destination() {
    for length in [0, 8, 9, 700] {
        let packet = v4(17, &vec![5; length]);
        let answer = answer(&packet).expect("an answer");
        assert_eq!(answer.len(), (28 + packet.len()).min(576));
        assert_eq!(
            usize::from(u16::from_be_bytes([answer[2], answer[3]])),
            answer.len()
        );
        assert_eq!(
            (&answer[12..16], &answer[16..20]),
            (&packet[16..20], &packet[12..16])
        );
        assert_eq!((answer[9], &answer[20..22]), (1, &[3, 1][..]));
        assert_eq!(answer[28..], packet[..answer.len() - 28]);
        assert_eq!(
            (sum(&[&answer[..20]]), sum(&[&answer[20..]])),
            (0xffff, 0xffff)
        );
    }
}

#[test]
fn an_ipv6_packet_is_answered_from_its_destination() {
    for length in [0, 8, 9, 1400] {
        let packet = v6(17, &vec![5; length]);
        let answer = answer(&packet).expect("an answer");
        assert_eq!(answer.len(), (48 + packet.len()).min(1280));
        let body = answer.len() - 40;
        assert_eq!(
            usize::from(u16::from_be_bytes([answer[4], answer[5]])),
            body
        );
        assert_eq!(
            (&answer[8..24], &answer[24..40]),
            (&packet[24..40], &packet[8..24])
        );
        assert_eq!((answer[6], &answer[40..42]), (58, &[1, 3][..]));
        assert_eq!(answer[48..], packet[..body - 8]);
        let length = (body as u32).to_be_bytes();
        let whole = sum(&[&answer[8..40], &length, &[0, 0, 0, 58], &answer[40..]]);
        assert_eq!(whole, 0xffff);
    }
}

#[test]
fn errors_later_fragments_and_groups_get_no_answer() {
    for kind in [3, 4, 5, 11, 12] {
        assert_eq!(answer(&v4(1, &[kind, 0, 0, 0])), None, "type {kind}");
    }
    assert_eq!(answer(&v4(1, &[])), None);
    assert!(answer(&v4(1, &[8, 0, 0, 0])).is_some(), "an echo request");
    for kind in [1, 2, 3, 4, 100, 137] {
        assert_eq!(answer(&v6(58, &[kind, 0, 0, 0])), None, "type {kind}");
    }
    assert!(
        answer(&v6(58, &[128, 0, 0, 0])).is_some(),
        "an echo request"
    );
    let behind_options = [58, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    assert_eq!(answer(&v6(60, &behind_options)), None);
    let mut later = v4(17, &[0; 8]);
    later[7] = 1;
    assert_eq!(answer(&later), None);
    assert_eq!(answer(&v6(44, &[17, 0, 0, 8, 0, 0, 0, 0])), None);
    assert!(answer(&v6(44, &[17, 0, 0, 1, 0, 0, 0, 0])).is_some());
    for group in [[224, 0, 0, 1], [255; 4], [0; 4], [127, 0, 0, 1]] {
        for at in [12, 16] {
            let mut packet = v4(17, &[0; 8]);
            packet[at..at + 4].copy_from_slice(&group);
            assert_eq!(answer(&packet), None, "{group:?} at {at}");
        }
    }
    for at in [8, 24] {
        let mut packet = v6(17, &[0; 8]);
        packet[at] = 0xff;
        assert_eq!(answer(&packet), None);
        packet[at..at + 16].fill(0);
        assert_eq!(answer(&packet), None);
    }
}

#[test]
fn answers_are_limited() {
    let mut allowance = Allowance::default();
    let now = Duration::from_secs(5);
    let given = |allowance: &mut Allowance, now| (0..1000).filter(|_| allowance.take(now)).count();
    assert_eq!(given(&mut allowance, now), 50);
    assert_eq!(given(&mut allowance, now + Duration::from_millis(105)), 10);
    assert_eq!(given(&mut allowance, now + Duration::from_secs(60)), 50);
}

proptest! {
    #[test]
    fn any_bytes_are_read(first in any::<bool>(), mut packet in prop::collection::vec(any::<u8>(), 1..100)) {
        packet[0] = packet[0] & 0xf | if first { 0x40 } else { 0x60 };
        if let Some(answer) = answer(&packet) {
            prop_assert!(answer.ends_with(&packet));
        }
    }
}
