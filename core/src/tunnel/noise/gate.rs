//! Who may make this host compute a handshake (the WireGuard paper, 5.3 and 5.4.7).
//!
//! What comes from one address is let through up to a rate. What comes above it has to prove, by
//! a cookie, that it can be reached at its address and port, and has a rate of its own then. So a
//! flood makes only its own address prove itself, and behind one that many peers share each of
//! them still gets through.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use subtle::ConstantTimeEq;

use super::Random;
use super::crypto::{Secret, mac};
use super::limiter::Buckets;

/// How long cookies are made with one secret; they are taken for as long again, so that every
/// cookie is good for the two minutes that a peer uses it.
pub(super) const COOKIE_FOR: Duration = Duration::from_secs(120);

/// How many addresses, and how many addresses with a port, are told apart.
const ADDRESSES: usize = 1 << 12;
const SOURCES: usize = 1 << 14;

/// How often one source that has proven its address is let through in a second, and how often in
/// a row: what the kernel's ratelimiter.c allows an address.
const PROVEN_RATE: u32 = 20;
const PROVEN_BURST: u32 = 5;

/// How many addresses at their limit there must be before all have to prove themselves.
const FULL_ADDRESSES: u32 = 2;

/// Counts handshake messages by where they come from. Its memory does not grow.
pub(super) struct Gate {
    /// The secret that cookies are made with, and the one before it.
    secrets: [Secret; 2],
    since: Duration,
    per_address: u32,
    addresses: Buckets,
    everyone: Buckets,
    proven: Buckets,
    replies: Buckets,
}

/// What becomes of a handshake message.
pub(super) enum Verdict {
    Pass,
    /// Its sender gets this cookie.
    Prove([u8; 16]),
    Drop,
}

impl Gate {
    /// `per_address`: how many messages a second one IPv4 address, or one /64 of IPv6, may send
    /// without a cookie.
    pub(super) fn new(per_address: u32, secret: Secret) -> Self {
        let everyone = per_address.saturating_mul(FULL_ADDRESSES);
        Self {
            secrets: [secret.clone(), secret],
            since: Duration::ZERO,
            per_address,
            addresses: Buckets::new(ADDRESSES, per_address, per_address),
            everyone: Buckets::new(1, everyone, everyone),
            proven: Buckets::new(SOURCES, PROVEN_RATE, PROVEN_BURST),
            replies: Buckets::new(SOURCES, PROVEN_RATE, PROVEN_BURST),
        }
    }

    /// As in [`Gate::new`], from now on.
    pub(super) fn set_per_address(&mut self, per_address: u32) {
        if per_address != self.per_address {
            *self = Self {
                secrets: self.secrets.clone(),
                since: self.since,
                ..Self::new(per_address, self.secrets[0].clone())
            };
        }
    }

    /// Whether a message whose first MAC is right may be computed. `proof`: what it says its
    /// second MAC is, and what that MAC is over.
    pub(super) fn judge(
        &mut self,
        now: Duration,
        from: SocketAddr,
        proof: (&[u8; 16], &[u8]),
        random: Random<'_>,
    ) -> Verdict {
        self.renew(now, random);
        let place = self.address_place(from.ip());
        if self.addresses.take(place, now) && self.everyone.take(0, now) {
            return Verdict::Pass;
        }
        let [new, old] = [0, 1].map(|at| cookie(&self.secrets[at], from));
        let [a, b, c, d, e, f, g, h, ..] = new;
        // Two, so that nobody is stopped by a flooder who shares one of them.
        let places = [[a, b, c, d], [e, f, g, h]].map(u32::from_le_bytes);
        let (given, message) = proof;
        let proven = [new, old]
            .iter()
            .any(|cookie| bool::from(mac(cookie, &[message]).ct_eq(given)));
        match proven {
            true if self.proven.take_either(places, now) => Verdict::Pass,
            false if self.replies.take_either(places, now) => Verdict::Prove(new),
            _ => Verdict::Drop,
        }
    }

    fn renew(&mut self, now: Duration, random: Random<'_>) {
        let age = now.saturating_sub(self.since);
        if age >= COOKIE_FOR
            && let Some(fresh) = random()
        {
            let old = std::mem::replace(&mut self.secrets[0], fresh);
            // After a long time without a message the one before is too old too.
            let is_recent = age < 2 * COOKIE_FOR;
            self.secrets[1] = if is_recent {
                old
            } else {
                self.secrets[0].clone()
            };
            self.since = now;
        }
    }

    fn address_place(&self, address: IpAddr) -> u32 {
        let digest = match address {
            IpAddr::V4(address) => mac(&self.secrets[0][..], &[&address.octets()]),
            IpAddr::V6(address) => mac(&self.secrets[0][..], &[&address.octets()[..8]]),
        };
        u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
    }
}

fn cookie(secret: &Secret, source: SocketAddr) -> [u8; 16] {
    let port = source.port().to_be_bytes();
    match source.ip() {
        IpAddr::V4(address) => mac(&secret[..], &[&address.octets(), &port]),
        IpAddr::V6(address) => mac(&secret[..], &[&address.octets(), &port]),
    }
}
