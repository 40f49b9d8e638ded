//! Requests, acknowledgements and listings over one netlink socket (netlink(7)).

use std::fmt::Debug;
use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP,
    NLMSG_OVERRUN, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::SocketAddr;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout};
use nix::sys::time::{TimeVal, TimeValLike};
use zeroize::Zeroizing;

use super::error::Error;
use super::message::messages;
use super::watch::Watch;

/// The kernel answers at once, but may wait for a lock that others hold.
const TIMEOUT_SECONDS: i64 = 10;
/// How often a listing is read again that changed meanwhile.
const DUMP_ATTEMPTS: usize = 8;
/// Requests that go out in one system call; as many acknowledgements must fit the default
/// receive buffer (208 KiB, about 800 bytes each).
const REQUESTS_PER_SEND: usize = 64;
/// More than the kernel puts into one datagram (32 KiB). It makes them as long as the reader's
/// buffer allows, so that few listings take more than one.
const BUFFER_LENGTH: usize = 64 * 1024;

/// A message of the kernel: its type and what follows the header.
pub(super) struct Reply {
    pub(super) kind: u16,
    pub(super) body: Zeroizing<Vec<u8>>,
}

pub(super) struct Socket {
    socket: netlink_sys::Socket,
    sequence: u32,
    /// Where datagrams come in. The state of a WireGuard link holds keys.
    buffer: Zeroizing<Vec<u8>>,
}

impl Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Socket").field(&self.socket).finish()
    }
}

