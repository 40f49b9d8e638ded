//! One port: a listener and its connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use seedwire_core::config::PortRelay;
use seedwire_core::tunnel::{PathState, Paths};
use seedwire_core::types::{Endpoint, Host};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::{PortsError, RelayCounters, RelayStatus};
use crate::listen::{self, Families};
use crate::resolve::{Resolve, ResolveError};

/// Connections of one relay at most; further ones wait in the listener's queue.
const MOST: usize = 1024;
/// Connections that nobody has taken yet.
const BACKLOG: i32 = 1024;
/// What each connection buffers in either direction, in bytes.
const BUFFER: usize = 16 << 10;
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
const DRAIN: Duration = Duration::from_secs(1);
/// How long a silent connection goes without a sign of the other end.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How long accept(2) rests when there are no descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a connection was not led on.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("the tunnel to {0} is down")]
    PathDown(IpAddr),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("failed to connect to {0}")]
    Connect(SocketAddr, #[source] io::Error),
    #[error("failed to connect to {0} within {CONNECT_PATIENCE:?}")]
    Timeout(SocketAddr),
    #[error("{0} has no address")]
    NoAddress(Endpoint),
}

#[derive(Default)]
struct Counts {
    open: AtomicU64,
    accepted: AtomicU64,
    failed: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// What the connections of a relay share.
struct Shared {
    listen: SocketAddr,
    to: ArcSwap<Endpoint>,
    resolve: Arc<dyn Resolve>,
    paths: Arc<dyn Paths>,
    counts: Counts,
    last_error: Mutex<Option<String>>,
}

/// The connections that stand. Only the relay and its accepting task hold this, so it goes with
/// them, and the connections with it.
type Connections = Arc<Mutex<JoinSet<()>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) struct Relay {
    shared: Arc<Shared>,
    connections: Connections,
    accepting: AbortHandle,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Relay {
    pub(super) fn start(
        port: &PortRelay,
        resolve: Arc<dyn Resolve>,
        paths: Arc<dyn Paths>,
    ) -> Result<Self, PortsError> {
        let listener =
            listen::tcp(port.listen, Families::Own, BACKLOG).and_then(TcpListener::from_std);
        let listener = listener.map_err(|source| PortsError {
            address: port.listen,
            source,
        })?;
        let shared = Arc::new(Shared {
            listen: port.listen,
            to: ArcSwap::from_pointee(port.to.clone()),
            resolve,
            paths,
            counts: Counts::default(),
            last_error: Mutex::new(None),
        });
        let connections = Connections::default();
        let accepting = accept(listener, Arc::clone(&shared), Arc::clone(&connections));
        Ok(Self {
            shared,
            connections,
            accepting: tokio::spawn(accepting).abort_handle(),
        })
    }

    pub(super) fn listen(&self) -> SocketAddr {
        self.shared.listen
    }

    /// Leads new connections elsewhere.
    pub(super) fn lead_to(&self, to: &Endpoint) {
        self.shared.to.store(Arc::new(to.clone()));
    }

    /// Takes no more connections; those that stand go on until they end.
    pub(super) fn close(self) {
        self.accepting.abort();
        lock(&self.connections).detach_all();
    }

    /// Takes no more connections and waits a while for those that stand.
    pub(super) async fn drain(self) {
        self.accepting.abort();
        let mut connections = std::mem::take(&mut *lock(&self.connections));
        let all = async { while connections.join_next().await.is_some() {} };
        // Those that do not end by themselves are closed when the set is dropped.
        let _ = timeout(DRAIN, all).await;
    }

    pub(super) fn status(&self) -> RelayStatus {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.shared.counts;
        RelayStatus {
            listen: self.shared.listen,
            to: self.shared.to.load().as_ref().clone(),
            counters: RelayCounters {
                open: read(&counts.open),
                accepted: read(&counts.accepted),
                failed: read(&counts.failed),
                sent_bytes: read(&counts.sent),
                received_bytes: read(&counts.received),
            },
            last_error: lock(&self.shared.last_error).clone(),
        }
    }
}

impl Shared {
    /// Leads one connection on, until both sides have ended or one broke.
    async fn serve(&self, mut client: TcpStream) {
        self.counts.open.fetch_add(1, Ordering::Relaxed);
        match self.connect().await {
            Ok(mut server) => {
                // Whichever side broke, the other learns of it by being closed.
                let copied =
                    copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await;
                if let Ok((sent, received)) = copied {
                    self.counts.sent.fetch_add(sent, Ordering::Relaxed);
                    self.counts.received.fetch_add(received, Ordering::Relaxed);
                }
            }
            Err(error) => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                let text = chain(&error);
                tracing::debug!(listen = %self.listen, error = text, "connection not led on");
                *lock(&self.last_error) = Some(text);
            }
        }
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Connects to the first address that answers.
    async fn connect(&self) -> Result<TcpStream, RelayError> {
        let to = self.to.load_full();
        let addresses = match &to.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.resolve.resolve(name).await?,
        };
        let mut result = Err(RelayError::NoAddress((*to).clone()));
        for ip in addresses {
            result = self.connect_to(SocketAddr::new(ip, to.port)).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<TcpStream, RelayError> {
        match self.paths.state(address.ip()) {
            PathState::Down => return Err(RelayError::PathDown(address.ip())),
            PathState::Idle => self.paths.wake(address.ip()),
            PathState::Up | PathState::Direct => {}
        }
        let server = timeout(CONNECT_PATIENCE, TcpStream::connect(address))
            .await
            .map_err(|_| RelayError::Timeout(address))?
            .map_err(|source| RelayError::Connect(address, source))?;
        prepare(&server).map_err(|source| RelayError::Connect(address, source))?;
        Ok(server)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, connections: Connections) {
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((client, _)) => take(client, place, &shared, &connections),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                sleep(ACCEPT_PAUSE).await;
            }
            // The client gave up before it was taken.
            Err(_) => {}
        }
    }
}

fn take(
    client: TcpStream,
    place: OwnedSemaphorePermit,
    shared: &Arc<Shared>,
    connections: &Connections,
) {
    shared.counts.accepted.fetch_add(1, Ordering::Relaxed);
    if prepare(&client).is_err() {
        return;
    }
    let serving = Arc::clone(shared);
    let mut connections = lock(connections);
    while connections.try_join_next().is_some() {}
    connections.spawn(async move {
        serving.serve(client).await;
        drop(place);
    });
}

/// Sends without delay, and notices in the end when the other side is gone.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE / 4);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
