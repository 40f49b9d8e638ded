//! The connections to upstreams. One for each takes the questions; it gives way to another when it
//! is old, and is closed when it is idle or answers nothing.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;
use seedwire_core::config::{DnsProtocol, Server};
use seedwire_core::dns::UpstreamId;

use super::connection::Connection;
use super::poll::{Poll, Token};
use super::random::Random;
use super::tls;

/// Connections at most.
const MOST: usize = 256;

/// What became of a question.
pub(super) enum Outcome {
    Answered(UpstreamId, Vec<u8>),
    Failed(UpstreamId, u16, Arc<str>),
}

/// All of them.
#[derive(Default)]
pub(super) struct Streams {
    slots: Vec<Option<Connection>>,
    /// The connection that takes the questions to an upstream.
    current: HashMap<UpstreamId, u32>,
    dirty: Vec<u32>,
    tls: HashMap<UpstreamId, Arc<ClientConfig>>,
    random: Random,
}

impl Streams {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }

    /// Queues a question, whose first two bytes are its ID; connects if need be.
    pub(super) fn ask(
        &mut self,
        upstream: UpstreamId,
        server: &Arc<Server>,
        message: &[u8],
        now: Instant,
        poll: &Poll,
    ) -> io::Result<()> {
        self.queue(upstream, server, message, false, now, poll)
    }

    fn queue(
        &mut self,
        upstream: UpstreamId,
        server: &Arc<Server>,
        message: &[u8],
        is_again: bool,
        now: Instant,
        poll: &Poll,
    ) -> io::Result<()> {
        let usable = self.current.get(&upstream).copied();
        let usable = usable.filter(|index| {
            let slot = self.slots[*index as usize].as_ref();
            slot.is_some_and(|connection| now < connection.until)
        });
        let index = match usable {
            Some(index) => index,
            None => self.open(upstream, server, now, poll)?,
        };
        if let Some(connection) = &mut self.slots[index as usize] {
            connection.ask(message, is_again, now);
            self.dirty.push(index);
        }
        Ok(())
    }

    fn open(
        &mut self,
        upstream: UpstreamId,
        server: &Arc<Server>,
        now: Instant,
        poll: &Poll,
    ) -> io::Result<u32> {
        let free = self.slots.iter().position(Option::is_none);
        let index = free.unwrap_or(self.slots.len());
        if index >= MOST {
            return Err(io::Error::other("too many connections to upstreams"));
        }
        let tls = match &server.protocol {
            DnsProtocol::Tls(identity) => {
                let settings = match self.tls.get(&upstream) {
                    Some(settings) => Arc::clone(settings),
                    None => tls::settings(identity).map_err(io::Error::other)?,
                };
                self.tls.insert(upstream, Arc::clone(&settings));
                Some(tls::connection(settings, server, identity)?)
            }
            DnsProtocol::Udp | DnsProtocol::Tcp => None,
        };
        let until = now + self.random.most_of(server.max_age);
        let connection = Connection::open(upstream, server, tls, now, until)?;
        poll.add(&connection, Token::Upstream(index as u32), true)?;
        if index == self.slots.len() {
            self.slots.push(Some(connection));
        } else {
            self.slots[index] = Some(connection);
        }
        self.current.insert(upstream, index as u32);
        Ok(index as u32)
    }

    /// Sends what is queued.
    pub(super) fn flush(&mut self, now: Instant, poll: &Poll) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        while let Some(index) = self.dirty.pop() {
            self.send(index, now, poll, &mut outcomes);
        }
        outcomes
    }

    fn send(&mut self, index: u32, now: Instant, poll: &Poll, outcomes: &mut Vec<Outcome>) {
        let Some(Some(connection)) = self.slots.get_mut(index as usize) else {
            return;
        };
        let result = connection.write().and_then(|()| {
            let wants_write = connection.wants_write();
            if wants_write != connection.is_write_polled {
                poll.change(&*connection, Token::Upstream(index), true, wants_write)?;
                connection.is_write_polled = wants_write;
            }
            Ok(())
        });
        if let Err(error) = result {
            self.end(index, &error.to_string(), now, poll, outcomes);
        }
    }

    /// Goes on with the connection in slot `index`.
    pub(super) fn advance(&mut self, index: u32, now: Instant, poll: &Poll) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let Some(Some(connection)) = self.slots.get_mut(index as usize) else {
            return outcomes;
        };
        let upstream = connection.upstream;
        let (answers, end) = connection.read(now);
        let answers = answers.into_iter();
        outcomes.extend(answers.map(|answer| Outcome::Answered(upstream, answer)));
        match end {
            Ok(false) => self.send(index, now, poll, &mut outcomes),
            Ok(true) => self.end(index, "closed by the server", now, poll, &mut outcomes),
            Err(error) => self.end(index, &error.to_string(), now, poll, &mut outcomes),
        }
        outcomes
    }

    /// Closes a connection. What was under way is asked once more on another if the server had
    /// answered before: it may close any connection that it finds idle while a question is on its
    /// way there (RFC 7766, 6.2.4).
    fn end(
        &mut self,
        index: u32,
        why: &str,
        now: Instant,
        poll: &Poll,
        outcomes: &mut Vec<Outcome>,
    ) {
        let Some(connection) = self.slots[index as usize].take() else {
            return;
        };
        let upstream = connection.upstream;
        if self.current.get(&upstream) == Some(&index) {
            self.current.remove(&upstream);
        }
        let why: Arc<str> = format!("over {}: {why}", connection.protocol()).into();
        for (id, pending) in connection.pending {
            let is_again = connection.has_answered
                && !pending.is_again
                && self
                    .queue(
                        upstream,
                        &connection.server,
                        &pending.message,
                        true,
                        now,
                        poll,
                    )
                    .is_ok();
            if !is_again {
                outcomes.push(Outcome::Failed(upstream, id, Arc::clone(&why)));
            }
        }
    }

    /// Closes those that are old, idle or silent.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for index in 0..self.slots.len() {
            let connection = self.slots[index].as_ref();
            if let Some(why) = connection.and_then(|connection| connection.verdict(now)) {
                self.drop_slot(index, why, &mut outcomes);
            }
        }
        outcomes
    }

    fn drop_slot(&mut self, index: usize, why: &str, outcomes: &mut Vec<Outcome>) {
        let Some(connection) = self.slots[index].take() else {
            return;
        };
        let upstream = connection.upstream;
        if self.current.get(&upstream) == Some(&(index as u32)) {
            self.current.remove(&upstream);
        }
        let why: Arc<str> = format!("over {}: {why}", connection.protocol()).into();
        let ids = connection.pending.into_keys();
        outcomes.extend(ids.map(|id| Outcome::Failed(upstream, id, Arc::clone(&why))));
    }

    /// Takes no more questions on the connection to an upstream that answers nothing: the next one
    /// is asked on another.
    pub(super) fn leave(&mut self, upstream: UpstreamId) {
        self.current.remove(&upstream);
    }

    /// Closes what belongs to no upstream any more.
    pub(super) fn close(&mut self, gone: &[UpstreamId]) {
        for slot in &mut self.slots {
            if slot.as_ref().is_some_and(|c| gone.contains(&c.upstream)) {
                *slot = None;
            }
        }
        self.current.retain(|upstream, _| !gone.contains(upstream));
        self.tls.retain(|upstream, _| !gone.contains(upstream));
    }
}
