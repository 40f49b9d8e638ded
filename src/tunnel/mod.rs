//! The WireGuard tunnel. [`Device`] is one of two [`Backend`]s: the kernel's WireGuard, configured
//! over netlink (`kernel`), or the userspace one, which is all else here: a TUN link, UDP sockets,
//! the peers between them, and the socket of the configuration protocol.
//!
//! Packets never pass through tokio. Each userspace device has its own threads: one carries packets,
//! a second one those that go out while both directions are too much for the first, one looks at
//! peers when their time has come, one serves wg(8).

mod batch;
mod clock;
mod egress;
mod endpoints;
mod error;
mod handover;
mod ingress;
mod kernel;
mod load;
mod offload;
mod peer;
mod probe;
mod settings;
mod shared;
mod state;
mod threads;
mod tun;
mod uapi;
mod udp;
mod unreachable;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use arc_swap::{ArcSwap, ArcSwapOption};
use nix::sys::eventfd::{EfdFlags, EventFd};
use seedwire_core::config;
use seedwire_core::tunnel::{Offloads, Paths, PeerStatus, Refusal};
use seedwire_core::types::{Endpoint, InterfaceName, PublicKey};
use tokio::sync::watch;
use tracing::{info, warn};

pub use endpoints::Dialer;
pub use error::{Failure, TunnelError};
pub use offload::Offload;
pub use settings::Settings;
pub use uapi::remove_left_socket;

use crate::netlink::Wireguard;

use clock::Clock;
use egress::Egress;
use shared::{Refused, Schedule, Shared, Table, lock};
use state::State;
use threads::Second;
use tun::{MtuReader, Tun};

/// What a device is made with.
#[derive(Clone, Debug)]
pub struct DeviceOptions {
    /// The name of the interface, which must not exist yet.
    pub interface: InterfaceName,
    /// The MTU of the interface in bytes.
    pub mtu: u16,
    /// Whether wg(8) is served where it does not speak to the kernel.
    pub uapi: Uapi,
    /// Who carries the packets.
    pub backend: config::Backend,
    /// Whether a userspace tunnel moves many packets in one call.
    pub offload: Offload,
}

/// What a running tunnel does, whoever carries its packets. The methods are those of
/// [`DeviceHandle`].
trait Backend: Paths {
    fn set(&self, settings: &Settings) -> Result<Vec<String>, TunnelError>;
    fn peers(&self) -> Vec<PeerStatus>;
    fn dialled_peers(&self) -> Vec<PeerStatus> {
        let mut peers = self.peers();
        peers.retain(|peer| peer.dialled);
        peers
    }
    fn listen_port(&self) -> Option<u16>;
    fn offloads(&self) -> Option<Offloads>;
    fn refused(&self) -> Vec<(Refusal, u64)>;
    fn changes(&self) -> watch::Receiver<u64>;
    fn failure(&self) -> Option<Failure>;
    fn is_stopped(&self) -> bool;
    fn dialled(&self) -> Vec<Dialled>;
    fn dial(&self, key: &PublicKey, address: SocketAddr);
    fn change_port(&self);
    fn allow_mtu(&self, most: u16);
    fn narrowest(&self) -> Option<(u16, String)>;
    /// Ends the threads.
    fn begin_stop(&self);
    /// Lets go of what handles could still hold; the threads have ended.
    fn finish_stop(&self);
}

/// A peer that has endpoints, with these and with the count of its unanswered rounds.
type Dialled = (PublicKey, Vec<Endpoint>, u64);

/// Who carries the packets, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Whether it is the kernel.
    pub kernel: bool,
    /// Why, in words.
    pub reason: String,
}

impl Choice {
    /// The word for it, as in the configuration.
    pub fn name(&self) -> &'static str {
        if self.kernel { "kernel" } else { "userspace" }
    }
}

