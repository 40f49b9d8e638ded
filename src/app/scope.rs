//! Under which name an instance owns network state.

use std::net::IpAddr;

use seedwire_core::config::Config;
use seedwire_core::types::InterfaceName;

/// The interface whose name marks what the instance puts into the network state: that of its
/// tunnel, or `lo` where DNS alone listens on an address that `lo` may need; `None` when nothing
/// is ever put there.
pub(super) fn network_scope(config: &Config) -> Option<InterfaceName> {
    if let Some(tunnel) = &config.tunnel {
        return Some(tunnel.interface.clone());
    }
    let mut listen = config.dns.iter().flat_map(|dns| &dns.listen);
    listen
        .any(|address| may_be_missing(address.ip()))
        .then(|| "lo".parse().ok())
        .flatten()
}

/// Whether it is of the kind that is added to `lo`. Every host has 127.0.0.0/8 and ::1.
fn may_be_missing(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
