//! The configuration protocol of wg(8), on a Unix socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::{Mode, umask};
use seedwire_core::tunnel::uapi::{GetDevice, GetPeer, SetLine, SetReader, UapiError, write_get};
use seedwire_core::types::{InterfaceName, PublicKey};
use tracing::{debug, warn};
use zeroize::Zeroizing;

use super::Uapi;
use super::error::{Failure, TunnelError};
use super::shared::{Shared, lock};
use super::state::State;
use super::threads::wait;

const FOLDER: &str = "/var/run/wireguard";

/// How many clients are served at a time, and how long one may be silent.
const MOST_CLIENTS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest line that is read; the longest valid one has fewer than 100 bytes.
const LONGEST_LINE: u64 = 4096;

/// The listening socket and the watch over its file.
pub(super) struct Server {
    listener: UnixListener,
    deleted: Inotify,
    path: PathBuf,
    required: bool,
}

impl Server {
    /// Listens, or says in the log why not where that is allowed.
    pub(super) fn open(name: &InterfaceName, wanted: Uapi) -> Result<Option<Self>, TunnelError> {
        let path = path_of(name);
        if wanted == Uapi::Off {
            return Ok(None);
        }
        let required = wanted == Uapi::Required;
        match Self::listen(path.clone(), required) {
            Ok(server) => Ok(Some(server)),
            Err(source) if required => Err(TunnelError::Uapi {
                path: path.display().to_string(),
                source,
            }),
            Err(error) => {
                warn!(socket = %path.display(), %error, "wg(8) can't be served here");
                Ok(None)
            }
        }
    }

