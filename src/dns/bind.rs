//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::DnsError;
use crate::listen::{self, Families};

/// Connections that nobody has taken yet.
const TCP_BACKLOG: i32 = 256;

/// The sockets of one listen address.
pub(super) struct Bound {
    /// As configured: the port may be 0.
    pub(super) configured: SocketAddr,
    /// As bound.
    pub(super) local: SocketAddr,
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
}

/// How often a free port is looked for that both protocols can have.
const PORT_ATTEMPTS: usize = 16;

/// Listens on `address` over UDP and TCP; with port 0 on one that is free for both.
pub(super) fn bind(address: SocketAddr) -> Result<Bound, DnsError> {
    let mut attempts = 1;
    loop {
        let udp = udp(address).map_err(|source| DnsError::listen("UDP", address, source))?;
        let local = udp
            .local_addr()
            .map_err(|source| DnsError::listen("UDP", address, source))?;
        match listen::tcp(local, Families::Own, TCP_BACKLOG) {
            Ok(tcp) => {
                return Ok(Bound {
                    configured: address,
                    local,
                    udp,
                    tcp,
                });
            }
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && address.port() == 0
                    && attempts < PORT_ATTEMPTS =>
            {
                attempts += 1;
            }
            Err(source) => return Err(DnsError::listen("TCP", local, source)),
        }
    }
}

fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if address.ip().is_unspecified() {
        // So that an answer leaves from the address that the question went to.
        match address {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
    }
    // Room for a burst; the kernel may give less (net.core.rmem_max).
    socket.set_recv_buffer_size(1 << 20)?;
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
