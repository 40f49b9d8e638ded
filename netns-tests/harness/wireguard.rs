//! WireGuard devices that are configured by hand, with wg(8) and ip(8): other programs and
//! `seedwire device`.

use std::path::PathBuf;

use super::{Host, Process, sandbox, wait_until};

/// A private key and its public key, in base64.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The private key.
    pub private: String,
    /// The public key.
    pub public: String,
}

impl Keys {
    /// A new pair, made by wg(8).
    pub fn generate(host: &Host) -> Self {
        let private = host.run("wg genkey").trim().to_owned();
        let file = host.folder("keys").join("new");
        std::fs::write(&file, &private).expect("a file in memory");
        let public = host.run_args(&["sh", "-c", &format!("wg pubkey <{}", file.display())]);
        let public = public.trim().to_owned();
        Self { private, public }
    }
}

/// A program that makes a WireGuard device which wg(8) configures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The wireguard-go of the distribution.
    DistributionWireguardGo,
    /// The newest wireguard-go, built by scripts/peers.sh.
    WireguardGo,
    /// boringtun-cli, built by scripts/peers.sh.
    Boringtun,
    /// `seedwire device`.
    SeedwireDevice,
}

impl Program {
    fn command(self, interface: &str) -> Vec<String> {
        let line = match self {
            Self::DistributionWireguardGo => format!("wireguard-go -f {interface}"),
            Self::WireguardGo => format!("{} -f {interface}", built("wireguard-go")),
            Self::Boringtun => {
                format!(
                    "{} -f --disable-drop-privileges {interface}",
                    built("boringtun-cli")
                )
            }
            Self::SeedwireDevice => format!("{} device -f {interface}", sandbox::seedwire()),
        };
        line.split(' ').map(str::to_owned).collect()
    }
}

/// The path of a program that scripts/peers.sh built.
///
/// # Panics
/// When it is not there.
pub fn built(name: &str) -> String {
    let variable = |name| std::env::var(name).ok().map(PathBuf::from);
    let cache = variable("SEEDWIRE_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("seedwire")))
        .or_else(|| Some(variable("HOME")?.join(".cache/seedwire")))
        .expect("HOME is set");
    let path = cache.join("bin").join(name);
    assert!(
        path.exists(),
        "{} is missing: run scripts/peers.sh {name}",
        path.display()
    );
    path.display().to_string()
}

/// A device of one of the programs.
pub struct Device {
    host: Host,
    interface: String,
    process: Process,
}

/// A peer of a [`Device`], as `wg setconf` takes it.
#[derive(Clone, Debug, Default)]
pub struct Peer<'a> {
    /// The public key in base64.
    pub public_key: &'a str,
    /// The preshared key in base64.
    pub preshared_key: Option<&'a str>,
    /// The address and port.
    pub endpoint: Option<&'a str>,
    /// The prefixes, separated by commas.
    pub allowed_ips: &'a str,
    /// In seconds.
    pub keepalive: Option<u32>,
}

impl Device {
    /// Starts a program and waits until its interface and its socket are there.
    pub fn start(host: &Host, program: Program, interface: &str) -> Self {
        let command = program.command(interface);
        let line: Vec<&str> = command.iter().map(String::as_str).collect();
        let mut process = host.spawn_with(&line, &[("LOG_LEVEL", "verbose")]);
        wait_until(&format!("wg(8) to see {interface} of {program:?}"), || {
            assert!(
                process.is_running(),
                "{program:?} ended:\n{}",
                process.output()
            );
            host.succeeds(&format!("wg show {interface}"))
        });
        Self {
            host: host.clone(),
            interface: interface.to_owned(),
            process,
        }
    }

    /// Sets the whole configuration of the device and brings the interface up with these
    /// addresses and a route to each of the peers' prefixes.
    pub fn configure(&self, keys: &Keys, listen_port: u16, addresses: &[&str], peers: &[Peer]) {
        let file = self
            .host
            .folder("keys")
            .join(format!("{}.conf", self.interface));
        std::fs::write(&file, setconf(keys, listen_port, peers)).expect("a file in memory");
        let (host, interface) = (&self.host, &self.interface);
        host.run(&format!("wg setconf {interface} {}", file.display()));
        addresses
            .iter()
            .for_each(|address| host.add_address(interface, address));
        host.run(&format!("ip link set {interface} up mtu 1420"));
        for prefix in peers.iter().flat_map(|peer| peer.allowed_ips.split(',')) {
            host.run(&format!("ip route replace {prefix} dev {interface}"));
        }
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// A configuration in the form that `wg setconf` takes.
pub fn setconf(keys: &Keys, listen_port: u16, peers: &[Peer]) -> String {
    let mut text = format!("[Interface]\nPrivateKey = {}\n", keys.private);
    text += &format!("ListenPort = {listen_port}\n");
    for peer in peers {
        text += &format!("[Peer]\nPublicKey = {}\n", peer.public_key);
        text += &format!("AllowedIPs = {}\n", peer.allowed_ips);
        let mut optional = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                text += &format!("{name} = {value}\n");
            }
        };
        optional("PresharedKey", peer.preshared_key.map(str::to_owned));
        optional("Endpoint", peer.endpoint.map(str::to_owned));
        optional(
            "PersistentKeepalive",
            peer.keepalive.map(|seconds| seconds.to_string()),
        );
    }
    text
}

/// Whether the device has completed a handshake with its first peer.
pub fn has_handshake(host: &Host, interface: &str) -> bool {
    last_handshake(host, interface) > 0
}

/// When the last handshake with the first peer was, in seconds since 1970; 0 for never.
pub fn last_handshake(host: &Host, interface: &str) -> u64 {
    let output = host.try_run(&format!("wg show {interface} latest-handshakes"));
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    output
        .split_whitespace()
        .nth(1)
        .and_then(|time| time.parse().ok())
        .unwrap_or(0)
}
