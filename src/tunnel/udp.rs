//! The UDP sockets: one for each family, unconnected, on one port.
#![allow(unsafe_code)] // sendmsg and recvmsg with control messages and without allocation.

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use tracing::warn;

use super::offload::Offload;

/// The most segments in one send; older kernels take no more (UDP_MAX_SEGMENTS).
pub(super) const MOST_SEGMENTS: usize = 64;

/// The longest payload of one send, over IPv4.
pub(super) const LONGEST: usize = 65507;

const BUFFER: usize = 4 << 20;

/// Where a peer is: its address, and which of ours it was reached from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    /// The local address that the peer's last packet came to; answers leave from there.
    pub(super) source: Option<IpAddr>,
}

impl Place {
    /// The same without a source, which the kernel then chooses.
    pub(super) fn anywhere(self) -> Self {
        Self {
            source: None,
            ..self
        }
    }
}

/// Both sockets.
pub(super) struct Udp {
    v4: Option<Half>,
    v6: Option<Half>,
    port: u16,
}

/// How datagrams are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// A run in one call, where that works.
    AtOnce,
    /// In one call each.
    OneByOne,
    /// One by one, and never in fragments: it is to be seen whether the path takes one this long.
    Whole,
}

/// The socket of one family.
struct Half {
    socket: Socket,
    domain: Domain,
    /// Whether the socket sends nothing in fragments now; see [`Half::forbid_fragments`].
    whole: AtomicBool,
    /// Whether a send of many segments works (UDP_SEGMENT, Linux 4.18).
    gso: AtomicBool,
    /// Whether one receive may give many (UDP_GRO, Linux 5.0).
    gro: bool,
}

/// What came in one receive: one datagram, or several of `segment` bytes from one sender, the last
/// of which may be shorter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub(super) length: usize,
    pub(super) segment: usize,
    pub(super) from: Place,
}

impl Udp {
    /// Binds both families to `port`, or to one that the kernel chooses for 0.
    pub(super) fn bind(port: u16, fwmark: u32, offload: Offload) -> io::Result<Self> {
        // A port that is free for one family may be taken for the other.
        let mut tries = if port == 0 { 100 } else { 1 };
        loop {
            tries -= 1;
            match Self::bind_both(port, fwmark, offload) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
                done => return done,
            }
        }
    }

    fn bind_both(port: u16, fwmark: u32, offload: Offload) -> io::Result<Self> {
        let v4 = supported(Half::bind(Domain::IPV4, port, fwmark, offload))?;
        let port = match &v4 {
            Some(half) => port_of(&half.socket)?,
            None => port,
        };
        let v6 = supported(Half::bind(Domain::IPV6, port, fwmark, offload))?;
        let port = match (&v4, &v6) {
            (None, None) => return Err(io::ErrorKind::Unsupported.into()),
            (None, Some(half)) => port_of(&half.socket)?,
            _ => port,
        };
        Ok(Self { v4, v6, port })
    }

    /// The port that is listened on.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Whether many datagrams are sent, and received, in one call, on every socket.
    pub(super) fn offloads(&self) -> (bool, bool) {
        let mut halves = [&self.v4, &self.v6].into_iter().flatten();
        let send = |half: &Half| half.gso.load(Ordering::Relaxed);
        (halves.clone().all(send), halves.all(|half| half.gro))
    }

    /// Marks what is sent from now on; 0: no mark.
    pub(super) fn set_mark(&self, fwmark: u32) -> io::Result<()> {
        for half in [&self.v4, &self.v6].into_iter().flatten() {
            half.socket.set_mark(fwmark)?;
        }
        Ok(())
    }

    /// The sockets to wait for.
    pub(super) fn sockets(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [&self.v4, &self.v6].map(|half| half.as_ref().map(|half| half.socket.as_fd()))
    }

    /// Sends `payload` to a peer: one datagram, or one for each `segment` bytes of it. Returns why
    /// the path to there refused a run in one call, where they went one by one for it.
    pub(super) fn send(
        &self,
        to: &Place,
        payload: &[u8],
        segment: usize,
        manner: Manner,
    ) -> io::Result<Option<io::Error>> {
        let half = match to.address {
            SocketAddr::V4(_) => &self.v4,
            SocketAddr::V6(_) => &self.v6,
        };
        let Some(half) = half else {
            return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
        };
        let fd = half.socket.as_raw_fd();
        let mut refused = None;
        let is_run = payload.len() > segment && manner == Manner::AtOnce;
        if is_run && half.gso.load(Ordering::Relaxed) {
            // Over IPv6 no router makes fragments, and the kernel makes none of a run.
            half.forbid_fragments(half.domain == Domain::IPV4)?;
            match send_message(fd, to, payload, segment) {
                Ok(()) => return Ok(None),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EIO | libc::EOPNOTSUPP | libc::ENOPROTOOPT | libc::ENOSYS) => {
                        half.give_up(&error);
                        refused = Some(error);
                    }
                    // A segment is longer than the path's MTU now; alone it is sent in fragments.
                    // EINVAL is that too, before Linux 6.13, and a source that is gone, which the
                    // first datagram alone will tell.
                    Some(libc::EMSGSIZE | libc::EINVAL) => refused = Some(error),
                    _ => return Err(error),
                },
            }
        }
        match manner {
            Manner::Whole => half.set_whole(true)?,
            _ => half.forbid_fragments(false)?,
        }
        for datagram in payload.chunks(segment.max(1)) {
            match send_message(fd, to, datagram, 0) {
                // Another thread has forbidden fragments since.
                Err(error)
                    if error.raw_os_error() == Some(libc::EMSGSIZE) && manner != Manner::Whole =>
                {
                    half.set_whole(false)?;
                    send_message(fd, to, datagram, 0)?;
                }
                done => done?,
            }
        }
        Ok(refused)
    }
}

