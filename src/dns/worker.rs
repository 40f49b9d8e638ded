//! The thread that owns all sockets.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use nix::sys::eventfd::EventFd;
use nix::sys::prctl::set_timerslack;
use seedwire_core::config::{Dns, Upstream};
use seedwire_core::dns::{Forwarder, ForwarderStatus, Settings, Transport};
use tokio::sync::oneshot;
use tracing::warn;

use super::bind::Bound;
use super::io::{Client, Io};
use super::pace::Pace;
use super::poll::Token;
use super::streams::Outcome;
use super::sys::Receiver;
use super::system::{self, Watch};

/// How long questions under way are waited for at the end.
const DRAIN: Duration = Duration::from_secs(1);
/// How often connections are looked at for those to close.
const SWEEP: Duration = Duration::from_secs(1);
/// Batches from one socket before the others have their turn.
const TURNS: usize = 4;

/// What the rest of the program wants of the thread.
pub(super) enum Command {
    /// Answer a question of this program's own.
    Ask(Vec<u8>, oneshot::Sender<Vec<u8>>),
    /// Take another configuration and these new listeners; close those of other addresses.
    Configure(Dns, Vec<Bound>, oneshot::Sender<std::io::Result<()>>),
    /// Say how things are.
    Status(oneshot::Sender<ForwarderStatus>),
    /// Finish what is under way and end.
    Stop,
}

pub(super) struct Worker {
    io: Io,
    forwarder: Forwarder<Client>,
    receiver: Receiver,
    pace: Pace,
    /// Datagrams in this round. Answers that nobody waits for don't count: a flood of them must
    /// not make clients wait.
    received: u32,
    commands: mpsc::Receiver<Command>,
    bell: Arc<EventFd>,
    dns: Dns,
    system: Option<Watch>,
    next_own: u64,
    next_sweep: Instant,
    stop_at: Option<Instant>,
}

impl Worker {
    pub(super) fn new(
        dns: Dns,
        io: Io,
        commands: mpsc::Receiver<Command>,
        bell: Arc<EventFd>,
    ) -> std::io::Result<Self> {
        io.poll.add(&bell, Token::Commands, false)?;
        let mut worker = Self {
            forwarder: Forwarder::new(dns.cache.clone()),
            receiver: Receiver::new(),
            pace: Pace::new(io.now),
            received: 0,
            next_sweep: io.now,
            io,
            commands,
            bell,
            dns,
            system: None,
            next_own: 0,
            stop_at: None,
        };
        worker.configure();
        Ok(worker)
    }

    /// Runs until it is told to stop; returns early only when epoll(7) fails.
    pub(super) fn run(mut self) -> std::io::Result<()> {
        let mut tokens = Vec::new();
        // The rests are shorter than the slack that timers have by default.
        let _ = set_timerslack(1);
        loop {
            let received = std::mem::take(&mut self.received);
            if let Some(rest) = self.pace.rest(received, self.io.now) {
                std::thread::sleep(rest);
            }
            self.io.poll.wait(self.timeout(), &mut tokens)?;
            self.io.now = Instant::now();
            self.follow_system();
            for token in tokens.drain(..) {
                self.handle(token);
            }
            self.settle();
            if self
                .stop_at
                .is_some_and(|at| self.is_drained() || self.io.now >= at)
            {
                return Ok(());
            }
        }
    }

