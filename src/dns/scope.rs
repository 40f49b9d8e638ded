//! Addresses that need an interface.

use std::io;
use std::net::SocketAddr;

use nix::net::if_::if_nametoindex;
use seedwire_core::config::Server;

/// The address of a server, with the number that its interface has now.
pub(crate) fn address(server: &Server) -> io::Result<SocketAddr> {
    let mut address = server.address;
    if let (Some(interface), SocketAddr::V6(v6)) = (&server.interface, &mut address) {
        v6.set_scope_id(if_nametoindex(interface.as_str())?);
    }
    Ok(address)
}
