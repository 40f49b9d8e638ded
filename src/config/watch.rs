//! Tells when the configuration or a file that it names has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};
use zeroize::Zeroizing;

use super::folders::Folders;

/// How long files and signals must be left alone before the files are read again.
const SETTLE: Duration = Duration::from_millis(500);
/// What happens all the time puts the reading off for this long at most.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);
/// How often the files are read in any case: for what inotify does not tell, such as a change
/// behind a symlink into another folder or on a network file system.
const READ_EVERY: Duration = Duration::from_secs(10);
/// How often they are read while a folder is not there, which only that finds back.
const READ_EVERY_WITHOUT_FOLDER: Duration = Duration::from_secs(1);
/// What is read of a file; more is no configuration.
const READ_LIMIT: u64 = 16 << 20;

/// Why something is to be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A file has other content, came or went.
    Files,
    /// SIGHUP asked for it.
    Asked,
}

/// Something that happens once or many times in a row.
#[derive(Clone, Copy, Debug)]
struct Stir {
    first: Instant,
    last: Instant,
}

impl Stir {
    /// With what happens now.
    fn grow(stir: &mut Option<Self>) {
        let last = Instant::now();
        let first = stir.map_or(last, |stir| stir.first);
        *stir = Some(Self { first, last });
    }

    fn settles_at(self) -> Instant {
        (self.last + SETTLE).min(self.first + SETTLE_LIMIT)
    }
}

/// Watches the configuration and the files that it names.
///
/// Content counts, not the time of a file: a ConfigMap or Secret volume swaps its `..data` link
/// as a whole, and an editor writes a new file over the old. Before a change is told, the folders
/// are left to settle for 500 ms, and so are the signals: many in a row are one.
#[derive(Debug)]
pub struct Watcher {
    /// What each file was when a change was last told.
    files: BTreeMap<PathBuf, u64>,
    hasher: RandomState,
    /// `None` where the kernel gives no more of them: then only the regular reading finds changes.
    folders: Option<Folders>,
    hangup: Signal,
    /// What happened in a folder that was not looked at yet.
    stir: Option<Stir>,
    /// SIGHUP that was not told yet.
    asked: Option<Stir>,
    next_read: Instant,
}

impl Watcher {
    /// Watches `files` as they are now; make it before they are read, so that no change is missed
    /// in between. From here on SIGHUP no longer ends the process. Needs a tokio runtime.
    ///
    /// # Errors
    /// When SIGHUP can't be caught.
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> io::Result<Self> {
        let folders = Folders::new().inspect_err(|error| {
            tracing::warn!(%error, "no inotify: a change of a file is found within 10 s only");
        });
        let mut watcher = Self {
            files: BTreeMap::new(),
            hasher: RandomState::new(),
            folders: folders.ok(),
            hangup: signal(SignalKind::hangup())?,
            stir: None,
            asked: None,
            next_read: Instant::now() + READ_EVERY,
        };
        watcher.set_files(files);
        Ok(watcher)
    }

    /// Watches these files from now on. One that was watched before keeps what is known of it, so
    /// that a change since the last [`Change`] is still told.
    pub fn set_files(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        // Watched first and read then: what happens in between is told by the kernel.
        let files: BTreeSet<PathBuf> = files.into_iter().collect();
        if let Some(folders) = &mut self.folders {
            folders.watch(files.iter().map(|file| folder_of(file)));
        }
        let mut before = std::mem::take(&mut self.files);
        for file in files {
            let content = before.remove(&file).unwrap_or_else(|| self.read(&file));
            self.files.insert(file, content);
        }
    }

    /// Waits for the next change. Nothing is lost when the future is dropped before it is ready.
    pub async fn changed(&mut self) -> Change {
        loop {
            let unsettled = [self.stir, self.asked].into_iter().flatten();
            // Whichever is first: a folder may be stirred all the time.
            let read_at = unsettled.map(Stir::settles_at).min();
            tokio::select! {
                Some(()) = self.hangup.recv() => Stir::grow(&mut self.asked),
                rearm = stirred(self.folders.as_mut()) => {
                    Stir::grow(&mut self.stir);
                    if rearm {
                        self.rearm();
                    }
                }
                () = sleep_until(read_at.unwrap_or(self.next_read)) => {
                    self.rearm();
                    let changed = self.read_all();
                    if self.asked.take().is_some() {
                        return Change::Asked;
                    }
                    if changed {
                        return Change::Files;
                    }
                }
            }
        }
    }

    /// Reads every file and says whether one is other than it was.
    fn read_all(&mut self) -> bool {
        self.stir = None;
        let missing = self.folders.as_ref().is_some_and(Folders::is_incomplete);
        self.next_read = Instant::now()
            + if missing {
                READ_EVERY_WITHOUT_FOLDER
            } else {
                READ_EVERY
            };
        let mut changed = false;
        let mut files = std::mem::take(&mut self.files);
        for (file, content) in &mut files {
            let now = self.read(file);
            changed |= *content != now;
            *content = now;
        }
        self.files = files;
        changed
    }

    /// Watches the folders that came, came back or were replaced.
    fn rearm(&mut self) {
        if let Some(folders) = &mut self.folders {
            folders.watch(self.files.keys().map(|file| folder_of(file)));
        }
    }

    /// A number for the content of a file or for why it can't be read. The content may be secret,
    /// and is not kept.
    fn read(&self, file: &Path) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        match content(file) {
            Ok(content) => {
                hasher.write_u8(0);
                hasher.write(&content);
            }
            Err(error) => {
                hasher.write_u8(1);
                hasher.write_i32(error.raw_os_error().unwrap_or_default());
            }
        }
        hasher.finish()
    }
}

fn content(file: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Of a pipe, such as a shell's <(...), a reading would take what the next one needs.
    let size = match std::fs::metadata(file)? {
        metadata if metadata.is_file() => metadata.len().min(READ_LIMIT),
        _ => return Ok(Zeroizing::default()),
    };
    // Room for all of it, so that no copy stays behind when the buffer grows.
    let room = usize::try_from(size).unwrap_or_default() + 1;
    let mut content = Zeroizing::new(Vec::with_capacity(room));
    let file = std::fs::File::open(file)?;
    file.take(READ_LIMIT).read_to_end(&mut content)?;
    Ok(content)
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Waits until something happens in a folder, and says whether a folder itself went.
async fn stirred(folders: Option<&mut Folders>) -> bool {
    match folders {
        Some(folders) => folders.stirred().await,
        None => std::future::pending().await,
    }
}
