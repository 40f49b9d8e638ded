//! One connection to an upstream, over TCP (RFC 7766) or TLS (RFC 7858): many questions at once,
//! whose answers come in any order.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use seedwire_core::config::Server;
use seedwire_core::dns::UpstreamId;
use socket2::{Domain, Protocol, Socket, Type};

use super::scope;

/// How long a connection is left open without a question under way.
const IDLE: Duration = Duration::from_secs(10);
/// How long questions may be under way while nothing at all comes: longer than any is waited for.
const SILENCE: Duration = Duration::from_secs(2);

/// A question that is not answered.
pub(super) struct Pending {
    pub(super) message: Box<[u8]>,
    /// It was asked on an earlier connection, which the server closed.
    pub(super) is_again: bool,
    sent: Instant,
}

pub(super) struct Connection {
    stream: TcpStream,
    tls: Option<ClientConnection>,
    pub(super) upstream: UpstreamId,
    pub(super) server: Arc<Server>,
    pub(super) pending: HashMap<u16, Pending>,
    unsent: Vec<u8>,
    received: Vec<u8>,
    /// From then on it takes no new questions.
    pub(super) until: Instant,
    heard: Instant,
    /// An answer came over it: the server speaks, and a close is no refusal.
    pub(super) has_answered: bool,
    /// Whether the poll tells when it can be written to.
    pub(super) is_write_polled: bool,
}

impl Connection {
    /// Begins to connect.
    pub(super) fn open(
        upstream: UpstreamId,
        server: &Arc<Server>,
        tls: Option<ClientConnection>,
        now: Instant,
        until: Instant,
    ) -> io::Result<Self> {
        let address = scope::address(server)?;
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            stream: socket.into(),
            tls,
            upstream,
            server: Arc::clone(server),
            pending: HashMap::new(),
            unsent: Vec::new(),
            received: Vec::new(),
            until,
            heard: now,
            has_answered: false,
            is_write_polled: true,
        })
    }

    /// What is spoken over it, for messages.
    pub(super) fn protocol(&self) -> &'static str {
        if self.tls.is_some() { "TLS" } else { "TCP" }
    }

    /// Queues a question, whose first two bytes are its ID.
    pub(super) fn ask(&mut self, message: &[u8], is_again: bool, now: Instant) {
        let id = u16::from_be_bytes([message[0], message[1]]);
        if self.pending.is_empty() {
            self.heard = now;
        }
        let length = (message.len() as u16).to_be_bytes();
        self.unsent.extend_from_slice(&length);
        self.unsent.extend_from_slice(message);
        let pending = Pending {
            message: message.into(),
            is_again,
            sent: now,
        };
        self.pending.insert(id, pending);
    }

    /// Sends what is queued, as much as goes.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let result = match &mut self.tls {
            None => drain(&mut self.unsent, &mut self.stream),
            Some(tls) => {
                // What the session does not take now waits; before it stands it keeps a little.
                let written = tls.writer().write(&self.unsent)?;
                self.unsent.drain(..written);
                write_tls(tls, &mut self.stream)
            }
        };
        match result {
            Err(error) if is_later(&error) => Ok(()),
            other => other,
        }
    }

    /// Whether something waits to be sent.
    pub(super) fn wants_write(&self) -> bool {
        let tls = self.tls.as_ref();
        tls.map_or(!self.unsent.is_empty(), |tls| tls.wants_write())
    }

    /// Reads what came: the answers to questions under way, and whether the server has closed.
    pub(super) fn read(&mut self, now: Instant) -> (Vec<Vec<u8>>, io::Result<bool>) {
        let before = self.received.len();
        let end = match &mut self.tls {
            None => read_plain(&mut self.stream, &mut self.received),
            Some(tls) => read_tls(tls, &mut self.stream, &mut self.received),
        };
        if self.received.len() > before {
            self.heard = now;
        }
        let mut answers = Vec::new();
        let mut taken = 0;
        while let Some(message) = whole_message(&self.received[taken..]) {
            taken += 2 + message.len();
            let id = message.first_chunk().map(|id| u16::from_be_bytes(*id));
            if id.is_some_and(|id| self.pending.remove(&id).is_some()) {
                answers.push(message.to_vec());
            }
        }
        self.received.drain(..taken);
        self.has_answered |= !answers.is_empty();
        (answers, end)
    }

    /// Why it is to be closed, if it is.
    pub(super) fn verdict(&self, now: Instant) -> Option<&'static str> {
        let since = |at: Instant| now.saturating_duration_since(at);
        let oldest = self.pending.values().map(|pending| pending.sent).min();
        match oldest {
            None if now >= self.until => Some("it is old"),
            None if since(self.heard) >= IDLE => Some("it is idle"),
            Some(sent) if since(sent.max(self.heard)) >= SILENCE => {
                Some("no answer comes over the connection")
            }
            _ => None,
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn drain(unsent: &mut Vec<u8>, stream: &mut TcpStream) -> io::Result<()> {
    while !unsent.is_empty() {
        let written = stream.write(unsent)?;
        unsent.drain(..written);
    }
    Ok(())
}

fn write_tls(tls: &mut ClientConnection, stream: &mut TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(stream)?;
    }
    Ok(())
}

fn read_plain(stream: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(length) => received.extend_from_slice(&buffer[..length]),
            Err(error) if is_later(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

fn read_tls(
    tls: &mut ClientConnection,
    stream: &mut TcpStream,
    received: &mut Vec<u8>,
) -> io::Result<bool> {
    loop {
        let is_end = match tls.read_tls(stream) {
            Ok(length) => length == 0,
            Err(error) if is_later(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        let state = tls.process_new_packets().map_err(|error| {
            // The server is told why, if it can be told at once.
            let _ = write_tls(tls, stream);
            io::Error::other(error)
        })?;
        let start = received.len();
        received.resize(start + state.plaintext_bytes_to_read(), 0);
        tls.reader().read_exact(&mut received[start..])?;
        if is_end || state.peer_has_closed() {
            return Ok(true);
        }
    }
}

/// The message behind the length at the start of `bytes`, once all of it is there.
pub(super) fn whole_message(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

/// Whether an error only says that it is too early.
pub(super) fn is_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::NotConnected
    )
}
