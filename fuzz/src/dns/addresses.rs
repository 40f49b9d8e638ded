use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{DNSClass, RData};
use seedwire_core::dns::{AddressAnswer, AddressKind, Rcode, address_question, read_addresses};
use seedwire_core::types::DnsName;

use super::view::{HEADER, is_plain, lower, plain_question, word};

/// A message from a server, as the answer to a question for the addresses of the name in it.
pub fn dns_addresses(data: &[u8]) {
    if data.len() < HEADER {
        return;
    }
    let name = plain_question(data).and_then(name);
    let name = name.unwrap_or_else(|| "a".parse().expect("a name"));
    let id = word(data, 0);
    for kind in [AddressKind::V4, AddressKind::V6] {
        let read = read_addresses(data, id, &name, kind);
        if let Ok(message) = Message::from_vec(data) {
            compare(data, &message, (id, &name, kind), &read);
        }
    }
}

/// The name of a question, where it can be written as one of ours.
fn name(question: &[u8]) -> Option<DnsName> {
    let mut text = String::new();
    let mut rest = question;
    while let Some((length, behind)) = rest.split_first().filter(|(length, _)| **length != 0) {
        let (label, behind) = behind.split_at(usize::from(*length));
        text.push_str(
            std::str::from_utf8(label)
                .ok()
                .filter(|l| !l.contains('.'))?,
        );
        text.push('.');
        rest = behind;
    }
    text.parse().ok()
}

fn compare(data: &[u8], seen: &Message, asked: (u16, &DnsName, AddressKind), read: &AddressAnswer) {
    let (id, name, kind) = asked;
    let question = Message::from_vec(&address_question(id, name, kind));
    let question = question.expect("we write what can be read");
    let is_ours =
        seen.metadata.message_type == MessageType::Response && seen.queries == question.queries;
    let code = seen.metadata.response_code.low();
    match read {
        AddressAnswer::Foreign => assert!(!is_ours || !is_plain(seen, data), "{seen:?}"),
        AddressAnswer::Truncated => assert!(seen.metadata.truncation),
        AddressAnswer::Failed(Rcode(failed)) => assert_eq!(*failed, u16::from(code)),
        AddressAnswer::Malformed => assert!(!is_plain(seen, data), "{seen:?}"),
        AddressAnswer::Addresses(addresses) => {
            assert!(is_ours, "{seen:?}");
            assert_eq!(code, ResponseCode::NoError.low());
            let wanted = lower(question.queries[0].name());
            assert_eq!(*addresses, follow(seen, wanted, kind), "{seen:?}");
        }
    }
}

/// The addresses of a name or of that which it is an alias of.
fn follow(seen: &Message, mut wanted: Vec<Vec<u8>>, kind: AddressKind) -> Vec<IpAddr> {
    let is_wanted = |record: &&hickory_proto::rr::Record, wanted: &Vec<Vec<u8>>| {
        record.dns_class == DNSClass::IN && lower(&record.name) == *wanted
    };
    for _ in 0..=seen.answers.len() {
        let mut of_name = seen.answers.iter().filter(|r| is_wanted(r, &wanted));
        let alias = of_name.find_map(|record| match &record.data {
            RData::CNAME(alias) => Some(lower(&alias.0)),
            _ => None,
        });
        let Some(alias) = alias else { break };
        wanted = alias;
    }
    let of_name = seen.answers.iter().filter(|r| is_wanted(r, &wanted));
    of_name
        .filter_map(|record| match (&record.data, kind) {
            (RData::A(address), AddressKind::V4) => Some(address.0.into()),
            (RData::AAAA(address), AddressKind::V6) => Some(address.0.into()),
            _ => None,
        })
        .collect()
}
