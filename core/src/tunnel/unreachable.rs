//! What a host is told whose packet has no way through the tunnel.

use std::time::Duration;

use super::offload::checksum;

/// The longest answer: an ICMPv6 error is no longer than the least MTU (RFC 4443, 2.4 c).
pub const LONGEST_UNREACHABLE: usize = 1280;

/// The longest ICMP error over IPv4 (RFC 1812, 4.3.2.3).
const LONGEST_V4: usize = 576;

const ICMP: u8 = 1;
const ICMP_HEADER: usize = 8;
const ICMPV6: u8 = 58;
/// Type and code: the host is unreachable (RFC 792), the address is unreachable (RFC 4443, 3.1).
const HOST_UNREACHABLE: [u8; 2] = [3, 1];
const ADDRESS_UNREACHABLE: [u8; 2] = [1, 3];
const HOP_LIMIT: u8 = 64;
/// Internetwork control (RFC 1812, 4.3.2.5).
const CONTROL: u8 = 0xc0;

/// Writes the ICMP or ICMPv6 error that says that the packet's destination can't be reached;
/// returns its length, or `None` where no error may follow: on an error, a fragment that is not
/// the first, or what does not go from one host to one host (RFC 1122, 3.2.2; RFC 4443, 2.4 e).
///
/// It comes from the destination itself. It enters the host by the tunnel's link, and from there
/// nothing else passes: an address of this host would be a martian, and any other one would fail
/// the reverse path filter, which asks for a route to it by that link.
pub fn unreachable(packet: &[u8], out: &mut [u8; LONGEST_UNREACHABLE]) -> Option<usize> {
    match packet.first()? >> 4 {
        4 => unreachable_v4(packet, out),
        6 => unreachable_v6(packet, out),
        _ => None,
    }
}

fn unreachable_v4(packet: &[u8], out: &mut [u8]) -> Option<usize> {
    let header = usize::from(packet[0] & 0xf) * 4;
    if header < 20 || packet.len() < header {
        return None;
    }
    let [from, to] = [&packet[12..16], &packet[16..20]];
    let of_one_host = |address: &[u8]| !matches!(address[0], 0 | 127 | 224..);
    let offset = u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff;
    // Unreachable, source quench, redirect, time exceeded, parameter problem.
    let is_error = packet[9] == ICMP && matches!(packet.get(header), None | Some(3..=5 | 11 | 12));
    if !of_one_host(from) || !of_one_host(to) || offset != 0 || is_error {
        return None;
    }
    let quoted = packet.len().min(LONGEST_V4 - 20 - ICMP_HEADER);
    let length = 20 + ICMP_HEADER + quoted;
    let [high, low] = (length as u16).to_be_bytes();
    out[..12].copy_from_slice(&[
        0x45, CONTROL, high, low, 0, 0, 0x40, 0, HOP_LIMIT, ICMP, 0, 0,
    ]);
    out[12..16].copy_from_slice(to);
    out[16..20].copy_from_slice(from);
    let sum = checksum(0, &out[..20]);
    out[10..12].copy_from_slice(&sum.to_be_bytes());
    write_icmp(&mut out[20..length], HOST_UNREACHABLE, &packet[..quoted], 0);
    Some(length)
}

fn unreachable_v6(packet: &[u8], out: &mut [u8]) -> Option<usize> {
    if packet.len() < 40 {
        return None;
    }
    let [from, to] = [&packet[8..24], &packet[24..40]];
    let of_one_host = |address: &[u8]| address[0] != 0xff && address[..15].iter().any(|b| *b != 0);
    if !of_one_host(from) || !of_one_host(to) || is_error_v6(packet) {
        return None;
    }
    let quoted = packet.len().min(LONGEST_UNREACHABLE - 40 - ICMP_HEADER);
    let body = ICMP_HEADER + quoted;
    let [high, low] = (body as u16).to_be_bytes();
    out[..8].copy_from_slice(&[0x60, 0, 0, 0, high, low, ICMPV6, HOP_LIMIT]);
    out[8..24].copy_from_slice(to);
    out[24..40].copy_from_slice(from);
    let (addresses, message) = out[8..40 + body].split_at_mut(32);
    let pseudo = u64::from(ICMPV6) + body as u64;
    let sum = u64::from(!checksum(pseudo, addresses));
    write_icmp(message, ADDRESS_UNREACHABLE, &packet[..quoted], sum);
    Some(40 + body)
}

/// Whether no error may follow: it is an error or a redirect, or what it is can't be seen.
fn is_error_v6(packet: &[u8]) -> bool {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const OPTIONS: u8 = 60;
    let (mut next, mut at) = (packet[6], 40);
    loop {
        match (next, packet.get(at..at + 8)) {
            (HOP_BY_HOP | ROUTING | OPTIONS, Some(header)) => {
                next = header[0];
                at += (usize::from(header[1]) + 1) * 8;
            }
            (FRAGMENT, Some(header)) => {
                if u16::from_be_bytes([header[2], header[3]]) & 0xfff8 != 0 {
                    return true;
                }
                next = header[0];
                at += 8;
            }
            (HOP_BY_HOP | ROUTING | OPTIONS | FRAGMENT, None) => return true,
            (ICMPV6, _) => {
                return packet
                    .get(at)
                    .is_none_or(|kind| *kind < 128 || *kind == 137);
            }
            _ => return false,
        }
    }
}

fn write_icmp(out: &mut [u8], kind: [u8; 2], quoted: &[u8], sum: u64) {
    out[..2].copy_from_slice(&kind);
    out[2..ICMP_HEADER].fill(0);
    out[ICMP_HEADER..].copy_from_slice(quoted);
    let sum = checksum(sum, out);
    out[2..4].copy_from_slice(&sum.to_be_bytes());
}

/// How many such answers are given: 50 at once, 100 a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowance {
    /// When all that was given would be earned again.
    earned: Duration,
}

impl Allowance {
    const EACH: Duration = Duration::from_millis(10);
    const AT_ONCE: u32 = 50;

    /// Whether one more is given now.
    pub fn take(&mut self, now: Duration) -> bool {
        let earned = self.earned.max(now) + Self::EACH;
        let given = earned <= now + Self::EACH * Self::AT_ONCE;
        if given {
            self.earned = earned;
        }
        given
    }
}

#[cfg(test)]
#[path = "unreachable_tests.rs"]
mod tests;
