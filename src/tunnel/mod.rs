//! The WireGuard tunnel: a TUN link, UDP sockets, the peers between them, and the socket of the
//! configuration protocol.
//!
//! Packets never pass through tokio. Each device has its own threads: one takes packets from the
//! TUN and sends them, one receives and hands them to the TUN, one looks at peers when their time
//! has come, one serves wg(8).

mod batch;
mod endpoints;
mod error;
mod handover;
mod noise;
mod peer;
mod settings;
mod shared;
mod state;
mod threads;
mod tun;
mod uapi;
mod udp;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use nix::sys::eventfd::{EfdFlags, EventFd};
use seedwire_core::tunnel::{Paths, PeerStatus};
use seedwire_core::types::{Endpoint, InterfaceName, PublicKey};
use tokio::sync::watch;

pub use endpoints::Dialer;
pub use error::{Failure, TunnelError};
pub use settings::Settings;
pub use uapi::remove_left_socket;

use shared::{Schedule, Shared, Table, lock};
use state::State;
use tun::{MtuReader, Tun};

/// What a device is made with.
#[derive(Clone, Debug)]
pub struct DeviceOptions {
    /// The name of the interface, which must not exist yet.
    pub interface: InterfaceName,
    /// The MTU of the interface in bytes.
    pub mtu: u16,
    /// Whether wg(8) is served.
    pub uapi: Uapi,
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

/// A WireGuard interface with its threads. Dropped, it ends as with [`Device::stop`].
pub struct Device {
    handle: DeviceHandle,
    threads: Vec<JoinHandle<()>>,
}

/// Access to a device that does not keep it running.
#[derive(Clone)]
pub struct DeviceHandle {
    shared: Arc<Shared>,
}

impl Device {
    /// Makes the interface and starts the threads. The link goes with the device; nothing but its
    /// MTU is set.
    pub fn create(options: DeviceOptions) -> Result<Self, TunnelError> {
        let name = options.interface;
        let tun = Tun::create(&name, options.mtu).map_err(|source| TunnelError::Create {
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
            udp: ArcSwapOption::empty(),
            table: ArcSwap::from_pointee(Table::default()),
            state: Mutex::new(State::default()),
            schedule: Schedule::default(),
            rebound: event()?,
            stop: event()?,
            stopping: AtomicBool::new(false),
            changes: watch::Sender::new(0),
            failure: Mutex::new(None),
            staged: AtomicUsize::new(0),
            epoch: Instant::now(),
        });
        let mut device = Self {
            handle: DeviceHandle { shared },
            threads: Vec::new(),
        };
        device.start(tun, options.uapi)?;
        Ok(device)
    }

    /// The threads alone hold the TUN, so that the link is gone once they are.
    fn start(&mut self, tun: Tun, wanted: Uapi) -> Result<(), TunnelError> {
        let tun = Arc::new(tun);
        let uapi = uapi::Server::open(&self.handle.shared.name, wanted)?;
        let out = Arc::clone(&tun);
        let mtu = MtuReader::open(&self.handle.shared.name).map_err(TunnelError::Start)?;
        self.spawn("seedwire-tun", move |shared| {
            threads::run_egress(shared, &out, &mtu)
        })?;
        self.spawn("seedwire-udp", move |shared| {
            threads::run_ingress(shared, &tun)
        })?;
        self.spawn("seedwire-timer", |shared| shared::run_timers(shared))?;
        if let Some(uapi) = uapi {
            self.spawn("seedwire-uapi", move |shared| uapi.run(shared))?;
        }
        Ok(())
    }

    fn spawn(
        &mut self,
        name: &str,
        body: impl FnOnce(&Arc<Shared>) + Send + 'static,
    ) -> Result<(), TunnelError> {
        let shared = Arc::clone(&self.handle.shared);
        let title = name.to_owned();
        let run = move || {
            let body = std::panic::AssertUnwindSafe(|| body(&shared));
            if std::panic::catch_unwind(body).is_err() {
                shared.fail(Failure::Panicked(title));
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

    /// Stops the threads and removes the interface.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.handle.shared.begin_stop();
        for thread in self.threads.drain(..) {
            // A panic was told already.
            let _ = thread.join();
        }
        // Handles may outlive the device; its port must not.
        self.handle.shared.udp.store(None);
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
    /// their endpoints. Returns what was changed over the configuration protocol since the last
    /// call and is undone by this one, in words.
    pub fn set(&self, settings: &Settings) -> Result<Vec<String>, TunnelError> {
        settings::apply(&self.shared, settings)
    }

    /// The peers as they are now, in the order of their keys.
    pub fn peers(&self) -> Vec<PeerStatus> {
        settings::peers(&self.shared)
    }

    /// The UDP port that is listened on; `None` before the first [`DeviceHandle::set`].
    pub fn listen_port(&self) -> Option<u16> {
        self.shared.udp.load().as_ref().map(|udp| udp.port())
    }

    /// What is known of the ways through this tunnel.
    pub fn paths(&self) -> Arc<dyn Paths> {
        Arc::<Shared>::clone(&self.shared) as Arc<dyn Paths>
    }

    /// Counts up with each change of a peer's state and of the configuration, and when the device
    /// ends by itself.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Why the device ended by itself; `None` while it runs.
    pub fn failure(&self) -> Option<Failure> {
        lock(&self.shared.failure).clone()
    }

    /// Whether the device was stopped.
    pub fn is_stopped(&self) -> bool {
        self.shared.is_stopping()
    }

    /// The peers that have endpoints, with these and with the count of their unanswered rounds.
    fn dialled(&self) -> Vec<(PublicKey, Vec<Endpoint>, u64)> {
        let state = lock(&self.shared.state);
        let dialled = state.entries.iter();
        let dialled = dialled.filter(|(_, entry)| !entry.endpoints.is_empty());
        dialled
            .map(|(key, entry)| {
                let rounds = lock(&entry.peer.live).timers.rounds();
                (*key, entry.endpoints.clone(), rounds)
            })
            .collect()
    }

    /// Sends to a peer at this address from now on, and tries it at once.
    fn dial(&self, key: &PublicKey, address: SocketAddr) {
        let state = lock(&self.shared.state);
        if let Some(entry) = state.entries.get(key) {
            entry.set_endpoint(&self.shared, address);
            let mut live = lock(&entry.peer.live);
            entry
                .peer
                .service(&self.shared, &mut live, self.shared.now());
        }
    }
}
