//! The servers that the system's own resolver uses.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use seedwire_core::dns::resolv_conf_servers;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The servers of /etc/resolv.conf, less those that are `own`: an unspecified address there stands
/// for every address of this host.
pub fn system_servers(own: &[SocketAddr]) -> io::Result<Vec<SocketAddr>> {
    servers_in(Path::new(RESOLV_CONF), own)
}

fn servers_in(path: &Path, own: &[SocketAddr]) -> io::Result<Vec<SocketAddr>> {
    let mut servers = resolv_conf_servers(&std::fs::read_to_string(path)?);
    let local = local_addresses();
    servers.retain(|server| {
        !own.iter().any(|own| {
            own.port() == server.port()
                && (own.ip() == server.ip()
                    || (own.ip().is_unspecified()
                        && own.is_ipv4() == server.is_ipv4()
                        && (server.ip().is_loopback() || local.contains(&server.ip()))))
        })
    });
    Ok(servers)
}

fn local_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    interfaces
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
        })
        .collect()
}

/// Notices when the file changes.
pub(super) struct Watch {
    next_check: Instant,
    seen: Option<(u64, u64, i64, i64, u64)>,
}

impl Watch {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next_check: now + CHECK_EVERY,
            seen: stamp(),
        }
    }

    /// Whether the file is another than when it was last asked; looks at most once a second.
    pub(super) fn has_changed(&mut self, now: Instant) -> bool {
        if now < self.next_check {
            return false;
        }
        self.next_check = now + CHECK_EVERY;
        let seen = stamp();
        let has_changed = seen != self.seen;
        self.seen = seen;
        has_changed
    }
}

fn stamp() -> Option<(u64, u64, i64, i64, u64)> {
    let file = std::fs::metadata(RESOLV_CONF).ok()?;
    Some((
        file.dev(),
        file.ino(),
        file.mtime(),
        file.mtime_nsec(),
        file.size(),
    ))
}
