//! The configuration protocol of userspace WireGuard, as wg(8) speaks it
//! (<https://www.wireguard.com/xplatform/>).

use std::fmt::{self, Write};
use std::net::SocketAddr;

use zeroize::Zeroizing;

use crate::types::{Prefix, PresharedKey, PrivateKey, PublicKey};

/// A line of a `set` request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetLine {
    /// `private_key`; `None`: it is taken away.
    PrivateKey(Option<PrivateKey>),
    /// `listen_port`; 0: chosen by the kernel.
    ListenPort(u16),
    /// `fwmark`; 0: none.
    Fwmark(u32),
    /// `replace_peers`: all peers go.
    ReplacePeers,
    /// `public_key`: the lines that follow are about this peer, which is made where it is missing.
    Peer(PublicKey),
    /// `update_only`: the peer is not made where it is missing.
    UpdateOnly,
    /// `remove`: the peer goes.
    Remove,
    /// `preshared_key`; `None`: it is taken away.
    PresharedKey(Option<PresharedKey>),
    /// `endpoint`.
    Endpoint(SocketAddr),
    /// `persistent_keepalive_interval` in seconds; 0: off.
    Keepalive(u16),
    /// `replace_allowed_ips`: all allowed IPs of the peer go.
    ReplaceAllowedIps,
    /// `allowed_ip`: the prefix moves to the peer, or, with a leading `-`, is taken from it.
    AllowedIp {
        /// The prefix.
        prefix: Prefix,
        /// Whether it is given rather than taken.
        add: bool,
    },
    /// `protocol_version=1`: nothing to do.
    ProtocolVersion,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UapiError {
    /// The request could not be read, or not done by the system.
    #[error("the request could not be read or done")]
    Io,
    /// The line is not `KEY=VALUE`.
    #[error("a line is not KEY=VALUE")]
    Protocol,
    /// The key is not known here, or the value is not valid.
    #[error("a key is unknown or its value is not valid")]
    Invalid,
    /// The port could not be bound or the mark not set.
    #[error("the port can't be bound or the mark can't be set")]
    PortInUse,
}

impl UapiError {
    /// The `errno` of the reply: negative, as wireguard-go sends it.
    pub fn errno(self) -> i32 {
        match self {
            UapiError::Io => -5,
            UapiError::Protocol => -71,
            UapiError::Invalid => -22,
            UapiError::PortInUse => -98,
        }
    }
}

/// Reads the lines of a `set` request, which mean different things before and after the first
/// `public_key`.
#[derive(Clone, Debug, Default)]
pub struct SetReader {
    in_peer: bool,
}

impl SetReader {
    /// Reads one line, without its end.
    pub fn line(&mut self, line: &str) -> Result<SetLine, UapiError> {
        let (key, value) = line.split_once('=').ok_or(UapiError::Protocol)?;
        if key == "public_key" {
            self.in_peer = true;
            return Ok(SetLine::Peer(PublicKey::from_bytes(*key_bytes(value)?)));
        }
        if self.in_peer {
            peer_line(key, value)
        } else {
            device_line(key, value)
        }
    }
}

fn device_line(key: &str, value: &str) -> Result<SetLine, UapiError> {
    match key {
        "private_key" => {
            let bytes = key_bytes(value)?;
            let some = !is_zero(&bytes);
            Ok(SetLine::PrivateKey(
                some.then(|| PrivateKey::from_bytes(*bytes)),
            ))
        }
        "listen_port" => Ok(SetLine::ListenPort(decimal(value)?)),
        "fwmark" => Ok(SetLine::Fwmark(decimal(value)?)),
        "replace_peers" => when_true(value, SetLine::ReplacePeers),
        _ => Err(UapiError::Invalid),
    }
}

