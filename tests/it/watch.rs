//! Changes of the configuration and of the files it names.
#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in test functions, not in their helpers"
)]

use std::future::Future;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use seedwire::config::watch::{Change, Watcher};
use tokio::time::timeout;

use crate::run::Folder;

const DEADLINE: Duration = Duration::from_secs(30);
/// Longer than the folders are left to settle.
const NOTHING: Duration = Duration::from_millis(1500);

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}

async fn changed(watcher: &mut Watcher) -> Change {
    timeout(DEADLINE, watcher.changed())
        .await
        .expect("a change is told")
}

async fn unchanged(watcher: &mut Watcher) {
    if let Ok(change) = timeout(NOTHING, watcher.changed()).await {
        panic!("{change:?} without a change");
    }
}

/// A volume as the kubelet makes it: the files are links through `..data` into a folder with a
/// time as its name.
struct Volume<'a> {
    folder: &'a Path,
    version: u32,
}

impl<'a> Volume<'a> {
    fn new(folder: &'a Path, file: &str, content: &str) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let mut volume = Self { folder, version: 0 };
        volume.swap(file, content);
        symlink(format!("..data/{file}"), folder.join(file)).unwrap();
        volume
    }

    /// Writes a new folder, swaps `..data` and removes the old folder (AtomicWriter in the
    /// kubelet's pkg/volume/util).
    fn swap(&mut self, file: &str, content: &str) {
        let old = self.folder.join(format!("..{}", self.version));
        self.version += 1;
        let new = format!("..{}", self.version);
        std::fs::create_dir(self.folder.join(&new)).unwrap();
        std::fs::write(self.folder.join(&new).join(file), content).unwrap();
        symlink(&new, self.folder.join("..data_tmp")).unwrap();
        std::fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data")).unwrap();
        let _ = std::fs::remove_dir_all(old);
    }
}

fn volumes(folder: &Folder) -> (PathBuf, PathBuf) {
    (folder.path().join("config"), folder.path().join("keys"))
}

#[test]
fn a_swapped_volume_is_told_once() {
    for first in ["config", "keys"] {
        let folder = Folder::new(&format!("watch-swap-{first}"));
        let (config, keys) = volumes(&folder);
        run(async {
            let mut config = Volume::new(&config, "config.yaml", "one");
            let mut keys = Volume::new(&keys, "private.key", "one");
            let files = [
                config.folder.join("config.yaml"),
                keys.folder.join("private.key"),
            ];
            let mut watcher = Watcher::new(files).unwrap();
            for volume in [first, "the other"] {
                if (first == "config") == (volume == first) {
                    config.swap("config.yaml", "two");
                } else {
                    keys.swap("private.key", "two");
                }
                assert_eq!(changed(&mut watcher).await, Change::Files);
            }
            std::fs::write(config.folder.join("other"), "x").unwrap();
            unchanged(&mut watcher).await;
        });
    }
}

#[test]
fn two_changes_at_a_time_are_one() {
    let folder = Folder::new("watch-together");
    let (config, keys) = volumes(&folder);
    run(async {
        let mut config = Volume::new(&config, "config.yaml", "one");
        let mut keys = Volume::new(&keys, "private.key", "one");
        let files = [
            config.folder.join("config.yaml"),
            keys.folder.join("private.key"),
        ];
        let mut watcher = Watcher::new(files).unwrap();
        config.swap("config.yaml", "two");
        keys.swap("private.key", "two");
        assert_eq!(changed(&mut watcher).await, Change::Files);
        unchanged(&mut watcher).await;
    });
}

