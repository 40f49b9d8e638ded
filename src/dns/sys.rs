//! Batches of datagrams: recvmmsg(2) and sendmmsg(2), with the local address of each where a
//! socket listens on all of them (IP_PKTINFO: ip(7), IPV6_PKTINFO: RFC 3542).
#![allow(unsafe_code)] // The calls take arrays of C structures that point into each other.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Datagrams in one call.
const BATCH: usize = 32;
/// The longest datagram that is taken; longer ones are marked as cut.
const LONGEST: usize = 4096;
/// Room for one IPV6_PKTINFO message.
const CONTROL: usize = 64;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// The local end of a datagram: address and interface index.
pub(super) type Local = (IpAddr, u32);

/// A received datagram.
pub(super) struct Datagram<'a> {
    pub(super) bytes: &'a mut [u8],
    pub(super) peer: Option<SocketAddr>,
    pub(super) local: Option<Local>,
    pub(super) is_cut: bool,
}

/// Buffers for received datagrams.
pub(super) struct Receiver {
    headers: Box<[libc::mmsghdr]>,
    _vectors: Box<[libc::iovec]>,
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control]>,
    buffers: Box<[u8]>,
    count: usize,
}

// SAFETY: the pointers in the headers lead into boxes of the same value, whose memory does not move
// with it; nothing else refers to it.
unsafe impl Send for Receiver {}

impl Receiver {
    pub(super) fn new() -> Self {
        // SAFETY: all of these are C structures for which zeroes are a value.
        let (mut headers, name) = unsafe {
            (
                vec![mem::zeroed::<libc::mmsghdr>(); BATCH].into_boxed_slice(),
                mem::zeroed::<libc::sockaddr_storage>(),
            )
        };
        let mut names = vec![name; BATCH].into_boxed_slice();
        let mut controls = vec![Control([0; CONTROL]); BATCH].into_boxed_slice();
        let mut buffers = vec![0; BATCH * LONGEST].into_boxed_slice();
        let mut vectors: Box<[libc::iovec]> = buffers
            .chunks_exact_mut(LONGEST)
            .map(|buffer| libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: LONGEST,
            })
            .collect();
        for (index, header) in headers.iter_mut().enumerate() {
            header.msg_hdr.msg_name = ptr::from_mut(&mut names[index]).cast();
            header.msg_hdr.msg_iov = ptr::from_mut(&mut vectors[index]);
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = controls[index].0.as_mut_ptr().cast();
        }
        Self {
            headers,
            _vectors: vectors,
            names,
            controls,
            buffers,
            count: BATCH,
        }
    }

    /// Receives what is there, without waiting; returns the number of datagrams.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        for header in &mut self.headers[..self.count] {
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_controllen = CONTROL as _;
            header.msg_hdr.msg_flags = 0;
        }
        self.count = 0;
        // SAFETY: the headers point to buffers of the lengths that they state, which live as long
        // as self.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        self.count = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok(self.count)
    }

    /// The datagram number `index` of those that were received.
    #[allow(clippy::unnecessary_cast)] // The length of control messages is a u32 with musl.
    pub(super) fn datagram(&mut self, index: usize) -> Datagram<'_> {
        assert!(
            index < self.count,
            "invariant: asked only for what was received"
        );
        let header = &self.headers[index];
        let length = (header.msg_len as usize).min(LONGEST);
        Datagram {
            peer: address(&self.names[index]),
            local: local(
                &self.controls[index],
                header.msg_hdr.msg_controllen as usize,
            ),
            is_cut: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            bytes: &mut self.buffers[index * LONGEST..][..length],
        }
    }

    /// Whether more may be waiting.
    pub(super) fn was_full(&self) -> bool {
        self.count == BATCH
    }
}

fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the kernel wrote a sockaddr_in, which is smaller than the storage.
            let name = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the kernel wrote a sockaddr_in6, which is smaller than the storage.
            let name = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(name.sin6_port), 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Where the data of the first control message starts.
const DATA: usize = mem::size_of::<libc::cmsghdr>().next_multiple_of(8);

fn local(control: &Control, length: usize) -> Option<Local> {
    if length < DATA {
        return None;
    }
    // SAFETY: the buffer is aligned and longer than a cmsghdr.
    let header = unsafe { &*control.0.as_ptr().cast::<libc::cmsghdr>() };
    let data = &control.0[DATA..];
    let index =
        |at: usize| u32::from_ne_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
    match (header.cmsg_level, header.cmsg_type) {
        // in_pktinfo: index, the local address, the destination as written in the packet.
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            let octets: [u8; 4] = data[4..8].try_into().ok()?;
            Some((Ipv4Addr::from(octets).into(), index(0)))
        }
        // in6_pktinfo: the destination, index.
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            let octets: [u8; 16] = data[..16].try_into().ok()?;
            Some((Ipv6Addr::from(octets).into(), index(16)))
        }
        _ => None,
    }
}

