//! What `run` would change, without changing it.

use anyhow::Context;
use seedwire_core::config::Config;
use seedwire_core::netstate::{Facts, desired};
use seedwire_core::types::Host;

use super::facts;
use super::resolvers::endpoint_servers;
use super::scope::network_scope;
use crate::dns::ConfiguredResolver;
use crate::netstate::NetState;
use crate::resolve::Resolve;
use crate::tunnel::choose;

/// The steps that bring the network state to what the configuration wants, as text. Endpoint names
/// are resolved for it; one that can't be is left out of account.
pub fn plan(config: &Config) -> anyhow::Result<Vec<String>> {
    let Some(scope) = network_scope(config) else {
        return Ok(Vec::new());
    };
    let mut net = NetState::new(scope);
    let facts = match &config.tunnel {
        Some(tunnel) => {
            let endpoints = resolve_endpoints(config)?;
            facts::gather(tunnel, endpoints, &mut net, None, None).0
        }
        None => Facts {
            mtu: 0,
            endpoints: Vec::new(),
        },
    };
    let desired = desired(net.instance().clone(), config, &facts);
    let mut steps = net.plan_text(&desired)?;
    if let Some(tunnel) = &config.tunnel {
        let choice = choose(tunnel.backend)?;
        let made = format!("add link {}", tunnel.interface);
        if let Some(step) = steps.iter_mut().find(|step| **step == made) {
            step.push_str(&format!(" (backend {}: {})", choice.name(), choice.reason));
        }
    }
    Ok(steps)
}

fn resolve_endpoints(config: &Config) -> anyhow::Result<Vec<std::net::IpAddr>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let fwmark = config.tunnel.as_ref().and_then(|tunnel| tunnel.fwmark);
    let resolver = ConfiguredResolver::new(endpoint_servers(config), fwmark);
    let peers = config.tunnel.iter().flat_map(|tunnel| &tunnel.peers);
    runtime.block_on(async {
        let mut addresses = Vec::new();
        for endpoint in peers.flat_map(|peer| &peer.endpoints) {
            match &endpoint.host {
                Host::Address(address) => addresses.push(*address),
                Host::Name(name) => {
                    addresses.extend(resolver.resolve(name).await.unwrap_or_default());
                }
            }
        }
        Ok(addresses)
    })
}