impl Socket {
    pub(super) fn open(protocol: isize) -> Result<Self, Error> {
        let mut socket = netlink_sys::Socket::new(protocol).map_err(Error::Open)?;
        let timeout = TimeVal::seconds(TIMEOUT_SECONDS);
        let open = |socket: &mut netlink_sys::Socket| -> io::Result<()> {
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            setsockopt(&*socket, ReceiveTimeout, &timeout)?;
            setsockopt(&*socket, SendTimeout, &timeout)?;
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)
        };
        open(&mut socket).map_err(Error::Open)?;
        // Linux 4.20; before it the kernel ignores a listing's filters, and we filter once more.
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Zeroizing::new(vec![0; BUFFER_LENGTH]),
        })
    }

    /// Sends one request and waits for its acknowledgement.
    pub(super) fn request<M>(&mut self, what: &str, flags: u16, message: M) -> Result<(), Error>
    where
        M: NetlinkSerializable + Debug,
    {
        let mut bytes = Zeroizing::new(Vec::new());
        let sequence = self.append(&mut bytes, flags | NLM_F_REQUEST | NLM_F_ACK, message);
        self.send(what, &bytes)?;
        self.replies(what, sequence, sequence).map(drop)
    }

    /// Sends requests, many to a system call; the answer to each stands in its place. After an
    /// error of the socket itself the answers end.
    pub(super) fn requests<M>(
        &mut self,
        flags: u16,
        messages: Vec<(String, M)>,
    ) -> Vec<Result<(), Error>>
    where
        M: NetlinkSerializable + Debug,
    {
        let mut results = Vec::with_capacity(messages.len());
        let mut messages = messages.into_iter().peekable();
        while messages.peek().is_some() {
            let mut bytes = Vec::new();
            let sent: Vec<(String, u32)> = messages
                .by_ref()
                .take(REQUESTS_PER_SEND)
                .map(|(what, message)| {
                    let flags = flags | NLM_F_REQUEST | NLM_F_ACK;
                    (what, self.append(&mut bytes, flags, message))
                })
                .collect();
            if let Some((what, _)) = sent.first()
                && let Err(error) = self.send(what, &bytes)
            {
                results.push(Err(error));
                return results;
            }
            for (what, sequence) in sent {
                let result = self.replies(&what, sequence, sequence).map(drop);
                let lost = matches!(result, Err(Error::Receive { .. } | Error::Malformed { .. }));
                results.push(result);
                if lost {
                    return results;
                }
            }
        }
        results
    }

    /// Sends requests as one nf_tables transaction in one system call. Only the last is asked to
    /// be acknowledged, so that the answers fit the receive buffer however many there are; those
    /// that fail are reported anyway, and before it.
    pub(super) fn transaction<M>(
        &mut self,
        what: &str,
        begin: M,
        messages: Vec<(u16, M)>,
        end: M,
    ) -> Result<(), Error>
    where
        M: NetlinkSerializable + Debug,
    {
        let mut bytes = Vec::new();
        let first = self.append(&mut bytes, NLM_F_REQUEST, begin);
        let mut last = first;
        let count = messages.len();
        for (index, (flags, message)) in messages.into_iter().enumerate() {
            let ack = if index + 1 == count { NLM_F_ACK } else { 0 };
            last = self.append(&mut bytes, flags | ack | NLM_F_REQUEST, message);
        }
        self.append(&mut bytes, NLM_F_REQUEST, end);
        self.send(what, &bytes)?;
        self.replies(what, first, last).map(drop)
    }

    /// Asks for one object.
    pub(super) fn get<M>(&mut self, what: &str, message: M) -> Result<Reply, Error>
    where
        M: NetlinkSerializable + Debug,
    {
        let mut bytes = Vec::new();
        let sequence = self.append(&mut bytes, NLM_F_REQUEST | NLM_F_ACK, message);
        self.send(what, &bytes)?;
        let mut replies = self.replies(what, sequence, sequence)?;
        replies.pop().ok_or_else(|| Error::Malformed {
            what: what.to_owned(),
        })
    }

    /// Lists objects: all of them as they were at one moment, or an error.
    pub(super) fn dump<M>(&mut self, what: &str, message: M) -> Result<Vec<Reply>, Error>
    where
        M: NetlinkSerializable + Debug + Clone,
    {
        self.dump_watched(what, message, None)
    }

    /// As [`Socket::dump`], for objects whose listings the kernel does not mark as changed.
    pub(super) fn dump_watched<M>(
        &mut self,
        what: &str,
        message: M,
        watch: Option<&Watch>,
    ) -> Result<Vec<Reply>, Error>
    where
        M: NetlinkSerializable + Debug + Clone,
    {
        for _ in 0..DUMP_ATTEMPTS {
            watch.map(Watch::changed);
            let mut bytes = Vec::new();
            let sequence = self.append(&mut bytes, NLM_F_REQUEST | NLM_F_DUMP, message.clone());
            self.send(what, &bytes)?;
            match self.listing(what, sequence) {
                Ok(Some(_)) if watch.is_some_and(Watch::changed) => {}
                Ok(Some(replies)) => return Ok(replies),
                Ok(None) => {}
                // The rest of a broken-off listing is skipped by its sequence number.
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Unsteady {
            what: what.to_owned(),
        })
    }

    /// The messages of a listing up to its end; `None` when it changed meanwhile.
    fn listing(&mut self, what: &str, sequence: u32) -> Result<Option<Vec<Reply>>, Error> {
        let mut replies = Vec::new();
        let mut steady = true;
        loop {
            for message in messages(what, self.receive(what)?)? {
                if message.sequence != sequence {
                    continue;
                }
                steady &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_NOOP => {}
                    NLMSG_OVERRUN => steady = false,
                    NLMSG_ERROR | NLMSG_DONE => {
                        message.check(what)?;
                        return Ok(steady.then_some(replies));
                    }
                    kind => replies.push(Reply {
                        kind,
                        body: message.body.to_vec().into(),
                    }),
                }
            }
        }
    }

    /// Reads up to the acknowledgement of `last`; fails with the first error among the requests
    /// from `first` on.
    fn replies(&mut self, what: &str, first: u32, last: u32) -> Result<Vec<Reply>, Error> {
        let mut replies = Vec::new();
        let mut outcome = Ok(());
        loop {
            for message in messages(what, self.receive(what)?)? {
                let offset = message.sequence.wrapping_sub(first);
                if offset > last.wrapping_sub(first) {
                    continue;
                }
                match message.kind {
                    NLMSG_NOOP => {}
                    NLMSG_ERROR => {
                        outcome = outcome.and(message.check(what));
                        if message.sequence == last {
                            return outcome.map(|()| replies);
                        }
                    }
                    kind => replies.push(Reply {
                        kind,
                        body: message.body.to_vec().into(),
                    }),
                }
            }
        }
    }

    fn append<M>(&mut self, bytes: &mut Vec<u8>, flags: u16, message: M) -> u32
    where
        M: NetlinkSerializable + Debug,
    {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let start = bytes.len();
        bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut bytes[start..start + message.header.length as usize]);
        self.sequence
    }

    fn send(&self, what: &str, bytes: &[u8]) -> Result<(), Error> {
        let sent = retry_interrupted(|| self.socket.send(bytes, 0));
        sent.map(drop).map_err(|source| Error::Send {
            what: what.to_owned(),
            source,
        })
    }

    fn receive(&mut self, what: &str) -> Result<&[u8], Error> {
        let failed = |source| Error::Receive {
            what: what.to_owned(),
            source,
        };
        loop {
            let (socket, buffer) = (&self.socket, &mut self.buffer);
            let receive = || socket.recv_from(&mut &mut buffer[..], libc::MSG_TRUNC);
            let (length, sender) = retry_interrupted(receive).map_err(failed)?;
            if length > BUFFER_LENGTH {
                return Err(failed(io::Error::from_raw_os_error(libc::EMSGSIZE)));
            }
            // Other processes can send to our port too.
            if sender.port_number() == 0 {
                return Ok(&self.buffer[..length]);
            }
        }
    }
}

impl Error {
    /// Whether a listing that failed so is worth another try: messages were lost.
    fn is_transient(&self) -> bool {
        let errno = match self {
            Self::Receive { source, .. } => source.raw_os_error(),
            _ => self.errno(),
        };
        matches!(
            errno,
            Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR | libc::EBUSY)
        )
    }
}

fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