    fn listen(path: PathBuf, required: bool) -> io::Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(FOLDER)?;
        remove_stale(&path)?;
        let before = umask(Mode::from_bits_truncate(0o077));
        let listener = UnixListener::bind(&path);
        umask(before);
        let listener = listener?;
        listener.set_nonblocking(true)?;
        let deleted = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let events = AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_DELETE_SELF;
        deleted.add_watch(&path, events)?;
        Ok(Self {
            listener,
            deleted,
            path,
            required,
        })
    }

    /// Serves until the device stops.
    pub(super) fn run(self, shared: &Arc<Shared>) {
        let clients = Arc::new(AtomicUsize::new(0));
        let sources = [Some(self.listener.as_fd()), Some(self.deleted.as_fd())];
        while wait(shared, sources).is_some() {
            let _ = self.deleted.read_events();
            if !self.path.exists() {
                let path = self.path.display().to_string();
                if self.required {
                    shared.fail(Failure::SocketDeleted(path));
                } else {
                    warn!(
                        socket = path,
                        "the socket was deleted; wg(8) is no longer served"
                    );
                }
                return;
            }
            match self.listener.accept() {
                Ok((client, _)) => serve_aside(shared, &clients, client),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => debug!(%error, "no client"),
            }
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

fn path_of(name: &InterfaceName) -> PathBuf {
    PathBuf::from(format!("{FOLDER}/{name}.sock"))
}

/// Removes the socket for wg(8) that a killed process left; one that is served stays.
///
/// # Errors
/// When it stays.
pub fn remove_left_socket(name: &InterfaceName) -> io::Result<()> {
    remove_stale(&path_of(name))
}

/// Removes a socket that nobody listens on any more.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(_) => {}
    }
    if UnixStream::connect(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    std::fs::remove_file(path)
}

fn serve_aside(shared: &Arc<Shared>, clients: &Arc<AtomicUsize>, client: UnixStream) {
    if clients.fetch_add(1, Ordering::Relaxed) >= MOST_CLIENTS {
        clients.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    let (shared, clients) = (Arc::clone(shared), Arc::clone(clients));
    let thread = std::thread::Builder::new().name("seedwire-wg".to_owned());
    let started = thread.spawn(move || {
        if let Err(error) = serve(&shared, client) {
            debug!(%error, "client of the configuration protocol");
        }
        clients.fetch_sub(1, Ordering::Relaxed);
    });
    if let Err(error) = started {
        debug!(%error, "no thread for a client");
    }
}

fn serve(shared: &Shared, client: UnixStream) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(client.try_clone()?);
    let mut client = client;
    while let Some(operation) = read_line(&mut reader)? {
        let mut reply = Zeroizing::new(String::new());
        let done = match operation.as_str() {
            "set=1" => set(shared, &mut reader),
            "get=1" => match read_line(&mut reader)? {
                Some(end) if end.is_empty() => {
                    get(shared, &mut reply);
                    Ok(())
                }
                _ => Err(UapiError::Invalid),
            },
            _ => return Ok(()),
        };
        let errno = done.err().map_or(0, UapiError::errno);
        reply.push_str(&format!("errno={errno}\n\n"));
        client.write_all(reply.as_bytes())?;
    }
    Ok(())
}

/// The next line without its end; `None` at the end of the input.
fn read_line(reader: &mut impl BufRead) -> io::Result<Option<Zeroizing<String>>> {
    let mut line = Zeroizing::new(String::with_capacity(128));
    if reader.take(LONGEST_LINE).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    match line.pop() {
        Some('\n') => Ok(Some(line)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Reads a request whole, so that a slow client holds nobody up, and applies it line by line as
/// far as it is valid.
fn set(shared: &Shared, reader: &mut impl BufRead) -> Result<(), UapiError> {
    let mut lines = SetReader::default();
    let mut request = Vec::new();
    let mut done = loop {
        let line = match read_line(reader) {
            Ok(Some(line)) if !line.is_empty() => line,
            Ok(_) => break Ok(()),
            Err(_) => break Err(UapiError::Io),
        };
        match lines.line(&with_scope(&line)) {
            Ok(line) => request.push(line),
            Err(error) => break Err(error),
        }
    };
    let mut state = lock(&shared.state);
    let mut edit = Edit {
        shared,
        state: &mut state,
        peer: None,
        created: false,
    };
    if let Err(error) = request.into_iter().try_for_each(|line| edit.apply(line)) {
        done = Err(error);
    }
    if shared.udp.load().is_none() {
        let (port, mark) = (state.listen_port(), state.fwmark);
        let bound = state.bind(shared, port, mark);
        if let Err(error) = bound {
            warn!(%error, "the tunnel can't receive");
        }
    }
    state.publish(shared);
    done
}

/// An IPv6 scope is written as the name of an interface and read as its number.
fn with_scope(line: &str) -> Zeroizing<String> {
    let scoped = line
        .strip_prefix("endpoint=")
        .and_then(|endpoint| endpoint.split_once('%'))
        .and_then(|(address, rest)| {
            rest.split_once(']')
                .map(|(name, port)| (address, name, port))
        });
    if let Some((address, name, port)) = scoped
        && let Ok(index) = nix::net::if_::if_nametoindex(name)
    {
        return Zeroizing::new(format!("endpoint={address}%{index}]{port}"));
    }
    Zeroizing::new(line.to_owned())
}

/// A `set` request under way.
struct Edit<'a> {
    shared: &'a Shared,
    state: &'a mut State,
    /// The peer that the lines are about; `None`: it is ourselves, or was removed.
    peer: Option<PublicKey>,
    created: bool,
}

impl Edit<'_> {
    fn apply(&mut self, line: SetLine) -> Result<(), UapiError> {
        match line {
            SetLine::PrivateKey(key) => {
                self.note("the private key");
                let set = self.state.set_private_key(self.shared, key);
                set.map_err(|_| UapiError::Io)?;
            }
            SetLine::ListenPort(port) => self.bind(port, self.state.fwmark)?,
            SetLine::Fwmark(mark) => self.bind(self.state.listen_port(), mark)?,
            SetLine::ReplacePeers => {
                self.note("all peers");
                let keys: Vec<_> = self.state.entries.keys().copied().collect();
                for key in keys {
                    self.state.remove_peer(self.shared, &key);
                }
            }
            SetLine::Peer(key) => self.begin_peer(key),
            line => {
                if let Some(key) = self.peer {
                    self.apply_to_peer(key, line);
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, what: &str) {
        self.state.note_foreign_change(|| what.to_owned());
    }

    fn bind(&mut self, port: u16, mark: u32) -> Result<(), UapiError> {
        self.note("the listen port or the fwmark");
        let bound = self.state.bind(self.shared, port, mark);
        bound.map_err(|_| UapiError::PortInUse)
    }

    fn begin_peer(&mut self, key: PublicKey) {
        self.peer = (!self.state.is_own_key(&key)).then_some(key);
        if self.peer.is_some() {
            self.created = !self.state.entries.contains_key(&key);
            self.state.note_foreign_change(|| format!("the peer {key}"));
            self.state.add_peer(self.shared, key, &key.to_string());
        }
    }

    fn apply_to_peer(&mut self, key: PublicKey, line: SetLine) {
        match line {
            SetLine::UpdateOnly if !self.created => {}
            SetLine::UpdateOnly | SetLine::Remove => {
                self.state.remove_peer(self.shared, &key);
                self.peer = None;
            }
            SetLine::PresharedKey(psk) => self.state.set_preshared_key(self.shared, &key, psk),
            SetLine::Endpoint(address) => self.set_endpoint(&key, address),
            SetLine::Keepalive(seconds) => {
                let period = Duration::from_secs(u64::from(seconds));
                let keepalive = (seconds != 0).then_some(period);
                if let Some(entry) = self.state.entries.get_mut(&key) {
                    entry.set_policy(self.shared, keepalive);
                }
            }
            SetLine::ReplaceAllowedIps => self.state.take_all(&key),
            SetLine::AllowedIp { prefix, add: true } => self.state.give(&key, prefix),
            SetLine::AllowedIp { prefix, add: false } => self.state.take(&key, prefix),
            _ => {}
        }
    }

    fn set_endpoint(&mut self, key: &PublicKey, address: SocketAddr) {
        if let Some(entry) = self.state.entries.get_mut(key) {
            entry.addressed = true;
            entry.set_policy(self.shared, entry.keepalive);
            entry.set_endpoint(self.shared, address);
        }
    }
}

fn get(shared: &Shared, reply: &mut Zeroizing<String>) {
    let state = lock(&shared.state);
    let device = GetDevice {
        private_key: state.private_key.as_ref(),
        listen_port: shared.udp.load().as_ref().map_or(0, |udp| udp.port()),
        fwmark: state.fwmark,
    };
    let allowed: Vec<Vec<_>> = state
        .entries
        .values()
        .map(|entry| entry.allowed_ips.iter().collect())
        .collect();
    let peers = state
        .entries
        .values()
        .zip(&allowed)
        .map(|(entry, allowed_ips)| {
            let live = lock(&entry.peer.live);
            let at = live
                .last_handshake
                .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let at = at.unwrap_or_default();
            let seconds = entry.keepalive.map_or(0, |period| period.as_secs().max(1));
            GetPeer {
                public_key: entry.peer.key,
                preshared_key: entry.preshared_key.as_ref(),
                endpoint: live.place.map(|place| place.address),
                last_handshake: (at.as_secs(), at.subsec_nanos()),
                transmitted: entry.peer.transmitted.load(Ordering::Relaxed),
                received: entry.peer.received.load(Ordering::Relaxed),
                keepalive: seconds.min(u64::from(u16::MAX)) as u16,
                allowed_ips,
            }
        });
    // A string takes everything.
    let _ = write_get(reply, &device, peers);
}
