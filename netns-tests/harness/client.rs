//! Services and clients over TCP and UDP, to see whether a path carries data and where it comes
//! from.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::Host;

/// Starts a TCP service that tells each client the address it came from, then sends back what it
/// gets.
pub fn serve_tcp(host: &Host, address: &str) {
    let listener = host.listen(address);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || echo(stream));
        }
    });
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let peer = stream.peer_addr()?;
    writeln!(stream, "{}", peer.ip())?;
    let mut reader = stream.try_clone()?;
    std::io::copy(&mut reader, &mut stream)?;
    Ok(())
}

/// Starts a UDP service that answers each datagram with the address it came from.
pub fn serve_udp(host: &Host, address: &str) {
    let socket = host.udp(address);
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(peer.ip().to_string().as_bytes(), peer);
        }
    });
}

/// A connection to a service of [`serve_tcp`].
pub struct Client {
    stream: TcpStream,
    /// The address that the service sees.
    pub seen_as: String,
}

impl Client {
    /// Connects to a service.
    pub fn connect(host: &Host, address: &str) -> std::io::Result<Self> {
        let mut stream = host.connect(address)?;
        let mut seen_as = Vec::new();
        let mut byte = [0];
        loop {
            stream.read_exact(&mut byte)?;
            if byte == *b"\n" {
                break;
            }
            seen_as.push(byte[0]);
        }
        let seen_as = String::from_utf8_lossy(&seen_as).into_owned();
        Ok(Self { stream, seen_as })
    }

    /// The address of this end.
    pub fn local(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket")
    }

    /// Waits longer for data than on an ordinary path.
    pub fn be_patient(&self, limit: Duration) {
        let set = self.stream.set_read_timeout(Some(limit));
        set.expect("a connected socket");
    }

    /// Sends this many bytes and asserts that they come back as they were.
    pub fn exchange(&mut self, length: usize) -> std::io::Result<()> {
        let sent: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        let mut received = vec![0; length];
        let mut writer = self.stream.try_clone()?;
        let copy = sent.clone();
        let write = std::thread::spawn(move || writer.write_all(&copy));
        self.stream.read_exact(&mut received)?;
        write.join().expect("the writer does not panic")?;
        assert!(sent == received, "other bytes came back");
        Ok(())
    }
}

/// The address that a service of [`serve_udp`] sees; `None` when it does not answer within 1 s.
pub fn udp_seen_as(host: &Host, address: &str) -> Option<String> {
    let any = if address.starts_with('[') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let socket = host.udp(any);
    socket
        .set_read_timeout(Some(std::time::Duration::from_secs(1)))
        .ok()?;
    socket.connect(address).ok()?;
    socket.send(b"?").ok()?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}
