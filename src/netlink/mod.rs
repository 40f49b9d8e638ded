//! The kernel's network state over netlink: a thin, synchronous layer.
//!
//! [`Rtnl`] reads and changes links, addresses, routes and rules, [`Nft`] the tables of nf_tables,
//! [`Wireguard`] the links of the kernel's WireGuard, and [`sysctl`] the settings below /proc/sys. A socket belongs to the network
//! namespace in which its thread was when it was opened, and stays there.
//!
//! Messages are made with the builders of netlink-packet-*. What the kernel sends is read
//! attribute by attribute, and only those that are needed: a link or route of a kind that those
//! crates can't decode must not stop us.

mod addresses;
mod attributes;
mod error;
mod links;
mod message;
mod monitor;
mod nft;
mod nft_expression;
mod routes;
mod rules;
mod socket;
pub mod sysctl;
mod watch;
mod wireguard;

pub use error::{Error, Refusal};
pub use links::{LinkChange, Namespace, NewLink};
pub use monitor::Monitor;
pub use nft::Nft;
pub use routes::Lookup;
pub use wireguard::{DeviceChange, DeviceState, PeerChange, PeerRecord, Wireguard};

use netlink_sys::protocols::NETLINK_ROUTE;

use socket::Socket;

/// The kernel's links, addresses, routes and rules (rtnetlink(7)).
#[derive(Debug)]
pub struct Rtnl {
    socket: Socket,
}

impl Rtnl {
    /// Opens a socket in the network namespace of this thread.
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(NETLINK_ROUTE)?;
        Ok(Self { socket })
    }
}
