//! The namespaces that one case runs in.
//!
//! The runner starts itself as a child that makes the namespaces (a process must have a single
//! thread for that) and starts itself again as the first process in them, which runs the case. The
//! kernel ends each with its parent, and with the first process all that it started.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::OnceLock;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{getgid, getuid};

use super::process;

/// A folder in memory that all hosts of a case see under this name.
pub const SHARED: &str = "/run/shared";

static SEEDWIRE: OnceLock<&str> = OnceLock::new();

/// The path of the program under test.
pub fn seedwire() -> &'static str {
    SEEDWIRE.get().expect("set before a case starts")
}

/// How far a child has come.
#[derive(Clone, Copy)]
pub enum Stage {
    /// It makes the namespaces.
    Isolate,
    /// It is the first process in them.
    Inside,
}

impl Stage {
    /// The argument that asks for the stage.
    pub fn name(self) -> &'static str {
        match self {
            Self::Isolate => "--stage-isolate",
            Self::Inside => "--stage-inside",
        }
    }

    /// The stage that an argument asks for.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Isolate, Self::Inside]
            .into_iter()
            .find(|stage| stage.name() == name)
    }
}

/// Takes a child through its stage.
pub fn enter(stage: Stage, name: &str, seedwire: &'static str, run: fn()) -> ExitCode {
    match stage {
        Stage::Isolate => isolate(name),
        Stage::Inside => inside(seedwire, run),
    }
}

fn isolate(name: &str) -> ExitCode {
    let (uid, gid) = (getuid(), getgid());
    let namespaces = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    if let Err(error) = unshare(namespaces) {
        eprintln!(
            "failed to make namespaces: {error}; see kernel.apparmor_restrict_unprivileged_userns and user.max_user_namespaces"
        );
        return ExitCode::FAILURE;
    }
    die_with_parent();
    write("/proc/self/uid_map", &format!("0 {uid} 1"));
    write("/proc/self/setgroups", "deny");
    write("/proc/self/gid_map", &format!("0 {gid} 1"));
    let child = Command::new("/proc/self/exe")
        .args([Stage::Inside.name(), name])
        .status();
    match child.expect("this program starts itself").code() {
        Some(0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn inside(seedwire: &'static str, run: fn()) -> ExitCode {
    die_with_parent();
    SEEDWIRE.set(seedwire).expect("set once");
    mount_private_folders();
    let passed = catch_unwind(AssertUnwindSafe(run)).is_ok();
    if !passed {
        process::print_logs();
    }
    ExitCode::from(u8::from(!passed))
}

fn die_with_parent() {
    prctl::set_pdeathsig(Signal::SIGKILL).expect("a valid signal");
}

fn mount_private_folders() {
    const NOTHING: Option<&str> = None;
    // What is mounted here must not reach the mount namespace of the machine.
    mount(
        NOTHING,
        "/",
        NOTHING,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        NOTHING,
    )
    .expect("mounts become private");
    mount(
        Some("proc"),
        "/proc",
        Some("proc"),
        MsFlags::empty(),
        NOTHING,
    )
    .expect("a /proc of the new process namespace");
    let resolv_conf = std::fs::canonicalize("/etc/resolv.conf");
    mount(
        Some("tmpfs"),
        "/run",
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=755"),
    )
    .expect("a private /run");
    for folder in [SHARED, "/run/shared/tmp", "/run/hosts", process::LOGS] {
        std::fs::create_dir_all(folder).expect("a folder in /run");
    }
    // systemd-resolved keeps the file in /run, which hosts mount their own over.
    if let Ok(target) = resolv_conf
        && target.starts_with("/run")
    {
        std::fs::create_dir_all(target.parent().unwrap_or(Path::new("/run"))).expect("a folder");
        std::fs::write(target, "").expect("a file in /run");
    }
}

/// Writes a file that must be there, such as one of /proc.
pub fn write(path: impl AsRef<Path>, content: &str) {
    let path = path.as_ref();
    if let Err(error) = std::fs::write(path, content) {
        panic!("failed to write {}: {error}", path.display());
    }
}
