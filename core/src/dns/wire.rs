//! Views of DNS messages in wire form (RFC 1035, 4.1; EDNS: RFC 6891). Nothing is copied and
//! nothing is trusted.

/// The length of the header in bytes.
pub(super) const HEADER: usize = 12;
/// The most bytes of a UDP answer to a client without EDNS (RFC 1035, 4.2.1).
pub(super) const PLAIN_UDP: u16 = 512;
/// The UDP size that we offer and never go beyond: no fragments on any path with IPv6's least MTU.
pub(super) const SAFE_UDP: u16 = 1232;

pub(super) const QR: u16 = 0x8000;
pub(super) const AA: u16 = 0x0400;
pub(super) const TC: u16 = 0x0200;
pub(super) const RD: u16 = 0x0100;
pub(super) const RA: u16 = 0x0080;
pub(super) const AD: u16 = 0x0020;
pub(super) const CD: u16 = 0x0010;
const OPCODE: u16 = 0x7800;
/// The DNSSEC OK flag of an OPT record.
pub(super) const DO: u16 = 0x8000;

/// The EDNS option that says why (RFC 8914).
pub(super) const EXTENDED_ERROR: u16 = 15;

/// Record types that are spoken of here.
pub(super) mod rtype {
    pub(crate) const A: u16 = 1;
    pub(crate) const CNAME: u16 = 5;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
    pub(crate) const ANY: u16 = 255;
}

/// The class of the Internet.
pub(super) const CLASS_IN: u16 = 1;

/// A response code, with the bits that EDNS adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rcode(pub u16);

impl Rcode {
    /// No error.
    pub const NOERROR: Self = Self(0);
    /// The question can't be read.
    pub const FORMERR: Self = Self(1);
    /// The server failed.
    pub const SERVFAIL: Self = Self(2);
    /// The name does not exist.
    pub const NXDOMAIN: Self = Self(3);
    /// The kind of question is not supported.
    pub const NOTIMP: Self = Self(4);
    /// The server will not answer that.
    pub const REFUSED: Self = Self(5);
    /// The version of EDNS is not supported (RFC 6891, 6.1.3).
    pub const BADVERS: Self = Self(16);

    /// The mnemonic of the IANA registry in upper case, or `OTHER`.
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 11] = [
            "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN",
            "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE",
        ];
        match self.0 {
            16 => "BADVERS",
            code => NAMES.get(usize::from(code)).copied().unwrap_or("OTHER"),
        }
    }
}

/// The OPT record of a query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edns<'a> {
    pub(super) udp_size: u16,
    pub(super) version: u8,
    pub(super) dnssec_ok: bool,
    pub(super) options: &'a [u8],
}

/// A query with one question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'a> {
    pub(super) id: u16,
    pub(super) flags: u16,
    /// In wire form with the root label, as the client wrote it.
    pub(super) name: &'a [u8],
    pub(super) rtype: u16,
    pub(super) class: u16,
    pub(super) edns: Option<Edns<'a>>,
}

/// Why a packet is no query that is answered in the ordinary way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// Not a query at all: silence, or two servers could talk for ever.
    Silence,
    /// A query that gets this answer.
    Answer(Rcode),
}

pub(super) fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

pub(super) fn u32_at(message: &[u8], at: usize) -> Option<u32> {
    let bytes = message.get(at..at + 4)?;
    Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// The end of an uncompressed name that starts at `at`: at most 255 bytes with the root label.
pub(super) fn plain_name_end(message: &[u8], at: usize) -> Option<usize> {
    let mut end = at;
    loop {
        let length = *message.get(end)?;
        end += 1;
        if length == 0 {
            break;
        }
        if length > 63 {
            return None;
        }
        end += usize::from(length);
        if end - at >= 255 {
            return None;
        }
    }
    (end <= message.len()).then_some(end)
}

/// The end of a name that may be compressed; a pointer must lead backwards.
pub(super) fn name_end(message: &[u8], at: usize) -> Option<usize> {
    let mut end = at;
    loop {
        let length = *message.get(end)?;
        match length {
            0 => return Some(end + 1),
            1..=63 => {
                end += 1 + usize::from(length);
                if end - at >= 255 {
                    return None;
                }
            }
            0xc0.. => {
                let target = usize::from(u16_at(message, end)? & 0x3fff);
                return (target >= HEADER && target < at).then_some(end + 2);
            }
            _ => return None,
        }
    }
}

/// The name that starts at `at`, expanded and in lower case, in wire form with the root label.
pub(super) fn expanded_name(message: &[u8], at: usize) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(64);
    let (mut at, mut bound) = (at, at);
    loop {
        let length = *message.get(at)?;
        match length {
            0 => {
                name.push(0);
                return (name.len() <= 255).then_some(name);
            }
            1..=63 => {
                let end = at + 1 + usize::from(length);
                name.extend(message.get(at..end)?.iter().map(u8::to_ascii_lowercase));
                if name.len() >= 255 {
                    return None;
                }
                at = end;
            }
            0xc0.. => {
                let target = usize::from(u16_at(message, at)? & 0x3fff);
                // Each jump leads in front of all that was read, so this ends.
                if target < HEADER || target >= bound {
                    return None;
                }
                (at, bound) = (target, target);
            }
            _ => return None,
        }
    }
}