/// Who carries the packets of a tunnel with this configuration, in the network namespace of this
/// thread. Changes nothing but that the kernel may load its module.
pub fn choose(wanted: config::Backend) -> Result<Choice, TunnelError> {
    let configured = |kernel| Choice {
        kernel,
        reason: "configured".to_owned(),
    };
    match (wanted, Wireguard::open()) {
        (config::Backend::Userspace, _) => Ok(configured(false)),
        (config::Backend::Kernel, Ok(Some(_))) => Ok(configured(true)),
        (config::Backend::Kernel, Ok(None)) => Err(TunnelError::NoKernel),
        (config::Backend::Kernel, Err(error)) => Err(TunnelError::Kernel(error.into())),
        (config::Backend::Auto, Ok(Some(_))) => Ok(Choice {
            kernel: true,
            reason: "the kernel has WireGuard".to_owned(),
        }),
        (config::Backend::Auto, Ok(None)) => Ok(Choice {
            kernel: false,
            reason: "the kernel has no WireGuard".to_owned(),
        }),
        (config::Backend::Auto, Err(error)) => Ok(Choice {
            kernel: false,
            reason: format!("the kernel's WireGuard can't be used: {error}"),
        }),
    }
}

/// Whether the configuration protocol of wg(8) is served, on /var/run/wireguard/IFNAME.sock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uapi {
    /// Not at all.
    Off,
    /// Where its folder can be written; otherwise a line in the log says why not.
    IfPossible,
    /// It must be; and the device ends when the socket is deleted.
    Required,
}

/// Says why the port changed.
fn tell_port(port: u16) {
    info!(port, "no peer answers; sending from another UDP port");
}

/// What a thread of a userspace device does.
type Body = Box<dyn FnOnce(&Arc<Shared>) + Send>;

/// A WireGuard interface with its threads. Dropped, it ends as with [`Device::stop`].
pub struct Device {
    handle: DeviceHandle,
    threads: Vec<JoinHandle<()>>,
    choice: Choice,
}

/// Access to a device that does not keep it running.
#[derive(Clone)]
pub struct DeviceHandle {
    backend: Arc<dyn Backend>,
}

impl Device {
    /// Makes the interface and starts the threads. The link goes with the device; nothing but its
    /// MTU is set, and the alias of a link that would outlive this process.
    pub fn create(options: DeviceOptions) -> Result<Self, TunnelError> {
        let choice = choose(options.backend)?;
        if choice.kernel {
            return Self::in_kernel(&options, choice);
        }
        Self::in_userspace(options, choice)
    }

    fn in_kernel(options: &DeviceOptions, choice: Choice) -> Result<Self, TunnelError> {
        let kernel = Arc::new(kernel::Kernel::create(&options.interface, options.mtu)?);
        let mut device = Self {
            handle: DeviceHandle {
                backend: Arc::<kernel::Kernel>::clone(&kernel),
            },
            threads: Vec::new(),
            choice,
        };
        let watched = Arc::clone(&kernel);
        let failed = move |name| kernel.fail(Failure::Panicked(name));
        device.spawn("seedwire-watch", move || watched.run(), failed)?;
        Ok(device)
    }

    fn in_userspace(options: DeviceOptions, choice: Choice) -> Result<Self, TunnelError> {
        let name = options.interface;
        let tun = Tun::create(&name, options.mtu, options.offload);
        let tun = tun.map_err(|source| TunnelError::Create {
            name: name.clone(),
            source,
        })?;
        let event = || {
            let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
            EventFd::from_flags(flags).map_err(|error| TunnelError::Start(error.into()))
        };
        let shared = Arc::new(Shared {
            name,
            mtu: AtomicUsize::new(usize::from(options.mtu)),
            most: AtomicU16::new(options.mtu),
            udp: ArcSwapOption::empty(),
            table: ArcSwap::from_pointee(Table::default()),
            state: Mutex::new(State::new()),
            schedule: Schedule::default(),
            rebound: event()?,
            stop: event()?,
            stopping: AtomicBool::new(false),
            changes: watch::Sender::new(0),
            failure: Mutex::new(None),
            staged: AtomicUsize::new(0),
            offload: options.offload,
            tun_offloads: (tun.gives_tcp(), tun.takes_udp()),
            refused_runs: AtomicU64::new(0),
            refused: Refused::default(),
            clock: Clock::start(),
        });
        let mut device = Self {
            handle: DeviceHandle {
                backend: Arc::<Shared>::clone(&shared),
            },
            threads: Vec::new(),
            choice,
        };
        device.start(&shared, tun, options.uapi)?;
        Ok(device)
    }

