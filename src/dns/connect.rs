//! Questions to upstreams over TCP: one connection each (RFC 7766). They are asked this way only
//! when an answer was cut short.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use seedwire_core::dns::UpstreamId;
use socket2::{Domain, Protocol, Socket, Type};

use super::poll::{Poll, Token};

/// Connections at most.
const MOST: usize = 256;
/// Longer than a question is waited for.
const LIFE: Duration = Duration::from_secs(3);

struct Connection {
    stream: TcpStream,
    upstream: UpstreamId,
    id: u16,
    unsent: Vec<u8>,
    received: Vec<u8>,
    until: Instant,
}

/// What became of a question.
pub(super) enum Outcome {
    Pending,
    Answered(UpstreamId, Vec<u8>),
    Failed(UpstreamId, u16, Arc<str>),
}

/// All of them.
#[derive(Default)]
pub(super) struct Connections(Vec<Option<Connection>>);

impl Connections {
    /// Starts a question, whose first two bytes are its ID.
    pub(super) fn start(
        &mut self,
        upstream: UpstreamId,
        address: SocketAddr,
        message: &[u8],
        now: Instant,
        poll: &Poll,
    ) -> io::Result<()> {
        let index = self
            .0
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.0.len());
        if index >= MOST {
            return Err(io::Error::other("too many connections to upstreams"));
        }
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
        poll.add(&socket, Token::Upstream(index as u32), true)?;
        let mut unsent = Vec::with_capacity(2 + message.len());
        unsent.extend_from_slice(&(message.len() as u16).to_be_bytes());
        unsent.extend_from_slice(message);
        let connection = Connection {
            stream: socket.into(),
            upstream,
            id: u16::from_be_bytes([message[0], message[1]]),
            unsent,
            received: Vec::new(),
            until: now + LIFE,
        };
        if index == self.0.len() {
            self.0.push(Some(connection));
        } else {
            self.0[index] = Some(connection);
        }
        Ok(())
    }

    /// Goes on with the connection in slot `index`; when it is done it is closed.
    pub(super) fn advance(&mut self, index: u32, poll: &Poll) -> Outcome {
        let Some(slot) = self.0.get_mut(index as usize) else {
            return Outcome::Pending;
        };
        let Some(connection) = slot else {
            return Outcome::Pending;
        };
        let (upstream, id) = (connection.upstream, connection.id);
        match connection.advance(index, poll) {
            Ok(None) => Outcome::Pending,
            Ok(Some(answer)) => {
                *slot = None;
                Outcome::Answered(upstream, answer)
            }
            Err(error) => {
                *slot = None;
                Outcome::Failed(upstream, id, format!("over TCP: {error}").into())
            }
        }
    }

    /// Closes those that nobody waits for any more.
    pub(super) fn sweep(&mut self, now: Instant) {
        for slot in &mut self.0 {
            if slot
                .as_ref()
                .is_some_and(|connection| now >= connection.until)
            {
                *slot = None;
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

impl Connection {
    fn advance(&mut self, index: u32, poll: &Poll) -> io::Result<Option<Vec<u8>>> {
        if !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if is_later(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
            if self.unsent.is_empty() {
                poll.change(&self.stream, Token::Upstream(index), true, false)?;
            }
        }
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.received.extend_from_slice(&buffer[..length]),
                Err(error) if is_later(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
            if let Some((length, message)) = self.received.split_first_chunk::<2>() {
                let length = usize::from(u16::from_be_bytes(*length));
                if message.len() >= length {
                    return Ok(Some(message[..length].to_vec()));
                }
            }
        }
    }
}

/// Whether an error only says that it is too early.
pub(super) fn is_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::NotConnected
    )
}
