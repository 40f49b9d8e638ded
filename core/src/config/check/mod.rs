//! What can't be true together, and what is likely a mistake. Works on the configuration as
//! written, where every value knows its place, so that it finds what it can beside values that
//! could not be read.

mod dns;
mod listen;
mod network;
mod routed;
mod tunnel;

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use super::read::{At, Place, Reader};
use super::report::Topic;
use super::written::Root;

/// Checks everything.
pub(super) fn all(root: &Root, place: &Place, reader: &mut Reader<'_>) {
    if root.tunnel.is_none() && root.ports.is_none() && root.dns.is_none() {
        reader.reject(place, "at least one of tunnel, ports, dns");
    }
    if let (Some(network), None) = (&root.network, &root.tunnel) {
        reader.reject(&network.place, "a tunnel beside it");
    }
    tunnel::check(root, reader);
    network::check(root, reader);
    dns::check(root, reader);
    listen::check(root, reader);
    routed::check(root, reader);
    readable_secrets(root, reader);
}

fn readable_secrets(root: &Root, reader: &mut Reader<'_>) {
    let strict = root.strict_secrets.as_ref().is_some_and(|at| at.value);
    for (place, why) in std::mem::take(&mut reader.readable) {
        if strict {
            reader.reject(&place, why);
        } else {
            reader.warn(Topic::ReadableSecret, &place, format!("better {why}"));
        }
    }
}

/// The items of a list that may be absent.
fn items<T>(list: &Option<At<Vec<At<T>>>>) -> &[At<T>] {
    list.as_ref().map_or(&[], |at| at.value.as_slice())
}

/// What was seen, and where first.
struct Once<'a, K>(HashMap<K, &'a Place>);

impl<'a, K: Eq + Hash> Once<'a, K> {
    fn new() -> Self {
        Self(HashMap::new())
    }

    /// Rejects what was seen before; `what` is its name, such as "a name".
    fn see(&mut self, key: K, place: &'a Place, what: &str, reader: &mut Reader<'_>) {
        match self.0.get(&key) {
            Some(first) => {
                let first = &first.path;
                reader.reject(place, format!("{what} of its own: {first} has this one"));
            }
            None => {
                self.0.insert(key, place);
            }
        }
    }
}

/// Whether one host can have this address: neither unspecified, multicast nor broadcast.
fn is_unicast(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || broadcast)
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}
