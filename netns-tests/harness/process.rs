//! Programs that run in the background of a case.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait::{wait_for, wait_until};

/// Where the output of every program in the background is kept.
pub const LOGS: &str = "/run/shared/logs";

/// How much of each log is shown when a case fails.
const SHOWN_LINES: usize = 120;

/// A program in the background; it is killed when this is dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(super) fn new(child: Child, log: PathBuf) -> Self {
        Self { child, log }
    }

    /// Its process id, in the case's namespace.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote so far, to standard output and standard error.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).expect("a log can be read")).into_owned()
    }

    /// Waits until its output holds a text.
    #[track_caller]
    pub fn wait_for_output(&self, text: &str) {
        wait_until(&format!("{text:?} in {}", self.log.display()), || {
            self.output().contains(text)
        });
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child can be waited for")
            .is_none()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).expect("a child can be signalled");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for(&format!("the end of {}", self.log.display()), || {
            child.try_wait().expect("a child can be waited for")
        })
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A new log file; the name tells whose.
pub(super) fn new_log(host: &str, program: &str) -> (File, PathBuf) {
    let program = Path::new(program)
        .file_name()
        .unwrap_or_default()
        .display()
        .to_string();
    let taken = |path: &PathBuf| !path.exists();
    let path = (1..)
        .map(|n| PathBuf::from(format!("{LOGS}/{host}-{program}-{n}")))
        .find(taken);
    let path = path.expect("numbers do not end");
    (File::create(&path).expect("a log can be made"), path)
}

/// Prints the last lines of every log.
pub fn print_logs() {
    let mut logs: Vec<PathBuf> = std::fs::read_dir(LOGS)
        .map(|folder| folder.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    logs.sort();
    for log in logs {
        let text = std::fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        eprintln!("-- {} ({} lines)", log.display(), lines.len());
        shown.iter().for_each(|line| eprintln!("   {line}"));
    }
}
