//! Who resolves names for the program itself.

use std::net::SocketAddr;

use seedwire_core::config::{Config, DnsProtocol, Upstream};

use crate::dns::{Servers, server_address};

/// Who is asked for the names of endpoints: `tunnel.resolvers`, else the general DNS upstreams that
/// are asked over UDP, else the system's servers. Never a zone's upstream, which lies behind the tunnel.
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
            // An address whose interface is not there now leads nowhere.
            Upstream::Server(server) if server.protocol == DnsProtocol::Udp => {
                server_address(server).ok()
            }
            Upstream::Server(_) | Upstream::System => None,
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
