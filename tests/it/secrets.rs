//! Secrets: where they may come from, and that they never show.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::run::{Folder, output, seedwire, stderr, stdout};

const PRIVATE_KEY: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const PRESHARED_KEY: &str = "FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE=";

/// A configuration with these keys of a tunnel, and this of its peer.
fn configuration(tunnel: &str, peer: &str) -> String {
    format!(
        "tunnel:\n  interface: seed0\n  {tunnel}\n  addresses: [10.88.0.2/32]\n  peers:\n    \
         - name: seed\n      publicKey: qHH/4nTnYNPtRVA0dG4TPxykQ7CVRAoFsLsZCKSJ4BE=\n      \
         endpoint: 192.0.2.1:51820\n      allowedIPs: [10.240.16.0/20]\n      {peer}\n\
         dns: {{listen: [169.254.20.11], zones: [{{zone: example.com, upstreams: [10.240.16.10]}}]}}\n"
    )
}

/// The subcommands that read a configuration, from their help.
fn readers_of_a_configuration() -> Vec<&'static str> {
    let reads = |name: &&str| {
        let help = output(seedwire().args([name, "--help"]), b"");
        stdout(&help).contains("--config <FILE>")
    };
    let names = ["check", "corefile", "run", "down", "status"];
    names.into_iter().filter(reads).collect()
}

#[test]
fn a_key_in_the_configuration_stops_all_but_down_and_is_never_printed() {
    let folder = Folder::new("inline-keys");
    let configurations = [
        configuration(&format!("privateKey: {PRIVATE_KEY}"), ""),
        configuration(&format!("privateKeyFile: {PRIVATE_KEY}"), ""),
        configuration(
            "privateKey: ${KEY}",
            &format!("presharedKey: {PRESHARED_KEY}"),
        ),
        configuration(
            "privateKey: ${KEY}",
            &format!("presharedKeyFile: /{PRESHARED_KEY}"),
        ),
    ];
    let commands = readers_of_a_configuration();
    assert!(commands.contains(&"check") && commands.contains(&"corefile"));
    for text in configurations {
        let file = folder.write("c.yaml", &text, 0o600);
        for command in &commands {
            let mut line = seedwire();
            line.env("KEY", PRIVATE_KEY).env("RUST_LOG", "trace");
            let output = output(line.args([command, "-c", &file]), b"");
            // It only needs the interface's name, and privileges that a test may lack.
            if *command != "down" {
                assert_eq!(output.status.code(), Some(78), "{command}");
            }
            assert_silent(&(stdout(&output) + &stderr(&output)));
        }
    }
}

fn assert_silent(text: &str) {
    for secret in [PRIVATE_KEY, PRESHARED_KEY] {
        for part in [&secret[..16], &secret[24..40]] {
            assert!(!text.contains(part), "{text}");
        }
    }
}

#[test]
fn keys_from_the_environment_and_from_files_are_taken_and_never_printed() {
    let folder = Folder::new("outside-keys");
    let private = folder.write("private.key", PRIVATE_KEY, 0o400);
    let psk = folder.write("psk", PRESHARED_KEY, 0o400);
    let configurations = [
        configuration("privateKey: ${KEY}", "presharedKey: ${PSK}"),
        configuration(
            &format!("privateKeyFile: {private}"),
            &format!("presharedKeyFile: {psk}"),
        ),
    ];
    for text in configurations {
        let file = folder.write("c.yaml", &text, 0o600);
        for command in ["check", "corefile"] {
            let mut line = seedwire();
            line.env("KEY", PRIVATE_KEY).env("PSK", PRESHARED_KEY);
            let output = output(line.args([command, "-c", &file]), b"");
            assert_eq!(stderr(&output), "");
            assert_eq!(output.status.code(), Some(0));
            assert_silent(&stdout(&output));
        }
    }
}

#[test]
fn a_key_file_is_judged_at_the_end_of_its_symbolic_links() {
    let folder = Folder::new("linked-key");
    let link = folder.path().join("private.key");
    let link_text = link.to_str().expect("the path is UTF-8").to_owned();
    symlink("..data/private.key", &link).expect("a link can be made");
    symlink("v1", folder.path().join("..data")).expect("a link can be made");
    let text = configuration(&format!("privateKeyFile: {link_text}"), "");
    let file = folder.write("c.yaml", &text, 0o600);
    let strict = folder.write("s.yaml", &format!("{text}strictSecrets: true\n"), 0o600);
    let finding = |topic: &str, file: &str, verb: &str| {
        format!(
            "{file}:3:19: {topic}tunnel.privateKeyFile: value \"{link_text}\": {verb} a file that \
             others can't read; it has mode 0644\n"
        )
    };

    folder.write("v1/private.key", PRIVATE_KEY, 0o600);
    let closed = output(seedwire().args(["check", "-c", &strict]), b"");
    assert_eq!(
        (stderr(&closed).as_str(), closed.status.code()),
        ("", Some(0))
    );

    folder.write("v1/private.key", PRIVATE_KEY, 0o644);
    let open = output(seedwire().args(["check", "-c", &file]), b"");
    assert_eq!(stderr(&open), finding("warning: ", &file, "better"));
    assert_eq!(open.status.code(), Some(0));
    let open = output(seedwire().args(["check", "-c", &strict]), b"");
    assert_eq!(stderr(&open), finding("", &strict, "expected"));
    assert_eq!(open.status.code(), Some(78));
}

#[test]
fn a_key_that_is_no_file_is_refused_without_waiting() {
    let folder = Folder::new("no-file");
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe can be made");
    for path in [pipe.as_path(), folder.path()] {
        let text = configuration(&format!("privateKeyFile: {}", path.display()), "");
        let file = folder.write("c.yaml", &text, 0o600);
        let output = output(seedwire().args(["check", "-c", &file]), b"");
        assert_eq!(output.status.code(), Some(78));
        let words = stderr(&output);
        assert!(words.contains("not a regular file"), "{words}");
    }
}

#[test]
fn a_key_that_may_not_be_read_names_both_users_and_the_mode() {
    use std::os::unix::process::CommandExt;
    // Where every user can look; the user nobody has this number on Debian.
    const NOBODY: u32 = 65534;
    let folder = Folder::within(&std::env::temp_dir(), "seedwire-unreadable");
    let key = folder.write("private.key", PRIVATE_KEY, 0o000);
    let text = configuration(&format!("privateKeyFile: {key}"), "");
    let file = folder.write("c.yaml", &text, 0o644);
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let mut command = seedwire();
    command.args(["check", "-c", &file]);
    let (our_uid, our_gid) = if uid.is_root() {
        let program = folder.path().join("seedwire");
        std::fs::copy(env!("CARGO_BIN_EXE_seedwire"), &program).expect("a copy can be made");
        for path in [folder.path(), &program] {
            let for_all = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(path, for_all).expect("the mode can be set");
        }
        command = std::process::Command::new(program);
        command.args(["check", "-c", &file]).uid(NOBODY).gid(NOBODY);
        (NOBODY, NOBODY)
    } else {
        (uid.as_raw(), gid.as_raw())
    };
    let output = output(&mut command, b"");
    assert_eq!(
        stderr(&output),
        format!(
            "{file}:3:19: tunnel.privateKeyFile: value \"{key}\": expected a file that can be read: \
             Permission denied (os error 13); seedwire runs with uid {our_uid}, gid {our_gid}; the \
             file has uid {uid}, gid {gid}, mode 0000\n"
        )
    );
    assert_eq!(output.status.code(), Some(78));
}