fn peer_line(key: &str, value: &str) -> Result<SetLine, UapiError> {
    match key {
        "update_only" => when_true(value, SetLine::UpdateOnly),
        "remove" => when_true(value, SetLine::Remove),
        "preshared_key" => {
            let bytes = key_bytes(value)?;
            let some = !is_zero(&bytes);
            Ok(SetLine::PresharedKey(
                some.then(|| PresharedKey::from_bytes(*bytes)),
            ))
        }
        "endpoint" => value
            .parse()
            .map(SetLine::Endpoint)
            .map_err(|_| UapiError::Invalid),
        "persistent_keepalive_interval" => Ok(SetLine::Keepalive(decimal(value)?)),
        "replace_allowed_ips" => when_true(value, SetLine::ReplaceAllowedIps),
        "allowed_ip" => {
            let add = !value.starts_with('-');
            let value = value.strip_prefix('-').unwrap_or(value);
            let with_length = value.contains('/').then_some(value);
            let prefix = with_length.and_then(|value| value.parse().ok());
            let prefix = prefix.ok_or(UapiError::Invalid)?;
            Ok(SetLine::AllowedIp { prefix, add })
        }
        "protocol_version" if value == "1" => Ok(SetLine::ProtocolVersion),
        _ => Err(UapiError::Invalid),
    }
}

fn when_true(value: &str, line: SetLine) -> Result<SetLine, UapiError> {
    if value == "true" {
        Ok(line)
    } else {
        Err(UapiError::Invalid)
    }
}

fn decimal<T: std::str::FromStr>(value: &str) -> Result<T, UapiError> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| value.parse().ok()).flatten();
    number.ok_or(UapiError::Invalid)
}

fn key_bytes(value: &str) -> Result<Zeroizing<[u8; 32]>, UapiError> {
    let digits = value.as_bytes();
    let mut key = Zeroizing::new([0; 32]);
    if digits.len() != 64 {
        return Err(UapiError::Invalid);
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let high = (pair[0] as char).to_digit(16).ok_or(UapiError::Invalid)?;
        let low = (pair[1] as char).to_digit(16).ok_or(UapiError::Invalid)?;
        *byte = (high << 4 | low) as u8;
    }
    Ok(key)
}

fn is_zero(bytes: &[u8; 32]) -> bool {
    bytes.iter().fold(0, |all, byte| all | byte) == 0
}

/// The interface, as the reply to `get` starts.
#[derive(Clone, Debug, Default)]
pub struct GetDevice<'a> {
    /// The identity, where there is one.
    pub private_key: Option<&'a PrivateKey>,
    /// The port that is listened on; 0: none yet.
    pub listen_port: u16,
    /// The mark; 0: none.
    pub fwmark: u32,
}

/// A peer, as the reply to `get` shows it.
#[derive(Clone, Debug)]
pub struct GetPeer<'a> {
    /// Its identity.
    pub public_key: PublicKey,
    /// The shared secret; without one it is shown as zeros.
    pub preshared_key: Option<&'a PresharedKey>,
    /// Where its packets go.
    pub endpoint: Option<SocketAddr>,
    /// The time of the last handshake since 1970: seconds and nanoseconds; 0 for none.
    pub last_handshake: (u64, u32),
    /// Bytes sent.
    pub transmitted: u64,
    /// Bytes received.
    pub received: u64,
    /// Seconds; 0: off.
    pub keepalive: u16,
    /// What it may use.
    pub allowed_ips: &'a [Prefix],
}

/// Writes the reply to `get`, without the `errno` that ends it.
pub fn write_get<'a>(
    out: &mut Zeroizing<String>,
    device: &GetDevice<'_>,
    peers: impl IntoIterator<Item = GetPeer<'a>>,
) -> fmt::Result {
    if let Some(key) = device.private_key {
        write_key(out, "private_key", key.as_bytes())?;
    }
    if device.listen_port != 0 {
        writeln!(out, "listen_port={}", device.listen_port)?;
    }
    if device.fwmark != 0 {
        writeln!(out, "fwmark={}", device.fwmark)?;
    }
    for peer in peers {
        write_peer(out, &peer)?;
    }
    Ok(())
}

fn write_peer(out: &mut Zeroizing<String>, peer: &GetPeer<'_>) -> fmt::Result {
    write_key(out, "public_key", peer.public_key.as_bytes())?;
    let psk = peer.preshared_key.map_or(&[0; 32], |key| key.as_bytes());
    write_key(out, "preshared_key", psk)?;
    writeln!(out, "protocol_version=1")?;
    if let Some(endpoint) = peer.endpoint {
        writeln!(out, "endpoint={endpoint}")?;
    }
    writeln!(out, "last_handshake_time_sec={}", peer.last_handshake.0)?;
    writeln!(out, "last_handshake_time_nsec={}", peer.last_handshake.1)?;
    writeln!(out, "tx_bytes={}", peer.transmitted)?;
    writeln!(out, "rx_bytes={}", peer.received)?;
    writeln!(out, "persistent_keepalive_interval={}", peer.keepalive)?;
    for prefix in peer.allowed_ips {
        writeln!(out, "allowed_ip={prefix}")?;
    }
    Ok(())
}

