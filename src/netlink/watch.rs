use std::io;
use std::os::fd::{AsRawFd, RawFd};

use super::error::Error;

/// Notices changes of some kinds of objects (multicast groups of netlink(7)).
///
/// The kernel marks a listing of links or addresses that changed while it was read, but not one of
/// rules or of IPv6 routes, though it goes on from one datagram to the next by counting.
pub(super) struct Watch {
    socket: netlink_sys::Socket,
}

impl Watch {
    /// Begins to notice changes of these groups of a netlink protocol.
    pub(super) fn new(protocol: isize, groups: &[u32]) -> Result<Self, Error> {
        let open = || -> io::Result<netlink_sys::Socket> {
            let mut socket = netlink_sys::Socket::new(protocol)?;
            socket.bind_auto()?;
            for group in groups {
                socket.add_membership(*group)?;
            }
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

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
