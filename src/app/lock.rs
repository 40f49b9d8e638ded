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

/// The process is being torn down (`PF_EXITING`, include/linux/sched.h).
const PF_EXITING: u32 = 0x4;
/// The bit of SIGKILL in a set of signals, as /proc/PID/status writes it.
const SIGKILL_BIT: u64 = 1 << 8;

impl Holder {
    /// Whether it is a process that is going to end without doing anything more.
    fn is_ending(self) -> bool {
        let Self::Process(pid) = self else {
            return false;
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        is_exiting(&stat) || is_killed(&status)
    }
}

/// By field 9 of /proc/PID/stat, proc_pid_stat(5), which is the seventh after the name.
fn is_exiting(stat: &str) -> bool {
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let flags = fields.split_whitespace().nth(6);
    flags
        .and_then(|flags| flags.parse::<u32>().ok())
        .is_some_and(|flags| flags & PF_EXITING != 0)
}

fn is_killed(status: &str) -> bool {
    let pending = |line: &str| {
        let set = line
            .strip_prefix("SigPnd:")
            .or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(set.trim(), 16).ok()
    };
    status
        .lines()
        .filter_map(pending)
        .any(|set| set & SIGKILL_BIT != 0)
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
                // Killed, and not quite gone.
                Ok(holder) if holder.is_ending() => sleep(PAUSE),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_ending_is_known_by_its_flags_or_a_pending_kill() {
        assert!(is_exiting("7 (a) b) R 1 7 7 0 -1 4194308 0 0"));
        assert!(!is_exiting("7 (a) b) R 1 7 7 0 -1 4194304 0 0"));
        assert!(is_killed(
            "SigPnd:\t0000000000000000\nShdPnd:\t0000000000000100\n"
        ));
        assert!(!is_killed(
            "SigPnd:\t0000000000000000\nShdPnd:\t0000000000004000\n"
        ));
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(!Holder::Process(own).is_ending());
    }
}
