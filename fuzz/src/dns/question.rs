use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::DNSClass;
use seedwire_core::dns::Transport;

use super::lab::Lab;
use super::view::{HEADER, end_to_end, is_plain, plain_question, word};

const UDP_CLIENT: u16 = 1;
const TCP_CLIENT: u16 = 2;

/// A packet from a client, over UDP and then over TCP.
pub fn dns_question(data: &[u8]) {
    let mut lab = Lab::new();
    lab.ask(data, UDP_CLIENT, Transport::Udp);
    lab.ask(data, TCP_CLIENT, Transport::Tcp);
    let seen = Message::from_vec(data).ok();
    let sent = std::mem::take(&mut lab.world.sent);
    if let Some(message) = seen.as_ref().filter(|message| is_plain(message, data)) {
        assert_eq!(sent.len() == 1, is_ordinary(message), "{message:?}");
    }
    let Some(first) = sent.first() else {
        let expected = if is_silent(data) { 0 } else { 2 };
        assert_eq!(lab.world.replies.len(), expected);
        for (_, reply) in &lab.world.replies {
            refusal(reply, data, seen.is_some());
        }
        return;
    };
    assert_eq!((sent.len(), lab.world.replies.len()), (1, 0));
    if let Some(message) = &seen {
        passed_on(message, &readable(&first.message));
    }
    // The answer goes to both, each in the letters of its own question.
    let question = plain_question(data).expect("it was read");
    let mut answer = data[..2].to_vec();
    answer.extend_from_slice(&[0x80, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
    answer.extend(question.iter().map(u8::to_ascii_uppercase));
    let types = answer.len() - 4;
    answer[types..].copy_from_slice(&question[question.len() - 4..]);
    lab.answer(first, &answer);
    let replies = std::mem::take(&mut lab.world.replies);
    let clients: Vec<_> = replies.iter().map(|(client, _)| *client).collect();
    assert_eq!(clients, [UDP_CLIENT, TCP_CLIENT]);
    for (_, reply) in replies {
        assert_eq!(reply[..2], data[..2]);
        assert_eq!(plain_question(&reply), Some(question));
        let message = readable(&reply);
        assert_eq!(message.edns.is_some(), word(data, 10) == 1);
        // RD and CD are the client's.
        assert_eq!(
            (reply[2] & 1, reply[3] & 0x10),
            (data[2] & 1, data[3] & 0x10)
        );
    }
}

fn readable(message: &[u8]) -> Message {
    Message::from_vec(message).expect("we write what can be read")
}

/// No query: answering it could be answered.
fn is_silent(data: &[u8]) -> bool {
    data.len() < HEADER || data[2] & 0x80 != 0
}

/// What an upstream is to be asked, rather than refused by us.
fn is_ordinary(message: &Message) -> bool {
    let [query] = message.queries.as_slice() else {
        return false;
    };
    let metadata = &message.metadata;
    metadata.message_type == MessageType::Query
        && metadata.op_code == OpCode::Query
        && !metadata.truncation
        && message.answers.is_empty()
        && message.authorities.is_empty()
        && message.additionals.is_empty()
        && message.edns.as_ref().is_none_or(|edns| edns.version() == 0)
        && query.query_class() == DNSClass::IN
        // OPT, IXFR and AXFR.
        && !matches!(u16::from(query.query_type()), 41 | 251 | 252)
}

fn passed_on(asked: &Message, upstream: &Message) {
    assert!(is_ordinary(asked), "{asked:?}");
    let (before, after) = (&asked.metadata, &upstream.metadata);
    assert_eq!(after.recursion_desired, before.recursion_desired);
    assert_eq!(after.checking_disabled, before.checking_disabled);
    assert_eq!(after.authentic_data, before.authentic_data);
    assert!(!after.authoritative && !after.recursion_available);
    assert_eq!(asked.queries, upstream.queries);
    assert!(asked.queries[0].name().eq_case(upstream.queries[0].name()));
    assert_eq!(asked.edns.is_some(), upstream.edns.is_some());
    if let (Some(asked), Some(upstream)) = (&asked.edns, &upstream.edns) {
        assert_eq!(asked.flags().dnssec_ok, upstream.flags().dnssec_ok);
        assert_eq!(end_to_end(asked), end_to_end(upstream));
        assert_eq!(end_to_end(upstream).len(), upstream.options().options.len());
        assert_eq!((upstream.max_payload(), upstream.version()), (1232, 0));
    }
}

/// A reply that asks nobody.
fn refusal(reply: &[u8], asked: &[u8], is_readable: bool) {
    assert_eq!(reply[..2], asked[..2]);
    assert_eq!(reply[2] & 0xf8, asked[2] & 0x78 | 0x80, "QR and the opcode");
    assert!(reply[3] & 15 != 0 || word(reply, 10) == 1, "an error");
    // Nobody is flooded with more than was sent in his name; an OPT record has 11 bytes.
    assert!(reply.len() <= asked.len() + 11);
    if is_readable {
        readable(reply);
    }
}
