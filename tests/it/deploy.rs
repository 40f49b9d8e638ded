//! The manifests: what they give to seedwire is what seedwire takes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SEEDWIRE: &str = env!("CARGO_BIN_EXE_seedwire");

/// A manifest's seedwire configuration with its files, laid out as the pod mounts them.
struct Mounted {
    folder: PathBuf,
    config: PathBuf,
    keys: BTreeMap<String, String>,
}

impl Mounted {
    /// `test` keeps the tests' folders apart.
    fn new(manifest: &Path, test: &str) -> Self {
        let text = fs::read_to_string(manifest).expect("the manifest can be read");
        let stem = manifest.file_stem().expect("a file's name");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test).join(stem);
        for part in ["keys", "addresses"] {
            fs::create_dir_all(folder.join(part)).expect("the folder can be made");
        }
        for (name, text) in entries(&text, "ConfigMap", "seedwire-addresses") {
            write(&folder.join("addresses").join(name), &text);
        }
        let config = folder.join("seedwire.yaml");
        let configs = entries(&text, "ConfigMap", "seedwire");
        let here = folder.to_str().expect("UTF-8");
        write(
            &config,
            &configs["seedwire.yaml"].replace("/etc/seedwire", here),
        );
        let keys = entries(&text, "Secret", "seedwire-keys");
        assert!(!keys.is_empty(), "{manifest:?}");
        Self {
            folder,
            config,
            keys,
        }
    }

    fn put_key(&self, name: &str, text: &str) {
        write(&self.folder.join("keys").join(name), text);
    }

    fn seedwire(&self, command: &str, node: &str) -> Output {
        let mut seedwire = Command::new(SEEDWIRE);
        seedwire.arg(command).arg("-c").arg(&self.config);
        seedwire.env("NODE_NAME", node);
        seedwire.output().expect("seedwire runs")
    }
}

/// The entries of a ConfigMap or a Secret, as the manifests here write them: `  NAME: TEXT`, or
/// `  NAME: |` and lines that are indented further.
fn entries(manifest: &str, kind: &str, name: &str) -> BTreeMap<String, String> {
    let head = format!("kind: {kind}\nmetadata:\n  name: {name}\n");
    let object = manifest.split("\n---\n").find(|o| o.contains(&head));
    let data = object.and_then(|o| {
        o.split_once("\ndata:\n")
            .or(o.split_once("\nstringData:\n"))
    });
    let mut entries = BTreeMap::new();
    let mut last = String::new();
    for line in data.map_or("", |(_, data)| data).lines() {
        if let Some(text) = line.strip_prefix("    ") {
            let entry: &mut String = entries.entry(last.clone()).or_default();
            entry.push_str(text);
            entry.push('\n');
        } else if let Some((key, value)) = line.trim().split_once(':') {
            last = key.to_owned();
            entries.insert(last.clone(), value.trim_matches([' ', '|', '"']).to_owned());
        }
    }
    entries
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("the file can be written");
    let owner_only = fs::Permissions::from_mode(0o600);
    fs::set_permissions(path, owner_only).expect("the mode can be set");
}

fn manifests() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes");
    let files = fs::read_dir(folder).expect("the folder is there");
    let files: Vec<_> = files.map(|file| file.expect("an entry").path()).collect();
    assert!(files.len() >= 6, "{files:?}");
    files
}

fn genkey() -> String {
    let output = Command::new(SEEDWIRE).arg("genkey").output();
    String::from_utf8(output.expect("seedwire runs").stdout).expect("base64")
}

#[test]
fn each_configuration_passes_once_the_keys_are_replaced() {
    for manifest in manifests() {
        let mounted = Mounted::new(&manifest, "check");
        for (name, placeholder) in &mounted.keys {
            mounted.put_key(name, placeholder);
            let refused = mounted.seedwire("check", name);
            assert_eq!(refused.status.code(), Some(78), "{manifest:?}: {refused:?}");

            mounted.put_key(name, &genkey());
            let passed = mounted.seedwire("check", name);
            let told = String::from_utf8_lossy(&passed.stderr);
            assert_eq!(
                (passed.status.code(), &*told),
                (Some(0), ""),
                "{manifest:?}"
            );
        }
        fs::remove_dir_all(&mounted.folder).expect("the folder can be removed");
    }
}

#[test]
fn the_server_block_for_node_local_dns_is_the_one_that_seedwire_prints() {
    let of_node_local_dns = |path: &PathBuf| path.to_string_lossy().contains("node-local-dns");
    for manifest in manifests().into_iter().filter(of_node_local_dns) {
        let mounted = Mounted::new(&manifest, "corefile");
        mounted.put_key("node-1", &genkey());
        let printed = mounted.seedwire("corefile", "node-1");
        let printed = String::from_utf8(printed.stdout).expect("UTF-8");
        let block = printed.split("\n\n").next().expect("a first block");
        let block: Vec<_> = block
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect();
        assert!(block.len() > 3, "{printed}");

        let text = fs::read_to_string(&manifest).expect("the manifest can be read");
        let bare = |line: &str| line.trim_start_matches([' ', '#']).to_owned();
        let lines: Vec<_> = text.lines().map(bare).collect();
        let block: Vec<_> = block.into_iter().map(bare).collect();
        assert!(
            lines.windows(block.len()).any(|found| found == block),
            "{manifest:?} lacks {block:#?}"
        );
        fs::remove_dir_all(&mounted.folder).expect("the folder can be removed");
    }
}

/// The YAML blocks of the README. The first is whole; those without a tunnel are beside its own.
fn configurations_of_the_readme() -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).expect("the README can be read");
    let blocks = readme.split("```yaml\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().expect("a first part"));
    let blocks: Vec<_> = blocks.map(str::to_owned).collect();
    let (tunnel, _) = blocks[0].split_once("\ndns:").expect("a tunnel before DNS");
    let whole = |block: &String| match block.starts_with("tunnel:") {
        true => block.clone(),
        false => format!("{tunnel}\n{block}"),
    };
    blocks.iter().map(whole).collect()
}

#[test]
fn each_configuration_of_the_readme_passes() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme");
    for part in ["keys", "addresses"] {
        fs::create_dir_all(folder.join(part)).expect("the folder can be made");
    }
    write(&folder.join("private.key"), &genkey());
    write(&folder.join("keys/node-1"), &genkey());
    write(&folder.join("addresses/node-1"), "10.88.1.1/32");
    let configurations = configurations_of_the_readme();
    assert!(configurations.len() >= 5, "{configurations:#?}");
    for text in configurations {
        let config = folder.join("config.yaml");
        let here = folder.to_str().expect("UTF-8");
        write(&config, &text.replace("/etc/seedwire", here));
        let mut seedwire = Command::new(SEEDWIRE);
        seedwire
            .arg("check")
            .arg("-c")
            .arg(&config)
            .env("NODE_NAME", "node-1");
        let checked = seedwire.output().expect("seedwire runs");
        let told = String::from_utf8_lossy(&checked.stderr);
        assert_eq!((checked.status.code(), &*told), (Some(0), ""), "{text}");
    }
    fs::remove_dir_all(&folder).expect("the folder can be removed");
}
