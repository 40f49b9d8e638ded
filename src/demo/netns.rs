//! A network namespace that lives as long as its value.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Socket, Type};

use super::refusal::{self, Step};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace and the thread that is inside. What that thread opens stays in the
/// namespace wherever it is used; what it starts is born there.
pub(super) struct Netns {
    name: &'static str,
    file: File,
    task: u32,
    jobs: mpsc::Sender<Job>,
}

impl Netns {
    /// Makes a namespace; the name is that of its thread.
    pub(super) fn new(name: &'static str) -> Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (made, result) = mpsc::channel();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // Nobody waits for the result only if the demo is ending.
                let _ = made.send(enter_new());
                inbox.into_iter().for_each(|job| job());
            })
            .with_context(|| format!("failed to start a thread for {name}"))?;
        let (file, task) = result.recv().context("failed to start a thread")??;
        Ok(Self {
            name,
            file,
            task,
            jobs,
        })
    }

    /// What it stands for.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// The number by which /proc of the host knows a thread inside.
    pub(super) fn task(&self) -> u32 {
        self.task
    }

    /// The namespace as an open file, setns(2).
    pub(super) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Runs `job` inside and waits for its result.
    pub(super) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (done, result) = mpsc::channel();
        let job = Box::new(move || {
            let _ = done.send(job());
        });
        let gone = || anyhow!("the thread of {} is gone", self.name);
        self.jobs.send(job).map_err(|_| gone())?;
        result.recv().map_err(|_| gone())?
    }

    /// A UDP and a TCP listener at the same address, for tokio.
    pub(super) fn listen(&self, at: SocketAddrV4) -> Result<(UdpSocket, TcpListener)> {
        self.run(move || {
            let udp = UdpSocket::bind(at).with_context(|| format!("failed to bind {at}/udp"))?;
            let tcp = TcpListener::bind(at).with_context(|| format!("failed to bind {at}/tcp"))?;
            udp.set_nonblocking(true)?;
            tcp.set_nonblocking(true)?;
            Ok((udp, tcp))
        })
    }

    /// A UDP socket for questions, for tokio.
    pub(super) fn udp(&self) -> Result<tokio::net::UdpSocket> {
        let socket = self.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })?;
        Ok(tokio::net::UdpSocket::from_std(socket)?)
    }

    /// A TCP socket that is not connected yet, for tokio.
    pub(super) fn tcp(&self) -> Result<tokio::net::TcpSocket> {
        let socket = self.run(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })?;
        Ok(tokio::net::TcpSocket::from_std_stream(socket.into()))
    }
}

fn enter_new() -> Result<(File, u32)> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| refusal::of(Step::Capabilities, errno))?;
    let file = File::open("/proc/thread-self/ns/net").context("failed to open a namespace")?;
    // /proc is still that of the host: the link reads HOST-PID/task/HOST-TID.
    let link = fs::read_link("/proc/thread-self").context("failed to look at /proc")?;
    let task = link
        .file_name()
        .and_then(|task| task.to_str()?.parse().ok())
        .context("failed to look at /proc")?;
    Ok((file, task))
}
