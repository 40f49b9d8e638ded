//! What health, metrics and status are made from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use seedwire_core::config::{Topic, Warning};
use seedwire_core::dns::ForwarderStatus;

use super::facts::Mtu;
use crate::control::Source;
use crate::control::snapshot::{
    ConfigState, Dns, Instance, LastError, Peer, Port, Reason, ReasonKind, Snapshot, Step, Tunnel,
};
use crate::ports::RelayStatus;
use crate::tunnel::{Choice, DeviceHandle};

/// The state of the instance, as its parts last told.
pub(super) struct State {
    device: Mutex<Option<(DeviceHandle, Choice)>>,
    known: Mutex<Known>,
}

struct Known {
    instance: Instance,
    config: ConfigState,
    mtu: Option<Mtu>,
    network: Vec<Step>,
    repairs: BTreeMap<String, u64>,
    network_trouble: Option<String>,
    dns: Option<Dns>,
    ports: Vec<Port>,
    conditions: Vec<Reason>,
    last_error: Option<LastError>,
    /// What was wrong with peers and zones when last looked at; `None` before that.
    troubles: Option<Vec<String>>,
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
                repairs: BTreeMap::new(),
                network_trouble: None,
                dns: None,
                ports: Vec::new(),
                conditions: vec![Reason::new(ReasonKind::Starting, "starting")],
                last_error: None,
                troubles: None,
            }),
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    /// The tunnel whose peers are shown.
    pub(super) fn set_device(&self, device: Option<(DeviceHandle, Choice)>) {
        *lock(&self.device) = device;
    }

    /// The MTU that is in force.
    pub(super) fn mtu(&self) -> Option<Mtu> {
        self.known().mtu.clone()
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

    /// An object of this kind was put back after others had changed it.
    pub(super) fn repaired(&self, kind: &str) {
        *self.known().repairs.entry(kind.to_owned()).or_default() += 1;
    }

    /// The network state can't be brought to what is desired.
    pub(super) fn set_network_trouble(&self, trouble: String) {
        self.known().network_trouble = Some(trouble);
    }

    pub(super) fn set_dns(&self, status: Option<ForwarderStatus>) {
        self.known().dns = status.as_ref().map(Dns::from);
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

    /// Remembers what has become wrong with a peer or a zone since the last call, for status. What
    /// is not there yet at the first call has not failed.
    pub(super) fn note_troubles(&self) {
        let is_seen = |reason: &Reason| matches!(reason.kind, ReasonKind::Peer | ReasonKind::Zone);
        let reasons = self.reasons();
        let texts = reasons
            .into_iter()
            .filter(is_seen)
            .map(|reason| reason.text);
        let troubles: Vec<String> = texts.collect();
        let mut known = self.known();
        if let Some(before) = &known.troubles
            && let Some(new) = troubles.iter().find(|text| !before.contains(text))
        {
            let at = SystemTime::now().into();
            let text = new.clone();
            known.last_error = Some(LastError { at, text });
        }
        known.troubles = Some(troubles);
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
        let tunnel = device.zip(known.mtu.as_ref());
        let tunnel = tunnel.map(|((device, choice), mtu)| Tunnel {
            backend: choice.name().to_owned(),
            backend_reason: choice.reason,
            mtu: mtu.bytes,
            mtu_reason: mtu.reason.clone(),
            listen_port: device.listen_port().unwrap_or(0),
            offloads: device.offloads(),
            refused: device
                .refused()
                .into_iter()
                .map(|(refusal, count)| (refusal.as_str().to_owned(), count))
                .collect(),
            peers: device.peers().iter().map(Into::into).collect(),
        });
        Snapshot {
            instance: known.instance.clone(),
            config: known.config.clone(),
            tunnel,
            network: known.network.clone(),
            repairs: known.repairs.clone(),
            dns: known.dns.clone(),
            ports: known.ports.clone(),
            conditions: known.conditions(),
            last_error: known.last_error.clone(),
        }
    }

    fn reasons(&self) -> Vec<Reason> {
        let device = lock(&self.device).clone();
        let dialled = device.map(|(device, _)| device.dialled_peers());
        let dialled: Vec<Peer> = dialled.iter().flatten().map(Into::into).collect();
        let known = self.known();
        Snapshot::reasons_of(
            known.conditions(),
            &known.network,
            &dialled,
            known.dns.as_ref(),
        )
    }
}

impl Known {
    fn conditions(&self) -> Vec<Reason> {
        let trouble = self.network_trouble.clone();
        let trouble = trouble.map(|trouble| Reason::new(ReasonKind::Network, trouble));
        self.conditions.iter().cloned().chain(trouble).collect()
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
