//! Every configuration in bad/ is rejected with exactly what the file beside it says. With
//! `SEEDWIRE_WRITE_EXPECTED` set, those files are written anew, to be read before they are kept.

use std::path::{Path, PathBuf};
use std::process::Output;

use crate::run::{Folder, output, seedwire, stderr, stdout};

const PRIVATE_KEY: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const PRESHARED_KEY: &str = "FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE=";

fn folder_of_cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/bad")
}

fn cases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder_of_cases()).expect("the cases can be listed");
    let mut cases: Vec<_> = entries
        .map(|entry| entry.expect("the cases can be listed").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    cases.sort();
    cases
}

/// Checks one case in a world with these files; messages name the file without its folder.
fn check(case: &Path, files: &Folder) -> Output {
    let file = case.file_name().expect("a case is a file");
    output(
        seedwire()
            .current_dir(folder_of_cases())
            .env("TEST_PRIVATE_KEY", PRIVATE_KEY)
            .env("TEST_NOT_A_KEY", "not a key")
            .env("TEST_NODE", "node-1")
            .env("TEST_KEY_FILE", files.write("key", PRIVATE_KEY, 0o600))
            .env(
                "TEST_OPEN_KEY_FILE",
                files.write("open", PRIVATE_KEY, 0o644),
            )
            .env(
                "TEST_ADDRESSES_FILE",
                files.write("a", "10.88.0.2/32 10.88.0.2 nine", 0o600),
            )
            .arg("check")
            .arg("-c")
            .arg(file),
        b"",
    )
}

fn own_ids() -> (String, String) {
    let uid = nix::unistd::geteuid().to_string();
    let gid = nix::unistd::getegid().to_string();
    (uid, gid)
}

#[test]
fn each_is_rejected_with_the_exact_message() {
    let files = Folder::new("bad-configurations");
    let (uid, gid) = own_ids();
    let cases = cases();
    assert!(cases.len() >= 40, "only {} cases", cases.len());
    let mut differences = Vec::new();
    for case in cases {
        let output = check(&case, &files);
        let messages = stderr(&output);
        let beside = case.with_extension("expected");
        if std::env::var_os("SEEDWIRE_WRITE_EXPECTED").is_some() {
            let ids = format!("runs with uid {uid}, gid {gid}");
            let general = messages.replace(&ids, "runs with uid UID, gid GID");
            std::fs::write(&beside, general).expect("what is expected can be written");
        }
        let expected = std::fs::read_to_string(&beside).unwrap_or_default();
        let expected = expected.replace("UID", &uid).replace("GID", &gid);
        if messages != expected || output.status.code() != Some(78) || !output.stdout.is_empty() {
            differences.push(format!(
                "{}: {}\nexpected:\n{expected}printed:\n{messages}{}",
                case.display(),
                output.status,
                stdout(&output)
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn no_output_of_any_holds_a_secret() {
    let files = Folder::new("bad-secrets");
    for case in cases() {
        let output = check(&case, &files);
        let text = stdout(&output) + &stderr(&output);
        for secret in [PRIVATE_KEY, PRESHARED_KEY] {
            assert!(!text.contains(&secret[..16]), "{}: {text}", case.display());
        }
    }
}

#[test]
fn the_cases_are_bad_for_one_reason_as_their_base_is_good() {
    let files = Folder::new("bad-base");
    let good = std::fs::read_to_string(folder_of_cases().join("backend.yaml"))
        .expect("the case can be read")
        .replace("backend: module", "backend: userspace");
    let good = files.write("good.yaml", &good, 0o600);
    let output = output_of(&good);
    assert_eq!(stderr(&output), "");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), format!("{good}: good\n"));
}

fn output_of(file: &str) -> Output {
    output(
        seedwire()
            .env("TEST_PRIVATE_KEY", PRIVATE_KEY)
            .args(["check", "-c", file]),
        b"",
    )
}
