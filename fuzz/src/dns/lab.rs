//! A forwarder between clients and two upstreams, in memory.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seedwire_core::config::{Cache, Lifetimes, Order, Server};
use seedwire_core::dns::{Change, Effects, Forwarder, Settings, Transport, UpstreamId};
use seedwire_core::tunnel::PathState;

/// The longest time that answers are kept, in seconds.
pub(super) const MAX_TTL: u32 = 3600;

/// A question that went to an upstream.
pub(super) struct Sent {
    pub(super) message: Vec<u8>,
    upstream: UpstreamId,
    /// The socket, or a connection.
    lane: Option<u8>,
}

#[derive(Default)]
pub(super) struct World {
    /// Whom an answer went to, and the answer.
    pub(super) replies: Vec<(u16, Vec<u8>)>,
    pub(super) sent: Vec<Sent>,
    seed: u32,
}

impl Effects for World {
    type Client = u16;

    fn reply(&mut self, client: u16, message: &[u8]) {
        self.replies.push((client, message.to_vec()));
    }

    fn send(&mut self, upstream: UpstreamId, _: &Server, lane: u8, message: &[u8]) {
        self.sent.push(Sent {
            message: message.to_vec(),
            upstream,
            lane: Some(lane),
        });
    }

    fn send_stream(&mut self, upstream: UpstreamId, _: &Arc<Server>, message: &[u8]) {
        self.sent.push(Sent {
            message: message.to_vec(),
            upstream,
            lane: None,
        });
    }

    fn random(&mut self) -> u32 {
        self.seed = self.seed.wrapping_mul(747_796_405).wrapping_add(1);
        self.seed ^ (self.seed >> 16)
    }

    fn path(&self, _: IpAddr) -> PathState {
        PathState::Direct
    }

    fn wake(&self, _: IpAddr) {}

    fn changed(&mut self, _: Change) {}
}

pub(super) struct Lab {
    forwarder: Forwarder<u16>,
    pub(super) world: World,
    now: Instant,
}

impl Lab {
    pub(super) fn new() -> Self {
        let cache = Cache {
            max_entries: 16,
            max_bytes: 1 << 20,
            lifetimes: Lifetimes {
                max_ttl: Duration::from_secs(MAX_TTL.into()),
                ..Lifetimes::default()
            },
        };
        let settings = Settings {
            zones: Vec::new(),
            upstreams: Some(
                [1, 2]
                    .map(|last| Server::plain(([192, 0, 2, last], 53).into()))
                    .into(),
            ),
            cache: cache.clone(),
            order: Order::Listed,
            search_domains: Vec::new(),
        };
        let (mut world, now) = (World::default(), Instant::now());
        let mut forwarder = Forwarder::new(cache);
        forwarder.configure(&settings, now, &mut world);
        Self {
            forwarder,
            world,
            now,
        }
    }

    /// A client, known by the ID of its question, asks.
    pub(super) fn ask(&mut self, packet: &[u8], client: u16, transport: Transport) {
        self.forwarder
            .query(packet, client, transport, self.now, &mut self.world);
    }

    /// The upstream answers with these bytes, whose first two become the ID that it was asked
    /// with.
    pub(super) fn answer(&mut self, to: &Sent, message: &[u8]) {
        let mut message = message.to_vec();
        for (byte, id) in message.iter_mut().zip(&to.message[..2]) {
            *byte = *id;
        }
        let (now, world) = (self.now, &mut self.world);
        match to.lane {
            Some(lane) => {
                let forwarder = &mut self.forwarder;
                forwarder.datagram(to.upstream, lane, &message, now, world);
            }
            None => self
                .forwarder
                .stream_answer(to.upstream, &message, now, world),
        }
    }

    /// Whoever is asked says this, until nobody waits any more.
    pub(super) fn answer_all(&mut self, message: &[u8]) {
        for _ in 0..100 {
            for sent in std::mem::take(&mut self.world.sent) {
                self.answer(&sent, message);
            }
            if !self.forwarder.is_busy() {
                return;
            }
            if self.world.sent.is_empty() {
                let due = self.forwarder.next_timeout();
                self.now = due.expect("who waits has a timer").max(self.now);
                self.forwarder.tick(self.now, &mut self.world);
            }
        }
        panic!("clients wait for ever");
    }

    pub(super) fn pass_seconds(&mut self, seconds: u32) {
        self.now += Duration::from_secs(seconds.into());
    }
}