/// Writes the control message that cuts what is sent into datagrams of `size` bytes (udp(7),
/// UDP_SEGMENT); returns its length.
fn write_segment(control: &mut Control, size: u16) -> usize {
    let length = size_of::<u16>();
    write_header(control, libc::SOL_UDP, libc::UDP_SEGMENT, length);
    control.0[DATA..][..length].copy_from_slice(&size.to_ne_bytes());
    (DATA + length).next_multiple_of(8)
}

/// Writes the head of a control message with `length` bytes of data.
fn write_header(control: &mut Control, level: libc::c_int, kind: libc::c_int, length: usize) {
    // SAFETY: the buffer is aligned and longer than a cmsghdr.
    let header = unsafe { &mut *control.0.as_mut_ptr().cast::<libc::cmsghdr>() };
    header.cmsg_level = level;
    header.cmsg_type = kind;
    header.cmsg_len = (DATA + length) as _;
}

/// Writes the control message that makes a datagram leave from `local`; returns its length.
fn write_control(control: &mut Control, (ip, index): Local) -> usize {
    let (level, kind, length) = match ip {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO, 12),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, 20),
    };
    write_header(control, level, kind, length);
    let data = &mut control.0[DATA..][..length];
    match ip {
        IpAddr::V4(ip) => {
            // The interface is left to the routing table: the way back may be another.
            data.fill(0);
            data[4..8].copy_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            let scoped = if ip.is_unicast_link_local() { index } else { 0 };
            data[..16].copy_from_slice(&ip.octets());
            data[16..].copy_from_slice(&scoped.to_ne_bytes());
        }
    }
    (DATA + length).next_multiple_of(8)
}

/// Datagrams that the kernel cuts from one message at most (UDP_MAX_SEGMENTS of older kernels), and
/// the most bytes of them.
const SEGMENTS: usize = 64;
const SEGMENTED: usize = 60_000;

struct Queued {
    start: usize,
    length: usize,
    to: Option<SocketAddr>,
    from: Option<Local>,
}

/// Datagrams that are to be sent by one socket.
#[derive(Default)]
pub(super) struct Sender {
    bytes: Vec<u8>,
    queued: Vec<Queued>,
    /// The kernel would not cut datagrams from one message.
    is_unsegmented: bool,
    /// How many datagrams each message of a call holds.
    runs: Vec<usize>,
    // What the call is given; kept for its memory alone.
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    names: Vec<libc::sockaddr_in6>,
    controls: Vec<Control>,
}

// SAFETY: the pointers in the headers are written anew for each call and not used after it.
unsafe impl Send for Sender {}

