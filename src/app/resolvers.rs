//! Who resolves names for the program itself.

use std::net::SocketAddr;

use seedwire_core::config::{Config, Upstream};

use crate::dns::Servers;

/// Who is asked for the names of endpoints: `tunnel.resolvers`, else the general DNS upstreams,
/// else the system's servers. Never a zone's upstream, which lies behind the tunnel.
pub(super) fn endpoint_servers(config: &Config) -> Servers {
    let configured = config.tunnel.iter().flat_map(|tunnel| &tunnel.resolvers);
    let resolvers: Vec<SocketAddr> = configured.copied().collect();
    if !resolvers.is_empty() {
        return Servers::Listed(resolvers);
    }
    let upstreams = config.dns.iter().flat_map(|dns| dns.upstreams.iter());
    let listed: Vec<SocketAddr> = upstreams
        .flatten()
        .filter_map(|upstream| match upstream {
            Upstream::Address(address) => Some(*address),
            Upstream::System => None,
        })
        .collect();
    if !listed.is_empty() {
        return Servers::Listed(listed);
    }
    let own = config.dns.iter().flat_map(|dns| &dns.listen);
    Servers::System {
        own: own.copied().collect(),
    }
}
