//! Chooses cases, runs them as children and reports as cargo's own test runner does.

use std::collections::VecDeque;
use std::io::{Read, Seek, SeekFrom};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{Case, Load, sandbox};

/// How many ordinary cases run at once.
const SLOTS: usize = 2;

const USAGE: &str = "usage: [--list] [--nocapture] [--exact] [--ignored] [NAME...]";

#[derive(Default)]
struct Options {
    list: bool,
    nocapture: bool,
    exact: bool,
    ignored: bool,
    names: Vec<String>,
}

struct Running {
    case: Case,
    child: Child,
    output: std::fs::File,
    started: Instant,
    overdue: bool,
}

/// The whole of a suite's `main`: runs the cases that the arguments choose, or, in a child, the
/// one that the parent chose.
pub fn main(seedwire: &'static str, cases: &[Case]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [stage, name] = arguments.as_slice()
        && let Some(stage) = sandbox::Stage::named(stage)
    {
        let case = cases.iter().find(|case| case.name == name);
        let case = case.expect("the parent names a case of its own list");
        return sandbox::enter(stage, case.name, seedwire, case.run);
    }
    match parse(&arguments) {
        Some(options) => run(cases, &options),
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(64)
        }
    }
}

fn parse(arguments: &[String]) -> Option<Options> {
    let mut options = Options::default();
    for argument in arguments {
        match argument.as_str() {
            "--list" => options.list = true,
            "--nocapture" => options.nocapture = true,
            "--exact" => options.exact = true,
            "--ignored" => options.ignored = true,
            flag if flag.starts_with('-') => return None,
            name => options.names.push(name.to_owned()),
        }
    }
    Some(options)
}

impl Options {
    fn choose(&self, case: &Case) -> bool {
        let is_asked_for = self.ignored == (case.load == Load::Soak);
        is_asked_for && self.is_among(case)
    }

    fn is_among(&self, case: &Case) -> bool {
        let is_named = |name: &String| match self.exact {
            true => case.name == name,
            false => case.name.contains(name.as_str()),
        };
        self.names.is_empty() || self.names.iter().any(is_named)
    }
}

fn run(cases: &[Case], options: &Options) -> ExitCode {
    let chosen: Vec<Case> = cases
        .iter()
        .filter(|c| options.choose(c))
        .copied()
        .collect();
    if options.list {
        chosen
            .iter()
            .for_each(|case| println!("{}: test", case.name));
        println!("\n{} tests, 0 benchmarks", chosen.len());
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", chosen.len());
    let started = Instant::now();
    let failed = run_all(&chosen, options.nocapture);
    if !failed.is_empty() {
        println!("\nfailures:");
        failed.iter().for_each(|name| println!("    {name}"));
    }
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        if failed.is_empty() { "ok" } else { "FAILED" },
        chosen.len() - failed.len(),
        failed.len(),
        cases.len() - chosen.len(),
        started.elapsed().as_secs_f64(),
    );
    ExitCode::from(if failed.is_empty() { 0 } else { 101 })
}

/// Runs the cases and returns the names of those that failed.
fn run_all(cases: &[Case], nocapture: bool) -> Vec<&'static str> {
    let (waiting, queue): (Vec<Case>, Vec<Case>) =
        cases.iter().partition(|case| case.load.slots() == 0);
    let mut queue = VecDeque::from(queue);
    let mut running: Vec<Running> = waiting.into_iter().map(|c| start(c, nocapture)).collect();
    let mut failed = Vec::new();
    while !running.is_empty() || !queue.is_empty() {
        while let Some(case) = queue.front()
            && slots(&running) + case.load.slots() <= SLOTS
        {
            running.push(start(*case, nocapture));
            queue.pop_front();
        }
        failed.extend(running.extract_if(.., ended).filter_map(report));
        std::thread::sleep(Duration::from_millis(10));
    }
    failed
}

impl Load {
    fn slots(self) -> usize {
        match self {
            Self::Ordinary => 1,
            Self::Heavy => SLOTS,
            Self::Waiting | Self::Soak => 0,
        }
    }
}

fn slots(running: &[Running]) -> usize {
    running.iter().map(|one| one.case.load.slots()).sum()
}

fn start(case: Case, nocapture: bool) -> Running {
    let output = memfd_create(c"output", MFdFlags::MFD_CLOEXEC).expect("a file in memory");
    let output = std::fs::File::from(output);
    let mut command = Command::new("/proc/self/exe");
    command.args([sandbox::Stage::Isolate.name(), case.name]);
    command.stdin(Stdio::null());
    if !nocapture {
        let copy = || output.try_clone().expect("a copy of a file descriptor");
        command.stdout(copy()).stderr(copy());
    }
    Running {
        case,
        child: command.spawn().expect("this program starts itself"),
        output,
        started: Instant::now(),
        overdue: false,
    }
}

fn ended(one: &mut Running) -> bool {
    if !one.overdue && one.started.elapsed() > one.case.deadline {
        one.overdue = true;
        // The child's own children die with it.
        let _ = one.child.kill();
    }
    one.child
        .try_wait()
        .expect("a child can be waited for")
        .is_some()
}

/// Prints how a case ended; its name when it failed.
fn report(mut one: Running) -> Option<&'static str> {
    let passed = one.child.wait().is_ok_and(|status| status.success());
    println!(
        "test {} ... {} ({:.1} s)",
        one.case.name,
        if passed { "ok" } else { "FAILED" },
        one.started.elapsed().as_secs_f64(),
    );
    if passed {
        return None;
    }
    let mut output = Vec::new();
    let read = one
        .output
        .seek(SeekFrom::Start(0))
        .and_then(|_| one.output.read_to_end(&mut output));
    read.expect("a file in memory can be read");
    println!(
        "---- {} ----\n{}",
        one.case.name,
        String::from_utf8_lossy(&output)
    );
    if one.overdue {
        println!(
            "ended after its deadline of {} s",
            one.case.deadline.as_secs()
        );
    }
    Some(one.case.name)
}
