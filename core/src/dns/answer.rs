//! Answers of upstreams: read once, then sent to any number of clients by patching bytes.

use super::message::{self, ExtendedError};
use super::wire::{self, AA, CD, DO, HEADER, QR, RD, Rcode, TC, rtype, u16_at, u32_at};

/// An upstream's answer without what concerned the hop to us, with our OPT record at the end when
/// the client has EDNS.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    wire: Box<[u8]>,
    ttls: Box<[u16]>,
    /// Where the OPT record starts; the length when there is none.
    opt_at: u16,
    question_end: u16,
    pub(super) rcode: Rcode,
    /// Whether the name or the records asked for do not exist.
    pub(super) is_negative: bool,
    /// How long it may be kept, in whole seconds; 0: not at all.
    pub(super) lifetime: u32,
}

/// The bytes of an OPT record without options.
const OPT_FIXED: usize = 11;

/// What came back in place of a whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// Not the answer to that question: as if it had not come.
    Foreign,
    /// Cut short: to be asked again over TCP.
    Truncated,
    /// The upstream can't read or won't answer the question, and says no more.
    Bare(Rcode),
    /// Not well-formed.
    Malformed,
}

/// Whether the name, type and class of a message are these; letters of either case are equal.
fn repeats(message: &[u8], question: &[u8]) -> bool {
    message
        .get(HEADER..HEADER + question.len())
        .is_some_and(|echoed| echoed.eq_ignore_ascii_case(question))
}

impl Answer {
    /// Reads the answer to `query`, which is as [`message::write_upstream_query`] made it.
    pub(super) fn parse(message: &[u8], query: &[u8]) -> Result<Self, Unusable> {
        let word = |index: usize| u16_at(message, 2 * index).ok_or(Unusable::Foreign);
        let question_end = wire::plain_name_end(query, HEADER).ok_or(Unusable::Foreign)? + 4;
        let question = query.get(HEADER..question_end).ok_or(Unusable::Foreign)?;
        let flags = word(1)?;
        let counts = [word(2)?, word(3)?, word(4)?, word(5)?];
        if flags & QR == 0 || flags & 0x7800 != 0 {
            return Err(Unusable::Foreign);
        }
        let rcode = Rcode(flags & 0xf);
        if counts[0] == 0 && rcode != Rcode::NOERROR && rcode != Rcode::NXDOMAIN {
            return Err(Unusable::Bare(rcode));
        }
        if counts[0] != 1 || !repeats(message, question) {
            return Err(Unusable::Foreign);
        }
        if flags & TC != 0 {
            return Err(Unusable::Truncated);
        }
        Self::read(message, query, question_end, rcode).ok_or(Unusable::Malformed)
    }

