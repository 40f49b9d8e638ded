//! What the kernel tells of folders (inotify(7)).
// AsyncFd takes a foreign descriptor only on our word that it stays open.
#![allow(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

/// How long what happens in the folders gathers before it is looked at again.
const REST: Duration = Duration::from_millis(50);
/// How often the kernel is asked for more at a time, 4 KiB each: whoever writes into a folder
/// without end must not keep us here.
const READS: usize = 64;

/// The folders that the kernel tells about.
#[derive(Debug)]
pub(super) struct Folders {
    inotify: AsyncFd<Handle>,
    watched: BTreeMap<PathBuf, WatchDescriptor>,
    incomplete: bool,
    /// Nothing is looked at before.
    rests_until: Instant,
}

/// An [`Inotify`] as [`AsyncFd`] takes it.
#[derive(Debug)]
struct Handle(Inotify);

impl AsRawFd for Handle {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Folders {
    pub(super) fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // SAFETY: the handle owns its descriptor, which is never exchanged and is closed only when
        // the handle is dropped, and AsyncFd drops it after the deregistration.
        let inotify =
            unsafe { AsyncFd::register_with_interest(Handle(inotify), Interest::READABLE) }?;
        Ok(Self {
            inotify,
            watched: BTreeMap::new(),
            incomplete: false,
            rests_until: Instant::now(),
        })
    }

    /// Watches these folders and no others. One that is not there is tried again next time.
    pub(super) fn watch(&mut self, folders: impl Iterator<Item = PathBuf>) {
        let inotify = &self.inotify.get_ref().0;
        let mut watched = BTreeMap::new();
        self.incomplete = false;
        for folder in folders {
            // The same descriptor where the folder is watched already.
            match inotify.add_watch(&folder, events()) {
                Ok(descriptor) => {
                    watched.insert(folder, descriptor);
                }
                Err(_) => self.incomplete = true,
            }
        }
        let kept: BTreeSet<i32> = watched.values().map(|wd| wd.as_raw()).collect();
        for descriptor in self.watched.values() {
            if !kept.contains(&descriptor.as_raw()) {
                // Fails when the folder is gone, and the watch with it.
                let _ = inotify.rm_watch(*descriptor);
            }
        }
        self.watched = watched;
    }

    /// Whether a folder could not be watched.
    pub(super) fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// Waits until something happens in a folder, and says whether a folder itself may have gone.
    /// Nothing is lost when the future is dropped.
    pub(super) async fn stirred(&mut self) -> bool {
        sleep_until(self.rests_until).await;
        loop {
            let Ok(mut ready) = self.inotify.readable().await else {
                // The runtime is shutting down.
                return std::future::pending().await;
            };
            let (seen, is_empty) = look(&ready.get_inner().0);
            if is_empty {
                ready.clear_ready();
            }
            if let Some(seen) = seen {
                self.rests_until = Instant::now() + REST;
                // The kernel's queue is bounded: what did not fit may have been anything.
                let gone = AddWatchFlags::IN_DELETE_SELF
                    | AddWatchFlags::IN_MOVE_SELF
                    | AddWatchFlags::IN_IGNORED
                    | AddWatchFlags::IN_Q_OVERFLOW;
                return seen.intersects(gone);
            }
        }
    }
}

/// What happened, if anything, and whether that is all.
fn look(inotify: &Inotify) -> (Option<AddWatchFlags>, bool) {
    let mut seen = None;
    for _ in 0..READS {
        match inotify.read_events() {
            Ok(events) => {
                let masks = events.iter().map(|event| event.mask);
                seen = Some(
                    masks.fold(seen.unwrap_or(AddWatchFlags::empty()), |seen, mask| {
                        seen | mask
                    }),
                );
            }
            Err(Errno::EINTR) => {}
            Err(_) => return (seen, true),
        }
    }
    (seen, false)
}

fn events() -> AddWatchFlags {
    AddWatchFlags::IN_ONLYDIR
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVE_SELF
}
