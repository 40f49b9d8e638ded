use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use x25519_dalek::StaticSecret;

use super::Random;
use super::gate::{Gate, Verdict};
use super::handshake::Initiation;
use super::index::Indices;
use super::macs::{MacKeys, proof};
use super::messages::{self, COOKIE, INITIATION, RESPONSE, TYPE, number};
use crate::tunnel::Refusal;
use crate::types::{PrivateKey, PublicKey};

/// This host's side of every handshake.
pub struct Identity {
    secret: StaticSecret,
    public: PublicKey,
    macs: MacKeys,
    pub(super) indices: Indices,
    gate: Mutex<Gate>,
}

/// What a handshake message is for.
pub enum Addressee {
    /// An initiation of the peer with this key: [`Engine::respond`](super::Engine::respond).
    Initiation(Box<Initiation>),
    /// A response or a cookie for the peer with this number: [`Engine::take`](super::Engine::take).
    Peer(u32),
    /// Nothing yet: the first `length` bytes of the buffer ask its sender to prove its address.
    Prove {
        /// The length of that message.
        length: usize,
    },
}

impl Identity {
    /// `per_address`: how many handshake messages a second one IPv4 address, or one /64 of IPv6,
    /// may send before its senders have to prove their addresses. `None` without randomness.
    pub fn new(private: &PrivateKey, per_address: u32, random: Random<'_>) -> Option<Self> {
        let (key, secret) = (random()?, random()?);
        let [a, b, c, d, e, f, g, h, ..] = *key;
        let public = private.public_key();
        Some(Self {
            secret: StaticSecret::from(*private.as_bytes()),
            macs: MacKeys::of(&public),
            public,
            indices: Indices::new([a, b, c, d, e, f, g, h]),
            gate: Mutex::new(Gate::new(per_address, secret)),
        })
    }

    /// As in [`Identity::new`], from now on.
    pub fn set_per_address(&self, per_address: u32) {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        gate.set_per_address(per_address);
    }

    /// The public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    pub(super) fn secret(&self) -> &StaticSecret {
        &self.secret
    }

    /// The number of the peer whose session has this index.
    pub fn peer(&self, index: u32) -> u32 {
        self.indices.peer(index)
    }

    /// What a handshake message is for. `out` has [`HANDSHAKE_ROOM`](super::HANDSHAKE_ROOM) bytes at least.
    pub fn dispatch(
        &self,
        now: Duration,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut [u8],
        random: Random<'_>,
    ) -> Result<Addressee, Refusal> {
        if let Ok(reply) = <&[u8; messages::cookie::LENGTH]>::try_from(datagram)
            && reply[TYPE] == COOKIE
        {
            let index = number(reply, messages::cookie::RECEIVER);
            return Ok(Addressee::Peer(self.peer(index)));
        }
        let known = match datagram.len() {
            messages::initiation::LENGTH => datagram[TYPE] == INITIATION,
            messages::response::LENGTH => datagram[TYPE] == RESPONSE,
            _ => false,
        };
        if !known {
            return Err(Refusal::Malformed);
        }
        if !self.macs.is_authentic(datagram) {
            return Err(Refusal::WrongMac);
        }
        match self.judge(now, from, datagram, random) {
            Verdict::Pass => self.read(datagram).ok_or(Refusal::NotAuthentic),
            Verdict::Prove(cookie) => {
                let reply = self.reply(datagram, &cookie, out, random);
                reply.ok_or(Refusal::TooOften)
            }
            Verdict::Drop => Err(Refusal::TooOften),
        }
    }

    fn judge(
        &self,
        now: Duration,
        from: SocketAddr,
        message: &[u8],
        random: Random<'_>,
    ) -> Verdict {
        let (given, over) = proof(message);
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        gate.judge(now, from, (&given, over), random)
    }

    fn read(&self, message: &[u8]) -> Option<Addressee> {
        if let Ok(message) = message.try_into() {
            let initiation = Initiation::read(self, message)?;
            return Some(Addressee::Initiation(Box::new(initiation)));
        }
        let index = number(message, messages::response::RECEIVER);
        Some(Addressee::Peer(self.peer(index)))
    }

    fn reply(
        &self,
        message: &[u8],
        cookie: &[u8; 16],
        out: &mut [u8],
        random: Random<'_>,
    ) -> Option<Addressee> {
        let fresh = random()?;
        let (nonce, _) = fresh.split_first_chunk::<24>()?;
        let out = out.first_chunk_mut()?;
        self.macs.reply(message, cookie, *nonce, out);
        Some(Addressee::Prove { length: out.len() })
    }
}
