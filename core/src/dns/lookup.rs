//! The addresses in an answer, for our own needs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::types::DnsName;

use super::message::{question, wire_name};
use super::wire::{self, CLASS_IN, HEADER, QR, Rcode, TC, rtype, u16_at};

/// The kinds of address that a name may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// IPv4, type A.
    V4,
    /// IPv6, type AAAA.
    V6,
}

impl AddressKind {
    fn rtype(self) -> u16 {
        match self {
            Self::V4 => rtype::A,
            Self::V6 => rtype::AAAA,
        }
    }
}

/// What the answer to an address question says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressAnswer {
    /// It answers another question: it is to be ignored.
    Foreign,
    /// It was cut short: it is to be asked again over TCP.
    Truncated,
    /// The name has these addresses; none, when the name exists without any.
    Addresses(Vec<IpAddr>),
    /// The server says otherwise.
    Failed(Rcode),
    /// It can't be read.
    Malformed,
}

/// The question for the addresses of `name`, recursion desired.
pub fn address_question(id: u16, name: &DnsName, kind: AddressKind) -> Vec<u8> {
    question(id, name, kind.rtype())
}

/// Reads the answer to [`address_question`] with the same arguments; follows CNAME records in it.
pub fn read_addresses(message: &[u8], id: u16, name: &DnsName, kind: AddressKind) -> AddressAnswer {
    let asked = wire_name(name);
    let word = |index: usize| u16_at(message, 2 * index).unwrap_or_default();
    let question_end = HEADER + asked.len() + 4;
    let is_ours = message.len() >= question_end
        && word(0) == id
        && word(1) & QR != 0
        && word(2) == 1
        && message[HEADER..HEADER + asked.len()].eq_ignore_ascii_case(&asked)
        && u16_at(message, question_end - 4) == Some(kind.rtype())
        && u16_at(message, question_end - 2) == Some(CLASS_IN);
    if !is_ours {
        return AddressAnswer::Foreign;
    }
    if word(1) & TC != 0 {
        return AddressAnswer::Truncated;
    }
    match Rcode(word(1) & 0xf) {
        Rcode::NOERROR => collect(message, question_end, asked, kind)
            .map_or(AddressAnswer::Malformed, AddressAnswer::Addresses),
        rcode => AddressAnswer::Failed(rcode),
    }
}

/// The addresses of the name `wanted`, or of that which its CNAME records lead to.
fn collect(
    message: &[u8],
    start: usize,
    mut wanted: Vec<u8>,
    kind: AddressKind,
) -> Option<Vec<IpAddr>> {
    let mut records = Vec::new();
    let mut next = start;
    for _ in 0..u16_at(message, 6)? {
        let record = wire::record_at(message, next)?;
        if record.class == CLASS_IN {
            records.push((wire::expanded_name(message, next)?, record));
        }
        next = record.end;
    }
    // No chain is longer than the records there are.
    for _ in 0..=records.len() {
        let mut of_name = records.iter().filter(|(owner, _)| *owner == wanted);
        let Some((_, alias)) = of_name.find(|(_, record)| record.rtype == rtype::CNAME) else {
            break;
        };
        wanted = wire::expanded_name(message, alias.data)?;
    }
    Some(
        records
            .iter()
            .filter(|(owner, record)| *owner == wanted && record.rtype == kind.rtype())
            .filter_map(|(_, record)| address(&message[record.data..record.end]))
            .collect(),
    )
}

fn address(data: &[u8]) -> Option<IpAddr> {
    match data.len() {
        4 => <[u8; 4]>::try_from(data)
            .ok()
            .map(|octets| Ipv4Addr::from(octets).into()),
        16 => <[u8; 16]>::try_from(data)
            .ok()
            .map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}
