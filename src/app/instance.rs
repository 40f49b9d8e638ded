//! The parts of a running instance, and how each is brought to a configuration.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use seedwire_core::config::{self, Config, Control};
use seedwire_core::netstate::{Desired, Facts, desired};
use seedwire_core::tunnel::{PathState, Paths};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::facts::{self, Mtu};
use super::heal::Healing;
use super::in_force::InForce;
use super::resolvers::endpoint_servers;
use super::state::State;
use crate::control::{Health, Server, Source};
use crate::dns::{ConfiguredResolver, Forwarder, Servers};
use crate::netstate::NetState;
use crate::ports::Relays;
use crate::resolve::Resolve;
use crate::tunnel::{Device, DeviceOptions, Dialer, Offload, Settings, Uapi};

/// The parts of a running instance. Which there are depends on the configuration.
pub(super) struct Instance {
    pub(super) state: Arc<State>,
    health: Arc<Health>,
    offload: Offload,
    pub(super) net: Option<NetState>,
    /// The network state that was applied last.
    pub(super) applied: Option<Desired>,
    pub(super) in_force: InForce,
    pub(super) healing: Option<Healing>,
    pub(super) tunnel: Option<Tunnel>,
    paths: Arc<dyn Paths>,
    dns: Option<Forwarder>,
    relays: Option<Relays>,
    control: Option<ControlServer>,
}

/// What happens by itself.
pub(super) enum Event {
    /// A peer's state or endpoint changed.
    TunnelChanged,
    /// Somebody, perhaps this program, changed the network state.
    NetworkChanged,
    /// A part ended that should not.
    Failed(anyhow::Error),
}

/// The tunnel and who finds its endpoints.
pub(super) struct Tunnel {
    device: Device,
    changes: watch::Receiver<u64>,
    dialer: JoinHandle<()>,
    resolver: Arc<ConfiguredResolver>,
}

impl Tunnel {
    fn create(tunnel: &config::Tunnel, mtu: u16, offload: Offload) -> anyhow::Result<Self> {
        let device = Device::create(DeviceOptions {
            interface: tunnel.interface.clone(),
            mtu,
            uapi: Uapi::IfPossible,
            backend: tunnel.backend,
            offload,
        })?;
        let servers = Servers::Listed(Vec::new());
        let resolver = Arc::new(ConfiguredResolver::new(servers, None));
        let resolve = Arc::clone(&resolver) as Arc<dyn Resolve>;
        Ok(Self {
            changes: device.changes(),
            dialer: Dialer::spawn(device.handle(), resolve),
            device,
            resolver,
        })
    }

    /// Waits until a peer's state or endpoint changes, or the tunnel ends by itself.
    async fn event(&mut self) -> Event {
        tokio::select! {
            _ = self.changes.changed() => match self.device.failure() {
                Some(failure) => Event::Failed(failure.into()),
                None => Event::TunnelChanged,
            },
            ended = &mut self.dialer => {
                let cause = ended.err().map_or_else(|| "it returned".to_owned(), |e| e.to_string());
                Event::Failed(anyhow!("the dialer ended: {cause}"))
            }
        }
    }

    async fn stop(self) {
        self.dialer.abort();
        // The error says that it was aborted.
        let _ = self.dialer.await;
        self.device.stop();
    }
}

struct ControlServer {
    config: Control,
    task: JoinHandle<Infallible>,
}

/// The paths of an instance without a tunnel.
struct NoTunnel;

impl Paths for NoTunnel {
    fn state(&self, _: IpAddr) -> PathState {
        PathState::Direct
    }

    fn wake(&self, _: IpAddr) {}
}

impl Instance {
    /// An instance without parts.
    ///
    /// # Errors
    /// When the network state can't be watched.
    pub(super) fn new(
        state: Arc<State>,
        health: Arc<Health>,
        net: Option<NetState>,
        offload: Offload,
    ) -> anyhow::Result<Self> {
        let healing = net.is_some().then(Healing::start).transpose()?;
        Ok(Self {
            state,
            health,
            offload,
            net,
            applied: None,
            in_force: InForce::default(),
            healing,
            tunnel: None,
            paths: Arc::new(NoTunnel),
            dns: None,
            relays: None,
            control: None,
        })
    }

    /// Brings every part to this configuration. What it has already stays untouched; on an error
    /// the parts before the one that failed have changed.
    pub(super) async fn configure(&mut self, config: &Config) -> anyhow::Result<()> {
        // First, so that an address that is taken is found before the network is changed.
        self.configure_control(&config.control).await?;
        self.configure_tunnel(config)?;
        self.configure_dns(config).await?;
        self.configure_ports(config).await?;
        self.refresh().await;
        Ok(())
    }

