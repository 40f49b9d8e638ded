//! One instance per network namespace and interface.

use std::io::Read;
use std::process::{Child, ChildStdout, Command, Stdio};

use seedwire::app::lock::{Holder, Lock, LockError};
use seedwire_core::types::InterfaceName;

/// In the environment of a helper process: which interface it is about.
const INTERFACE: &str = "SEEDWIRE_TEST_INTERFACE";

/// A name that no other test run uses.
fn interface(prefix: &str) -> InterfaceName {
    let name = format!("{prefix}{}", std::process::id());
    name.parse().expect("it is short")
}

fn holder(taken: Result<Lock, LockError>) -> Holder {
    match taken {
        Err(LockError::Held { holder, .. }) => holder,
        other => panic!("{other:?}"),
    }
}

/// This test program again, for one of the helpers below.
fn helper(wrapper: &[&str], test: &str, interface: &InterfaceName) -> Command {
    let program = std::env::current_exe().expect("a path");
    let program = program.to_str().expect("the path is UTF-8");
    let line = [
        wrapper,
        &[program, "--exact", test, "--ignored", "--nocapture"],
    ]
    .concat();
    let mut command = Command::new(line[0]);
    command.args(&line[1..]).env(INTERFACE, interface.as_str());
    command
}

fn interface_of_helper() -> InterfaceName {
    let name = std::env::var(INTERFACE).expect("a test started this");
    name.parse().expect("a name")
}

/// Reads until the helper has said `word`.
fn wait_for(word: &str, stdout: &mut ChildStdout) {
    let mut said = String::new();
    let mut byte = [0];
    while !said.contains(word) {
        let read = stdout.read(&mut byte).expect("the helper talks");
        assert_ne!(read, 0, "the helper ended: {said}");
        said.push(char::from(byte[0]));
    }
}

fn hold_in_another_process(interface: &InterfaceName) -> Child {
    let mut child = helper(&[], "lock::helper_that_holds_a_lock", interface)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test program starts");
    wait_for("held", child.stdout.as_mut().expect("a pipe"));
    child
}

#[test]
#[ignore = "the other process of another test"]
fn helper_that_holds_a_lock() {
    let _lock = Lock::acquire(&interface_of_helper()).expect("it is free");
    println!("held");
    // Until the test closes the pipe or ends this process.
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
#[ignore = "the other process of another test"]
fn helper_that_wants_a_lock() {
    let error = Lock::acquire(&interface_of_helper()).expect_err("it is held");
    println!("{error}");
}

#[test]
fn a_lock_is_for_one_interface_and_until_it_is_dropped() {
    let (first, second) = (interface("lka"), interface("lkb"));
    let lock = Lock::acquire(&first).expect("it is free");
    let _other = Lock::acquire(&second).expect("another interface is another lock");
    let own = i32::try_from(std::process::id()).unwrap();
    assert_eq!(holder(Lock::acquire(&first)), Holder::Process(own));
    drop(lock);
    Lock::acquire(&first).expect("it is free again");
}

#[test]
fn another_process_is_named_and_its_death_frees_the_lock() {
    let interface = interface("lkc");
    let mut other = hold_in_another_process(&interface);
    let pid = i32::try_from(other.id()).unwrap();
    let error = Lock::acquire(&interface).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "failed to lock the interface {interface}: the process {pid} runs it in this network \
             namespace"
        )
    );
    other.kill().expect("it runs");
    other.wait().expect("it ends");
    Lock::acquire(&interface).expect("the kernel let go of it");
}

#[test]
fn a_lock_that_is_asked_for_very_often_stays_one() {
    let interface = interface("lkd");
    let _lock = Lock::acquire(&interface).expect("it is free");
    // More than the queue of a listening socket takes (net.core.somaxconn is 4096 by default).
    for _ in 0..5000 {
        let holder = holder(Lock::acquire(&interface));
        assert_ne!(holder, Holder::OtherPidNamespace);
    }
}

#[test]
fn a_holder_in_another_pid_namespace_is_called_that() {
    let interface = interface("lke");
    let _lock = Lock::acquire(&interface).expect("it is free");
    let namespace = ["unshare", "--user", "--map-root-user", "--pid", "--fork"];
    let output = helper(&namespace, "lock::helper_that_wants_a_lock", &interface)
        .output()
        .expect("unshare of util-linux runs");
    let told = String::from_utf8_lossy(&output.stderr);
    if told.starts_with("unshare:") {
        eprintln!("skipped: {told}");
        return;
    }
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("a process of another pid namespace runs it"),
        "{said}{told}"
    );
}
