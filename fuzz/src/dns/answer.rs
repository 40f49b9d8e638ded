use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{RData, Record};
use seedwire_core::dns::Transport;

use super::lab::{Lab, MAX_TTL};
use super::view::{HEADER, end_to_end, is_plain, is_same, is_stable, plain_question, word};

/// The type that asks for records of all types (RFC 1035, 3.2.3).
const ANY: u16 = 255;
const FIRST: u16 = 0x0102;
const SECOND: u16 = 0x0304;

/// How the client asks; read from the ID of the message, which the forwarder replaces.
struct Client {
    packet: Vec<u8>,
    transport: Transport,
    udp_size: Option<u16>,
    dnssec_ok: bool,
    /// When it asks again, in seconds.
    later: u32,
}

impl Client {
    fn new(message: &[u8]) -> Self {
        const LATER: [u32; 8] = [0, 1, 29, 30, 60, 299, 3599, 3600];
        let (how, when) = (message[0], message[1]);
        let question = plain_question(message).unwrap_or(&[1, b'a', 0, 0, 1, 0, 1]);
        let has_edns = how & 8 != 0;
        let udp_size = [0, 512, 1232, 0xffff][usize::from(how >> 4 & 3)];
        let flags = [how & 1, (how & 2) << 3 | (how & 4) << 3];
        let mut packet = FIRST.to_be_bytes().to_vec();
        packet.extend_from_slice(&flags);
        packet.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(has_edns)]);
        packet.extend_from_slice(question);
        if how & 128 != 0 {
            let end = packet.len() - 4;
            packet[HEADER..end].make_ascii_uppercase();
        }
        let dnssec_ok = how & 64 != 0;
        if has_edns {
            packet.extend_from_slice(&[0, 0, 41]);
            packet.extend_from_slice(&u16::to_be_bytes(udp_size));
            packet.extend_from_slice(&[0, 0, u8::from(dnssec_ok) << 7, 0, 0, 0]);
        }
        Self {
            packet,
            transport: [Transport::Udp, Transport::Tcp][usize::from(when & 1)],
            udp_size: has_edns.then_some(udp_size),
            dnssec_ok,
            later: LATER[usize::from(when >> 1 & 7)],
        }
    }

    fn limit(&self) -> usize {
        match self.transport {
            Transport::Udp => usize::from(self.udp_size.unwrap_or(512).clamp(512, 1232)),
            _ => 65535,
        }
    }

    /// What holds for every reply, whatever the upstream said.
    fn check(&self, reply: &[u8], id: u16) {
        assert_eq!(word(reply, 0), id);
        assert_eq!(reply[2] & 0xf9, 0x80 | self.packet[2] & 1, "QR, opcode, RD");
        assert_eq!(reply[3] & 0x10, self.packet[3] & 0x10, "CD");
        assert_eq!(plain_question(reply), plain_question(&self.packet));
        assert!(reply.len() <= self.limit());
        if let Ok(message) = Message::from_vec(reply) {
            assert_eq!(message.edns.is_some(), self.udp_size.is_some());
        }
    }
}

/// A message from an upstream, as the answer to the question in it.
pub fn dns_answer(data: &[u8]) {
    let data = &data[..data.len().min(65535)];
    if data.len() < HEADER {
        return;
    }
    let client = Client::new(data);
    let mut lab = Lab::new();
    lab.ask(&client.packet, FIRST, client.transport);
    if lab.world.sent.is_empty() {
        assert_eq!(lab.world.replies.len(), 1, "refused at once");
        return;
    }
    lab.answer_all(data);
    let [(FIRST, reply)] = lab.world.replies.as_slice() else {
        panic!("each client gets one reply");
    };
    let reply = reply.clone();
    client.check(&reply, FIRST);
    // The same question later: from the cache, or the upstream is asked again.
    lab.world.replies.clear();
    lab.pass_seconds(client.later);
    let mut packet = client.packet.clone();
    packet[..2].copy_from_slice(&SECOND.to_be_bytes());
    lab.ask(&packet, SECOND, client.transport);
    let kept = lab.world.replies.pop().map(|(_, reply)| reply);
    assert_eq!(lab.world.sent.is_empty(), kept.is_some());
    if let Some(kept) = &kept {
        client.check(kept, SECOND);
    }
    if let Ok(answer) = Message::from_vec(data) {
        compare(&client, data, &answer, &reply, kept.as_deref());
    }
}