    async fn configure_control(&mut self, config: &Control) -> anyhow::Result<()> {
        if self.control.as_ref().is_some_and(|c| c.config == *config) {
            return Ok(());
        }
        if let Some(old) = self.control.take() {
            old.task.abort();
            // The error says that it was aborted.
            let _ = old.task.await;
        }
        let source = Arc::clone(&self.state) as Arc<dyn Source>;
        let server = Server::bind(config, Arc::clone(&self.health), source).await?;
        self.control = Some(ControlServer {
            config: config.clone(),
            task: tokio::spawn(server.run()),
        });
        Ok(())
    }

    fn configure_tunnel(&mut self, config: &Config) -> anyhow::Result<()> {
        let Some(net) = &mut self.net else {
            return Ok(());
        };
        let Some(tunnel) = &config.tunnel else {
            let facts = Facts {
                mtu: 0,
                endpoints: Vec::new(),
            };
            let desired = desired(net.instance().clone(), config, &facts);
            return self.apply(desired);
        };
        let endpoints = known_endpoints(config, self.tunnel.as_ref());
        let narrowest = narrowest(self.tunnel.as_ref());
        let (facts, mtu) = facts::gather(tunnel, endpoints, net, None, narrowest);
        let desired = desired(net.instance().clone(), config, &facts);
        if self.tunnel.is_none() {
            // Finds conflicts before anything is changed.
            net.plan_text(&desired)?;
            let created = Tunnel::create(tunnel, mtu.bytes, self.offload)?;
            self.paths = created.device.paths();
            let choice = created.device.choice().clone();
            tracing::info!(
                backend = choice.name(),
                reason = choice.reason,
                "made the tunnel"
            );
            self.state
                .set_device(Some((created.device.handle(), choice)));
            self.tunnel = Some(created);
        }
        self.take_mtu(mtu);
        self.apply(desired)?;
        self.set_tunnel(config, tunnel)
    }

    /// Shows the MTU that is in force, and says in the log where it comes from.
    pub(super) fn take_mtu(&self, mtu: Mtu) {
        let before = self.state.mtu().map(|mtu| mtu.bytes);
        if before != Some(mtu.bytes) {
            tracing::info!(
                mtu = mtu.bytes,
                before,
                reason = mtu.reason,
                "MTU of the tunnel"
            );
        }
        if let Some(tunnel) = &self.tunnel {
            tunnel.device.allow_mtu(mtu.most);
        }
        self.state.set_mtu(mtu);
    }

    /// Gives the tunnel its keys and peers, with the mark that the network state needs.
    pub(super) fn set_tunnel(
        &self,
        config: &Config,
        tunnel: &config::Tunnel,
    ) -> anyhow::Result<()> {
        let Some(running) = &self.tunnel else {
            return Ok(());
        };
        let fwmark = self.applied.as_ref().and_then(|desired| desired.fwmark);
        running.resolver.configure(endpoint_servers(config), fwmark);
        let reverted = running.device.set(&Settings {
            private_key: tunnel.private_key.clone(),
            listen_port: tunnel.listen_port,
            fwmark: fwmark.unwrap_or(0),
            handshakes_per_address: tunnel.handshakes_per_address,
            addresses: tunnel.addresses.iter().map(|a| a.address()).collect(),
            peers: tunnel.peers.clone(),
        })?;
        for change in reverted {
            tracing::warn!(%change, "reverted what was set over UAPI");
        }
        Ok(())
    }

    pub(super) fn apply(&mut self, desired: Desired) -> anyhow::Result<()> {
        let Some(net) = &mut self.net else {
            return Ok(());
        };
        let report = net.apply(&desired)?;
        for step in &report.steps {
            tracing::debug!(%step, "changed the network state");
        }
        if !report.steps.is_empty() {
            let steps = report.steps.len();
            tracing::info!(steps, "brought the network state to what is desired");
        }
        self.in_force.extend(report.steps);
        self.state.set_network(self.in_force.shown(&HashMap::new()));
        self.applied = Some(desired);
        Ok(())
    }

