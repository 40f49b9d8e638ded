//! The TUN device: how inner packets come and go.
#![allow(unsafe_code)] // TUNSETIFF and the like exist only as ioctls.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use seedwire_core::types::InterfaceName;

use super::offload::Offload;

/// A TUN link that lives as long as this.
pub(super) struct Tun {
    fd: OwnedFd,
    vnet: bool,
    tcp: bool,
    udp: bool,
}

/// linux/if_tun.h: what the reader of the device does in place of the kernel.
const CHECKSUM: libc::c_ulong = 0x01;
const TSO: libc::c_ulong = 0x02 | 0x04;
const USO: libc::c_ulong = 0x20 | 0x40;
const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0;

impl Tun {
    /// Makes the link and sets its MTU.
    pub(super) fn create(name: &InterfaceName, mtu: u16, offload: Offload) -> io::Result<Self> {
        let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fd = open("/dev/net/tun", flags, Mode::empty())?;
        let plain = libc::IFF_TUN | libc::IFF_NO_PI;
        let attach = |flags: libc::c_int| {
            let mut request = request(name);
            request.ifr_ifru.ifru_flags = flags as libc::c_short;
            ioctl(fd.as_raw_fd(), libc::TUNSETIFF, &mut request)
        };
        let vnet = match offload {
            Offload::None => attach(plain).map(|()| false),
            Offload::Auto => match attach(plain | libc::IFF_VNET_HDR) {
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    attach(plain).map(|()| false)
                }
                done => done.map(|()| true),
            },
        }?;
        // Kernels before 6.2 know no USO; without any the link gives plain packets.
        let udp = vnet && set_offload(&fd, CHECKSUM | TSO | USO).is_ok();
        let tcp = udp || (vnet && set_offload(&fd, CHECKSUM | TSO).is_ok());
        set_mtu(name, mtu)?;
        Ok(Self { fd, vnet, tcp, udp })
    }

    /// Whether the link gives several TCP segments as one packet.
    pub(super) fn gives_tcp(&self) -> bool {
        self.tcp
    }

    /// Whether the link takes several UDP datagrams as one packet.
    pub(super) fn takes_udp(&self) -> bool {
        self.udp
    }

    /// Whether a vnet header stands before each packet, in both directions.
    pub(super) fn has_vnet(&self) -> bool {
        self.vnet
    }

    /// Takes the next packet from the link; `WouldBlock` when there is none.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(nix::unistd::read(&self.fd, buffer)?)
    }

    /// Hands a packet to the link.
    pub(super) fn write(&self, packet: &[IoSlice<'_>]) -> io::Result<()> {
        nix::sys::uio::writev(&self.fd, packet)?;
        Ok(())
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads the MTU of a link of the namespace that it was made in.
pub(super) struct MtuReader {
    name: InterfaceName,
    socket: socket2::Socket,
}

impl MtuReader {
    /// To be made where the link is.
    pub(super) fn open(name: &InterfaceName) -> io::Result<Self> {
        let name = name.clone();
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None)?;
        Ok(Self { name, socket })
    }

    /// The MTU now; an error when the link is gone, or in another namespace.
    pub(super) fn read(&self) -> io::Result<usize> {
        let mut request = request(&self.name);
        let fd = self.socket.as_raw_fd();
        ioctl(fd, libc::SIOCGIFMTU as libc::Ioctl, &mut request)?;
        // SAFETY: this ioctl has written the MTU, and any bytes are an int.
        let mtu = unsafe { request.ifr_ifru.ifru_mtu };
        usize::try_from(mtu).map_err(io::Error::other)
    }
}

fn set_offload(fd: &OwnedFd, offload: libc::c_ulong) -> io::Result<()> {
    // SAFETY: this ioctl takes its argument by value.
    match unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETOFFLOAD, offload) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn set_mtu(name: &InterfaceName, mtu: u16) -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None)?;
    let mut request = request(name);
    request.ifr_ifru.ifru_mtu = libc::c_int::from(mtu);
    ioctl(
        socket.as_raw_fd(),
        libc::SIOCSIFMTU as libc::Ioctl,
        &mut request,
    )?;
    // What comes while the reading thread waits for a processor must not be lost: 1 Gbit/s of UDP
    // fills 1,000 in 12 ms. Nothing stands here for longer, so it adds no delay. Only root of the
    // machine may ask for that; a user namespace keeps the kernel's 500.
    request.ifr_ifru.ifru_mtu = 4000;
    match ioctl(
        socket.as_raw_fd(),
        libc::SIOCSIFTXQLEN as libc::Ioctl,
        &mut request,
    ) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

fn request(name: &InterfaceName) -> libc::ifreq {
    // SAFETY: an ifreq is plain data, for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // A name has 15 bytes at most, so the zero that ends it stays.
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn ioctl(fd: RawFd, number: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: each number that is passed here takes a pointer to an ifreq, and the kernel keeps
    // none of it after the call.
    match unsafe { libc::ioctl(fd, number, std::ptr::from_mut(request)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
