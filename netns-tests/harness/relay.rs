//! A path over UDP that loses datagrams, sends them twice and lets them overtake each other: what a
//! kernel with netem would do, the same on each run.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Host;

/// What happens to datagrams on their way, both ways.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// In percent.
    pub lost: u64,
    /// In percent.
    pub twice: u64,
    /// In percent: what takes 50 ms longer, and is overtaken by what comes after it.
    pub late: u64,
    /// How long each takes.
    pub delay: Duration,
}

/// A relay between one client and one server.
pub struct Relay {
    faults: Arc<Mutex<Faults>>,
    initiations: [Arc<AtomicU64>; 2],
}

impl Relay {
    /// Takes datagrams at `listen` and passes them on to `server`, and the answers back to whom
    /// the last came from. The two loops end with the case.
    pub fn start(host: &Host, listen: &str, server: &str, seed: u64) -> Self {
        let front = host.udp(listen);
        let any = if server.starts_with('[') {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        };
        let back = host.udp(any);
        back.connect(server).expect("an address and a port");
        let faults = Arc::new(Mutex::new(Faults::default()));
        let client = Arc::new(Mutex::new(None));
        let initiations = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
        let ways = [(&front, &back), (&back, &front)];
        for (way, (from, to)) in ways.into_iter().enumerate() {
            let direction = Direction {
                from: from.try_clone().expect("a copy of a file descriptor"),
                to: to.try_clone().expect("a copy of a file descriptor"),
                client: Arc::clone(&client),
                forth: way == 0,
                faults: Arc::clone(&faults),
                initiations: Arc::clone(&initiations[way]),
                seed: seed + way as u64,
            };
            std::thread::spawn(move || direction.run());
        }
        Self {
            faults,
            initiations,
        }
    }

    /// What happens from now on.
    pub fn set(&self, faults: Faults) {
        *self.faults.lock().expect("no loop panics") = faults;
    }

    /// The handshake initiations that came so far: from the client, and from the server.
    pub fn initiations(&self) -> [u64; 2] {
        [0, 1].map(|way| self.initiations[way].load(Ordering::Relaxed))
    }
}

struct Direction {
    from: UdpSocket,
    to: UdpSocket,
    client: Arc<Mutex<Option<SocketAddr>>>,
    forth: bool,
    faults: Arc<Mutex<Faults>>,
    initiations: Arc<AtomicU64>,
    seed: u64,
}

impl Direction {
    fn run(mut self) {
        let mut buffer = [0; 65536];
        let mut waiting: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
        loop {
            let now = Instant::now();
            while let Some(at) = waiting.iter().position(|(due, _)| *due <= now) {
                let (_, datagram) = waiting.remove(at).expect("it was just found");
                self.pass(&datagram);
            }
            let due = waiting.iter().map(|(due, _)| *due - now).min();
            let wait = due.map(|due| due.max(Duration::from_millis(1)));
            self.from.set_read_timeout(wait).expect("a timeout");
            // An error is the end of the wait, or an ICMP error for what was sent before.
            let Ok((length, sender)) = self.from.recv_from(&mut buffer) else {
                continue;
            };
            if self.forth {
                *self.client.lock().expect("no loop panics") = Some(sender);
            }
            if buffer[..length].starts_with(&[1, 0, 0, 0]) {
                self.initiations.fetch_add(1, Ordering::Relaxed);
            }
            let faults = *self.faults.lock().expect("no loop panics");
            let copies = 1 + u64::from(self.chance(faults.twice));
            for _ in 0..copies {
                if self.chance(faults.lost) {
                    continue;
                }
                let late = u64::from(self.chance(faults.late)) * 50;
                let due = Instant::now() + faults.delay + Duration::from_millis(late);
                waiting.push_back((due, buffer[..length].to_vec()));
            }
        }
    }

    fn pass(&self, datagram: &[u8]) {
        let client = *self.client.lock().expect("no loop panics");
        // What can't be sent is lost.
        let _ = match client {
            _ if self.forth => self.to.send(datagram),
            Some(client) => self.to.send_to(datagram, client),
            None => Ok(0),
        };
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005);
        self.seed = self.seed.wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % 100 < percent
    }
}
