//! Noise_IKpsk2 as the WireGuard paper has it (5.4.2 and 5.4.3): what is mixed in which order.

use x25519_dalek::{PublicKey as Point, StaticSecret};
use zeroize::Zeroizing;

use super::crypto::{Key, Secret, TAG, agree, hash, kdf};
use super::identity::Identity;
use super::messages::{self, INITIATION, RESPONSE, SENDER, TYPE, bytes, number};
use super::tai64n::Tai64n;
use crate::types::{PresharedKey, PublicKey};

const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

/// What both ends have said so far, and the key that comes of it.
pub(super) struct Transcript {
    chaining_key: Secret,
    hash: [u8; 32],
}

/// The two keys of a session.
pub(super) struct Keys {
    pub(super) sending: Key,
    pub(super) receiving: Key,
}

impl Transcript {
    /// The beginning of every handshake with this responder.
    pub(super) fn with(responder: &PublicKey) -> Self {
        let chaining_key = hash(&[CONSTRUCTION]);
        let named = hash(&[&chaining_key, IDENTIFIER]);
        Self {
            chaining_key: Zeroizing::new(chaining_key),
            hash: hash(&[&named, responder.as_bytes()]),
        }
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = hash(&[&self.hash, data]);
    }

    fn mix_ephemeral(&mut self, ephemeral: &[u8]) {
        self.mix_key(ephemeral);
        self.mix_hash(ephemeral);
    }

    fn mix_key(&mut self, input: &[u8]) {
        let [chaining_key] = kdf(&self.chaining_key, input);
        self.chaining_key = chaining_key;
    }

    fn mix_and_derive(&mut self, input: &[u8]) -> Key {
        let [chaining_key, key] = kdf(&self.chaining_key, input);
        self.chaining_key = chaining_key;
        Key::new(&key)
    }

    fn mix_preshared(&mut self, preshared: Option<&PresharedKey>) -> Key {
        let key = preshared.map_or(&[0; 32], PresharedKey::as_bytes);
        let [chaining_key, mixed, key] = kdf(&self.chaining_key, key);
        self.chaining_key = chaining_key;
        self.mix_hash(&mixed[..]);
        Key::new(&key)
    }

    /// Encrypts all but the last bytes of the field, which get the tag.
    fn encrypt(&mut self, key: &Key, field: &mut [u8]) {
        let (text, tag) = field.split_at_mut(field.len() - TAG);
        tag.copy_from_slice(&key.seal(0, &self.hash, text));
        self.mix_hash(field);
    }

    fn decrypt<'b>(&mut self, key: &Key, field: &[u8], room: &'b mut [u8]) -> Option<&'b [u8]> {
        room.copy_from_slice(field);
        let text = key.open(0, &self.hash, room)?;
        self.mix_hash(field);
        Some(text)
    }

    fn split(&self, initiator: bool) -> Keys {
        let [first, second] = kdf(&self.chaining_key, &[]);
        let (sending, receiving) = if initiator {
            (first, second)
        } else {
            (second, first)
        };
        Keys {
            sending: Key::new(&sending),
            receiving: Key::new(&receiving),
        }
    }
}

/// An initiation of ours that was not answered yet.
pub(super) struct Pending {
    transcript: Transcript,
    ephemeral: StaticSecret,
}

/// What an initiation is made of, beside its own state.
pub(super) struct Beginning<'a> {
    pub(super) identity: &'a Identity,
    pub(super) peer: &'a PublicKey,
    /// What both static keys agree on.
    pub(super) static_static: &'a Secret,
    pub(super) ephemeral: StaticSecret,
    pub(super) stamp: Tai64n,
    pub(super) index: u32,
}

impl Beginning<'_> {
    /// Writes the initiation, without its MACs; `None` where the peer's key is of low order.
    pub(super) fn write(self, out: &mut [u8; messages::initiation::LENGTH]) -> Option<Pending> {
        use messages::initiation::{EPHEMERAL, STATIC, TIMESTAMP};

        let mut transcript = Transcript::with(self.peer);
        let ephemeral = Point::from(&self.ephemeral);
        let shared = agree(&self.ephemeral, self.peer.as_bytes())?;
        out[TYPE].copy_from_slice(&INITIATION);
        out[SENDER].copy_from_slice(&self.index.to_le_bytes());
        out[EPHEMERAL].copy_from_slice(ephemeral.as_bytes());
        transcript.mix_ephemeral(ephemeral.as_bytes());
        let key = transcript.mix_and_derive(&shared[..]);
        out[STATIC][..32].copy_from_slice(self.identity.public_key().as_bytes());
        transcript.encrypt(&key, &mut out[STATIC]);
        let key = transcript.mix_and_derive(&self.static_static[..]);
        out[TIMESTAMP][..12].copy_from_slice(self.stamp.as_bytes());
        transcript.encrypt(&key, &mut out[TIMESTAMP]);
        Some(Pending {
            transcript,
            ephemeral: self.ephemeral,
        })
    }
}

