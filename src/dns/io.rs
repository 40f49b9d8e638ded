//! What the forwarder's decisions do to sockets.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use seedwire_core::config::Server;
use seedwire_core::dns::{Change, Effects, UpstreamId};
use seedwire_core::tunnel::{PathState, Paths};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::bind::Bound;
use super::lanes::{Lanes, Place};
use super::poll::{Poll, Token};
use super::random::Random;
use super::serve::{ClientId, Clients};
use super::streams::{Outcome, Streams};
use super::sys::{Local, Sender};

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Client {
    Udp {
        listener: u32,
        peer: SocketAddr,
        local: Option<Local>,
    },
    Tcp(ClientId),
    /// This program; the number is that of the question.
    Own(u64),
}

pub(super) struct Listener {
    pub(super) configured: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
    pub(super) sender: Sender,
    /// No connection is taken for a while, for want of descriptors.
    pub(super) is_paused: bool,
}

/// What a socket could not send over UDP, and why.
pub(super) type Unsent = (Place, Arc<str>);

pub(super) struct Io {
    pub(super) poll: Poll,
    pub(super) listeners: Vec<Option<Listener>>,
    pub(super) lanes: Lanes,
    pub(super) streams: Streams,
    pub(super) clients: Clients,
    pub(super) own: HashMap<u64, oneshot::Sender<Vec<u8>>>,
    pub(super) unsent: Vec<Unsent>,
    /// What became of questions over connections.
    pub(super) outcomes: Vec<Outcome>,
    pub(super) now: Instant,
    dirty: Vec<u32>,
    random: Random,
    paths: Arc<dyn Paths>,
}

impl Io {
    pub(super) fn new(poll: Poll, paths: Arc<dyn Paths>) -> Self {
        Self {
            poll,
            listeners: Vec::new(),
            lanes: Lanes::default(),
            streams: Streams::default(),
            clients: Clients::default(),
            own: HashMap::new(),
            unsent: Vec::new(),
            outcomes: Vec::new(),
            now: Instant::now(),
            dirty: Vec::new(),
            random: Random::new(),
            paths,
        }
    }

    pub(super) fn listen(&mut self, bound: Bound) -> std::io::Result<()> {
        let free = self.listeners.iter().position(Option::is_none);
        let index = free.unwrap_or(self.listeners.len());
        self.poll.add(&bound.udp, Token::Udp(index as u32), false)?;
        self.poll
            .add(&bound.tcp, Token::Accept(index as u32), false)?;
        let listener = Listener {
            configured: bound.configured,
            local: bound.local,
            udp: bound.udp,
            tcp: bound.tcp,
            sender: Sender::default(),
            is_paused: false,
        };
        if index == self.listeners.len() {
            self.listeners.push(Some(listener));
        } else {
            self.listeners[index] = Some(listener);
        }
        Ok(())
    }

    /// Where questions are taken.
    pub(super) fn local_addresses(&self) -> Vec<SocketAddr> {
        let listeners = self.listeners.iter().flatten();
        listeners.map(|listener| listener.local).collect()
    }

    /// Sends what is queued.
    pub(super) fn flush(&mut self) {
        for index in self.dirty.drain(..) {
            if let Some(Some(listener)) = self.listeners.get_mut(index as usize) {
                // An error concerns one client, and a lost datagram is asked for again.
                let _ = listener.sender.flush(listener.udp.as_fd());
            }
        }
        self.unsent.extend(self.lanes.flush());
        self.outcomes
            .extend(self.streams.flush(self.now, &self.poll));
    }
}

impl Effects for Io {
    type Client = Client;

    fn reply(&mut self, client: Client, message: &[u8]) {
        match client {
            Client::Udp {
                listener: index,
                peer,
                local,
            } => {
                if let Some(Some(listener)) = self.listeners.get_mut(index as usize) {
                    if listener.sender.is_empty() {
                        self.dirty.push(index);
                    }
                    listener.sender.push(message, Some(peer), local);
                }
            }
            Client::Tcp(id) => self.clients.reply(id, message),
            Client::Own(number) => {
                if let Some(answer) = self.own.remove(&number) {
                    // Who asked may have given up.
                    let _ = answer.send(message.to_vec());
                }
            }
        }
    }

    fn send(&mut self, upstream: UpstreamId, server: &Server, lane: u8, message: &[u8]) {
        let place = (upstream, lane);
        if let Err(error) = self
            .lanes
            .push(place, server, message, self.now, &self.poll)
        {
            self.unsent.push((place, error.to_string().into()));
        }
    }

    fn send_stream(&mut self, upstream: UpstreamId, server: &Arc<Server>, message: &[u8]) {
        let queued = self
            .streams
            .ask(upstream, server, message, self.now, &self.poll);
        if let Err(error) = queued {
            let id = u16::from_be_bytes([message[0], message[1]]);
            let why = error.to_string().into();
            self.outcomes.push(Outcome::Failed(upstream, id, why));
        }
    }

    fn random(&mut self) -> u32 {
        self.random.next()
    }

    fn path(&self, to: IpAddr) -> PathState {
        self.paths.state(to)
    }

    fn wake(&self, to: IpAddr) {
        self.paths.wake(to);
    }

    fn changed(&mut self, change: Change) {
        match change {
            Change::UpstreamUp(_, upstream) => info!(%upstream, "DNS upstream answers again"),
            Change::UpstreamDown(id, upstream, failure) => {
                self.lanes.leave(id);
                self.streams.leave(id);
                warn!(%upstream, reason = %failure, "DNS upstream does not answer");
            }
            Change::ZoneReady(zone) => info!(%zone, "DNS zone answers"),
            Change::ZoneNotReady(zone, reason) => warn!(%zone, reason, "DNS zone does not answer"),
        }
    }
}