/// The code and the bytes (code and length included) of each EDNS option; an error where one
/// runs over the end.
pub(super) fn options(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), ()>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let parsed = u16_at(rest, 0)
            .zip(u16_at(rest, 2))
            .and_then(|(code, length)| {
                let option = rest.get(..4 + usize::from(length))?;
                rest = &rest[option.len()..];
                Some((code, option))
            });
        if parsed.is_none() {
            rest = &[];
        }
        Some(parsed.ok_or(()))
    })
}

/// Whether an option speaks of one hop alone and is neither passed on nor kept: COOKIE
/// (RFC 7873), edns-tcp-keepalive (RFC 7828), Padding (RFC 7830).
pub(super) fn is_hop_by_hop(option: u16) -> bool {
    matches!(option, 10..=12)
}

/// Reads a query.
pub(super) fn parse_query(packet: &[u8]) -> Result<Query<'_>, Rejection> {
    const MALFORMED: Rejection = Rejection::Answer(Rcode::FORMERR);
    if packet.len() < HEADER {
        return Err(Rejection::Silence);
    }
    let word = |index: usize| u16::from_be_bytes([packet[2 * index], packet[2 * index + 1]]);
    let flags = word(1);
    if flags & QR != 0 {
        return Err(Rejection::Silence);
    }
    if flags & OPCODE != 0 {
        return Err(Rejection::Answer(Rcode::NOTIMP));
    }
    let (questions, answers, authorities, additionals) = (word(2), word(3), word(4), word(5));
    let question_end = plain_name_end(packet, HEADER).ok_or(MALFORMED)?;
    let (rtype, class) = u16_at(packet, question_end)
        .zip(u16_at(packet, question_end + 2))
        .ok_or(MALFORMED)?;
    let is_transfer = matches!(rtype, rtype::AXFR | rtype::IXFR);
    if questions == 1 && is_transfer {
        return Err(Rejection::Answer(Rcode::REFUSED));
    }
    if questions != 1 || answers != 0 || authorities != 0 || additionals > 1 || flags & TC != 0 {
        return Err(MALFORMED);
    }
    let rest = &packet[question_end + 4..];
    let edns = match additionals {
        0 if rest.is_empty() => None,
        1 => Some(parse_edns(rest).ok_or(MALFORMED)?),
        _ => return Err(MALFORMED),
    };
    if rtype == rtype::OPT {
        return Err(MALFORMED);
    }
    if edns.is_some_and(|edns| edns.version != 0) {
        return Err(Rejection::Answer(Rcode::BADVERS));
    }
    if class != CLASS_IN {
        return Err(Rejection::Answer(Rcode::REFUSED));
    }
    Ok(Query {
        id: word(0),
        flags,
        name: &packet[HEADER..question_end],
        rtype,
        class,
        edns,
    })
}

/// Reads an OPT record that fills `bytes`.
fn parse_edns(bytes: &[u8]) -> Option<Edns<'_>> {
    let options_length = usize::from(u16_at(bytes, 9)?);
    let is_opt = bytes[0] == 0 && u16_at(bytes, 1)? == rtype::OPT;
    if !is_opt || bytes.len() != 11 + options_length {
        return None;
    }
    let edns = Edns {
        udp_size: u16_at(bytes, 3)?,
        version: bytes[6],
        dnssec_ok: u16_at(bytes, 7)? & DO != 0,
        options: &bytes[11..],
    };
    options(edns.options)
        .all(|option| option.is_ok())
        .then_some(edns)
}

/// A resource record of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) rtype: u16,
    pub(super) class: u16,
    /// Where its TTL stands.
    pub(super) ttl_at: usize,
    /// Where its data starts and ends.
    pub(super) data: usize,
    pub(super) end: usize,
}

/// Reads the record that starts at `start`.
pub(super) fn record_at(message: &[u8], start: usize) -> Option<Record> {
    let fixed = name_end(message, start)?;
    let data = fixed + 10;
    let end = data + usize::from(u16_at(message, fixed + 8)?);
    (end <= message.len()).then_some(Record {
        rtype: u16_at(message, fixed)?,
        class: u16_at(message, fixed + 2)?,
        ttl_at: fixed + 4,
        data,
        end,
    })
}
