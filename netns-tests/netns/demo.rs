//! `seedwire demo`, where nothing else is installed.

use serde_json::Value;

use crate::harness::{Host, State, sandbox};

pub fn lines_arrive_and_nothing_is_left() {
    let host = Host::new("alone");
    let before = State::of(&host);
    let processes = || {
        host.run("ps -e -o comm=")
            .lines()
            .filter(|name| *name == "seedwire")
            .count()
    };
    for _ in 0..2 {
        let output = host.run(&format!("{} demo --lines 20 --json", sandbox::seedwire()));
        let last = output.lines().last().expect("a line");
        let summary: Value = serde_json::from_str(last).expect("JSON in the last line");
        assert_eq!(
            (&summary["sent"], &summary["received"]),
            (&20.into(), &20.into()),
            "{last}"
        );
        assert_eq!(processes(), 0);
    }
    crate::harness::state::assert_unchanged("after the demo", &before, &State::of(&host));
    let left = host.run("ls /run");
    assert_eq!(left.trim(), "shared", "files of the demo");
}

pub fn an_interrupt_leaves_nothing() {
    let host = Host::new("alone");
    let mut demo = host.spawn(&format!("{} demo --keep", sandbox::seedwire()));
    demo.wait_for_output("nsenter");
    demo.signal(nix::sys::signal::Signal::SIGINT);
    demo.wait();
    crate::harness::wait_until("all processes to end", || {
        !host
            .run("ps -e -o comm=")
            .lines()
            .any(|name| name == "seedwire")
    });
    assert_eq!(host.run("ls /run").trim(), "shared", "files of the demo");
}

pub fn an_interrupt_at_any_moment_leaves_nothing() {
    let host = Host::new("alone");
    for milliseconds in [1, 20, 100, 400, 1200, 3000] {
        let mut demo = host.spawn(&format!("{} demo", sandbox::seedwire()));
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        demo.signal(nix::sys::signal::Signal::SIGINT);
        demo.wait();
        crate::harness::wait_until("all processes to end", || {
            !host
                .run("ps -e -o comm=")
                .lines()
                .any(|name| name == "seedwire")
        });
        assert_eq!(host.run("ls /run").trim(), "shared", "files of the demo");
    }
}
