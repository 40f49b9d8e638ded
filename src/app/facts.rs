//! What is known at run time beside the configuration.

use std::net::IpAddr;

use seedwire_core::config::{DEFAULT_FWMARK, Tunnel};
use seedwire_core::netstate::Facts;

use crate::netstate::NetState;

/// What WireGuard adds to a packet over IPv6: the IPv6 and UDP headers, its own header and tag.
/// Over IPv4 it is 20 bytes less, but an endpoint may change its family.
const OVERHEAD: u32 = 80;
/// The MTU where no path is known: that of an Ethernet, less the overhead.
const DEFAULT_MTU: u16 = 1420;
/// The least that IPv6 needs (RFC 8200, section 5).
const LEAST_MTU: u32 = 1280;
/// The most that is taken from a path: a loopback's 65536 says nothing about the way behind it.
const MOST_MTU: u32 = 8920;

/// The MTU of the tunnel and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mtu {
    pub(super) bytes: u16,
    pub(super) reason: String,
}

/// The facts for the network state of this tunnel, whose endpoints are known to be at `endpoints`.
/// While no path leads to them the MTU stays as it was `before`: an uplink that is away for a
/// moment says nothing.
pub(super) fn gather(
    tunnel: &Tunnel,
    endpoints: Vec<IpAddr>,
    net: &mut NetState,
    before: Option<Mtu>,
) -> (Facts, Mtu) {
    let mtu = mtu(tunnel, &endpoints, net, before);
    let facts = Facts {
        mtu: mtu.bytes,
        endpoints,
    };
    (facts, mtu)
}

fn mtu(tunnel: &Tunnel, endpoints: &[IpAddr], net: &mut NetState, before: Option<Mtu>) -> Mtu {
    // Where a rule needs a mark the packets bear it; elsewhere no rule looks at it.
    let mark = tunnel.fwmark.unwrap_or(DEFAULT_FWMARK);
    let smallest = endpoints
        .iter()
        .filter_map(|endpoint| Some((net.path_mtu(*endpoint, Some(mark)).ok()??, endpoint)))
        .min();
    let found = match smallest {
        Some((path, endpoint)) => {
            let bytes = path.saturating_sub(OVERHEAD).clamp(LEAST_MTU, MOST_MTU);
            Mtu {
                // Bounded by MOST_MTU.
                bytes: bytes as u16,
                reason: format!("the path to {endpoint} takes {path}"),
            }
        }
        None => before.unwrap_or_else(|| Mtu {
            bytes: tunnel.mtu.unwrap_or(DEFAULT_MTU),
            reason: "no path to an endpoint is known".to_owned(),
        }),
    };
    match tunnel.mtu {
        Some(bytes) if bytes <= found.bytes => Mtu {
            bytes,
            reason: "configured".to_owned(),
        },
        _ => found,
    }
}
