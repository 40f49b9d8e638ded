//! What is known at run time beside the configuration.

use std::net::IpAddr;

use seedwire_core::config::{DEFAULT_FWMARK, Tunnel};
use seedwire_core::netstate::Facts;
use seedwire_core::tunnel::LEAST_MTU;

use crate::netstate::NetState;

/// What WireGuard adds to a packet over IPv6: the IPv6 and UDP headers, its own header and tag.
/// Over IPv4 it is 20 bytes less, but an endpoint may change its family.
const OVERHEAD: u32 = 80;
/// The MTU where no path is known: that of an Ethernet, less the overhead.
const DEFAULT_MTU: u16 = 1420;
/// The most that is taken from a path: a loopback's 65536 says nothing about the way behind it.
const MOST_MTU: u32 = 8920;

/// The MTU of the tunnel and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mtu {
    pub(super) bytes: u16,
    /// What it would be without what probes have found.
    pub(super) most: u16,
    pub(super) reason: String,
}

/// The facts for the network state of this tunnel, whose endpoints are known to be at `endpoints`.
/// `narrowest` is the longest packet that passes, and the peer for which that is so.
/// While no path leads to them the MTU stays as it was `before`: an uplink that is away for a
/// moment says nothing.
pub(super) fn gather(
    tunnel: &Tunnel,
    endpoints: Vec<IpAddr>,
    net: &mut NetState,
    before: Option<Mtu>,
    narrowest: Option<(u16, String)>,
) -> (Facts, Mtu) {
    let mut mtu = mtu(tunnel, &endpoints, net, before);
    if let Some((bytes, peer)) = narrowest.filter(|(bytes, _)| *bytes < mtu.most) {
        let reason = format!("longer packets to {peer} are lost");
        mtu = Mtu {
            bytes,
            reason,
            ..mtu
        };
    }
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
    let (found, reason) = match (smallest, before) {
        (Some((path, endpoint)), _) => {
            let bytes = path.saturating_sub(OVERHEAD);
            // Bounded by MOST_MTU.
            let bytes = bytes.clamp(u32::from(LEAST_MTU), MOST_MTU) as u16;
            (bytes, format!("the path to {endpoint} takes {path}"))
        }
        (None, Some(before)) => (before.most, before.reason),
        (None, None) => {
            let reason = "no path to an endpoint is known".to_owned();
            (tunnel.mtu.unwrap_or(DEFAULT_MTU), reason)
        }
    };
    let (most, reason) = match tunnel.mtu {
        Some(bytes) if bytes <= found => (bytes, "configured".to_owned()),
        _ => (found, reason),
    };
    Mtu {
        bytes: most,
        most,
        reason,
    }
}
