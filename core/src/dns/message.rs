//! Building queries and answers of our own, byte by byte.

use crate::types::DnsName;

use super::wire::{
    self, AD, CD, CLASS_IN, DO, HEADER, PLAIN_UDP, QR, Query, RA, RD, Rcode, SAFE_UDP, rtype,
};

/// A reason in an answer (RFC 8914): the code and a few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExtendedError {
    pub(super) code: u16,
    pub(super) text: &'static str,
}

impl ExtendedError {
    pub(super) const NOT_OURS: Self = Self::new(20, "no upstream is configured for this name");
    pub(super) const PEER_DOWN: Self = Self::new(22, "the tunnel to every upstream is down");
    pub(super) const NO_ANSWER: Self = Self::new(22, "no upstream answered in time");
    pub(super) const UNHELPFUL: Self = Self::new(22, "no upstream answered but with an error");
    pub(super) const UNREACHABLE: Self = Self::new(23, "no upstream can be reached");
    pub(super) const MALFORMED: Self = Self::new(24, "no upstream answered with what can be read");
    pub(super) const NO_UPSTREAM: Self = Self::new(22, "no upstream is known at the moment");
    pub(super) const BUSY: Self = Self::new(0, "too many questions are under way");
    pub(super) const FAILED_LATELY: Self = Self::new(13, "no upstream could answer this lately");
    pub(super) const DISTRUSTED: Self = Self::new(0, "the upstream says the name does not exist");
    pub(super) const SEARCHED: Self = Self::new(29, "a zone's name with a search domain behind it");

    const fn new(code: u16, text: &'static str) -> Self {
        Self { code, text }
    }

    /// That an answer is stale, for this reason.
    pub(super) fn stale(self, is_nxdomain: bool) -> Self {
        const STALE_ANSWER: u16 = 3;
        const STALE_NXDOMAIN: u16 = 19;
        let code = if is_nxdomain {
            STALE_NXDOMAIN
        } else {
            STALE_ANSWER
        };
        Self { code, ..self }
    }

    /// The length of the option in bytes.
    pub(super) fn len(self) -> usize {
        6 + self.text.len()
    }

    /// Appends the option.
    pub(super) fn extend(self, message: &mut Vec<u8>) {
        message.extend_from_slice(&wire::EXTENDED_ERROR.to_be_bytes());
        message.extend_from_slice(&(2 + self.text.len() as u16).to_be_bytes());
        message.extend_from_slice(&self.code.to_be_bytes());
        message.extend_from_slice(self.text.as_bytes());
    }
}

