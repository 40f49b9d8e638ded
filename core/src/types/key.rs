use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The text is not the base64 form of 32 bytes, as wg(8) writes keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key of 32 bytes in base64: 44 characters that end in =")]
pub struct InvalidKey;

/// A Curve25519 public key; names a peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

/// A Curve25519 private key. Never printed; wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey([u8; 32]);

/// A symmetric key that two peers share beside their key pairs. Never printed; wiped from memory
/// when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PresharedKey([u8; 32]);

macro_rules! key {
    ($name:ident) => {
        impl $name {
            /// The bytes of the key.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidKey;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                decode(text).map(Self::from_bytes)
            }
        }
    };
}

key!(PublicKey);
key!(PrivateKey);
key!(PresharedKey);

fn decode(text: &str) -> Result<[u8; 32], InvalidKey> {
    let mut bytes = [0; 32];
    // 33 because the decoder asks for room by the length of the text.
    let mut room = [0; 33];
    let decoded = (text.len() == 44)
        .then(|| STANDARD.decode_slice(text, &mut room))
        .and_then(Result::ok);
    bytes.copy_from_slice(&room[..32]);
    room.zeroize();
    if decoded == Some(32) {
        Ok(bytes)
    } else {
        bytes.zeroize();
        Err(InvalidKey)
    }
}

impl PublicKey {
    /// The key of these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl PresharedKey {
    /// The key of these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl PrivateKey {
    /// The key of these bytes, clamped (RFC 7748, 5): all that are used as one key are one, as for
    /// the kernel's WireGuard.
    pub const fn from_bytes(mut bytes: [u8; 32]) -> Self {
        bytes[0] &= 248;
        bytes[31] = (bytes[31] & 127) | 64;
        Self(bytes)
    }

    /// Whether a secret can be agreed on with the owner of `peer`. With a point of low order, which
    /// is no host's key, everybody would know it (RFC 7748, 6.1).
    pub fn agrees_with(&self, peer: &PublicKey) -> bool {
        let secret = x25519_dalek::StaticSecret::from(self.0);
        let shared = secret.diffie_hellman(&x25519_dalek::PublicKey::from(peer.0));
        shared.was_contributory()
    }

    /// The public key that belongs to it (RFC 7748, 6.1).
    pub fn public_key(&self) -> PublicKey {
        let secret = x25519_dalek::StaticSecret::from(self.0);
        PublicKey(x25519_dalek::PublicKey::from(&secret).to_bytes())
    }

    /// The key in base64, for the commands whose purpose is to print it.
    pub fn reveal(&self) -> zeroize::Zeroizing<String> {
        zeroize::Zeroizing::new(STANDARD.encode(self.0))
    }
}

impl PresharedKey {
    /// The key in base64, for the commands whose purpose is to print it.
    pub fn reveal(&self) -> zeroize::Zeroizing<String> {
        zeroize::Zeroizing::new(STANDARD.encode(self.0))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(..)")
    }
}
