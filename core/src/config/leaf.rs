//! Values that are written as one piece of text.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::model::{Backend, LogFormat, LogLevel, Order, Protocol};
use super::read::Leaf;
use super::server::Scheme;
use crate::types::{DnsName, Endpoint, InterfaceAddress, InterfaceName, Prefix, PublicKey};

macro_rules! parsed {
    ($($type:ty),*) => {$(
        impl Leaf for $type {
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|e: <Self as FromStr>::Err| e.to_string())
            }
        }
    )*};
}

parsed!(
    DnsName,
    Endpoint,
    InterfaceAddress,
    InterfaceName,
    Prefix,
    PublicKey
);

macro_rules! choices {
    ($($type:ident { $($text:literal => $value:ident),* })*) => {$(
        impl Leaf for $type {
            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$value),)*
                    _ => Err(one_of(&[$($text),*])),
                }
            }
        }

        #[cfg(test)]
        impl $type {
            pub(super) const CHOICES: &[&str] = &[$($text),*];
        }
    )*};
}

choices! {
    Backend { "auto" => Auto, "kernel" => Kernel, "userspace" => Userspace }
    Protocol { "tcp" => Tcp, "udp" => Udp }
    Order { "fastest" => Fastest, "listed" => Listed }
    Scheme { "udp" => Udp, "tcp" => Tcp, "tls" => Tls }
    LogLevel {
        "error" => Error, "warn" => Warn, "info" => Info, "debug" => Debug, "trace" => Trace
    }
    LogFormat { "text" => Text, "json" => Json }
}

fn one_of(texts: &[&str]) -> String {
    match texts {
        [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => texts.concat(),
    }
}

impl Leaf for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(one_of(&["true", "false"])),
        }
    }
}

impl Leaf for IpAddr {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| "an address such as 10.96.77.7 or fd96::7".to_owned())
    }
}

impl Leaf for SocketAddr {
    fn parse(text: &str) -> Result<Self, String> {
        with_port(text)
            .ok_or_else(|| "ADDRESS:PORT, such as 127.0.0.1:3100 or [::1]:3100".to_owned())
    }
}

fn with_port(text: &str) -> Option<SocketAddr> {
    text.parse()
        .ok()
        .filter(|address: &SocketAddr| address.port() != 0)
}

/// A whole number within bounds.
pub(super) struct Whole<const LEAST: u64, const MOST: u64>(pub(super) u64);

impl<const LEAST: u64, const MOST: u64> Leaf for Whole<LEAST, MOST> {
    fn parse(text: &str) -> Result<Self, String> {
        digits(text)
            .filter(|number| (LEAST..=MOST).contains(number))
            .map(Self)
            .ok_or_else(|| format!("a whole number from {LEAST} to {MOST}"))
    }
}

/// The value of decimal digits alone; `FromStr` would take a sign too.
fn digits(text: &str) -> Option<u64> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// A mark on packets, not 0.
pub(super) struct Mark(pub(super) u32);

impl Leaf for Mark {
    fn parse(text: &str) -> Result<Self, String> {
        let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
                u64::from_str_radix(hex, 16).ok()
            }
            Some(_) => None,
            None => digits(text),
        };
        number
            .and_then(|number| u32::try_from(number).ok())
            .filter(|mark| *mark != 0)
            .map(Self)
            .ok_or_else(|| "a mark from 0x1 to 0xffffffff".to_owned())
    }
}

/// Splits a number from the unit behind it.
fn unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    Some((digits(&text[..end])?, &text[end..]))
}

/// A length of time.
pub(super) struct Period(pub(super) Duration);

impl Leaf for Period {
    fn parse(text: &str) -> Result<Self, String> {
        let millis = unit(text).and_then(|(number, unit)| {
            let factor = match unit {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => return None,
            };
            number.checked_mul(factor)
        });
        // Sums of a point in time and a duration stay far from overflow within a century.
        const LONGEST: u64 = 100 * 365 * 24 * 3_600_000;
        millis
            .filter(|millis| *millis <= LONGEST)
            .map(|millis| Self(Duration::from_millis(millis)))
            .ok_or_else(|| "a duration such as 500ms, 25s, 2m or 1h".to_owned())
    }
}

/// A size in bytes.
pub(super) struct Size(pub(super) u64);

impl Leaf for Size {
    fn parse(text: &str) -> Result<Self, String> {
        let size = if text == "0" {
            Some(0)
        } else {
            unit(text).and_then(|(number, unit)| {
                let factor = match unit {
                    "B" => 1,
                    "KiB" => 1 << 10,
                    "MiB" => 1 << 20,
                    "GiB" => 1 << 30,
                    _ => return None,
                };
                number.checked_mul(factor)
            })
        };
        size.map(Self)
            .ok_or_else(|| "a size such as 64KiB or 4MiB".to_owned())
    }
}

/// A DNS server: an address, with port 53 unless another is written.
pub(super) struct DnsAddress(pub(super) SocketAddr);

impl Leaf for DnsAddress {
    fn parse(text: &str) -> Result<Self, String> {
        dns_address(text)
            .map(Self)
            .ok_or_else(|| DNS_ADDRESS.to_owned())
    }
}

const DNS_ADDRESS: &str = "an address with or without a port, such as 10.240.16.10, \
     10.240.16.10:53 or [fd10::a]:53";

fn dns_address(text: &str) -> Option<SocketAddr> {
    let port_53 = |address: IpAddr| SocketAddr::new(address, 53);
    with_port(text).or_else(|| text.parse().ok().map(port_53))
}

/// Where HTTP is served, if at all.
pub(super) struct HttpListen(pub(super) Option<SocketAddr>);

impl Leaf for HttpListen {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let address = match text.strip_prefix(':') {
            Some(port) => digits(port)
                .and_then(|port| u16::try_from(port).ok())
                .filter(|port| *port != 0)
                .map(|port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
            None => with_port(text),
        };
        address
            .map(|address| Self(Some(address)))
            .ok_or_else(|| "ADDRESS:PORT, :PORT or off".to_owned())
    }
}

/// When `/startupz` turns 200 at the latest, if ever.
pub(super) struct StartupWait(pub(super) Option<Duration>);

impl Leaf for StartupWait {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Self(None)),
            _ => Period::parse(text)
                .map(|wait| Self(Some(wait.0)))
                .map_err(|expected| format!("{expected}, or never")),
        }
    }
}

/// The name of a peer, which becomes a label of metrics and a column of tables.
pub(super) struct PeerName(pub(super) String);

impl Leaf for PeerName {
    fn parse(text: &str) -> Result<Self, String> {
        const LONGEST: usize = 63;
        let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if (1..=LONGEST).contains(&text.len()) && text.bytes().all(valid) {
            Ok(Self(text.to_owned()))
        } else {
            Err("a name of 1 to 63 letters, digits, -, _ or .".to_owned())
        }
    }
}

/// The path of a Unix socket.
pub(super) struct SocketPath(pub(super) PathBuf);

impl Leaf for SocketPath {
    fn parse(text: &str) -> Result<Self, String> {
        // sun_path has 108 bytes, the last of them 0 (unix(7)).
        if text.starts_with('/') && text.len() <= 107 && !text.contains('\0') {
            Ok(Self(PathBuf::from(text)))
        } else {
            Err("an absolute path of at most 107 bytes".to_owned())
        }
    }
}
