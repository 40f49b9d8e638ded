use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use seedwire_core::config::{FileAccess, FileContent, Surroundings, Unreadable};
use zeroize::Zeroizing;

/// The largest file that is read, in bytes: a hub with a hundred thousand peers fits.
const LARGEST: u64 = 16 << 20;

/// The environment and the files of this process.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Surroundings for System {
    fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        std::env::var(name).ok().map(Zeroizing::new)
    }

    fn read(&self, path: &Path) -> Result<FileContent, Unreadable> {
        read(path)
    }
}

/// Reads a whole file, judged at the end of its symbolic links.
pub(super) fn read(path: &Path) -> Result<FileContent, Unreadable> {
    let opened = open(path);
    opened.map_err(|error| Unreadable {
        cause: error.to_string(),
        our_uid: nix::unistd::geteuid().as_raw(),
        our_gid: nix::unistd::getegid().as_raw(),
        access: std::fs::metadata(path).ok().map(|found| access(&found)),
    })
}

fn open(path: &Path) -> io::Result<FileContent> {
    // Opening a pipe that nobody writes to would wait for ever.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let content = read_all(file, metadata.len())?;
    Ok(FileContent {
        content,
        access: access(&metadata),
    })
}

fn read_all(file: File, size: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let too_large = || io::Error::other("larger than 16 MiB");
    if size > LARGEST {
        return Err(too_large());
    }
    // Room for one byte more than there is, so that a secret is not left behind by growing.
    let mut content = Zeroizing::new(Vec::with_capacity(LARGEST.min(size + 1) as usize));
    file.take(LARGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST {
        return Err(too_large());
    }
    Ok(content)
}

fn access(metadata: &Metadata) -> FileAccess {
    FileAccess {
        uid: metadata.uid(),
        gid: metadata.gid(),
        mode: metadata.mode() & 0o7777,
    }
}