impl Sender {
    pub(super) fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }

    /// Adds a datagram; `to` is absent on a connected socket.
    pub(super) fn push(&mut self, bytes: &[u8], to: Option<SocketAddr>, from: Option<Local>) {
        let (start, length) = (self.bytes.len(), bytes.len());
        self.bytes.extend_from_slice(bytes);
        self.queued.push(Queued {
            start,
            length,
            to,
            from,
        });
    }

    /// Sends all, without waiting. What the socket has no room for is lost, as datagrams may be;
    /// the first error is returned after the rest was tried.
    pub(super) fn flush(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let mut result = Ok(());
        let mut done = 0;
        if !self.is_unsegmented {
            // Those to one peer and of one length can go as one message.
            self.queued
                .sort_unstable_by_key(|queued| (queued.to, queued.length));
        }
        while done < self.queued.len() {
            match self.send_batch(socket, done) {
                Ok(sent) => done += sent.max(1),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An older kernel, or IPsec on the way.
                Err(error) if self.runs[0] > 1 && is_refusal_to_cut(&error) => {
                    self.is_unsegmented = true;
                }
                Err(error) => {
                    result = result.and(Err(error));
                    done += self.runs[0];
                }
            }
        }
        self.queued.clear();
        self.bytes.clear();
        result
    }

    /// The number of datagrams from `first` on that go as one message: to one peer and of one
    /// length.
    fn run_at(&self, first: usize) -> usize {
        let queued = &self.queued[first];
        if self.is_unsegmented || queued.from.is_some() || queued.length == 0 {
            return 1;
        }
        let most = SEGMENTS.min(SEGMENTED / queued.length);
        let is_alike = |other: &&Queued| {
            other.to == queued.to && other.length == queued.length && other.from.is_none()
        };
        let run = self.queued[first..].iter().take(most);
        run.take_while(is_alike).count().max(1)
    }

    fn send_batch(&mut self, socket: BorrowedFd<'_>, start: usize) -> io::Result<usize> {
        self.runs.clear();
        let mut next = start;
        while next < self.queued.len() && self.runs.len() < BATCH {
            let run = self.run_at(next);
            self.runs.push(run);
            next += run;
        }
        let count = self.runs.len();
        // SAFETY: all of these are C structures for which zeroes are a value.
        let (header, vector, name) = unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
        self.headers.resize(count, header);
        self.vectors.resize(next - start, vector);
        self.names.resize(count, name);
        self.controls.resize(count, Control([0; CONTROL]));
        for (vector, queued) in self.vectors.iter_mut().zip(&self.queued[start..]) {
            vector.iov_base = self.bytes[queued.start..].as_mut_ptr().cast();
            vector.iov_len = queued.length;
        }
        let mut first = 0;
        for (index, run) in self.runs.iter().enumerate() {
            let queued = &self.queued[start + first];
            let header = &mut self.headers[index].msg_hdr;
            header.msg_iov = ptr::from_mut(&mut self.vectors[first]);
            header.msg_iovlen = *run as _;
            first += run;
            (header.msg_name, header.msg_namelen) = (ptr::null_mut(), 0);
            (header.msg_control, header.msg_controllen) = (ptr::null_mut(), 0);
            if let Some(to) = queued.to {
                header.msg_namelen = write_name(&mut self.names[index], to);
                header.msg_name = ptr::from_mut(&mut self.names[index]).cast();
            }
            let control = &mut self.controls[index];
            let control_length = match queued.from {
                Some(from) => write_control(control, from),
                None if *run > 1 => write_segment(control, queued.length as u16),
                None => continue,
            };
            header.msg_controllen = control_length as _;
            header.msg_control = control.0.as_mut_ptr().cast();
        }
        // musl's sendmmsg() makes a sendmsg(2) of each message, lest the padding in the headers,
        // which to the kernel is half of a length, is not zero; here it is.
        // SAFETY: the headers point into the vectors of self, none of which changes in length or is
        // dropped before the call returns.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_sendmmsg,
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
            )
        };
        let sent = usize::try_from(sent).map_err(|_| io::Error::last_os_error())?;
        Ok(self.runs[..sent].iter().sum())
    }
}

fn is_refusal_to_cut(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE | libc::EOPNOTSUPP)
    )
}

/// Writes a socket address; a sockaddr_in6 has room for both families. Returns its length.
fn write_name(name: &mut libc::sockaddr_in6, address: SocketAddr) -> libc::socklen_t {
    match address {
        SocketAddr::V4(address) => {
            // SAFETY: a sockaddr_in is smaller than a sockaddr_in6 and no more strictly aligned.
            let name = unsafe { &mut *ptr::from_mut(name).cast::<libc::sockaddr_in>() };
            name.sin_family = libc::AF_INET as libc::sa_family_t;
            name.sin_port = address.port().to_be();
            name.sin_addr.s_addr = u32::from(*address.ip()).to_be();
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(address) => {
            name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            name.sin6_port = address.port().to_be();
            name.sin6_addr.s6_addr = address.ip().octets();
            name.sin6_scope_id = address.scope_id();
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn datagrams_of_many_lengths_arrive_as_they_were() {
        for is_unsegmented in [false, true] {
            let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(receiver.local_addr().unwrap()).unwrap();
            let mut sender = Sender {
                is_unsegmented,
                ..Sender::default()
            };
            let lengths = [40, 40, 40, 41, 12, 40, 900, 900, 1, 1, 40];
            let datagrams: Vec<Vec<u8>> = (0_u8..)
                .zip(lengths)
                .map(|(number, length)| vec![number; length])
                .collect();
            for datagram in &datagrams {
                sender.push(datagram, None, None);
            }
            sender.flush(socket.as_fd()).unwrap();
            assert_eq!(sender.is_unsegmented, is_unsegmented, "loopback can cut");
            assert!(sender.is_empty());
            let mut received: Vec<Vec<u8>> = (0..datagrams.len())
                .map(|_| {
                    let mut buffer = [0; 2000];
                    let length = receiver.recv(&mut buffer).unwrap();
                    buffer[..length].to_vec()
                })
                .collect();
            received.sort();
            assert_eq!(received, datagrams);
        }
    }
}