impl Half {
    fn bind(domain: Domain, port: u16, fwmark: u32, offload: Offload) -> io::Result<Self> {
        let socket = bind_one(domain, port, fwmark)?;
        let asked = |name, value| {
            let wanted = offload == Offload::Auto;
            wanted && set_option(&socket, libc::IPPROTO_UDP, name, value).is_ok()
        };
        let half = Self {
            domain,
            whole: AtomicBool::new(false),
            // Kernels that don't know the option would send all in one datagram.
            gso: AtomicBool::new(asked(libc::UDP_SEGMENT, 0)),
            gro: asked(libc::UDP_GRO, 1),
            socket,
        };
        half.set_whole(false)?;
        Ok(half)
    }

    /// Whether what is sent from now on may be cut into fragments, here and by routers. Threads
    /// that want it otherwise at the same time disturb each other for one datagram, which then
    /// goes in fragments, or whole, that should not; no harm comes of that.
    fn forbid_fragments(&self, whole: bool) -> io::Result<()> {
        if self.whole.load(Ordering::Relaxed) == whole {
            return Ok(());
        }
        self.set_whole(whole)
    }

    fn set_whole(&self, whole: bool) -> io::Result<()> {
        let (level, name, [may, never]) = match self.domain {
            Domain::IPV4 => (
                libc::IPPROTO_IP,
                libc::IP_MTU_DISCOVER,
                [libc::IP_PMTUDISC_DONT, libc::IP_PMTUDISC_DO],
            ),
            _ => (
                libc::IPPROTO_IPV6,
                libc::IPV6_MTU_DISCOVER,
                [libc::IPV6_PMTUDISC_DONT, libc::IPV6_PMTUDISC_DO],
            ),
        };
        set_option(&self.socket, level, name, if whole { never } else { may })?;
        self.whole.store(whole, Ordering::Relaxed);
        Ok(())
    }

    /// The way out of this host can't do it: such as one through IPsec.
    fn give_up(&self, why: &io::Error) {
        if self.gso.swap(false, Ordering::Relaxed) {
            warn!(cause = %why, "UDP segmentation is given up; datagrams go one by one");
        }
    }
}

/// Whether an address is one of this host's.
pub(super) fn is_of_this_host(address: IpAddr) -> bool {
    // Cheaper than a list, and as exact as the kernel.
    std::net::UdpSocket::bind((address, 0)).is_ok()
}