    fn read(message: &[u8], query: &[u8], question_end: usize, rcode: Rcode) -> Option<Self> {
        let rtype = u16_at(query, question_end - 4)?;
        let asked_edns = u16_at(query, 10)? == 1;
        let sections = Sections::read(message, question_end, rtype)?;
        let body = &message[..sections.body_end];
        let opt = if asked_edns { OPT_FIXED } else { 0 };
        let options = sections.opt.map_or(0, |opt| opt.end - opt.data);
        let mut wire = Vec::with_capacity(body.len() + opt + options);
        wire.extend_from_slice(body);
        // What is copied from the question, whatever the upstream made of it.
        let copied = (RD | CD).to_be_bytes();
        for (at, mask) in (2..4).zip(copied) {
            wire[at] = wire[at] & !mask | query[at] & mask;
        }
        wire[10..12].copy_from_slice(&sections.additionals.to_be_bytes());
        let mut extended = 0;
        if asked_edns {
            let query_opt = query.get(question_end..)?;
            let mut dnssec_ok = u16_at(query_opt, 7)? & DO != 0;
            let mut options: &[u8] = &[];
            if let Some(record) = sections.opt {
                extended = message[record.ttl_at];
                dnssec_ok = u16_at(message, record.ttl_at + 2)? & DO != 0;
                options = &message[record.data..record.end];
            }
            wire[10..12].copy_from_slice(&(sections.additionals + 1).to_be_bytes());
            message::opt(&mut wire, extended, dnssec_ok, |wire| {
                message::extend_end_to_end(wire, options);
            });
        }
        let unsaid = |opt: wire::Record| !asked_edns && message[opt.ttl_at] != 0;
        let rcode = if sections.opt.is_some_and(unsaid) {
            // Who sent no OPT must get none (RFC 6891, 7), and without its upper bits the code
            // would be another (6.1.3): BADVERS would be success.
            wire[3] = wire[3] & 0xf0 | Rcode::SERVFAIL.0 as u8;
            Rcode::SERVFAIL
        } else {
            Rcode(rcode.0 | u16::from(extended) << 4)
        };
        if let Some((ttl_at, ttl)) = sections.negative_ttl {
            // Whoever keeps this answer must not keep it longer than we do (RFC 2308, 5).
            wire[ttl_at..ttl_at + 4].copy_from_slice(&ttl.to_be_bytes());
        }
        let lifetime = sections.lifetime(rcode);
        Some(Self {
            wire: wire.into_boxed_slice(),
            ttls: sections.ttls.into_boxed_slice(),
            opt_at: u16::try_from(sections.body_end).ok()?,
            question_end: question_end as u16,
            rcode,
            is_negative: !sections.is_positive,
            lifetime,
        })
    }

    /// The answer as it may be kept: it is no longer an authority's.
    pub(super) fn into_cached(mut self) -> Self {
        self.wire[2] &= !((AA >> 8) as u8);
        self
    }

    /// The length of the whole message in bytes.
    pub(super) fn len(&self) -> usize {
        self.wire.len()
    }

    /// The memory it takes, in bytes.
    pub(super) fn size(&self) -> usize {
        self.wire.len() + 2 * self.ttls.len()
    }

    /// Writes it to `out`, over what stood there, for a client that asked with `id` and wrote the
    /// name as `name`, after it was kept for `age` seconds; more than `limit` bytes are cut short.
    pub(super) fn write(&self, out: &mut Vec<u8>, id: u16, name: &[u8], age: u32, limit: usize) {
        out.clear();
        if self.wire.len() > limit {
            self.write_truncated(out);
        } else {
            out.extend_from_slice(&self.wire);
            if age > 0 {
                for at in self.ttls.iter().map(|at| usize::from(*at)) {
                    let ttl = u32_at(out, at).unwrap_or_default().saturating_sub(age);
                    out[at..at + 4].copy_from_slice(&ttl.to_be_bytes());
                }
            }
        }
        out[..2].copy_from_slice(&id.to_be_bytes());
        out[HEADER..HEADER + name.len()].copy_from_slice(name);
    }

    /// Writes it as [`Answer::write`] does, though it has ended: every record may be kept for
    /// `ttl` seconds.
    pub(super) fn write_stale(
        &self,
        out: &mut Vec<u8>,
        id: u16,
        name: &[u8],
        ttl: u32,
        limit: usize,
    ) {
        self.write(out, id, name, 0, limit);
        if self.wire.len() <= limit {
            for at in self.ttls.iter().map(|at| usize::from(*at)) {
                out[at..at + 4].copy_from_slice(&ttl.to_be_bytes());
            }
        }
    }

    /// Adds the reason to what was just written to `out`, if the client has EDNS and there is
    /// room; a reason of the upstream's own stays alone.
    pub(super) fn explain(&self, out: &mut Vec<u8>, reason: ExtendedError, limit: usize) {
        let opt = &self.wire[usize::from(self.opt_at)..];
        let options = opt.get(OPT_FIXED..).unwrap_or_default();
        let is_told = wire::options(options)
            .flatten()
            .any(|(code, _)| code == wire::EXTENDED_ERROR);
        if opt.is_empty() || is_told || out.len() + reason.len() > limit {
            return;
        }
        let length_at = out.len() - opt.len() + OPT_FIXED - 2;
        let length = options.len() + reason.len();
        reason.extend(out);
        out[length_at..length_at + 2].copy_from_slice(&(length as u16).to_be_bytes());
    }