    /// The threads alone hold the TUN, so that the link is gone once they are.
    fn start(&mut self, shared: &Arc<Shared>, tun: Tun, wanted: Uapi) -> Result<(), TunnelError> {
        let tun = Arc::new(tun);
        let uapi = uapi::Server::open(&shared.name, wanted)?;
        let mtu = MtuReader::open(&shared.name).map_err(TunnelError::Start)?;
        let egress = Egress::new(Arc::clone(&tun), mtu);
        let (there, given) = sync_channel(1);
        let (returned, back) = sync_channel(1);
        let mut spawn = |name: &str, body: Body| {
            let (own, others) = (Arc::clone(shared), Arc::clone(shared));
            let failed = move |name| others.fail(Failure::Panicked(name));
            self.spawn(name, move || body(&own), failed)
        };
        let out = Arc::clone(&tun);
        spawn(
            "seedwire-pkt",
            Box::new(move |shared| {
                threads::run(shared, &tun, egress, &Second { there, back });
            }),
        )?;
        spawn(
            "seedwire-pkt2",
            Box::new(move |shared| threads::run_second(shared, &out, &given, &returned)),
        )?;
        spawn(
            "seedwire-timer",
            Box::new(|shared| shared::run_timers(shared)),
        )?;
        if let Some(uapi) = uapi {
            spawn("seedwire-uapi", Box::new(move |shared| uapi.run(shared)))?;
        }
        Ok(())
    }

    fn spawn(
        &mut self,
        name: &str,
        body: impl FnOnce() + Send + 'static,
        panicked: impl FnOnce(String) + Send + 'static,
    ) -> Result<(), TunnelError> {
        let title = name.to_owned();
        let run = move || {
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_err() {
                panicked(title);
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(run).map_err(TunnelError::Start)?;
        self.threads.push(thread);
        Ok(())
    }

    /// Access to the device that does not keep it running.
    pub fn handle(&self) -> DeviceHandle {
        self.handle.clone()
    }

    /// Who carries the packets, and why.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// Stops the threads and removes the interface.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.handle.backend.begin_stop();
        for thread in self.threads.drain(..) {
            // A panic was told already.
            let _ = thread.join();
        }
        self.handle.backend.finish_stop();
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::ops::Deref for Device {
    type Target = DeviceHandle;

    fn deref(&self) -> &DeviceHandle {
        &self.handle
    }
}

impl DeviceHandle {
    /// Makes this the whole configuration. The sessions of unchanged peers live on, and so do
    /// their endpoints. Returns what others (wg(8)) changed since the last call and is undone by
    /// this one, in words.
    pub fn set(&self, settings: &Settings) -> Result<Vec<String>, TunnelError> {
        self.backend.set(settings)
    }

    /// The peers as they are now, in the order of their keys.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.backend.peers()
    }

    /// Those of the peers that have endpoints; the others, of which a hub has many, are not looked
    /// at.
    pub fn dialled_peers(&self) -> Vec<PeerStatus> {
        self.backend.dialled_peers()
    }

    /// The UDP port that is listened on; `None` before the first [`DeviceHandle::set`].
    pub fn listen_port(&self) -> Option<u16> {
        self.backend.listen_port()
    }

    /// Which offloads are in use; `None` where the kernel carries the packets.
    pub fn offloads(&self) -> Option<Offloads> {
        self.backend.offloads()
    }

    /// What is known of the ways through this tunnel.
    pub fn paths(&self) -> Arc<dyn Paths> {
        Arc::<dyn Backend>::clone(&self.backend) as Arc<dyn Paths>
    }

    /// How many datagrams were dropped since the start, by reason; empty where the kernel carries
    /// the packets, which does not tell.
    pub fn refused(&self) -> Vec<(Refusal, u64)> {
        self.backend.refused()
    }

    /// Counts up with each change of a peer's state and of the configuration, and when the device
    /// ends by itself.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.backend.changes()
    }

    /// Why the device ended by itself; `None` while it runs.
    pub fn failure(&self) -> Option<Failure> {
        self.backend.failure()
    }

    /// Whether the device was stopped.
    pub fn is_stopped(&self) -> bool {
        self.backend.is_stopped()
    }

    /// What the MTU of the link may be as far as is known without probes, in bytes: so long are
    /// the packets that peers are probed with.
    pub fn allow_mtu(&self, most: u16) {
        self.backend.allow_mtu(most);
    }

    /// The longest packet that passes through every peer, in bytes, and the peer that takes no
    /// more, where probes have found that the link's MTU must be less.
    pub fn narrowest(&self) -> Option<(u16, String)> {
        self.backend.narrowest()
    }

    /// The peers that have endpoints.
    fn dialled(&self) -> Vec<Dialled> {
        self.backend.dialled()
    }

    /// Sends to a peer at this address from now on, and tries it at once.
    fn dial(&self, key: &PublicKey, address: SocketAddr) {
        self.backend.dial(key, address);
    }

    /// Sends from another UDP port from now on, where none is configured.
    fn change_port(&self) {
        self.backend.change_port();
    }
}

impl Backend for Shared {
    fn set(&self, settings: &Settings) -> Result<Vec<String>, TunnelError> {
        settings::apply(self, settings)
    }

