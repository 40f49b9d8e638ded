//! What health, metrics and status are made from.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use seedwire_core::config::{Topic, Warning};
use seedwire_core::dns::{ForwarderStatus, UpstreamStatus};

use super::facts::Mtu;
use crate::control::Source;
use crate::control::snapshot::{
    Cache, ConfigState, Dns, Instance, LastError, Port, Reason, ReasonKind, Snapshot, Step, Tunnel,
    Upstream, Zone,
};
use crate::ports::RelayStatus;
use crate::tunnel::DeviceHandle;

/// The state of the instance, as its parts last told.
pub(super) struct State {
    device: Mutex<Option<DeviceHandle>>,
    known: Mutex<Known>,
}

struct Known {
    instance: Instance,
    config: ConfigState,
    mtu: Option<Mtu>,
    network: Vec<Step>,
    network_trouble: Option<String>,
    dns: Option<Dns>,
    ports: Vec<Port>,
    conditions: Vec<Reason>,
    last_error: Option<LastError>,
}

impl State {
    /// The state of an instance that is starting.
    pub(super) fn starting(file: PathBuf, interface: Option<String>) -> Arc<Self> {
        let now = SystemTime::now().into();
        let instance = Instance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            interface,
            pid: std::process::id(),
            started: now,
        };
        let config = ConfigState {
            file,
            applied: now,
            error: None,
            reloads: 0,
            failures: 0,
            warnings: Vec::new(),
            readable_secrets: 0,
        };
        Arc::new(Self {
            device: Mutex::default(),
            known: Mutex::new(Known {
                instance,
                config,
                mtu: None,
                network: Vec::new(),
                network_trouble: None,
                dns: None,
                ports: Vec::new(),
                conditions: vec![Reason::new(ReasonKind::Starting, "starting")],
                last_error: None,
            }),
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    /// The tunnel whose peers are shown.
    pub(super) fn set_device(&self, device: Option<DeviceHandle>) {
        *lock(&self.device) = device;
    }

    pub(super) fn set_mtu(&self, mtu: Mtu) {
        self.known().mtu = Some(mtu);
    }

    /// The network state is as desired, and that is what it consists of.
    pub(super) fn set_network(&self, steps: Vec<Step>) {
        let mut known = self.known();
        known.network = steps;
        known.network_trouble = None;
    }

    /// The network state can't be brought to what is desired.
    pub(super) fn set_network_trouble(&self, trouble: String) {
        self.known().network_trouble = Some(trouble);
    }

    pub(super) fn set_dns(&self, status: Option<ForwarderStatus>) {
        self.known().dns = status.map(dns);
    }

    pub(super) fn set_ports(&self, status: Vec<RelayStatus>) {
        self.known().ports = status.into_iter().map(port).collect();
    }

    /// What keeps the instance from being ready beside what its parts tell; empty: nothing.
    pub(super) fn set_conditions(&self, conditions: Vec<Reason>) {
        self.known().conditions = conditions;
    }

    /// Remembers what failed, for status.
    pub(super) fn failed(&self, text: String) {
        let at = SystemTime::now().into();
        self.known().last_error = Some(LastError { at, text });
    }

    /// The configuration of the start is in force.
    pub(super) fn config_started(&self, warnings: &[Warning]) {
        set_warnings(&mut self.known().config, warnings);
    }

    /// A configuration was read again and is in force.
    pub(super) fn config_applied(&self, warnings: &[Warning]) {
        let config = &mut self.known().config;
        config.applied = SystemTime::now().into();
        config.error = None;
        config.reloads += 1;
        set_warnings(config, warnings);
    }

    /// A configuration was read again and was not taken.
    pub(super) fn config_failed(&self, error: String) {
        let config = &mut self.known().config;
        config.error = Some(error);
        config.failures += 1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every write is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set_warnings(config: &mut ConfigState, warnings: &[Warning]) {
    config.warnings = warnings.iter().map(ToString::to_string).collect();
    let secrets = warnings
        .iter()
        .filter(|warning| warning.topic == Topic::ReadableSecret);
    config.readable_secrets = secrets.count() as u64;
}

impl Source for State {
    fn snapshot(&self) -> Snapshot {
        let device = lock(&self.device).clone();
        let known = self.known();
        let tunnel = device.zip(known.mtu.as_ref()).map(|(device, mtu)| Tunnel {
            backend: "userspace".to_owned(),
            backend_reason: "the only one in this version".to_owned(),
            mtu: mtu.bytes,
            mtu_reason: mtu.reason.clone(),
            listen_port: device.listen_port().unwrap_or(0),
            peers: device.peers().iter().map(Into::into).collect(),
        });
        let mut conditions = known.conditions.clone();
        if let Some(trouble) = &known.network_trouble {
            conditions.push(Reason::new(ReasonKind::Network, trouble.clone()));
        }
        Snapshot {
            instance: known.instance.clone(),
            config: known.config.clone(),
            tunnel,
            network: known.network.clone(),
            dns: known.dns.clone(),
            ports: known.ports.clone(),
            conditions,
            last_error: known.last_error.clone(),
        }
    }
}

fn dns(status: ForwarderStatus) -> Dns {
    let counters = status.counters;
    let cache = status.cache;
    let queries = [
        ("udp", counters.udp_queries),
        ("tcp", counters.tcp_queries),
        ("own", counters.own_queries),
    ];
    let responses = counters.responses.into_iter();
    Dns {
        listen: status.listen,
        zones: status
            .zones
            .into_iter()
            .map(|zone| Zone {
                zone: zone.zone.to_string(),
                not_ready: zone.not_ready,
                upstreams: zone.upstreams.into_iter().map(upstream).collect(),
            })
            .collect(),
        upstreams: status
            .upstreams
            .map(|list| list.into_iter().map(upstream).collect()),
        cache: Cache {
            entries: cache.entries as u64,
            bytes: cache.bytes as u64,
            hits: cache.hits,
            misses: cache.misses,
            evictions: cache.evictions,
        },
        queries: queries.map(|(word, n)| (word.to_owned(), n)).into(),
        responses: responses
            .map(|(word, count)| (word.to_owned(), count))
            .collect(),
        coalesced: counters.coalesced,
        hedged: counters.hedged,
        truncated: counters.truncated,
        ignored: counters.ignored,
    }
}

fn upstream(status: UpstreamStatus) -> Upstream {
    Upstream {
        address: status.address,
        up: status.up,
        last_error: status.last_error,
        queries: status.queries,
        failures: status.failures,
        latency_seconds: status.latency.map(|latency| latency.as_secs_f64()),
    }
}

fn port(status: RelayStatus) -> Port {
    let counters = status.counters;
    Port {
        listen: status.listen,
        to: status.to.to_string(),
        open: counters.open,
        accepted: counters.accepted,
        failed: counters.failed,
        transmitted: counters.sent_bytes,
        received: counters.received_bytes,
        last_error: status.last_error,
    }
}
