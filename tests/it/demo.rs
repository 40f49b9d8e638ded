//! The demo: the main job on one machine.

use std::process::Command;

const SEEDWIRE: &str = env!("CARGO_BIN_EXE_seedwire");

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
