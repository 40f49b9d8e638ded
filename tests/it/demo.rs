//! The demo: the main job on one machine.
#![allow(clippy::unwrap_used)] // A helper that can't do its part fails the test.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SEEDWIRE: &str = env!("CARGO_BIN_EXE_seedwire");

/// How the demo begins when this machine does not let it run; only then a test has nothing to see.
const REFUSED: &str = "the demo can't run here";

fn run(arguments: &[&str]) -> Option<Output> {
    let output = Command::new(SEEDWIRE)
        .arg("demo")
        .args(arguments)
        .output()
        .expect("seedwire runs");
    let told = String::from_utf8_lossy(&output.stderr);
    if told.contains(REFUSED) {
        eprintln!("skipped: {told}");
        return None;
    }
    Some(output)
}

#[test]
fn every_line_arrives_over_tunnel_route_dnat_and_dns() {
    let Some(output) = run(&["--lines", "5", "--json"]) else {
        return;
    };
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let text = String::from_utf8(output.stdout).unwrap();
    let summary: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(summary["sent"], 5, "{summary}");
    assert_eq!(summary["received"], 5, "{summary}");
    assert_eq!(summary["resolved"], "10.96.77.7", "{summary}");
    assert_eq!(summary["pushedTo"], "10.240.20.5:3100", "{summary}");
    assert_eq!(summary["questionsToNode"], 0, "{summary}");
    let from = summary["seenFrom"].as_str().unwrap();
    assert!(from.starts_with("10.88.0.2:"), "{summary}");
}

#[test]
fn more_lines_than_pushes_arrive_too() {
    let Some(output) = run(&["--lines", "1003", "--json"]) else {
        return;
    };
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&summary["sent"], &summary["received"]),
        (&1003.into(), &1003.into())
    );
}

/// A demo that tells its story on standard error.
struct Running {
    process: Child,
    story: BufReader<ChildStderr>,
}

impl Running {
    fn start() -> Self {
        let mut process = Command::new(SEEDWIRE)
            .args(["demo", "--lines", "2", "--keep", "--json"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("seedwire runs");
        let story = BufReader::new(process.stderr.take().unwrap());
        Self { process, story }
    }

    /// Reads up to a line that contains `text`, and gives what was read.
    fn follow(&mut self, text: &str) -> Option<String> {
        let mut told = String::new();
        while self.story.read_line(&mut told).unwrap() > 0 {
            if told.contains(REFUSED) {
                eprintln!("skipped: {told}");
                return None;
            }
            if told.lines().last().unwrap_or_default().contains(text) {
                return Some(told);
            }
        }
        panic!("no {text:?} in {told}");
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }
}

/// The processes inside, by the lines that say how to look around.
fn processes_inside(story: &str) -> Vec<PathBuf> {
    let number = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "-t")?;
        Some(PathBuf::from("/proc").join(words[at + 1]))
    };
    story.lines().filter_map(number).collect()
}

#[test]
fn what_is_kept_ends_whole_when_it_is_interrupted() {
    let mut demo = Running::start();
    let Some(story) = demo.follow("Ctrl-C") else {
        return;
    };
    let inside = processes_inside(&story);
    assert_eq!(inside.len(), 5, "{story}");
    assert!(inside.iter().all(|process| process.exists()));
    demo.signal(Signal::SIGINT);
    assert!(demo.process.wait().unwrap().success());
    assert!(!inside.iter().any(|process| process.exists()));
}

#[test]
fn nothing_outlives_a_demo_that_is_killed() {
    let mut demo = Running::start();
    let Some(story) = demo.follow("Ctrl-C") else {
        return;
    };
    demo.signal(Signal::SIGKILL);
    demo.process.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while processes_inside(&story)
        .iter()
        .any(|process| is_running(process))
    {
        assert!(Instant::now() < deadline, "a process is left");
        sleep(Duration::from_millis(10));
    }
}

/// Whether there is a process that is not merely waiting to be reaped by its new parent.
fn is_running(process: &Path) -> bool {
    fs::read_to_string(process.join("status")).is_ok_and(|status| !status.contains("State:\tZ"))
}

#[test]
fn an_interrupted_demo_says_so_and_fails() {
    let mut demo = Command::new(SEEDWIRE)
        .args(["demo", "--json"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("seedwire runs");
    let mut demo = Running {
        story: BufReader::new(demo.stderr.take().unwrap()),
        process: demo,
    };
    if demo.follow("namespaces").is_none() {
        return;
    }
    demo.signal(Signal::SIGTERM);
    let mut rest = String::new();
    demo.story.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("seedwire: interrupted\n"), "{rest}");
    assert_eq!(demo.process.wait().unwrap().code(), Some(1));
}

#[test]
fn a_machine_that_allows_no_user_namespaces_is_told_the_way_out() {
    let script = format!("echo 0 > /proc/sys/user/max_user_namespaces && exec {SEEDWIRE} demo");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", &script])
        .output()
        .expect("unshare of util-linux runs");
    let told = String::from_utf8_lossy(&output.stderr);
    if told.starts_with("unshare:") || told.starts_with("sh:") {
        eprintln!("skipped: {told}");
        return;
    }
    assert_eq!(
        told,
        "seedwire: the demo can't run here: user.max_user_namespaces is 0; \
         `sudo sysctl user.max_user_namespaces=10000` allows it\n"
    );
    assert_eq!(output.status.code(), Some(1));
}
