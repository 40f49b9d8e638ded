//! The two MACs of a handshake message, and cookies (the WireGuard paper, 5.4.4 and 5.4.7).

use std::ops::Range;
use std::time::Duration;

use subtle::ConstantTimeEq;

use super::crypto::{TAG, extended, hash, mac};
use super::gate::COOKIE_FOR;
use super::messages::{self, COOKIE, SENDER, TYPE, bytes};
use crate::types::PublicKey;

const LABEL_MAC1: &[u8] = b"mac1----";
const LABEL_COOKIE: &[u8] = b"cookie--";

/// Where the first MAC is in a handshake message of this length; the second one ends it.
fn mac1(length: usize) -> Range<usize> {
    length - 32..length - 16
}

/// What messages to one host are made and proven with.
pub(super) struct MacKeys {
    mac1: [u8; 32],
    cookie: [u8; 32],
}

impl MacKeys {
    pub(super) fn of(receiver: &PublicKey) -> Self {
        Self {
            mac1: hash(&[LABEL_MAC1, receiver.as_bytes()]),
            cookie: hash(&[LABEL_COOKIE, receiver.as_bytes()]),
        }
    }

    /// Whether the first MAC of a handshake initiation or response is right.
    pub(super) fn is_authentic(&self, message: &[u8]) -> bool {
        let at = mac1(message.len());
        let expected = mac(&self.mac1, &[&message[..at.start]]);
        expected.ct_eq(&message[at]).into()
    }

    /// Writes the reply that tells the sender of `message` its cookie.
    pub(super) fn reply(
        &self,
        message: &[u8],
        cookie: &[u8; 16],
        nonce: [u8; 24],
        out: &mut [u8; messages::cookie::LENGTH],
    ) {
        use messages::cookie::{COOKIE as SEALED, NONCE, RECEIVER};

        out[TYPE].copy_from_slice(&COOKIE);
        out[RECEIVER].copy_from_slice(&message[SENDER]);
        out[NONCE].copy_from_slice(&nonce);
        let (text, tag) = out[SEALED].split_at_mut(16);
        text.copy_from_slice(cookie);
        let (key, counter) = extended(&self.cookie, &nonce);
        tag.copy_from_slice(&key.seal(counter, &message[mac1(message.len())], text));
    }
}

/// The second MAC of a handshake message, and what it is over.
pub(super) fn proof(message: &[u8]) -> ([u8; 16], &[u8]) {
    let at = message.len() - 16;
    (bytes(message, at..message.len()), &message[..at])
}

/// The MACs of the messages to one peer, and the cookie that it gave.
#[derive(Default)]
pub(super) struct Signer {
    last_mac1: Option<[u8; 16]>,
    cookie: Option<([u8; 16], Duration)>,
}

impl Signer {
    /// Writes both MACs of a message that is complete but for them.
    pub(super) fn sign(&mut self, now: Duration, keys: &MacKeys, message: &mut [u8]) {
        let at = mac1(message.len());
        let (before, macs) = message.split_at_mut(at.start);
        let first = mac(&keys.mac1, &[before]);
        macs[..16].copy_from_slice(&first);
        self.last_mac1 = Some(first);
        let second = match &self.cookie {
            Some((cookie, given)) if now.saturating_sub(*given) < COOKIE_FOR => {
                mac(cookie, &[before, &first])
            }
            _ => [0; 16],
        };
        macs[16..].copy_from_slice(&second);
    }

    /// Takes the cookie out of the reply to the last message; false where it is no such reply.
    pub(super) fn take_cookie(
        &mut self,
        now: Duration,
        keys: &MacKeys,
        reply: &[u8; messages::cookie::LENGTH],
    ) -> bool {
        use messages::cookie::{COOKIE as SEALED, NONCE};

        let Some(last) = self.last_mac1 else {
            return false;
        };
        let (key, counter) = extended(&keys.cookie, &bytes(reply, NONCE));
        let mut sealed: [u8; 16 + TAG] = bytes(reply, SEALED);
        let Some(cookie) = key.open(counter, &last, &mut sealed) else {
            return false;
        };
        self.cookie = Some((bytes(cookie, 0..16), now));
        true
    }
}
