//! The command line: help, exit codes, errors.

use crate::run::{Folder, abandon, output, seedwire, stderr, stdout};

#[test]
fn wrong_usage_ends_with_64() {
    let lines: [&[&str]; 6] = [
        &[],
        &["nonsense"],
        &["--nonsense"],
        &["check"],
        &["genkey", "extra"],
        &["completions", "no-shell"],
    ];
    for line in lines {
        let output = output(seedwire().args(line), b"");
        assert_eq!(output.status.code(), Some(64), "{line:?}");
        assert_eq!(stdout(&output), "", "{line:?}");
        assert_ne!(stderr(&output), "", "{line:?}");
    }
}

/// The names of the subcommands, from the help.
fn subcommands() -> Vec<String> {
    let help = stdout(&output(seedwire().arg("--help"), b""));
    let list = help
        .split("Commands:\n")
        .nth(1)
        .expect("a list of commands");
    list.lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn each_subcommand_explains_itself_with_an_example() {
    let subcommands = subcommands();
    assert!(subcommands.len() >= 6, "{subcommands:?}");
    for name in subcommands {
        let output = output(seedwire().args([&name, "--help"]), b"");
        assert_eq!(output.status.code(), Some(0), "{name}");
        let help = stdout(&output);
        assert!(help.contains("\nExample"), "{name}: {help}");
        assert!(help.contains(&format!("seedwire {name}")), "{name}: {help}");
    }
}

#[test]
fn the_version_and_the_exit_codes_are_told() {
    let version = stdout(&output(seedwire().arg("--version"), b""));
    assert_eq!(version, format!("seedwire {}\n", env!("CARGO_PKG_VERSION")));
    let help = stdout(&output(seedwire().arg("--help"), b""));
    for code in ["  0 ", "  1 ", "  64 ", "  78 "] {
        assert!(help.contains(code), "{help}");
    }
}

#[test]
fn an_error_prints_its_causes_once_in_one_line() {
    let output = output(seedwire().args(["check", "-c", "/nonexistent/c.yaml"]), b"");
    assert_eq!(output.status.code(), Some(78));
    let uid = nix::unistd::geteuid();
    let gid = nix::unistd::getegid();
    assert_eq!(
        stderr(&output),
        format!(
            "seedwire: failed to read the configuration /nonexistent/c.yaml: No such file or \
             directory (os error 2); seedwire runs with uid {uid}, gid {gid}\n"
        )
    );
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    for path in ["/dev/zero", "/"] {
        let output = output(seedwire().args(["check", "-c", path]), b"");
        assert_eq!(output.status.code(), Some(78), "{path}");
        let words = stderr(&output);
        assert!(words.contains("not a regular file"), "{path}: {words}");
    }
}

#[test]
fn completions_are_scripts_that_know_the_subcommands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = output(seedwire().args(["completions", shell]), b"");
        assert_eq!(output.status.code(), Some(0), "{shell}");
        for name in subcommands() {
            assert!(stdout(&output).contains(&name), "{shell}: {name}");
        }
    }
}

#[test]
fn corefile_prints_a_block_for_each_side() {
    let folder = Folder::new("corefile");
    let file = folder.write(
        "c.yaml",
        "dns:\n  listen: [169.254.20.11, \"[fd00::11]:5353\"]\n  zones:\n    \
         - {zone: loki.example.com, upstreams: [10.240.16.10]}\n",
        0o600,
    );
    let output = output(
        seedwire().args(["corefile", "-c", &file, "--bind", "169.254.25.10"]),
        b"",
    );
    assert_eq!(stderr(&output), "");
    assert_eq!(
        stdout(&output),
        "# In the user cluster: the Corefile of node-local-dns.\n\
         loki.example.com:53 {\n    errors\n    cache 30\n    bind 169.254.25.10\n    \
         forward . 169.254.20.11:53 [fd00::11]:5353\n}\n\
         \n# In the seed: the Corefile of the control plane's DNS at 10.240.16.10:53.\n\
         loki.example.com:53 {\n    errors\n    cache 30\n    forward . /etc/resolv.conf\n}\n"
    );
}

#[test]
fn corefile_needs_zones_and_an_address_to_forward_to() {
    let folder = Folder::new("corefile-bad");
    let cases = [
        (
            "dns: {listen: [127.0.0.1], upstreams: [system]}",
            "has no dns.zones",
        ),
        (
            "dns: {listen: [0.0.0.0], zones: [{zone: example.com, upstreams: [192.0.2.53]}]}",
            "has no address in dns.listen to forward to",
        ),
    ];
    for (text, why) in cases {
        let file = folder.write("c.yaml", text, 0o600);
        let output = output(seedwire().args(["corefile", "-c", &file]), b"");
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert_eq!(
            stderr(&output),
            format!("seedwire: failed to make server blocks: {file} {why}\n")
        );
    }
}

#[test]
fn down_removes_the_socket_of_a_killed_instance_and_no_other() {
    let folder = Folder::new("down-socket");
    let socket = folder.path().join("s.sock");
    let config = folder.path().join("config.yaml");
    let text = format!(
        "ports: [{{listen: \"127.0.0.1:3100\", to: \"192.0.2.1:3100\"}}]\n\
         control: {{socket: {}}}\n",
        socket.display()
    );
    std::fs::write(&config, text).unwrap();
    let down = || {
        let mut command = seedwire();
        let output = output(command.arg("down").arg("-c").arg(&config), b"");
        assert!(output.status.success(), "{}", stderr(&output));
    };
    let served = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    down();
    assert!(socket.exists(), "it is served");
    abandon(served, &socket);
    down();
    assert!(!socket.exists(), "nobody serves it");
}
