//! genkey, pubkey and genpsk against wg(8).

use std::process::Command;

use crate::run::{Folder, output, seedwire, stderr, stdout};

/// Whether wg(8) is here. Where it is not, that is said; a CI run must have it.
fn wg_is_here() -> bool {
    let here = Command::new("wg").arg("--version").output().is_ok();
    if !here {
        assert!(std::env::var_os("CI").is_none(), "wg(8) is not installed");
        eprintln!("SKIPPED: wg(8) is not installed");
    }
    here
}

fn printed(arguments: &[&str]) -> String {
    let output = output(seedwire().args(arguments), b"");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    stdout(&output)
}

#[test]
fn a_private_key_is_new_each_time_and_clamped() {
    let keys = [printed(&["genkey"]), printed(&["genkey"])];
    assert_ne!(keys[0], keys[1]);
    for key in keys {
        let line = key.strip_suffix('\n').expect("one line");
        let key: seedwire_core::types::PrivateKey = line.parse().expect("a key");
        let bytes = key.as_bytes();
        assert_eq!(bytes[0] & 7, 0);
        assert_eq!(bytes[31] & 0xc0, 0x40);
    }
}

#[test]
fn a_preshared_key_is_32_random_bytes() {
    let keys = [printed(&["genpsk"]), printed(&["genpsk"])];
    assert_ne!(keys[0], keys[1]);
    for key in keys {
        let line = key.strip_suffix('\n').expect("one line");
        assert!(line.parse::<seedwire_core::types::PresharedKey>().is_ok());
    }
}

#[test]
fn the_public_key_is_that_of_rfc_7748() {
    // Alice's key pair of RFC 7748, 6.1.
    let private = b"dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\n";
    let output = output(seedwire().arg("pubkey"), private);
    assert_eq!(
        stdout(&output),
        "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=\n"
    );
}

#[test]
fn pubkey_does_as_wg_does() {
    if !wg_is_here() {
        return;
    }
    let key = printed(&["genkey"]);
    let key = key.trim();
    let inputs = [
        format!("{key}\n"),
        key.to_owned(),
        format!("{key} \t\r\n\n\u{b}\u{c}"),
        format!("{key}\nx"),
        format!("{key}{key}"),
        format!(" {key}\n"),
        key[..43].to_owned(),
        String::new(),
        "!".repeat(44),
        "A".repeat(44),
        format!("{}B=", "A".repeat(42)),
        format!("{}=", "/".repeat(43)),
        format!("{}\n", "A".repeat(43) + "="),
        format!("{key}\0\n"),
        format!("{key}\0x"),
    ];
    for input in inputs {
        let ours = output(seedwire().arg("pubkey"), input.as_bytes());
        let theirs = output(Command::new("wg").arg("pubkey"), input.as_bytes());
        assert_eq!(stdout(&ours), stdout(&theirs), "{input:?}");
        let words = stderr(&theirs).replace("wg: ", "seedwire: ");
        assert_eq!(stderr(&ours), words, "{input:?}");
        assert_eq!(ours.status.code(), theirs.status.code(), "{input:?}");
    }
}

#[test]
fn wg_takes_our_keys() {
    if !wg_is_here() {
        return;
    }
    for _ in 0..8 {
        let key = printed(&["genkey"]);
        let ours = output(seedwire().arg("pubkey"), key.as_bytes());
        let theirs = output(Command::new("wg").arg("pubkey"), key.as_bytes());
        assert_eq!(stdout(&ours), stdout(&theirs));
    }
}

#[test]
fn a_key_into_a_file_that_others_can_read_is_warned_of_as_wg_does() {
    if !wg_is_here() {
        return;
    }
    let folder = Folder::new("keys");
    for mode in [0o600, 0o640, 0o644, 0o606] {
        let path = folder.write("key", "", mode);
        let warning = |program: &mut Command, command: &str| {
            let file = std::fs::File::create(&path).expect("the file can be opened");
            let output = program.arg(command).stdout(file).output();
            stderr(&output.expect("the command runs"))
        };
        for command in ["genkey", "genpsk"] {
            let ours = warning(&mut seedwire(), command);
            let theirs = warning(&mut Command::new("wg"), command);
            assert_eq!(ours, theirs, "{command} into a file of mode {mode:o}");
        }
    }
}

#[test]
fn output_that_nobody_takes_is_an_error() {
    let full = || {
        std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .expect("/dev/full can be opened")
    };
    for command in ["genkey", "genpsk"] {
        let output = seedwire().arg(command).stdout(full()).output();
        let output = output.expect("the command runs");
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            stderr(&output),
            "seedwire: failed to write to standard output: No space left on device (os error 28)\n"
        );
    }
}