/// What both readers of a message must agree on.
fn compare(client: &Client, data: &[u8], answer: &Message, reply: &[u8], kept: Option<&[u8]>) {
    let is_taken = reply[3] & 15 == data[3] & 15 && is_answer(answer, &client.packet);
    if is_answer(answer, &client.packet) && is_plain(answer, data) {
        assert!(is_taken, "{answer:?}");
    }
    if !is_taken || is_own_word(reply) || !is_stable(data) {
        return;
    }
    let seen = Message::from_vec(reply).expect("what can be read can be read when passed on");
    let (before, after) = (&answer.metadata, &seen.metadata);
    assert_eq!(after.authoritative, before.authoritative);
    assert_eq!(after.recursion_available, before.recursion_available);
    assert_eq!(after.authentic_data, before.authentic_data);
    edns(client, answer, &seen);
    if after.truncation {
        assert_eq!(seen.all_sections().count(), 0);
        assert!(data.len() + 11 > client.limit());
        return;
    }
    assert_eq!(seen.answers.len(), answer.answers.len());
    assert_eq!(seen.authorities.len(), answer.authorities.len());
    assert!(seen.additionals.len() <= answer.additionals.len());
    if answer.edns.is_none() {
        assert_eq!(seen.additionals.len(), answer.additionals.len());
    }
    for (passed, given) in pairs(&seen, answer) {
        assert!(is_same(passed, given), "{passed} {given}");
        let is_soa = matches!(given.data, RData::SOA(_)) && passed.ttl < given.ttl;
        assert!(passed.ttl == given.ttl || is_soa, "{passed} {given}");
    }
    match kept {
        // It failed, and is not to be asked again so soon.
        Some(kept) if is_own_word(kept) => assert!(!matches!(reply[3] & 15, 0 | 3)),
        Some(kept) => {
            let kept = Message::from_vec(kept).expect("what is kept can be read");
            assert_eq!(after.truncation, kept.metadata.truncation);
            aged(&seen, &kept, client.later);
        }
        None => assert!(!must_be_kept(client, &seen), "{seen:?}"),
    }
}

/// Whether it is the answer to that question.
fn is_answer(answer: &Message, asked: &[u8]) -> bool {
    let asked = Message::from_vec(asked).ok();
    let metadata = &answer.metadata;
    let is_repeated = asked.is_some_and(|asked| asked.queries == answer.queries);
    is_repeated
        && metadata.message_type == MessageType::Response
        && metadata.op_code == OpCode::Query
        && !metadata.truncation
}

/// Whether the reply may be one of our own, rather than what an upstream said.
fn is_own_word(reply: &[u8]) -> bool {
    let rcode = reply[3] & 15;
    reply[6..10] == [0; 4] && rcode != 0 && rcode != 3
}

fn edns(client: &Client, answer: &Message, seen: &Message) {
    let Some(ours) = &seen.edns else {
        let code = answer.metadata.response_code.low();
        assert_eq!(seen.metadata.response_code.low(), code);
        return;
    };
    assert_eq!((ours.max_payload(), ours.version()), (1232, 0));
    match &answer.edns {
        Some(theirs) => {
            assert_eq!(seen.metadata.response_code, answer.metadata.response_code);
            assert_eq!(ours.flags().dnssec_ok, theirs.flags().dnssec_ok);
            // hickory forgets all options when one is malformed; we keep those before it. To a
            // failure we may add why.
            let is_failure = matches!(seen.metadata.response_code.low(), 2 | 5);
            if !theirs.options().options.is_empty() && !is_failure {
                assert_eq!(end_to_end(ours), end_to_end(theirs));
                assert_eq!(end_to_end(ours).len(), ours.options().options.len());
            }
        }
        None => {
            assert_eq!(ours.flags().dnssec_ok, client.dnssec_ok);
            let is_failure = matches!(seen.metadata.response_code.low(), 2 | 5);
            assert!(is_failure || ours.options().options.is_empty());
        }
    }
}

/// The records of two messages side by side.
fn pairs<'a>(a: &'a Message, b: &'a Message) -> impl Iterator<Item = (&'a Record, &'a Record)> {
    let answers = a.answers.iter().zip(&b.answers);
    let authorities = a.authorities.iter().zip(&b.authorities);
    let additionals = a.additionals.iter().zip(&b.additionals);
    answers.chain(authorities).chain(additionals)
}

/// An answer from the cache says what it said, less the time that has passed.
fn aged(fresh: &Message, kept: &Message, age: u32) {
    let codes = [ResponseCode::NoError, ResponseCode::NXDomain];
    assert!(codes.contains(&kept.metadata.response_code));
    assert_eq!(kept.metadata.response_code, fresh.metadata.response_code);
    assert!(!kept.metadata.authoritative);
    assert_eq!(kept.edns, fresh.edns);
    assert_eq!(kept.all_sections().count(), fresh.all_sections().count());
    for (kept, fresh) in pairs(kept, fresh) {
        assert!(is_same(kept, fresh), "{kept} {fresh}");
        assert_eq!(kept.ttl, fresh.ttl.saturating_sub(age), "{kept} {fresh}");
    }
    for record in &kept.answers {
        assert!(record.ttl > 0, "{record}");
    }
}

/// Whether the answer has what was asked for and holds until then.
fn must_be_kept(client: &Client, seen: &Message) -> bool {
    let asked = u16::from(seen.queries[0].query_type());
    let is_positive = seen
        .answers
        .iter()
        .any(|record| asked == ANY || u16::from(record.record_type()) == asked);
    let holds = |record: &Record| (client.later + 1..=i32::MAX as u32).contains(&record.ttl);
    seen.metadata.response_code == ResponseCode::NoError
        && is_positive
        && client.later < MAX_TTL
        && seen.all_sections().all(holds)
}