    fn write_truncated(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.wire[..usize::from(self.question_end)]);
        out[2] |= (TC >> 8) as u8;
        out[6..12].fill(0);
        let opt = &self.wire[usize::from(self.opt_at)..];
        out[11] = u8::from(!opt.is_empty());
        out.extend_from_slice(opt);
    }
}

/// What the three sections behind the question say.
struct Sections {
    ttls: Vec<u16>,
    /// The shortest TTL of the answer section and, in a positive answer, of the others.
    least_ttl: Option<u32>,
    opt: Option<wire::Record>,
    /// Where the records that are kept end.
    body_end: usize,
    additionals: u16,
    is_positive: bool,
    /// Where the TTL of the SOA record of a negative answer stands, and what it says at most.
    negative_ttl: Option<(usize, u32)>,
}

impl Sections {
    fn read(message: &[u8], start: usize, asked: u16) -> Option<Self> {
        // The last of the additional records is OPT as a rule; the shortest record takes 11 bytes.
        let records = [6, 8, 10].map(|at| usize::from(u16_at(message, at).unwrap_or_default()));
        let kept = records[0] + records[1] + records[2].saturating_sub(1);
        let mut sections = Self {
            ttls: Vec::with_capacity(kept.min(message.len() / 11)),
            least_ttl: None,
            opt: None,
            body_end: start,
            additionals: 0,
            is_positive: false,
            negative_ttl: None,
        };
        let (mut soa, mut least_other, mut next) = (None, None, start);
        for section in 0..3 {
            for _ in 0..u16_at(message, 6 + 2 * section)? {
                let record = wire::record_at(message, next)?;
                next = record.end;
                if section == 2 && record.rtype == rtype::OPT {
                    sections.opt.get_or_insert(record);
                }
                // Additional records behind OPT are dropped, since pointers into moved records
                // would be wrong, and nobody depends on them.
                if sections.opt.is_some() {
                    continue;
                }
                let ttl = ttl(message, record.ttl_at)?;
                sections.keep(&record, section == 2);
                let least = if section == 0 {
                    &mut sections.least_ttl
                } else {
                    &mut least_other
                };
                *least = Some(least.map_or(ttl, |least| ttl.min(least)));
                sections.is_positive |=
                    section == 0 && (record.rtype == asked || asked == rtype::ANY);
                if section == 1 && record.rtype == rtype::SOA && record.end - record.data >= 22 {
                    let minimum = u32_at(message, record.end - 4)?;
                    soa.get_or_insert((record.ttl_at, ttl.min(minimum)));
                }
            }
        }
        if sections.is_positive {
            let others = least_other.unwrap_or(u32::MAX);
            sections.least_ttl = sections.least_ttl.map(|least| least.min(others));
        } else {
            sections.negative_ttl = soa;
        }
        Some(sections)
    }

    fn keep(&mut self, record: &wire::Record, is_additional: bool) {
        self.body_end = record.end;
        self.additionals += u16::from(is_additional);
        self.ttls.push(record.ttl_at as u16);
    }

    fn lifetime(&self, rcode: Rcode) -> u32 {
        let chain = self.least_ttl.unwrap_or(u32::MAX);
        match rcode {
            Rcode::NOERROR if self.is_positive => self.least_ttl.unwrap_or(0),
            Rcode::NOERROR | Rcode::NXDOMAIN => {
                self.negative_ttl.map_or(0, |(_, ttl)| ttl.min(chain))
            }
            _ => 0,
        }
    }
}

/// A TTL; one with its highest bit set is 0 (RFC 2181, 8).
fn ttl(message: &[u8], at: usize) -> Option<u32> {
    u32_at(message, at).map(|ttl| if ttl > i32::MAX as u32 { 0 } else { ttl })
}
