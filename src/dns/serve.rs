//! Clients over TCP (RFC 7766): many questions on one connection, answered in the order in which
//! their answers are known.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::connection::{is_later, whole_message};
use super::poll::{Poll, Token};

/// Clients at most; a further one takes the place of the one that was silent the longest.
const MOST: usize = 1024;
/// How long a client may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// Questions of one client under way at most, and unsent bytes at most: no more is read then.
const MOST_PENDING: u32 = 128;
const MOST_UNSENT: usize = 128 << 10;

/// A connection, as long as it is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientId {
    index: u32,
    generation: u32,
}

struct Client {
    stream: TcpStream,
    generation: u32,
    received: Vec<u8>,
    /// How much of that was taken already.
    taken: usize,
    unsent: Vec<u8>,
    pending: u32,
    last: Instant,
    /// It will not send more.
    has_ended: bool,
    interest: (bool, bool),
}

/// All of them.
#[derive(Default)]
pub(super) struct Clients {
    slots: Vec<Option<Client>>,
    generation: u32,
    count: usize,
    touched: Vec<u32>,
}

impl Clients {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether all answers have left.
    pub(super) fn is_flushed(&self) -> bool {
        self.slots
            .iter()
            .flatten()
            .all(|client| client.unsent.is_empty())
    }

    /// Takes a connection.
    pub(super) fn add(&mut self, stream: TcpStream, now: Instant, poll: &Poll) {
        if self.count >= MOST {
            self.close_idlest();
        }
        let index = self
            .slots
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.slots.len());
        let is_ready = stream.set_nonblocking(true).is_ok()
            && stream.set_nodelay(true).is_ok()
            && poll
                .add(&stream, Token::Client(index as u32), false)
                .is_ok();
        if !is_ready {
            return;
        }
        self.generation = self.generation.wrapping_add(1);
        let client = Client {
            stream,
            generation: self.generation,
            received: Vec::new(),
            taken: 0,
            unsent: Vec::new(),
            pending: 0,
            last: now,
            has_ended: false,
            interest: (true, false),
        };
        self.count += 1;
        if index == self.slots.len() {
            self.slots.push(Some(client));
        } else {
            self.slots[index] = Some(client);
        }
    }

    /// Makes room for others. Returns whether there was one to close.
    pub(super) fn close_idlest(&mut self) -> bool {
        let clients = self.slots.iter().enumerate();
        let clients = clients.filter_map(|(index, slot)| Some((slot.as_ref()?.last, index)));
        match clients.min() {
            Some((_, index)) => {
                self.close(index);
                true
            }
            None => false,
        }
    }

    fn close(&mut self, index: usize) {
        if self.slots[index].take().is_some() {
            self.count -= 1;
        }
    }

    /// Reads what a client sent.
    pub(super) fn receive(&mut self, index: u32, now: Instant) {
        let Some(Some(client)) = self.slots.get_mut(index as usize) else {
            return;
        };
        self.touched.push(index);
        let mut buffer = [0; 8192];
        match client.stream.read(&mut buffer) {
            Ok(0) => client.has_ended = true,
            Ok(length) => {
                client.received.extend_from_slice(&buffer[..length]);
                client.last = now;
            }
            Err(error) if is_later(&error) => {}
            Err(_) => self.close(index as usize),
        }
    }

    /// Takes the next whole question of a client that something happened to.
    pub(super) fn next_question(&mut self, poll: &Poll) -> Option<(ClientId, Vec<u8>)> {
        while let Some(index) = self.touched.last().copied() {
            if let Some(Some(client)) = self.slots.get_mut(index as usize)
                && let Some(question) = client.take_question()
            {
                client.pending += 1;
                let generation = client.generation;
                return Some((ClientId { index, generation }, question));
            }
            self.touched.pop();
            self.finish(index, poll);
        }
        None
    }

    /// Queues an answer.
    pub(super) fn reply(&mut self, id: ClientId, message: &[u8]) {
        let Some(Some(client)) = self.slots.get_mut(id.index as usize) else {
            return;
        };
        if client.generation != id.generation {
            return;
        }
        client
            .unsent
            .extend_from_slice(&(message.len() as u16).to_be_bytes());
        client.unsent.extend_from_slice(message);
        client.pending = client.pending.saturating_sub(1);
        if self.touched.last() != Some(&id.index) {
            self.touched.push(id.index);
        }
    }

    /// Sends what is queued for a client and sets what is waited for.
    fn finish(&mut self, index: u32, poll: &Poll) {
        let Some(Some(client)) = self.slots.get_mut(index as usize) else {
            return;
        };
        if !client.send() {
            return self.close(index as usize);
        }
        let is_done = client.has_ended && client.pending == 0 && client.unsent.is_empty();
        if is_done {
            return self.close(index as usize);
        }
        let interest = (
            client.may_read() && !client.has_ended,
            !client.unsent.is_empty(),
        );
        if interest != client.interest {
            client.interest = interest;
            let token = Token::Client(index);
            if poll
                .change(&client.stream, token, interest.0, interest.1)
                .is_err()
            {
                self.close(index as usize);
            }
        }
    }

    /// Closes those that were silent for too long.
    pub(super) fn sweep(&mut self, now: Instant) {
        for index in 0..self.slots.len() {
            let is_idle = |client: &Client| now.saturating_duration_since(client.last) >= IDLE;
            if self.slots[index].as_ref().is_some_and(is_idle) {
                self.close(index);
            }
        }
    }
}

impl Client {
    fn may_read(&self) -> bool {
        self.pending < MOST_PENDING && self.unsent.len() < MOST_UNSENT
    }

    fn take_question(&mut self) -> Option<Vec<u8>> {
        if !self.may_read() {
            return None;
        }
        let question = whole_message(&self.received[self.taken..]).map(<[u8]>::to_vec);
        match &question {
            Some(question) => self.taken += 2 + question.len(),
            None => drop(self.received.drain(..std::mem::take(&mut self.taken))),
        }
        if self.received.is_empty() {
            // An idle client holds no memory.
            self.received = Vec::new();
        }
        question
    }

    /// Returns whether the connection still stands.
    fn send(&mut self) -> bool {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if is_later(&error) => return true,
                Err(_) => return false,
            }
        }
        self.unsent = Vec::new();
        true
    }
}