/// An initiation of a peer, read as far as it says who that is. That it is really that peer shows
/// only [`Engine::respond`](super::Engine::respond).
pub struct Initiation {
    peer: PublicKey,
    transcript: Transcript,
    ephemeral: [u8; 32],
    index: u32,
    timestamp: [u8; 28],
}

impl Initiation {
    /// Reads an initiation whose MACs were checked; `None` for what is not authentic.
    pub(super) fn read(
        identity: &Identity,
        message: &[u8; messages::initiation::LENGTH],
    ) -> Option<Self> {
        use messages::initiation::{EPHEMERAL, STATIC, TIMESTAMP};

        let mut transcript = Transcript::with(identity.public_key());
        let ephemeral = bytes(message, EPHEMERAL);
        transcript.mix_ephemeral(&ephemeral);
        let shared = agree(identity.secret(), &ephemeral)?;
        let key = transcript.mix_and_derive(&shared[..]);
        let mut room = [0; 48];
        let peer = transcript.decrypt(&key, &message[STATIC], &mut room)?;
        Some(Self {
            peer: PublicKey::from_bytes(bytes(peer, 0..32)),
            transcript,
            ephemeral,
            index: number(message, SENDER),
            timestamp: bytes(message, TIMESTAMP),
        })
    }

    /// The key of the peer that it says it comes from.
    pub fn peer(&self) -> &PublicKey {
        &self.peer
    }

    /// The index that the peer gave the session.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// When the peer wrote it; `None` where it was not that peer.
    pub(super) fn stamp(&mut self, static_static: &Secret) -> Option<Tai64n> {
        let key = self.transcript.mix_and_derive(&static_static[..]);
        let mut room = [0; 28];
        let stamp = self.transcript.decrypt(&key, &self.timestamp, &mut room)?;
        Some(Tai64n::from_bytes(bytes(stamp, 0..12)))
    }

    /// Writes the response, without its MACs; `None` where a key is of low order. After
    /// [`Initiation::stamp`].
    pub(super) fn answer(
        mut self,
        ephemeral: &StaticSecret,
        preshared: Option<&PresharedKey>,
        index: u32,
        out: &mut [u8; messages::response::LENGTH],
    ) -> Option<Keys> {
        use messages::response::{EPHEMERAL, NOTHING, RECEIVER};

        let own = Point::from(ephemeral);
        out[TYPE].copy_from_slice(&RESPONSE);
        out[SENDER].copy_from_slice(&index.to_le_bytes());
        out[RECEIVER].copy_from_slice(&self.index.to_le_bytes());
        out[EPHEMERAL].copy_from_slice(own.as_bytes());
        let transcript = &mut self.transcript;
        transcript.mix_ephemeral(own.as_bytes());
        transcript.mix_key(&agree(ephemeral, &self.ephemeral)?[..]);
        transcript.mix_key(&agree(ephemeral, self.peer.as_bytes())?[..]);
        let key = transcript.mix_preshared(preshared);
        transcript.encrypt(&key, &mut out[NOTHING]);
        Some(transcript.split(false))
    }
}

impl Pending {
    /// Reads the response to this initiation, whose MACs were checked; `None` for what is not
    /// authentic, after which another may still come.
    pub(super) fn read(
        &self,
        identity: &Identity,
        preshared: Option<&PresharedKey>,
        message: &[u8; messages::response::LENGTH],
    ) -> Option<Keys> {
        use messages::response::{EPHEMERAL, NOTHING};

        let mut transcript = Transcript {
            chaining_key: self.transcript.chaining_key.clone(),
            hash: self.transcript.hash,
        };
        let ephemeral = bytes(message, EPHEMERAL);
        transcript.mix_ephemeral(&ephemeral);
        transcript.mix_key(&agree(&self.ephemeral, &ephemeral)?[..]);
        transcript.mix_key(&agree(identity.secret(), &ephemeral)?[..]);
        let key = transcript.mix_preshared(preshared);
        transcript.decrypt(&key, &message[NOTHING], &mut [0; TAG])?;
        Some(transcript.split(true))
    }
}