/// A family that the kernel does not have is no error.
fn supported(bound: io::Result<Half>) -> io::Result<Option<Half>> {
    match bound {
        Ok(half) => Ok(Some(half)),
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn port_of(socket: &Socket) -> io::Result<u16> {
    let address = socket.local_addr()?.as_socket();
    Ok(address.map_or(0, |address| address.port()))
}

fn bind_one(domain: Domain, port: u16, fwmark: u32) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
    let any: SocketAddr = if domain == Domain::IPV4 {
        set_option(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        (Ipv4Addr::UNSPECIFIED, port).into()
    } else {
        socket.set_only_v6(true)?;
        set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        (Ipv6Addr::UNSPECIFIED, port).into()
    };
    if fwmark != 0 {
        socket.set_mark(fwmark)?;
    }
    for (force, plain) in [
        (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
        (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
    ] {
        // Beyond the system's bound only with CAP_NET_ADMIN; a smaller buffer does too.
        if set_option(&socket, libc::SOL_SOCKET, force, BUFFER as i32).is_err() {
            set_option(&socket, libc::SOL_SOCKET, plain, BUFFER as i32)?;
        }
    }
    // A device that takes nothing must not hold a thread for ever.
    socket.set_write_timeout(Some(Duration::from_secs(1)))?;
    socket.bind(&any.into())?;
    Ok(socket)
}

fn set_option(socket: &Socket, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the kernel reads one int at this address during the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(&value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    match done {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Room for the control messages of one call, aligned as their headers must be.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; 128]);

impl Control {
    fn new() -> Self {
        Self([MaybeUninit::zeroed(); 128])
    }
}

fn send_message(fd: RawFd, to: &Place, payload: &[u8], segment: usize) -> io::Result<()> {
    let address = SockAddr::from(to.address);
    let mut vector = libc::iovec {
        iov_base: payload.as_ptr().cast_mut().cast(),
        iov_len: payload.len(),
    };
    let mut control = Control::new();
    // SAFETY: a msghdr is plain data, for which all zeros is a valid value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = address.as_ptr().cast_mut().cast();
    message.msg_namelen = address.len();
    message.msg_iov = &mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    let mut used = 0;
    match to.source {
        Some(IpAddr::V4(source)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(source.octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            used += push(&message, used, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        Some(IpAddr::V6(source)) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: source.octets(),
                },
                ipi6_ifindex: 0,
            };
            used += push(&message, used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
        None => {}
    }
    if segment != 0 {
        let size = segment as u16;
        used += push(&message, used, libc::IPPROTO_UDP, libc::UDP_SEGMENT, size);
    }
    message.msg_controllen = used as _;
    if used == 0 {
        message.msg_control = std::ptr::null_mut();
    }
    loop {
        // SAFETY: every pointer in the message leads to something that outlives the call, with
        // the length beside it; the kernel only reads from them.
        if unsafe { libc::sendmsg(fd, &message, libc::MSG_NOSIGNAL) } >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Writes a control message at `used` bytes into the message's room; returns what it takes.
fn push<T>(message: &libc::msghdr, used: usize, level: i32, kind: i32, value: T) -> usize {
    let size = size_of::<T>() as libc::c_uint;
    // SAFETY: CMSG_SPACE only computes.
    let space = unsafe { libc::CMSG_SPACE(size) } as usize;
    assert!(
        used + space <= size_of::<Control>(),
        "room for every option"
    );
    // SAFETY: the room is a Control, aligned for headers; `used` is a sum of CMSG_SPACEs, so the
    // header is aligned too, and header and value lie inside the room as asserted above.
    unsafe {
        let header = message
            .msg_control
            .cast::<u8>()
            .add(used)
            .cast::<libc::cmsghdr>();
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(size) as _;
        libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
    }
    space
}

/// Takes what came next; `WouldBlock` when nothing did.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut storage = SockAddrStorage::zeroed();
    let mut vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut control = Control::new();
    // SAFETY: a msghdr is plain data, for which all zeros is a valid value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = std::ptr::from_mut(&mut storage).cast();
    message.msg_namelen = storage.size_of();
    message.msg_iov = &mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: every pointer in the message leads to memory of this frame or of the caller that
    // outlives the call, with its length beside it.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_DONTWAIT) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    let length = length as usize;
    // SAFETY: the kernel has written an address of this length into the storage.
    let address = unsafe { SockAddr::new(storage, message.msg_namelen) };
    let address = address.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    let (source, segment) = read_control(&message);
    Ok(Received {
        length,
        segment: segment.unwrap_or(length).max(1),
        from: Place { address, source },
    })
}

/// Our own address that a datagram came to, and the length of its segments.
fn read_control(message: &libc::msghdr) -> (Option<IpAddr>, Option<usize>) {
    let mut source = None;
    let mut segment = None;
    // SAFETY: the kernel has filled the control room of this message and set its length, so the
    // macros walk from header to header inside it; each value is as long as its type says, and is
    // read unaligned.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            let data = libc::CMSG_DATA(header);
            match ((*header).cmsg_level, (*header).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    source = Some(IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    source = Some(IpAddr::from(info.ipi6_addr.s6_addr));
                }
                (libc::IPPROTO_UDP, libc::UDP_GRO) => {
                    segment = Some(data.cast::<libc::c_int>().read_unaligned() as usize);
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    (source, segment)
}