    async fn configure_dns(&mut self, config: &Config) -> anyhow::Result<()> {
        if self.dns.is_some() != config.dns.is_some()
            && let Some(relays) = self.relays.take()
        {
            // They resolve names through the forwarder that goes, or through none.
            relays.stop().await;
        }
        match (&self.dns, &config.dns) {
            (Some(forwarder), Some(dns)) => forwarder.reload(dns).await?,
            (None, Some(dns)) => self.dns = Some(Forwarder::start(dns, Arc::clone(&self.paths))?),
            (Some(_), None) => {
                if let Some(forwarder) = self.dns.take() {
                    forwarder.stop().await;
                }
            }
            (None, None) => {}
        }
        Ok(())
    }

    async fn configure_ports(&mut self, config: &Config) -> anyhow::Result<()> {
        match &self.relays {
            Some(relays) => relays.reload(&config.ports).await?,
            None if config.ports.is_empty() => {}
            None => {
                let resolve = match &self.dns {
                    Some(forwarder) => forwarder.resolver(),
                    // Then every relay leads to an address.
                    None => Arc::new(ConfiguredResolver::new(Servers::Listed(Vec::new()), None)),
                };
                let paths = Arc::clone(&self.paths);
                self.relays = Some(Relays::start(&config.ports, resolve, paths)?);
            }
        }
        Ok(())
    }

    /// Brings the state that health and status are made from up to date.
    pub(super) async fn refresh(&self) {
        let dns = match &self.dns {
            // A thread that ended is noticed elsewhere.
            Some(forwarder) => forwarder.status().await.ok(),
            None => None,
        };
        self.state.set_dns(dns);
        let ports = match &self.relays {
            Some(relays) => relays.status().await,
            None => Vec::new(),
        };
        self.state.set_ports(ports);
        self.state.note_troubles();
    }

    /// Waits until something happens by itself. Nothing is lost when the future is dropped.
    pub(super) async fn event(&mut self) -> Event {
        let tunnel = async {
            match &mut self.tunnel {
                Some(tunnel) => tunnel.event().await,
                None => std::future::pending().await,
            }
        };
        let dns_ended = async {
            match &self.dns {
                Some(forwarder) => forwarder.ended().await,
                None => std::future::pending().await,
            }
        };
        let control_ended = async {
            match &mut self.control {
                Some(control) => (&mut control.task).await,
                None => std::future::pending().await,
            }
        };
        let network = async {
            match &mut self.healing {
                Some(healing) => healing.due().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = tunnel => event,
            watched = network => match watched {
                Ok(()) => Event::NetworkChanged,
                Err(error) => Event::Failed(error.into()),
            },
            () = dns_ended => Event::Failed(anyhow!("the DNS thread ended")),
            Err(error) = control_ended => {
                Event::Failed(anyhow::Error::new(error).context("the control server ended"))
            }
        }
    }

    /// Takes no more work, finishes what is under way for at most 1 s, and undoes everything.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        let relays = self.relays.take();
        let dns = self.dns.take();
        tokio::join!(
            async {
                if let Some(relays) = relays {
                    relays.stop().await;
                }
            },
            async {
                if let Some(forwarder) = dns {
                    forwarder.stop().await;
                }
            }
        );
        let cleared = match &mut self.net {
            Some(net) => net.clear().map(drop).context("failed to undo everything"),
            None => Ok(()),
        };
        self.state.set_device(None);
        if let Some(tunnel) = self.tunnel.take() {
            tunnel.stop().await;
        }
        if let Some(control) = self.control.take() {
            control.task.abort();
            // The error says that it was aborted.
            let _ = control.task.await;
        }
        cleared
    }
}

/// See [`tunnel::DeviceHandle::narrowest`](crate::tunnel::DeviceHandle::narrowest).
pub(super) fn narrowest(tunnel: Option<&Tunnel>) -> Option<(u16, String)> {
    tunnel.and_then(|tunnel| tunnel.device.narrowest())
}

/// The endpoints' addresses: those that packets go to now, and those in the configuration.
pub(super) fn known_endpoints(config: &Config, tunnel: Option<&Tunnel>) -> Vec<IpAddr> {
    let peers = config.tunnel.iter().flat_map(|tunnel| &tunnel.peers);
    let configured = peers.flat_map(|peer| &peer.endpoints);
    let mut endpoints: Vec<IpAddr> = configured
        .filter_map(|endpoint| Some(endpoint.socket_address()?.ip()))
        .collect();
    if let Some(tunnel) = tunnel {
        let peers = tunnel.device.peers();
        let dialled = peers.iter().filter(|peer| peer.dialled);
        endpoints.extend(dialled.filter_map(|peer| Some(peer.endpoint?.ip())));
    }
    endpoints.sort_unstable();
    endpoints.dedup();
    endpoints
}
