//! News of changes, whoever made them.

// AsyncFd takes a foreign descriptor only on our word that it stays open.
#![allow(unsafe_code)]

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::error::Error;
use super::watch::Watch;

/// Links, addresses, routes and rules, and the settings of links such as forwarding
/// (`enum rtnetlink_groups`).
const ROUTE_GROUPS: [u32; 9] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_RULE,
    libc::RTNLGRP_IPV4_NETCONF,
    libc::RTNLGRP_IPV6_NETCONF,
];
/// The tables of nf_tables (`enum nfnetlink_groups`).
const NFNLGRP_NFTABLES: u32 = 7;

/// Tells when the network state changed. What changed is not read: what is there now must be
/// observed anyway, and when much changes at once the kernel drops the news of some of it.
pub struct Monitor {
    route: AsyncFd<Watch>,
    nft: AsyncFd<Watch>,
}

impl Monitor {
    /// Begins to listen in the network namespace of this thread. Must be called in a runtime.
    ///
    /// # Errors
    /// When there is no socket.
    pub fn open() -> Result<Self, Error> {
        let open = |protocol, groups: &[u32]| -> Result<AsyncFd<Watch>, Error> {
            let watch = Watch::new(protocol, groups)?;
            // SAFETY: the watch owns its socket and hands out the same descriptor until it is
            // dropped, and AsyncFd drops it after the deregistration.
            let watch = unsafe { AsyncFd::register_with_interest(watch, Interest::READABLE) };
            watch.map_err(|error| Error::Open(error.into()))
        };
        Ok(Self {
            route: open(NETLINK_ROUTE, &ROUTE_GROUPS)?,
            nft: open(NETLINK_NETFILTER, &[NFNLGRP_NFTABLES])?,
        })
    }

    /// Waits until something changed since this was last asked. Nothing is lost when the future is
    /// dropped.
    ///
    /// # Errors
    /// When the runtime has ended.
    pub async fn changed(&self) -> Result<(), Error> {
        tokio::select! {
            changed = news(&self.route) => changed,
            changed = news(&self.nft) => changed,
        }
    }
}

async fn news(watch: &AsyncFd<Watch>) -> Result<(), Error> {
    loop {
        let mut ready = watch.readable().await.map_err(Error::Open)?;
        let changed = watch.get_ref().changed();
        ready.clear_ready();
        if changed {
            return Ok(());
        }
    }
}
