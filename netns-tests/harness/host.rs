//! Hosts: network namespaces with a /run of their own, and the cables between them.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use super::process::{self, Process};
use super::sandbox::{SHARED, write};
use super::wait_until;

const NOTHING: Option<&str> = None;

/// A network namespace with mounts of its own. A clone is the same host.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    name: String,
    network: File,
    mounts: File,
}

impl Host {
    /// A host with nothing but its loopback interface.
    pub fn new(name: &str) -> Self {
        let (network, mounts) = std::thread::scope(|scope| {
            scope
                .spawn(|| make_namespaces(name))
                .join()
                .expect("namespaces can be made")
        });
        let inner = Inner {
            name: name.to_owned(),
            network,
            mounts,
        };
        let host = Self(Arc::new(inner));
        host.run("ip link set lo up");
        // Duplicate address detection takes a second, and nobody else is on these cables.
        host.sysctl("net/ipv6/conf/default/accept_dad", "0");
        host.sysctl("net/ipv6/conf/all/accept_dad", "0");
        host
    }

    /// What it is called in logs.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Runs a function on a thread of this host: the files and sockets it opens are the host's.
    pub fn inside<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            // A thread that shares its working directory with others can't change its mounts.
            unshare(CloneFlags::CLONE_FS)?;
            setns(&self.0.mounts, CloneFlags::CLONE_NEWNS)?;
            setns(&self.0.network, CloneFlags::CLONE_NEWNET)
        };
        let joined = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    enter().expect("a host can be entered");
                    function()
                })
                .join()
        });
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs a program to its end and returns its standard output. The line is split at white
    /// space.
    ///
    /// # Panics
    /// When the program fails.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        self.run_args(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// As [`Host::run`], with arguments that may hold white space.
    #[track_caller]
    pub fn run_args(&self, line: &[&str]) -> String {
        let output = self.try_args(line);
        assert!(
            output.status.success(),
            "{}$ {}: {}\n{}{}",
            self.0.name,
            line.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        String::from_utf8(output.stdout).expect("programs print UTF-8")
    }

    /// Runs a program to its end, however it ends. The line is split at white space.
    pub fn try_run(&self, line: &str) -> Output {
        self.try_args(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// As [`Host::try_run`], with arguments that may hold white space.
    pub fn try_args(&self, line: &[&str]) -> Output {
        let output = self.inside(|| self.command(line).stdin(Stdio::null()).output());
        output.unwrap_or_else(|error| panic!("failed to run {}: {error}", line[0]))
    }

    /// Whether a program ends well. The line is split at white space.
    pub fn succeeds(&self, line: &str) -> bool {
        self.try_run(line).status.success()
    }

    /// Starts a program in the background. The line is split at white space.
    pub fn spawn(&self, line: &str) -> Process {
        self.spawn_args(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// As [`Host::spawn`], with arguments that may hold white space.
    pub fn spawn_args(&self, line: &[&str]) -> Process {
        self.spawn_with(line, &[])
    }

    /// As [`Host::spawn_args`], with more variables in the environment.
    pub fn spawn_with(&self, line: &[&str], environment: &[(&str, &str)]) -> Process {
        self.spawn_like(line, |command| {
            command.envs(environment.iter().copied());
        })
    }

    /// As [`Host::spawn_args`], with the command changed before it starts.
    pub fn spawn_like(&self, line: &[&str], change: impl FnOnce(&mut Command) + Send) -> Process {
        let (log, path) = process::new_log(&self.0.name, line[0]);
        let copy = log.try_clone().expect("a copy of a file descriptor");
        let child = self.inside(|| {
            let mut command = self.command(line);
            change(&mut command);
            command
                .stdin(Stdio::null())
                .stdout(copy)
                .stderr(log)
                .spawn()
        });
        let child = child.unwrap_or_else(|error| panic!("failed to start {}: {error}", line[0]));
        Process::new(child, path)
    }

    fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new(line[0]);
        command
            .args(&line[1..])
            .env("TMPDIR", format!("{SHARED}/tmp"));
        // Programs of the system may lie where an ordinary user's PATH does not lead.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        command
    }

    /// Sets a kernel parameter of this host, named as under /proc/sys.
    pub fn sysctl(&self, name: &str, value: &str) {
        self.inside(|| write(format!("/proc/sys/{name}"), value));
    }

    /// The value of a kernel parameter of this host.
    pub fn read_sysctl(&self, name: &str) -> String {
        let read = self.inside(|| std::fs::read_to_string(format!("/proc/sys/{name}")));
        read.expect("a kernel parameter").trim().to_owned()
    }

    /// Makes every parameter under /proc/sys read-only here, as in a pod without privileges.
    pub fn make_sysctls_read_only(&self) {
        let remount = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        let remount = remount | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        self.inside(|| {
            bind("/proc/sys", "/proc/sys");
            mount(NOTHING, "/proc/sys", NOTHING, remount, NOTHING).expect("a remount");
        });
    }

    /// A folder of this host alone; made when it is not there.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = PathBuf::from(format!("{SHARED}/{}/{name}", self.0.name));
        std::fs::create_dir_all(&folder).expect("a folder in memory");
        folder
    }

    /// Shows `content` in place of a file that is there on the machine, to this host alone.
    pub fn replace_file(&self, path: &str, content: &str) {
        let source = self.folder("files").join(path.replace('/', "-"));
        std::fs::write(&source, content).expect("a file in memory");
        self.inside(|| bind(&source, path));
    }

    /// A listener at an address of this host.
    pub fn listen(&self, address: &str) -> TcpListener {
        let address: SocketAddr = address.parse().expect("an address and a port");
        self.inside(|| TcpListener::bind(address))
            .expect("a free port")
    }

    /// A UDP socket at an address of this host.
    pub fn udp(&self, address: &str) -> UdpSocket {
        let address: SocketAddr = address.parse().expect("an address and a port");
        self.inside(|| UdpSocket::bind(address))
            .expect("a free port")
    }

    /// A connection from this host.
    pub fn connect(&self, address: &str) -> std::io::Result<TcpStream> {
        let address: SocketAddr = address.parse().expect("an address and a port");
        let limit = Duration::from_secs(5);
        let stream = self.inside(|| TcpStream::connect_timeout(&address, limit))?;
        stream.set_read_timeout(Some(limit))?;
        Ok(stream)
    }

    /// Adds an address to an interface, without a wait for duplicates.
    pub fn add_address(&self, interface: &str, address: &str) {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.run(&format!("ip addr add {address} dev {interface}{nodad}"));
    }

    /// Passes packets on between interfaces, IPv4 and IPv6.
    pub fn forward(&self) {
        self.sysctl("net/ipv4/ip_forward", "1");
        self.sysctl("net/ipv6/conf/all/forwarding", "1");
    }

    /// Loads nft rules, written in nft's language.
    pub fn nft(&self, rules: &str) {
        let file = self.folder("files").join("rules.nft");
        std::fs::write(&file, rules).expect("a file in memory");
        self.run(&format!("nft -f {}", file.display()));
    }
}

/// The network and the mount namespace of a new host; the calling thread stays in them.
fn make_namespaces(name: &str) -> (File, File) {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces can be made");
    let own = format!("/run/hosts/{name}");
    let shared = format!("{own}/shared");
    std::fs::create_dir_all(&shared).expect("a folder in memory");
    bind(SHARED, &shared);
    mount(
        Some(own.as_str()),
        "/run",
        NOTHING,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        NOTHING,
    )
    .expect("a /run of its own");
    let open = |kind: &str| File::open(format!("/proc/thread-self/ns/{kind}"));
    (
        open("net").expect("a namespace"),
        open("mnt").expect("a namespace"),
    )
}

fn bind(source: impl AsRef<Path>, target: impl AsRef<Path>) {
    let (source, target) = (source.as_ref(), target.as_ref());
    if let Err(error) = mount(Some(source), target, NOTHING, MsFlags::MS_BIND, NOTHING) {
        panic!(
            "failed to bind {} to {}: {error}",
            source.display(),
            target.display()
        );
    }
}

/// One end of a cable: a host, the name of the interface and its addresses with their lengths.
pub type End<'a> = (&'a Host, &'a str, &'a [&'a str]);

/// Joins two hosts by a cable.
pub fn link(a: End, b: End) {
    let namespace = |host: &Host| {
        format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            host.0.network.as_raw_fd()
        )
    };
    a.0.run(&format!(
        "ip link add name {} type veth peer name {} netns {}",
        a.1,
        b.1,
        namespace(b.0)
    ));
    for (host, interface, addresses) in [a, b] {
        for address in addresses {
            host.add_address(interface, address);
        }
        host.run(&format!("ip link set {interface} up"));
    }
    // The kernel tells of the carrier, and gives link-local addresses, a while after.
    for (host, interface, _) in [a, b] {
        wait_until(&format!("{interface} of {} to be up", host.name()), || {
            host.run(&format!("ip link show dev {interface}"))
                .contains("state UP")
                && host
                    .run(&format!("ip -6 route show table local dev {interface}"))
                    .contains("local fe80:")
        });
    }
}
