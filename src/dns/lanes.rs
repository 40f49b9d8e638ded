//! The UDP sockets to the upstreams. Each upstream has a few, connected, so that the kernel drops
//! what comes from elsewhere, and each on a random port that does not stay for long.

use std::collections::HashMap;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seedwire_core::config::Server;
use seedwire_core::dns::UpstreamId;
use socket2::{Domain, Protocol, Socket, Type};

use super::poll::{Poll, Token};
use super::random::Random;
use super::scope;
use super::sys::Sender;

/// How long answers to a socket that gave way are still taken.
const LINGER: Duration = Duration::from_secs(5);

/// Which socket of which upstream.
pub(super) type Place = (UpstreamId, u8);

struct Lane {
    socket: UdpSocket,
    place: Place,
    /// When it gives way, or when it was replaced already, is closed.
    until: Instant,
    sender: Sender,
}

/// All of them.
#[derive(Default)]
pub(super) struct Lanes {
    slots: Vec<Option<Lane>>,
    current: HashMap<Place, u32>,
    leaving: Vec<u32>,
    dirty: Vec<u32>,
    random: Random,
}

impl Lanes {
    /// Queues a datagram; opens the socket if there is none.
    pub(super) fn push(
        &mut self,
        place: Place,
        server: &Server,
        message: &[u8],
        now: Instant,
        poll: &Poll,
    ) -> io::Result<()> {
        let index = match self.usable(place, now) {
            Some(index) => index,
            None => self.open(place, server, now, poll)?,
        };
        if let Some(lane) = &mut self.slots[index as usize] {
            if lane.sender.is_empty() {
                self.dirty.push(index);
            }
            lane.sender.push(message, None, None);
        }
        Ok(())
    }

    fn usable(&mut self, place: Place, now: Instant) -> Option<u32> {
        let index = *self.current.get(&place)?;
        let lane = self.slots[index as usize].as_mut()?;
        if now < lane.until {
            return Some(index);
        }
        lane.until = now + LINGER;
        self.leaving.push(index);
        None
    }

    fn open(
        &mut self,
        place: Place,
        server: &Server,
        now: Instant,
        poll: &Poll,
    ) -> io::Result<u32> {
        let address = scope::address(server)?;
        let socket = Socket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(1 << 20)?;
        socket.connect(&address.into())?;
        let index = self
            .slots
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.slots.len());
        let token = Token::Lane(index as u32);
        poll.add(&socket, token, false)?;
        let lane = Lane {
            socket: socket.into(),
            place,
            until: now + self.random.most_of(server.max_age),
            sender: Sender::default(),
        };
        if index == self.slots.len() {
            self.slots.push(Some(lane));
        } else {
            self.slots[index] = Some(lane);
        }
        self.current.insert(place, index as u32);
        Ok(index as u32)
    }

    /// The socket in slot `index`.
    pub(super) fn get(&self, index: u32) -> Option<(Place, &UdpSocket)> {
        let lane = self.slots.get(index as usize)?.as_ref()?;
        Some((lane.place, &lane.socket))
    }

    /// Sends what is queued; returns what could not be sent and why.
    pub(super) fn flush(&mut self) -> Vec<(Place, Arc<str>)> {
        let mut failed = Vec::new();
        for index in std::mem::take(&mut self.dirty) {
            let Some(lane) = self.slots[index as usize].as_mut() else {
                continue;
            };
            if let Err(error) = lane.sender.flush(lane.socket.as_fd()) {
                failed.push((lane.place, error.to_string().into()));
                // Its source address or its route may be gone: the next one starts afresh.
                self.drop_slot(index);
            }
        }
        failed
    }

    fn drop_slot(&mut self, index: u32) {
        if let Some(lane) = self.slots[index as usize].take()
            && self.current.get(&lane.place) == Some(&index)
        {
            self.current.remove(&lane.place);
        }
    }

    /// Closes what belongs to no upstream any more.
    pub(super) fn close(&mut self, gone: &[UpstreamId]) {
        self.close_where(|lane| gone.contains(&lane.place.0));
    }

    /// Closes the sockets to an upstream, so that the next question opens one with what the routing
    /// table says then.
    pub(super) fn leave(&mut self, upstream: UpstreamId) {
        self.close_where(|lane| lane.place.0 == upstream && lane.sender.is_empty());
    }

    fn close_where(&mut self, is_closed: impl Fn(&Lane) -> bool) {
        for index in 0..self.slots.len() {
            if self.slots[index].as_ref().is_some_and(&is_closed) {
                self.drop_slot(index as u32);
            }
        }
    }

    /// Closes the sockets that gave way long enough ago.
    pub(super) fn sweep(&mut self, now: Instant) {
        let mut leaving = std::mem::take(&mut self.leaving);
        leaving.retain(|index| {
            let Some(lane) = &self.slots[*index as usize] else {
                return false;
            };
            // The slot may have been given to another since.
            if self.current.get(&lane.place) == Some(index) {
                return false;
            }
            if now < lane.until {
                return true;
            }
            self.slots[*index as usize] = None;
            false
        });
        self.leaving = leaving;
    }

    pub(super) fn needs_sweep(&self) -> bool {
        !self.leaving.is_empty()
    }
}