#[test]
fn content_counts_and_nothing_else() {
    let folder = Folder::new("watch-content");
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, "one").unwrap();
    run(async {
        let mut watcher = Watcher::new([file.clone()]).unwrap();
        std::fs::write(&file, "one").unwrap();
        std::fs::write(folder.path().join("other"), "x").unwrap();
        unchanged(&mut watcher).await;

        // As an editor does it.
        let new = folder.path().join("config.yaml~");
        std::fs::write(&new, "two").unwrap();
        std::fs::rename(&new, &file).unwrap();
        assert_eq!(changed(&mut watcher).await, Change::Files);

        std::fs::remove_file(&file).unwrap();
        assert_eq!(changed(&mut watcher).await, Change::Files);
        std::fs::write(&file, "two").unwrap();
        assert_eq!(changed(&mut watcher).await, Change::Files);
    });
}

#[test]
fn a_folder_that_goes_and_comes_back_is_watched_again() {
    let folder = Folder::new("watch-folder");
    let inside = folder.path().join("etc");
    let file = inside.join("config.yaml");
    run(async {
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(&file, "one").unwrap();
        let mut watcher = Watcher::new([file.clone()]).unwrap();
        for content in ["two", "three"] {
            std::fs::rename(&inside, folder.path().join("old")).unwrap();
            assert_eq!(changed(&mut watcher).await, Change::Files);
            std::fs::remove_dir_all(folder.path().join("old")).unwrap();
            std::fs::create_dir(&inside).unwrap();
            std::fs::write(&file, content).unwrap();
            assert_eq!(changed(&mut watcher).await, Change::Files);
        }
        std::fs::write(&file, "four").unwrap();
        assert_eq!(changed(&mut watcher).await, Change::Files);
    });
}

#[test]
fn a_change_behind_a_link_into_another_folder_is_found() {
    let folder = Folder::new("watch-link");
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    for folder in [&here, &there] {
        std::fs::create_dir(folder).unwrap();
    }
    std::fs::write(there.join("key"), "one").unwrap();
    symlink(there.join("key"), here.join("key")).unwrap();
    run(async {
        let mut watcher = Watcher::new([here.join("key")]).unwrap();
        std::fs::write(there.join("key"), "two").unwrap();
        assert_eq!(changed(&mut watcher).await, Change::Files);
    });
}

#[test]
fn the_files_can_be_replaced() {
    let folder = Folder::new("watch-files");
    let [old, kept, new] = ["a/old", "b/kept", "c/new"].map(|name| folder.path().join(name));
    for file in [&old, &kept, &new] {
        std::fs::create_dir(file.parent().unwrap()).unwrap();
        std::fs::write(file, "one").unwrap();
    }
    run(async {
        let mut watcher = Watcher::new([old.clone(), kept.clone()]).unwrap();
        // Not told yet when the files are replaced, and not lost either.
        std::fs::write(&kept, "two").unwrap();
        watcher.set_files([kept.clone(), new.clone()]);
        assert_eq!(changed(&mut watcher).await, Change::Files);

        std::fs::write(&old, "two").unwrap();
        unchanged(&mut watcher).await;
        std::fs::write(&new, "two").unwrap();
        assert_eq!(changed(&mut watcher).await, Change::Files);
    });
}

/// In a process of its own: every watcher of a process hears the signal.
#[test]
fn a_burst_of_sighup_asks_for_one_reading_though_nothing_changed() {
    let program = std::env::current_exe().expect("a path");
    let output = std::process::Command::new(program)
        .args(["--exact", "watch::helper_that_hangs_up", "--ignored"])
        .output()
        .expect("the test program starts");
    assert!(output.status.success(), "{output:?}");
}

#[test]
#[ignore = "the other process of another test"]
fn helper_that_hangs_up() {
    run(async {
        let mut watcher = Watcher::new([PathBuf::from("/etc/hostname")]).unwrap();
        let burst = async {
            for _ in 0..10 {
                nix::sys::signal::raise(nix::sys::signal::Signal::SIGHUP).unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let ((), change) = tokio::join!(burst, changed(&mut watcher));
        assert_eq!(change, Change::Asked);
        unchanged(&mut watcher).await;
    });
}
