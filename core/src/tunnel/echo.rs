//! ICMP echo requests that we send through the tunnel ourselves, and their answers (RFC 792, 4443).

use std::net::IpAddr;

use super::offload::checksum;
use super::packet;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const FRAGMENT: u8 = 44;
const HOPS: u8 = 64;

/// From where to where requests go, and what tells them from others' on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoFlow {
    /// Our own address.
    pub from: IpAddr,
    /// Who is to answer; of the same family.
    pub to: IpAddr,
    /// The identifier.
    pub id: u16,
}

impl EchoFlow {
    /// A request of `size` bytes with its IP header, at least 48, that must not be cut on its way.
    pub fn request(&self, sequence: u16, size: u16) -> Vec<u8> {
        let mut request = vec![0; usize::from(size).max(48)];
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                request[0] = 0x45;
                request[2..4].copy_from_slice(&size.to_be_bytes());
                // Don't fragment.
                request[6] = 0x40;
                (request[8], request[9]) = (HOPS, ICMP);
                request[12..16].copy_from_slice(&from.octets());
                request[16..20].copy_from_slice(&to.octets());
                let sum = checksum(0, &request[..20]);
                request[10..12].copy_from_slice(&sum.to_be_bytes());
                self.write_icmp(&mut request[20..], 8, 0, sequence);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let length = size.saturating_sub(40);
                request[0] = 0x60;
                request[4..6].copy_from_slice(&length.to_be_bytes());
                (request[6], request[7]) = (ICMPV6, HOPS);
                request[8..24].copy_from_slice(&from.octets());
                request[24..40].copy_from_slice(&to.octets());
                let pseudo = pseudo_sum(&request[8..40], length);
                self.write_icmp(&mut request[40..], 128, pseudo, sequence);
            }
            // One family; see `to`.
            _ => request.clear(),
        }
        request
    }

    fn write_icmp(&self, message: &mut [u8], kind: u8, pseudo: u64, sequence: u16) {
        message[0] = kind;
        message[4..6].copy_from_slice(&self.id.to_be_bytes());
        message[6..8].copy_from_slice(&sequence.to_be_bytes());
        let sum = checksum(pseudo, message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }

    /// The number of the request that this packet answers; `None` for all else. The first fragment
    /// of an answer is one too: what is longer than the other end's link comes in fragments.
    pub fn answered(&self, answer: &[u8]) -> Option<u16> {
        let (kind, at) = match self.to {
            IpAddr::V4(_) => {
                let is_first = answer.get(6..8)?[0] & 0x1f == 0 && answer[7] == 0;
                let is_icmp = answer[0] >> 4 == 4 && *answer.get(9)? == ICMP;
                (is_first && is_icmp).then_some((0, usize::from(answer[0] & 0xf) * 4))?
            }
            IpAddr::V6(_) if answer.first()? >> 4 == 6 => match *answer.get(6)? {
                ICMPV6 => (129, 40),
                FRAGMENT => {
                    let offset = u16::from_be_bytes(answer.get(42..44)?.try_into().ok()?) >> 3;
                    (offset == 0 && answer[40] == ICMPV6).then_some((129, 48))?
                }
                _ => return None,
            },
            IpAddr::V6(_) => return None,
        };
        let message = answer.get(at..at + 8)?;
        let id = u16::from_be_bytes([message[4], message[5]]);
        let is_ours = message[0] == kind && message[1] == 0 && id == self.id;
        let between =
            packet::source(answer)? == self.to && packet::destination(answer)? == self.from;
        (is_ours && between).then(|| u16::from_be_bytes([message[6], message[7]]))
    }
}

/// The sum of the pseudo header of an ICMPv6 message of this length (RFC 8200, 8.1).
fn pseudo_sum(addresses: &[u8], length: u16) -> u64 {
    let begun = u64::from(ICMPV6) + u64::from(length);
    u64::from(!checksum(begun, addresses))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flow(from: &str, to: &str) -> EchoFlow {
        EchoFlow {
            from: from.parse().expect("an address"),
            to: to.parse().expect("an address"),
            id: 0xabcd,
        }
    }

    fn flows() -> [EchoFlow; 2] {
        [flow("10.88.0.2", "10.88.0.1"), flow("fd88::2", "fd88::1")]
    }

    /// What the other end makes of a request, as far as it is read here.
    fn answer(flow: &EchoFlow, request: &[u8]) -> Vec<u8> {
        let back = EchoFlow {
            from: flow.to,
            to: flow.from,
            id: flow.id,
        };
        let sequence = u16::from_be_bytes([request[request.len() - 1], 0]);
        let mut answer = back.request(sequence, request.len() as u16);
        let at = if flow.to.is_ipv4() { 20 } else { 40 };
        answer[at] = if flow.to.is_ipv4() { 0 } else { 129 };
        let number = at + 6..at + 8;
        answer[number.clone()].copy_from_slice(&request[number]);
        answer
    }

    #[test]
    fn a_request_is_as_long_as_asked_for_and_sound() {
        for flow in flows() {
            let request = flow.request(7, 1420);
            assert_eq!(request.len(), 1420);
            assert_eq!(packet::source(&request), Some(flow.from));
            assert_eq!(packet::destination(&request), Some(flow.to));
            assert_eq!(flow.answered(&request), None, "a request is no answer");
            let (at, pseudo) = match flow.to {
                IpAddr::V4(_) => (20, 0),
                IpAddr::V6(_) => (40, pseudo_sum(&request[8..40], 1380)),
            };
            assert_eq!(checksum(pseudo, &request[at..]), 0);
            if at == 20 {
                assert_eq!(checksum(0, &request[..20]), 0);
            }
        }
    }

    #[test]
    fn an_answer_is_known_by_all_that_it_bears() {
        for flow in flows() {
            let answer = answer(&flow, &flow.request(0x0107, 200));
            assert_eq!(flow.answered(&answer), Some(0x0107));
            let other = EchoFlow { id: 1, ..flow };
            assert_eq!(other.answered(&answer), None);
            let to = if flow.to.is_ipv4() {
                "10.88.0.9"
            } else {
                "fd88::9"
            };
            let to = to.parse().expect("an address");
            assert_eq!(EchoFlow { to, ..flow }.answered(&answer), None);
        }
    }

    #[test]
    fn the_first_fragment_counts_and_no_other() {
        let [v4, v6] = flows();
        let mut first = answer(&v4, &v4.request(9, 200));
        first[6] = 0x20;
        assert_eq!(v4.answered(&first), Some(9));
        first[7] = 5;
        assert_eq!(v4.answered(&first), None);
        let whole = answer(&v6, &v6.request(9, 200));
        let mut first = whole[..40].to_vec();
        first[6] = FRAGMENT;
        first.extend([ICMPV6, 0, 0, 1, 0, 0, 0, 0]);
        first.extend(&whole[40..]);
        assert_eq!(v6.answered(&first), Some(9));
        first[43] = 0x11;
        assert_eq!(v6.answered(&first), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..80), version in 4u8..7) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = version << 4 | *first & 0xf;
            }
            for flow in flows() {
                prop_assert_eq!(flow.answered(&bytes), None);
            }
        }
    }
}
