//! The corpus of the fuzzer, through the functions that it is fuzzed with: what was once found
//! stays mended.

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

#[path = "../../fuzz/src/lib.rs"]
#[allow(unreachable_pub)] // It is a library where it is fuzzed.
mod fuzz;

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 8] = [
    ("config", fuzz::config),
    ("datagrams", fuzz::datagrams),
    ("dns_addresses", fuzz::dns_addresses),
    ("dns_answer", fuzz::dns_answer),
    ("dns_question", fuzz::dns_question),
    ("packet_cut", fuzz::packet_cut),
    ("packet_merge", fuzz::packet_merge),
    ("uapi", fuzz::uapi),
];

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    std::fs::read_dir(folder)
        .expect("the folder can be listed")
        .map(|entry| entry.expect("the folder can be listed").path())
        .collect()
}

/// The inputs that a target's function panics on.
fn failures((name, run): Target) -> Vec<PathBuf> {
    let inputs = files(&format!("fuzz/corpus/{name}"));
    assert!(!inputs.is_empty(), "{name} has a corpus");
    let fails = |path: &PathBuf| {
        let input = std::fs::read(path).expect("an input can be read");
        catch_unwind(|| run(&input)).is_err()
    };
    inputs.into_iter().filter(fails).collect()
}

#[test]
fn every_input_passes() {
    let failed: Vec<_> = std::thread::scope(|scope| {
        let replays = TARGETS.map(|target| scope.spawn(move || failures(target)));
        let failed = replays.map(|replay| replay.join().expect("each has a corpus"));
        failed.into_iter().flatten().collect()
    });
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_target_is_replayed() {
    let stem = |path: PathBuf| Some(path.file_stem()?.to_str()?.to_owned());
    let targets: BTreeSet<_> = files("fuzz/fuzz_targets")
        .into_iter()
        .filter_map(stem)
        .collect();
    let replayed = TARGETS.map(|(name, _)| name.to_owned());
    assert_eq!(targets, BTreeSet::from(replayed));
}