fn write_key(out: &mut Zeroizing<String>, name: &str, key: &[u8; 32]) -> fmt::Result {
    write!(out, "{name}=")?;
    for byte in key {
        write!(out, "{byte:02x}")?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "77076d0a7318a57d3c16c17251b26645c6c2f6c929f09b0a5ca5a1a0d5a1b2c3";

    fn read(lines: &[&str]) -> Result<Vec<SetLine>, UapiError> {
        let mut reader = SetReader::default();
        lines.iter().map(|line| reader.line(line)).collect()
    }

    #[test]
    fn reads_what_wg_writes() {
        let lines = read(&[
            &format!("private_key={KEY}"),
            "listen_port=51820",
            "fwmark=4096",
            "replace_peers=true",
            &format!("public_key={KEY}"),
            "update_only=true",
            &format!("preshared_key={}", "0".repeat(64)),
            "endpoint=[2001:db8::1]:51820",
            "persistent_keepalive_interval=25",
            "replace_allowed_ips=true",
            "allowed_ip=10.1.2.3/8",
            "allowed_ip=-fd88::/64",
            "protocol_version=1",
            "remove=true",
        ]);
        let lines = lines.expect("all valid");
        assert!(matches!(lines[0], SetLine::PrivateKey(Some(_))));
        assert_eq!(lines[1], SetLine::ListenPort(51820));
        assert_eq!(lines[6], SetLine::PresharedKey(None));
        let prefix = "10.0.0.0/8".parse().expect("a prefix");
        assert_eq!(lines[10], SetLine::AllowedIp { prefix, add: true });
        let prefix = "fd88::/64".parse().expect("a prefix");
        assert_eq!(lines[11], SetLine::AllowedIp { prefix, add: false });
        assert_eq!(lines[13], SetLine::Remove);
    }

    #[test]
    fn refuses_with_the_error_of_wireguard_go() {
        let peer = format!("public_key={KEY}");
        for (lines, error) in [
            (vec!["listen_port"], UapiError::Protocol),
            (vec!["listen_port=65536"], UapiError::Invalid),
            (vec!["listen_port=+1"], UapiError::Invalid),
            (vec!["private_key=00"], UapiError::Invalid),
            (vec!["allowed_ip=10.0.0.0/8"], UapiError::Invalid),
            (vec![&peer, "listen_port=1"], UapiError::Invalid),
            (vec![&peer, "allowed_ip=10.0.0.1"], UapiError::Invalid),
            (vec![&peer, "remove=false"], UapiError::Invalid),
            (vec![&peer, "protocol_version=2"], UapiError::Invalid),
        ] {
            assert_eq!(read(&lines), Err(error), "{lines:?}");
        }
    }

    #[test]
    fn writes_what_wg_reads() {
        let allowed_ips = ["10.0.0.0/8".parse().expect("a prefix")];
        let mut out = Zeroizing::new(String::new());
        let device = GetDevice {
            listen_port: 51820,
            ..GetDevice::default()
        };
        let peer = GetPeer {
            public_key: PublicKey::from_bytes([0xab; 32]),
            preshared_key: None,
            endpoint: Some(([192, 0, 2, 1], 7).into()),
            last_handshake: (3, 4),
            transmitted: 5,
            received: 6,
            keepalive: 25,
            allowed_ips: &allowed_ips,
        };
        write_get(&mut out, &device, [peer]).expect("strings take everything");
        let expected = format!(
            "listen_port=51820\npublic_key={}\npreshared_key={}\nprotocol_version=1\n\
             endpoint=192.0.2.1:7\nlast_handshake_time_sec=3\nlast_handshake_time_nsec=4\n\
             tx_bytes=5\nrx_bytes=6\npersistent_keepalive_interval=25\nallowed_ip=10.0.0.0/8\n",
            "ab".repeat(32),
            "0".repeat(64)
        );
        assert_eq!(*out, expected);
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(lines in prop::collection::vec("[a-z_]{0,12}=?.{0,70}", 0..5)) {
            let mut reader = SetReader::default();
            for line in &lines {
                let _ = reader.line(line);
            }
        }
    }
}
