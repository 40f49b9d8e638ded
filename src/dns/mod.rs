//! The DNS forwarder's sockets.
//!
//! One thread owns them all: the listeners, the sockets to the upstreams, and the connections of
//! both. It waits in epoll(7), hands each message to [`seedwire_core::dns::Forwarder`], and sends
//! what that decides, in batches.

mod bind;
mod client;
mod connect;
mod handle;
mod io;
mod lanes;
mod pace;
mod poll;
mod random;
mod serve;
mod sys;
mod system;
mod worker;

use std::net::SocketAddr;

pub use client::{ConfiguredResolver, Servers};
pub use handle::{Forwarder, ZoneResolver};
pub use system::system_servers;

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
    /// The thread is gone.
    #[error("failed to reach the DNS thread: it has ended")]
    Ended,
}

impl DnsError {
    fn listen(protocol: &'static str, address: SocketAddr, source: std::io::Error) -> Self {
        Self::Listen {
            protocol,
            address,
            source,
        }
    }
}
