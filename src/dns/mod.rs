//! The DNS forwarder's sockets.
//!
//! One thread owns them all: the listeners, the sockets to the upstreams, and the connections of
//! both. It waits in epoll(7), hands each message to [`seedwire_core::dns::Forwarder`], and sends
//! what that decides, in batches.

mod bind;
mod client;
mod connection;
mod handle;
mod io;
mod lanes;
mod pace;
mod poll;
mod random;
mod scope;
mod serve;
mod streams;
mod sys;
mod system;
mod tls;
mod worker;

use std::net::SocketAddr;

pub use client::{ConfiguredResolver, Servers};
pub use handle::{Forwarder, ZoneResolver};
pub(crate) use scope::address as server_address;
pub use system::system_servers;
pub use tls::TlsError;

/// The forwarder can't be started or changed.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// A listen address can't be had.
    #[error("failed to listen on {address} over {protocol}{}", crate::listen::why(.source))]
    Listen {
        /// `UDP` or `TCP`.
        protocol: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// A descriptor or a thread can't be had.
    #[error("failed to start the DNS thread")]
    Start(#[source] std::io::Error),
    /// The servers of `system` can't be read.
    #[error("failed to read the system's name servers")]
    System(#[source] std::io::Error),
    /// TLS can't be spoken to an upstream.
    #[error("failed to prepare TLS for the upstream {upstream}")]
    Tls {
        /// The upstream, as in the configuration.
        upstream: String,
        /// Why.
        source: TlsError,
    },
    /// The thread is gone.
    #[error("failed to reach the DNS thread: it has ended")]
    Ended,
}

impl DnsError {
    fn tls((upstream, source): (String, TlsError)) -> Self {
        Self::Tls { upstream, source }
    }

    fn listen(protocol: &'static str, address: SocketAddr, source: std::io::Error) -> Self {
        Self::Listen {
            protocol,
            address,
            source,
        }
    }
}
