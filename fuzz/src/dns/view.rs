//! What hickory-proto sees in a message.

use hickory_proto::op::{Edns, Message};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, Record};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

/// The length of the header in bytes.
pub(super) const HEADER: usize = 12;

pub(super) fn word(message: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([message[at], message[at + 1]])
}

/// The name, type and class of a message whose name is not compressed.
pub(super) fn plain_question(message: &[u8]) -> Option<&[u8]> {
    let mut end = HEADER;
    loop {
        let length = usize::from(*message.get(end)?);
        end += 1 + length;
        match length {
            0 => break,
            1..=63 => {}
            _ => return None,
        }
    }
    message.get(HEADER..end + 4)
}

/// The options without those that are between two hops.
pub(super) fn end_to_end(edns: &Edns) -> Vec<&(EdnsCode, EdnsOption)> {
    let options = edns.options().options.iter();
    options
        .filter(|(code, _)| !matches!(u16::from(*code), 10..=12))
        .collect()
}

/// The labels of a name in lower case.
pub(super) fn lower(name: &Name) -> Vec<Vec<u8>> {
    name.iter().map(<[u8]>::to_ascii_lowercase).collect()
}

/// Whether two records say the same; their TTLs and the letters of their owners may differ.
pub(super) fn is_same(a: &Record, b: &Record) -> bool {
    lower(&a.name) == lower(&b.name) && a.dns_class == b.dns_class && a.data == b.data
}

/// Whether what the records say depends on nothing but them: a pointer may lead into the header
/// or into a TTL, both of which change on the way.
pub(super) fn is_stable(message: &[u8]) -> bool {
    let Some(ttls) = ttls(message) else {
        return false;
    };
    let mut other = message.to_vec();
    for byte in &mut other[..HEADER] {
        *byte ^= 0xff;
    }
    for at in ttls {
        for byte in &mut other[at..at + 4] {
            *byte ^= 0xff;
        }
    }
    let (Some(a), Some(b)) = (records(message, message), records(&other, message)) else {
        return false;
    };
    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| is_same(a, b))
}

/// The ordinary records of a message, as many as `counts` has.
fn records(message: &[u8], counts: &[u8]) -> Option<Vec<Record>> {
    let mut decoder = BinDecoder::new(message).clone(HEADER as u16);
    for _ in 0..word(counts, 4) {
        hickory_proto::op::Query::read(&mut decoder).ok()?;
    }
    let mut records = Vec::new();
    for at in [6, 8, 10] {
        for _ in 0..word(counts, at) {
            records.push(Record::read(&mut decoder).ok()?);
        }
    }
    records.retain(|record| u16::from(record.record_type()) != 41);
    Some(records)
}

/// Where the TTLs of the ordinary records stand.
fn ttls(message: &[u8]) -> Option<Vec<usize>> {
    let name_end = |mut at: usize| loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            _ => return Some(at + 2),
        }
    };
    let mut at = HEADER;
    for _ in 0..word(message, 4) {
        at = name_end(at)? + 4;
    }
    let mut ttls = Vec::new();
    let count: usize = [6, 8, 10]
        .map(|at| usize::from(word(message, at)))
        .iter()
        .sum();
    for _ in 0..count {
        let fixed = name_end(at)?;
        message.get(fixed..fixed + 10)?;
        if word(message, fixed) != 41 {
            ttls.push(fixed + 4);
        }
        at = fixed + 10 + usize::from(word(message, fixed + 8));
    }
    Some(ttls)
}

/// Whether the message is written as anybody would: nobody has a reason to refuse it.
pub(super) fn is_plain(message: &Message, bytes: &[u8]) -> bool {
    message.to_vec().is_ok_and(|again| again == bytes)
}
