//! The life of an instance that needs no privileges.
#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in test functions, not in their helpers"
)]

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use seedwire::control::request;
use serde_json::Value;

use crate::ports::free_port;
use crate::run::{Folder, seedwire};

/// Only to end a test that hangs.
const DEADLINE: Duration = Duration::from_secs(30);

/// `seedwire run` in a folder of its own, until it is dropped.
struct Running {
    child: Child,
    folder: Folder,
    started: Instant,
}

impl Running {
    /// Starts it with this configuration, but for its control socket.
    fn start(folder: Folder, config: &str) -> Self {
        write(&folder, config);
        let mut command = seedwire();
        command.args(["run", "-c"]).arg(folder.path().join(CONFIG));
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        Self {
            child,
            folder,
            started: Instant::now(),
        }
    }

    fn send(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
    }

    /// Waits until the status is so.
    fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let mut status = None;
        while self.started.elapsed() < DEADLINE {
            let answer = request(&socket(&self.folder), "/status.json");
            let known = status.insert(answer.map(|text| serde_json::from_str(&text).unwrap()));
            if known.as_ref().is_ok_and(&is_so) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{what}: {status:?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const CONFIG: &str = "config.yaml";

fn write(folder: &Folder, config: &str) {
    let socket = socket(folder);
    let config = format!("control: {{socket: {}}}\n{config}", socket.display());
    folder.write(CONFIG, &config, 0o600);
}

fn socket(folder: &Folder) -> PathBuf {
    folder.path().join("s.sock")
}

fn relay(listen: SocketAddr) -> String {
    format!("ports: [{{listen: \"{listen}\", to: \"192.0.2.1:3100\"}}]\n")
}

fn is_ready(status: &Value) -> bool {
    status["ready"] == true
}

fn reloads(status: &Value) -> u64 {
    status["config"]["reloads"].as_u64().unwrap()
}

/// Makes news in a folder without end, until it is dropped.
struct Flood {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    fn start(folder: &Folder) -> Self {
        // More than one, because the kernel makes one of the same news in a row; long names, so
        // that little fits into one reading.
        let files = ["a", "b"].map(|letter| folder.path().join(letter.repeat(200)));
        for file in &files {
            std::fs::write(file, "x").unwrap();
        }
        let over = Arc::new(AtomicBool::new(false));
        let thread = |_| {
            let (over, files) = (Arc::clone(&over), files.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    for file in &files {
                        let mode = Permissions::from_mode(0o600);
                        std::fs::set_permissions(file, mode).unwrap();
                    }
                }
            })
        };
        let threads = (0..12).map(thread).collect();
        Self { over, threads }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[test]
fn news_without_end_beside_the_configuration_hold_nothing_up() {
    let folder = Folder::new("instance-flood");
    let flood = Flood::start(&folder);
    let running = Running::start(folder, &relay(free_port()));
    running.until("it is ready", is_ready);
    running.send(Signal::SIGHUP);
    running.until("SIGHUP is seen", |status| reloads(status) == 1);
    for _ in 0..100 {
        running.until("it answers", is_ready);
    }
    drop(flood);
}
