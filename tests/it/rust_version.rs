//! Which Rust builds this.

use std::process::Command;

use serde_json::Value;

/// `1.89.0` and `1.89` as numbers.
fn version(text: &str) -> Vec<u32> {
    let mut parts: Vec<u32> = text
        .split('.')
        .map(|part| part.parse().expect("a number"))
        .collect();
    parts.resize(3, 0);
    parts
}

#[test]
fn rust_version_is_the_lowest_that_the_dependencies_allow() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--format-version", "1"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{output:?}");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let (ours, theirs): (Vec<_>, Vec<_>) = packages
        .iter()
        .filter_map(|package| {
            Some((
                package["source"].is_null(),
                package["rust_version"].as_str()?,
            ))
        })
        .map(|(ours, text)| (ours, version(text)))
        .partition(|(ours, _)| *ours);
    let needed = theirs.iter().map(|(_, version)| version).max();
    for (_, stated) in &ours {
        assert_eq!(Some(stated), needed);
    }
    assert!(!ours.is_empty());
}
