//! The forwarder as the rest of the program sees it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use seedwire_core::config::Dns;
use seedwire_core::dns::{
    AddressAnswer, AddressKind, ForwarderStatus, address_question, read_addresses,
};
use seedwire_core::tunnel::Paths;
use seedwire_core::types::DnsName;
use tokio::sync::{Mutex, oneshot, watch};
use tokio::time::timeout;

use super::bind::{Bound, bind};
use super::client::LookupError;
use super::io::Io;
use super::poll::Poll;
use super::worker::{Command, Worker};
use super::{DnsError, tls};
use crate::resolve::{Lookup, Resolve, ResolveError};

/// How long the thread may take to say how it is; it needs microseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Speaks to the thread.
#[derive(Clone)]
struct Line {
    commands: mpsc::Sender<Command>,
    bell: Arc<EventFd>,
}

impl Line {
    fn send(&self, command: Command) -> Result<(), DnsError> {
        self.commands.send(command).map_err(|_| DnsError::Ended)?;
        // It fails only when the counter is full, and then the bell rings already.
        let _ = self.bell.write(1);
        Ok(())
    }
}

/// A running DNS forwarder. Dropped, it ends as [`Forwarder::stop`] does, but is not waited for.
pub struct Forwarder {
    line: Line,
    listen: Mutex<Vec<SocketAddr>>,
    local: Vec<SocketAddr>,
    thread: std::sync::Mutex<Option<JoinHandle<()>>>,
    ended: watch::Receiver<()>,
}

impl Forwarder {
    /// Listens on the addresses of `dns` and starts the thread.
    ///
    /// # Errors
    /// When an address can't be listened on, or there are no descriptors or threads left; then
    /// nothing is left open.
    pub fn start(dns: &Dns, paths: Arc<dyn Paths>) -> Result<Self, DnsError> {
        tls::check(dns).map_err(DnsError::tls)?;
        let bound = dns
            .listen
            .iter()
            .map(|address| bind(*address))
            .collect::<Result<Vec<_>, _>>()?;
        let local = bound.iter().map(|bound| bound.local).collect();
        Self::spawn(dns, bound, local, paths).map_err(DnsError::Start)
    }

    fn spawn(
        dns: &Dns,
        bound: Vec<Bound>,
        local: Vec<SocketAddr>,
        paths: Arc<dyn Paths>,
    ) -> std::io::Result<Self> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let bell = Arc::new(EventFd::from_flags(flags)?);
        let (sender, receiver) = mpsc::channel();
        let mut io = Io::new(Poll::new()?, paths);
        bound.into_iter().try_for_each(|bound| io.listen(bound))?;
        let worker = Worker::new(dns.clone(), io, receiver, Arc::clone(&bell))?;
        let (alive, ended) = watch::channel(());
        let thread = std::thread::Builder::new()
            .name("dns".to_owned())
            .spawn(move || {
                if let Err(error) = worker.run() {
                    tracing::error!(%error, "failed to wait for DNS messages");
                }
                drop(alive);
            })?;
        Ok(Self {
            line: Line {
                commands: sender,
                bell,
            },
            listen: Mutex::new(dns.listen.clone()),
            local,
            thread: std::sync::Mutex::new(Some(thread)),
            ended,
        })
    }

    /// The addresses that were listened on at the start, with the ports that were chosen for
    /// port 0.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.local
    }

    /// Takes another configuration. Listeners that stay are not touched; the answers for zones
    /// whose upstreams are unchanged are kept.
    ///
    /// # Errors
    /// When a new address can't be listened on; then nothing has changed.
    pub async fn reload(&self, dns: &Dns) -> Result<(), DnsError> {
        tls::check(dns).map_err(DnsError::tls)?;
        let mut listen = self.listen.lock().await;
        let new = dns
            .listen
            .iter()
            .filter(|address| !listen.contains(address));
        let bound = new
            .map(|address| bind(*address))
            .collect::<Result<Vec<_>, _>>()?;
        let (done, result) = oneshot::channel();
        self.line
            .send(Command::Configure(dns.clone(), bound, done))?;
        listen.clone_from(&dns.listen);
        result
            .await
            .map_err(|_| DnsError::Ended)?
            .map_err(DnsError::Start)
    }

    /// How things are: zones with their readiness, upstreams, cache and counters.
    ///
    /// # Errors
    /// When the thread has ended or does not answer: it is no longer alive.
    pub async fn status(&self) -> Result<ForwarderStatus, DnsError> {
        let (sender, status) = oneshot::channel();
        self.line.send(Command::Status(sender))?;
        match timeout(PATIENCE, status).await {
            Ok(Ok(status)) => Ok(status),
            _ => Err(DnsError::Ended),
        }
    }

    /// Waits until the thread has ended, which without [`Forwarder::stop`] it should not.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// Takes no more questions, finishes those under way for at most 1 s, and ends.
    pub async fn stop(&self) {
        if self.line.send(Command::Stop).is_ok() {
            self.ended().await;
        }
        let thread = match self.thread.lock() {
            Ok(mut thread) => thread.take(),
            Err(_) => None,
        };
        if let Some(thread) = thread {
            // It has ended or is about to; a panic was reported by its hook.
            let _ = thread.join();
        }
    }

    /// Resolves names as this forwarder's clients would.
    pub fn resolver(&self) -> Arc<dyn Resolve> {
        Arc::new(ZoneResolver {
            line: self.line.clone(),
        })
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.line.send(Command::Stop);
    }
}

/// Resolves names through a [`Forwarder`], without a socket between.
pub struct ZoneResolver {
    line: Line,
}

impl ZoneResolver {
    async fn ask(&self, name: &DnsName, kind: AddressKind) -> Result<Vec<IpAddr>, LookupError> {
        let (sender, answer) = oneshot::channel();
        let question = address_question(0, name, kind);
        self.line
            .send(Command::Ask(question, sender))
            .map_err(|_| LookupError::NoForwarder)?;
        let answer = answer.await.map_err(|_| LookupError::NoForwarder)?;
        match read_addresses(&answer, 0, name, kind) {
            AddressAnswer::Addresses(addresses) => Ok(addresses),
            AddressAnswer::Failed(rcode) => Err(LookupError::Answered(rcode)),
            AddressAnswer::Foreign | AddressAnswer::Truncated | AddressAnswer::Malformed => {
                Err(LookupError::Malformed)
            }
        }
    }
}

impl Resolve for ZoneResolver {
    fn resolve<'a>(&'a self, name: &'a DnsName) -> Lookup<'a> {
        Box::pin(async move {
            let (v4, v6) = tokio::join!(
                self.ask(name, AddressKind::V4),
                self.ask(name, AddressKind::V6)
            );
            LookupError::merge(v4, v6).map_err(|error| ResolveError {
                name: name.clone(),
                source: Arc::new(error),
            })
        })
    }
}
