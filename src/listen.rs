//! TCP listeners, as every part of the program opens them.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Which families an IPv6 listener takes; the host's own default (net.ipv6.bindv6only) counts for
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Families {
    /// That of the address alone.
    Own,
    /// IPv4 too.
    Both,
}

/// Listens on an address, without blocking, for at most `backlog` connections that nobody has
/// taken yet.
pub(crate) fn tcp(
    address: SocketAddr,
    families: Families,
    backlog: i32,
) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(families == Families::Own)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// What a failure to listen most likely means, to be put behind the message; empty where the
/// system's own words say it.
pub(crate) fn why(source: &io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::AddrInUse => ": another program listens there",
        ErrorKind::AddrNotAvailable => ": this host does not have that address",
        ErrorKind::PermissionDenied => ": ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "",
    }
}
