//! The walls around the demo: user, mount and pid namespaces that need no privileges, and that
//! nothing survives.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{getegid, geteuid};

use super::refusal::{self, Step};

/// How the process inside ended.
pub(super) enum End {
    /// By itself.
    Itself(ExitStatus),
    /// Because this process was told to end.
    Interrupted,
}

/// Runs this program once more, with these arguments, as the first process of namespaces of its
/// own, and waits for it. When this process is interrupted or killed, every process inside dies
/// at once, and with them all that they made.
///
/// Must be called before the process has a second thread, user_namespaces(7).
///
/// # Errors
/// That namespaces can't be made here, with the cause and the way out.
pub(super) fn run_inside<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Result<End> {
    let signals: SigSet = [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGCHLD,
    ]
    .into_iter()
    .collect();
    signals
        .thread_block()
        .context("failed to block the signals")?;
    make_namespaces()?;
    let mut first = Command::new("/proc/self/exe")
        .arg0("seedwire")
        .args(arguments)
        .stdin(Stdio::piped())
        .spawn()
        .context("failed to start the first process inside")?;
    wait(&mut first, &signals)
}

fn make_namespaces() -> Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)
        .map_err(|errno| refusal::of(Step::Namespaces, errno))?;
    let maps = [
        // Without it an ordinary user may not map a group, user_namespaces(7).
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ];
    for (file, text) in maps {
        fs::write(file, text)
            .map_err(|error| refusal::of(Step::Identity, refusal::errno(&error)))?;
    }
    Ok(())
}

fn wait(first: &mut Child, signals: &SigSet) -> Result<End> {
    loop {
        let signal = signals.wait().context("failed to wait for a signal")?;
        if let Some(status) = first.try_wait().context("failed to wait")? {
            return Ok(End::Itself(status));
        }
        if signal != Signal::SIGCHLD {
            // The first process of a pid namespace takes all others with it, and is not done
            // before they are, pid_namespaces(7).
            first.kill().context("failed to end the demo")?;
            first.wait().context("failed to wait")?;
            return Ok(End::Interrupted);
        }
    }
}

/// Whether the process inside ended well; its own error is printed already.
pub(super) fn succeeded(status: ExitStatus) -> Result<bool> {
    match status.signal() {
        Some(signal) => Err(anyhow!("the demo was ended by signal {signal}")),
        None => Ok(status.success()),
    }
}

/// The first steps of the process inside: it dies with its parent, and what it writes below /run
/// is in memory of its own. Gives the folder for the demo's files.
pub(super) fn settle() -> Result<PathBuf> {
    SigSet::all()
        .thread_unblock()
        .context("failed to unblock the signals")?;
    die_with_parent()?;
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount_none(Path::new("/"), None, flags)?;
    // Often one is a link to the other.
    for folder in ["/run", "/var/run"] {
        match fs::canonicalize(folder) {
            Ok(folder) if !is_ours(&folder) => cover(&folder)?,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).context("failed to look at /run"),
        }
    }
    let files = PathBuf::from("/run/seedwire");
    fs::create_dir_all(&files).with_context(|| format!("failed to create {}", files.display()))?;
    Ok(files)
}

fn die_with_parent() -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("failed to tie the demo to its parent")?;
    // The parent may have died before that: then nobody holds the other end any more.
    let stdin = std::io::stdin();
    let mut lifeline = [PollFd::new(
        std::os::fd::AsFd::as_fd(&stdin),
        PollFlags::POLLIN,
    )];
    poll(&mut lifeline, PollTimeout::ZERO).context("failed to look for the parent")?;
    let events = lifeline[0].revents().unwrap_or(PollFlags::empty());
    if events.contains(PollFlags::POLLHUP) {
        bail!("the parent is gone");
    }
    Ok(())
}

const MARK: &str = ".seedwire-demo";

fn is_ours(folder: &Path) -> bool {
    folder.join(MARK).exists()
}

fn cover(folder: &Path) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount_none(folder, Some("tmpfs"), flags)?;
    fs::write(folder.join(MARK), "")
        .with_context(|| format!("failed to write into {}", folder.display()))
}

fn mount_none(target: &Path, kind: Option<&str>, flags: MsFlags) -> Result<()> {
    let source = kind.unwrap_or("none");
    mount(Some(source), target, kind, flags, None::<&str>).map_err(|errno| {
        refusal::if_forbidden(Some(errno as i32)).map_or_else(
            || anyhow!(errno).context(format!("failed to mount over {}", target.display())),
            anyhow::Error::from,
        )
    })
}

/// Puts `text` in the place of /etc/resolv.conf for this thread and the processes that it starts.
/// Must be called on a thread that may leave the mount namespace of the others. A host without
/// that file stays without it.
pub(super) fn replace_resolv_conf(text: &str, files: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("failed to make a mount namespace")?;
    let new = files.join("resolv.conf");
    fs::write(&new, text).context("failed to write resolv.conf")?;
    let place = match fs::canonicalize("/etc/resolv.conf") {
        Ok(place) => place,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).context("failed to look at /etc/resolv.conf"),
    };
    mount(
        Some(&new),
        &place,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .context("failed to replace /etc/resolv.conf")
}
