use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;

use super::error::Error;

/// Notices changes of one kind of object (the multicast groups of rtnetlink(7)).
///
/// The kernel marks a listing of links or addresses that changed while it was read, but not one of
/// rules or of IPv6 routes, though it goes on from one datagram to the next by counting.
pub(super) struct Watch {
    socket: netlink_sys::Socket,
}

impl Watch {
    /// Begins to notice changes.
    pub(super) fn new(group: u32) -> Result<Self, Error> {
        let open = || -> io::Result<netlink_sys::Socket> {
            let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.add_membership(group)?;
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        let socket = open().map_err(Error::Open)?;
        Ok(Self { socket })
    }

    /// Whether anything changed since this was asked last.
    pub(super) fn changed(&self) -> bool {
        let mut changed = false;
        let mut byte = [0];
        loop {
            match self.socket.recv(&mut &mut byte[..], 0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return changed,
                // ENOBUFS is news too: so much changed that some of it was lost.
                _ => changed = true,
            }
        }
    }
}