    /// Takes the system's servers anew when their file has changed.
    fn follow_system(&mut self) {
        let now = self.io.now;
        let watch = self.system.as_mut();
        if watch.is_some_and(|watch| watch.has_changed(now)) {
            self.configure();
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let needs_sweep = !self.io.clients.is_empty()
            || !self.io.streams.is_empty()
            || self.io.lanes.needs_sweep()
            || self
                .io
                .listeners
                .iter()
                .flatten()
                .any(|listener| listener.is_paused);
        let sweep = needs_sweep.then_some(self.next_sweep);
        let timers = self
            .forwarder
            .next_timeout()
            .into_iter()
            .chain(sweep)
            .chain(self.stop_at);
        timers
            .min()
            .map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn is_drained(&self) -> bool {
        !self.forwarder.is_busy() && self.io.clients.is_flushed()
    }

    fn handle(&mut self, token: Token) {
        match token {
            Token::Commands => self.take_commands(),
            Token::Udp(index) => self.receive_questions(index),
            Token::Accept(index) => self.accept(index),
            Token::Lane(index) => self.receive_answers(index),
            Token::Client(index) => {
                let now = self.io.now;
                self.io.clients.receive(index, now);
            }
            Token::Upstream(index) => {
                let outcomes = self.io.streams.advance(index, self.io.now, &self.io.poll);
                self.io.outcomes.extend(outcomes);
                self.take_outcomes();
            }
        }
    }

    /// Does what became due and sends what was queued, until nothing is left to do.
    fn settle(&mut self) {
        let now = self.io.now;
        self.forwarder.tick(now, &mut self.io);
        if now >= self.next_sweep {
            self.sweep();
        }
        loop {
            while let Some((client, question)) = self.io.clients.next_question(&self.io.poll) {
                let client = Client::Tcp(client);
                self.forwarder
                    .query(&question, client, Transport::Tcp, now, &mut self.io);
            }
            self.io.flush();
            if self.io.unsent.is_empty() && self.io.outcomes.is_empty() {
                break;
            }
            for ((upstream, lane), why) in std::mem::take(&mut self.io.unsent) {
                self.forwarder
                    .unreachable(upstream, lane, &why, now, &mut self.io);
            }
            self.take_outcomes();
        }
    }

    fn take_outcomes(&mut self) {
        let now = self.io.now;
        for outcome in std::mem::take(&mut self.io.outcomes) {
            match outcome {
                Outcome::Answered(upstream, answer) => {
                    self.forwarder
                        .stream_answer(upstream, &answer, now, &mut self.io);
                }
                Outcome::Failed(upstream, id, why) => {
                    self.forwarder
                        .stream_failed(upstream, id, &why, now, &mut self.io);
                }
            }
        }
    }

    fn receive_questions(&mut self, index: u32) {
        if self.stop_at.is_some() {
            return;
        }
        for _ in 0..TURNS {
            let Some(Some(listener)) = self.io.listeners.get(index as usize) else {
                return;
            };
            let Ok(count) = self.receiver.receive(listener.udp.as_fd()) else {
                return;
            };
            self.received += count as u32;
            for place in 0..count {
                let datagram = self.receiver.datagram(place);
                let Some(peer) = datagram.peer.filter(|_| !datagram.is_cut) else {
                    continue;
                };
                let client = Client::Udp {
                    listener: index,
                    peer,
                    local: datagram.local,
                };
                let now = self.io.now;
                self.forwarder
                    .query(datagram.bytes, client, Transport::Udp, now, &mut self.io);
            }
            if !self.receiver.was_full() {
                return;
            }
            self.io.flush();
        }
    }

    fn receive_answers(&mut self, index: u32) {
        for _ in 0..TURNS {
            let Some(((upstream, lane), socket)) = self.io.lanes.get(index) else {
                return;
            };
            let now = self.io.now;
            let count = match self.receiver.receive(socket.as_fd()) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // An ICMP error, such as port unreachable.
                Err(error) => {
                    let why = error.to_string().into();
                    return self
                        .forwarder
                        .unreachable(upstream, lane, &why, now, &mut self.io);
                }
            };
            for place in 0..count {
                let datagram = self.receiver.datagram(place);
                if datagram.is_cut && datagram.bytes.len() > 2 {
                    // As if the upstream had cut it.
                    datagram.bytes[2] |= 0x02;
                }
                let io = &mut self.io;
                let is_expected = self
                    .forwarder
                    .datagram(upstream, lane, datagram.bytes, now, io);
                self.received += u32::from(is_expected);
            }
            if !self.receiver.was_full() {
                return;
            }
        }
    }

    fn accept(&mut self, index: u32) {
        let Some(Some(listener)) = self.io.listeners.get_mut(index as usize) else {
            return;
        };
        if self.stop_at.is_some() {
            return;
        }
        match listener.tcp.accept() {
            Ok((stream, _)) => self.io.clients.add(stream, self.io.now, &self.io.poll),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                if !self.io.clients.close_idlest() {
                    listener.is_paused = true;
                    let token = Token::Accept(index);
                    // Without a descriptor to give, being asked again at once helps nobody.
                    let _ = self.io.poll.change(&listener.tcp, token, false, false);
                }
            }
            // The client gave up, or it is for another time.
            Err(_) => {}
        }
    }

    fn sweep(&mut self) {
        let now = self.io.now;
        self.next_sweep = now + SWEEP;
        self.io.clients.sweep(now);
        let outcomes = self.io.streams.sweep(now);
        self.io.outcomes.extend(outcomes);
        self.io.lanes.sweep(now);
        for (index, listener) in (0..).zip(&mut self.io.listeners) {
            let Some(listener) = listener.as_mut().filter(|listener| listener.is_paused) else {
                continue;
            };
            let token = Token::Accept(index);
            listener.is_paused = self
                .io
                .poll
                .change(&listener.tcp, token, true, false)
                .is_err();
        }
    }

    fn take_commands(&mut self) {
        // Only takes the ring off the bell.
        let _ = self.bell.read();
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Ask(question, answer) => {
                    self.next_own += 1;
                    self.io.own.insert(self.next_own, answer);
                    let client = Client::Own(self.next_own);
                    let now = self.io.now;
                    self.forwarder
                        .query(&question, client, Transport::Own, now, &mut self.io);
                }
                Command::Configure(dns, bound, done) => {
                    let result = self.change_listeners(&dns.listen, bound);
                    self.dns = dns;
                    self.configure();
                    // Who asked may have given up.
                    let _ = done.send(result);
                }
                Command::Status(status) => {
                    let _ = status.send(self.forwarder.status(self.io.local_addresses()));
                }
                Command::Stop => self.stop_at = Some(self.io.now + DRAIN),
            }
        }
    }

    fn change_listeners(&mut self, wanted: &[SocketAddr], new: Vec<Bound>) -> std::io::Result<()> {
        for slot in &mut self.io.listeners {
            if slot
                .as_ref()
                .is_some_and(|listener| !wanted.contains(&listener.configured))
            {
                *slot = None;
            }
        }
        new.into_iter().try_for_each(|bound| self.io.listen(bound))
    }

    /// Takes the settings that the configuration and the system's servers make together.
    fn configure(&mut self) {
        let uses_system = self
            .dns
            .upstreams
            .as_ref()
            .is_some_and(|upstreams| upstreams.contains(&Upstream::System));
        if !uses_system {
            self.system = None;
        } else if self.system.is_none() {
            self.system = Some(Watch::new(self.io.now));
        }
        let mut servers = Vec::new();
        if uses_system {
            servers = system::system_servers(&self.io.local_addresses()).unwrap_or_else(|error| {
                warn!(%error, "failed to read the system's name servers");
                Vec::new()
            });
        }
        let settings = Settings::new(&self.dns, &servers);
        let gone = self
            .forwarder
            .configure(&settings, self.io.now, &mut self.io);
        self.io.lanes.close(&gone);
        self.io.streams.close(&gone);
    }
}
