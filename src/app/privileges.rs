//! What this process may do, and what to change where that is not enough.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::SocketAddr;

use seedwire_core::config::Config;

use crate::tunnel::choose;

const TUN: &str = "/dev/net/tun";
/// Bits of the capability sets (linux/capability.h).
const CAP_NET_BIND_SERVICE: u32 = 10;
const CAP_NET_ADMIN: u32 = 12;
/// The first port that needs no privilege, where the kernel does not say.
const FIRST_FREE_PORT: u16 = 1024;

/// Something that the configuration asks for and this process may not do.
#[derive(Debug, thiserror::Error)]
pub enum Lack {
    /// No CAP_NET_ADMIN.
    #[error(
        "a tunnel needs the capability NET_ADMIN, which this process (uid {uid}) has not: run it \
         as root; in Kubernetes as runAsUser 0 with capabilities.add [NET_ADMIN], because a user \
         other than 0 gets no effective capability from that list"
    )]
    NetAdmin {
        /// The effective user ID.
        uid: u32,
    },
    /// No TUN device.
    #[error(
        "{TUN} is not there: load the kernel module with `modprobe tun`; in a container mount the \
         host's {TUN} (in Kubernetes a hostPath volume of type CharDevice)"
    )]
    TunMissing,
    /// The TUN device is there and can't be opened.
    #[error("failed to open {TUN}: {}", tun_advice(.0))]
    Tun(#[source] io::Error),
    /// No CAP_NET_BIND_SERVICE.
    #[error(
        "listening on {address} needs the capability NET_BIND_SERVICE, which this process (uid \
         {uid}) has not: run it as root, add the capability, take a port from {first_free} up, or \
         lower the sysctl net.ipv4.ip_unprivileged_port_start"
    )]
    NetBindService {
        /// The first such address of the configuration.
        address: SocketAddr,
        /// The effective user ID.
        uid: u32,
        /// The first port that needs no privilege.
        first_free: u16,
    },
}

/// Everything that the process lacks, one a line.
#[derive(Debug, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct Lacks(pub Vec<Lack>);

fn lines(lacks: &[Lack]) -> String {
    let lines: Vec<_> = lacks.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

fn tun_advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => {
            "the kernel has no TUN driver; load it with `modprobe tun`"
        }
        Some(libc::EPERM) => {
            "the container's device rules forbid it; in Kubernetes mount it as a hostPath volume \
             of type CharDevice, or use a device plugin where the runtime does not allow that"
        }
        Some(libc::EACCES) => "its mode must allow this user to read and write it",
        _ => "it can't be used here",
    }
}

/// What the process may do, as far as can be told without doing it.
#[derive(Clone, Copy, Debug)]
pub struct Privileges {
    uid: u32,
    effective: u64,
    first_free_port: u16,
}

impl Privileges {
    /// The privileges of this process. A /proc that can't be read tells nothing: then everything
    /// is assumed to be allowed, and what is not fails when it is done.
    pub fn of_this_process() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let port = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
        Self {
            uid: nix::unistd::geteuid().as_raw(),
            effective: effective_capabilities(&status).unwrap_or(u64::MAX),
            first_free_port: port
                .ok()
                .and_then(|port| port.trim().parse().ok())
                .unwrap_or(FIRST_FREE_PORT),
        }
    }

    /// Whether links, addresses, routes and rules can be changed.
    pub fn net_admin(&self) -> bool {
        self.has(CAP_NET_ADMIN)
    }

    fn has(&self, capability: u32) -> bool {
        self.effective & (1 << capability) != 0
    }

    /// Looks whether this process can do what the configuration asks for. Changes nothing.
    ///
    /// # Errors
    /// With everything it lacks, each with what to change.
    pub fn allow(&self, config: &Config) -> Result<(), Lacks> {
        let mut lacks = Vec::new();
        if let Some(tunnel) = &config.tunnel {
            if !self.net_admin() {
                lacks.push(Lack::NetAdmin { uid: self.uid });
            }
            // Why the kernel can't be used is said where the tunnel is made.
            if choose(tunnel.backend).is_ok_and(|choice| !choice.kernel) {
                lacks.extend(open_tun().err());
            }
        }
        lacks.extend(self.port_lack(config));
        if lacks.is_empty() {
            Ok(())
        } else {
            Err(Lacks(lacks))
        }
    }

    fn port_lack(&self, config: &Config) -> Option<Lack> {
        if self.has(CAP_NET_BIND_SERVICE) {
            return None;
        }
        let dns = config.dns.iter().flat_map(|dns| dns.listen.iter().copied());
        let ports = config.ports.iter().map(|port| port.listen);
        let mut addresses = dns.chain(ports).chain(config.control.http);
        let privileged = |a: &SocketAddr| a.port() != 0 && a.port() < self.first_free_port;
        Some(Lack::NetBindService {
            address: addresses.find(privileged)?,
            uid: self.uid,
            first_free: self.first_free_port,
        })
    }
}

/// Opens the TUN device and lets go of it: no interface is made.
fn open_tun() -> Result<File, Lack> {
    let opened = OpenOptions::new().read(true).write(true).open(TUN);
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Lack::TunMissing,
        _ => Lack::Tun(error),
    })
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use seedwire_core::config::{Control, Dns, Log, LogFormat, LogLevel, Network, PortRelay};

    use super::*;

    fn config(listen: u16) -> Config {
        Config {
            tunnel: None,
            network: Network::default(),
            ports: vec![PortRelay {
                listen: (Ipv4Addr::LOCALHOST, listen).into(),
                to: "loki.example:3100".parse().unwrap(),
            }],
            dns: None::<Dns>,
            control: Control {
                http: None,
                socket: None,
                startup_wait: None,
            },
            log: Log {
                level: LogLevel::Info,
                format: LogFormat::Text,
            },
        }
    }

    const NOBODY: Privileges = Privileges {
        uid: 65534,
        effective: 0,
        first_free_port: 1024,
    };

    #[test]
    fn capabilities_are_read_as_the_kernel_writes_them() {
        let status = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t0000000000001400\n";
        let effective = effective_capabilities(status).unwrap();
        assert!(
            Privileges {
                effective,
                ..NOBODY
            }
            .net_admin()
        );
        assert!(!NOBODY.net_admin());
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
    }

    #[test]
    fn a_low_port_needs_the_capability_unless_the_sysctl_says_otherwise() {
        let error = NOBODY.allow(&config(53)).unwrap_err().to_string();
        assert!(error.contains("listening on 127.0.0.1:53"), "{error}");
        assert!(NOBODY.allow(&config(5353)).is_ok());
        let first_free_port = 0;
        let free = Privileges {
            first_free_port,
            ..NOBODY
        };
        assert!(free.allow(&config(53)).is_ok());
        let effective = 1 << CAP_NET_BIND_SERVICE;
        assert!(
            Privileges {
                effective,
                ..NOBODY
            }
            .allow(&config(53))
            .is_ok()
        );
    }
}