/// A text name in wire form with the root label.
pub(super) fn wire_name(name: &DnsName) -> Vec<u8> {
    let mut wire = Vec::with_capacity(name.as_str().len() + 2);
    for label in name.as_str().split('.').filter(|label| !label.is_empty()) {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// A question for the records of one type, recursion desired, with EDNS.
pub(super) fn question(id: u16, name: &DnsName, rtype: u16) -> Vec<u8> {
    let mut message = Vec::with_capacity(64);
    header(&mut message, id, RD, [1, 0, 0, 1]);
    message.extend_from_slice(&wire_name(name));
    message.extend_from_slice(&rtype.to_be_bytes());
    message.extend_from_slice(&CLASS_IN.to_be_bytes());
    opt(&mut message, 0, false, |_| {});
    message
}

/// What is asked upstream for `query`, with ID 0: its question, flags and options, with our UDP
/// size and without what is between the client and us.
pub(super) fn write_upstream_query(message: &mut Vec<u8>, query: &Query<'_>) {
    message.clear();
    let flags = query.flags & (RD | AD | CD);
    header(
        message,
        0,
        flags,
        [1, 0, 0, u16::from(query.edns.is_some())],
    );
    message.extend_from_slice(query.name);
    message.extend_from_slice(&query.rtype.to_be_bytes());
    message.extend_from_slice(&query.class.to_be_bytes());
    if let Some(edns) = query.edns {
        opt(message, 0, edns.dnssec_ok, |message| {
            extend_end_to_end(message, edns.options);
        });
    }
}

/// Appends the options that are meant for more than one hop.
pub(super) fn extend_end_to_end(message: &mut Vec<u8>, options: &[u8]) {
    for (code, option) in wire::options(options).flatten() {
        if !wire::is_hop_by_hop(code) {
            message.extend_from_slice(option);
        }
    }
}

/// The most bytes that may go to a client over UDP that offers `udp_size`.
pub(super) fn udp_limit(udp_size: Option<u16>) -> usize {
    usize::from(udp_size.unwrap_or(PLAIN_UDP).clamp(PLAIN_UDP, SAFE_UDP))
}

/// How much of a question is repeated in an answer of our own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) id: u16,
    pub(super) flags: u16,
    /// Name, type and class in wire form; empty when they can't be read.
    pub(super) question: &'a [u8],
    /// Whether the client sent EDNS, and whether with the DNSSEC OK flag.
    pub(super) edns: Option<bool>,
}

impl<'a> Asked<'a> {
    /// What can be read of a rejected packet; it has a whole header.
    pub(super) fn of_rejected(packet: &'a [u8], rcode: Rcode) -> Self {
        let end = wire::plain_name_end(packet, HEADER)
            .map(|end| end + 4)
            .filter(|end| *end <= packet.len() && wire::u16_at(packet, 4) == Some(1));
        // Only rejections of well-formed packets know that there is an OPT record.
        let has_edns =
            !matches!(rcode, Rcode::FORMERR | Rcode::NOTIMP) && wire::u16_at(packet, 10) == Some(1);
        Self {
            id: wire::u16_at(packet, 0).unwrap_or_default(),
            flags: wire::u16_at(packet, 2).unwrap_or_default(),
            question: end.map_or(&[], |end| &packet[HEADER..end]),
            edns: has_edns.then_some(false),
        }
    }
}

/// Writes an answer without records to `message`, over what stood there.
pub(super) fn write_error(
    message: &mut Vec<u8>,
    asked: Asked<'_>,
    rcode: Rcode,
    reason: Option<ExtendedError>,
) {
    const ECHOED: u16 = 0x7800 | RD | CD;
    message.clear();
    let flags = QR | RA | (asked.flags & ECHOED) | (rcode.0 & 0xf);
    let questions = u16::from(!asked.question.is_empty());
    header(
        message,
        asked.id,
        flags,
        [questions, 0, 0, u16::from(asked.edns.is_some())],
    );
    message.extend_from_slice(asked.question);
    if let Some(dnssec_ok) = asked.edns {
        opt(message, (rcode.0 >> 4) as u8, dnssec_ok, |message| {
            if let Some(reason) = reason {
                reason.extend(message);
            }
        });
    }
}

fn header(message: &mut Vec<u8>, id: u16, flags: u16, counts: [u16; 4]) {
    for word in [id, flags].into_iter().chain(counts) {
        message.extend_from_slice(&word.to_be_bytes());
    }
}

/// Appends an OPT record of ours with the options that `options` appends.
pub(super) fn opt(
    message: &mut Vec<u8>,
    extended_rcode: u8,
    dnssec_ok: bool,
    options: impl FnOnce(&mut Vec<u8>),
) {
    message.push(0);
    message.extend_from_slice(&rtype::OPT.to_be_bytes());
    message.extend_from_slice(&SAFE_UDP.to_be_bytes());
    message.extend_from_slice(&[extended_rcode, 0]);
    message.extend_from_slice(&(if dnssec_ok { DO } else { 0 }).to_be_bytes());
    let length_at = message.len();
    message.extend_from_slice(&[0, 0]);
    options(message);
    let length = (message.len() - length_at - 2) as u16;
    message[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
}
