//! One instance per network namespace and interface.

use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use seedwire_core::types::InterfaceName;
use socket2::{Domain, SockAddr, Socket, Type};

/// How often a name is tried that is taken but that nobody listens on: its holder is about to
/// listen, or has just gone.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// Holds the abstract Unix socket `@seedwire/IFNAME` of this network namespace.
///
/// The kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _listener: UnixListener,
}

/// Why the lock was not got.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another instance has it.
    #[error("failed to lock the interface {interface}: {holder} runs it in this network namespace")]
    Held {
        /// The interface.
        interface: InterfaceName,
        /// Who has it.
        holder: Holder,
    },
    /// The kernel refused.
    #[error("failed to lock the interface {0}")]
    Io(InterfaceName, #[source] io::Error),
}

/// Who has a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The process with this ID.
    Process(i32),
    /// A process that has no ID here.
    OtherPidNamespace,
    /// A process that does not say.
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => write!(f, "the process {pid}"),
            Self::OtherPidNamespace => f.write_str("a process of another pid namespace"),
            Self::Unknown => f.write_str("another process"),
        }
    }
}

impl Lock {
    /// Takes the lock of an interface. Blocks for at most 0.2 s, and only when the holder is just
    /// starting or ending.
    ///
    /// # Errors
    /// When another process holds it.
    pub fn acquire(interface: &InterfaceName) -> Result<Self, LockError> {
        let name = format!("seedwire/{interface}");
        let failed = |error| LockError::Io(interface.clone(), error);
        let address = SocketAddr::from_abstract_name(&name).map_err(failed)?;
        for _ in 0..ATTEMPTS {
            match UnixListener::bind_addr(&address) {
                Ok(_listener) => return Ok(Self { _listener }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(failed(error)),
            }
            match holder(&name) {
                Ok(holder) => {
                    return Err(LockError::Held {
                        interface: interface.clone(),
                        holder,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => sleep(PAUSE),
                Err(error) => return Err(failed(error)),
            }
        }
        Err(LockError::Held {
            interface: interface.clone(),
            holder: Holder::Unknown,
        })
    }
}

/// Who listens on the abstract socket `name`.
fn holder(name: &str) -> io::Result<Holder> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The holder never accepts: once its queue is full a blocking connect would wait for ever.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(format!("\0{name}"))?) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Holder::Unknown),
        connected => connected?,
    }
    // The credentials of the one who called listen(2), as unix(7) says.
    Ok(match getsockopt(&socket, PeerCredentials)?.pid() {
        0 => Holder::OtherPidNamespace,
        pid => Holder::Process(pid),
    })
}
