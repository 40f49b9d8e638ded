//! The messages in a datagram of the kernel (netlink(7)).

use std::io;

use netlink_packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_DONE, NetlinkBuffer};

use super::attributes::{attribute, text_of};
use super::error::{Error, Refusal};

/// The length of `struct nlmsghdr`.
const HEADER_LENGTH: usize = 16;
/// The kernel's text in an acknowledgement (`NLMSGERR_ATTR_MSG`).
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A message of the kernel, still in its datagram.
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) body: &'a [u8],
}

impl Message<'_> {
    /// The verdict in an acknowledgement or at the end of a listing (`struct nlmsgerr`).
    pub(super) fn check(&self, what: &str) -> Result<(), Error> {
        let code = match self.body.get(..4).map(<[u8; 4]>::try_from) {
            Some(Ok(code)) => i32::from_ne_bytes(code),
            // The end of a listing may have no body.
            _ => 0,
        };
        if code >= 0 {
            return Ok(());
        }
        Err(Error::Refused {
            what: what.to_owned(),
            source: Refusal {
                errno: io::Error::from_raw_os_error(-code),
                text: self.text(),
            },
        })
    }

    fn text(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let after_code = self.body.get(4..)?;
        let skip = if self.kind == NLMSG_DONE {
            0
        } else if self.flags & NLM_F_CAPPED != 0 {
            HEADER_LENGTH
        } else {
            let length = NetlinkBuffer::new_checked(after_code).ok()?.length();
            (length as usize).next_multiple_of(4)
        };
        let text = attribute(after_code.get(skip..)?, NLMSGERR_ATTR_MSG)?;
        Some(text_of(text)).filter(|t| !t.is_empty())
    }
}

/// The messages in a datagram.
pub(super) fn messages<'a>(what: &str, mut datagram: &'a [u8]) -> Result<Vec<Message<'a>>, Error> {
    let mut messages = Vec::new();
    while datagram.len() >= HEADER_LENGTH {
        let malformed = |_| Error::Malformed {
            what: what.to_owned(),
        };
        let buffer = NetlinkBuffer::new_checked(datagram).map_err(malformed)?;
        let length = buffer.length() as usize;
        messages.push(Message {
            kind: buffer.message_type(),
            flags: buffer.flags(),
            sequence: buffer.sequence_number(),
            body: &datagram[HEADER_LENGTH..length],
        });
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    Ok(messages)
}