    fn peers(&self) -> Vec<PeerStatus> {
        settings::peers(self)
    }

    fn dialled_peers(&self) -> Vec<PeerStatus> {
        settings::dialled_peers(self)
    }

    fn listen_port(&self) -> Option<u16> {
        self.udp.load().as_ref().map(|udp| udp.port())
    }

    fn offloads(&self) -> Option<Offloads> {
        let udp = self.udp.load();
        let udp = udp.as_ref().map(|udp| udp.offloads());
        let (udp_send, udp_receive) = udp.unwrap_or_default();
        let (tun_tcp, tun_udp) = self.tun_offloads;
        Some(Offloads {
            tun_tcp,
            tun_udp,
            udp_send,
            udp_receive,
            refused_runs: self.refused_runs.load(Ordering::Relaxed),
        })
    }

    fn refused(&self) -> Vec<(Refusal, u64)> {
        self.refused.all()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn failure(&self) -> Option<Failure> {
        lock(&self.failure).clone()
    }

    fn is_stopped(&self) -> bool {
        self.is_stopping()
    }

    fn dialled(&self) -> Vec<Dialled> {
        let state = lock(&self.state);
        state
            .dialled()
            .map(|(key, entry)| {
                let rounds = lock(&entry.peer.live).timers.rounds();
                (*key, entry.endpoints.clone(), rounds)
            })
            .collect()
    }

    fn dial(&self, key: &PublicKey, address: SocketAddr) {
        let state = lock(&self.state);
        if let Some(entry) = state.entries.get(key) {
            entry.set_endpoint(self, address);
            let mut live = lock(&entry.peer.live);
            entry.peer.service(self, &mut live, self.now());
        }
    }

    fn change_port(&self) {
        let state = lock(&self.state);
        match state.change_port(self) {
            Ok(None) => {}
            Ok(Some(port)) => tell_port(port),
            Err(error) => warn!(%error, "the UDP port was not changed"),
        }
    }

    fn allow_mtu(&self, most: u16) {
        self.most.store(most, Ordering::Relaxed);
    }

    fn narrowest(&self) -> Option<(u16, String)> {
        let state = lock(&self.state);
        let probed = state.entries.values().filter(|entry| entry.probed);
        let limits = probed.filter_map(|entry| {
            let live = lock(&entry.peer.live);
            let limit = live.probe.as_ref()?.status().limit?;
            Some((limit, live.name.clone()))
        });
        limits.min()
    }

    fn begin_stop(&self) {
        Self::begin_stop(self);
    }

    fn finish_stop(&self) {
        // Handles may outlive the device; its port must not.
        self.udp.store(None);
    }
}
