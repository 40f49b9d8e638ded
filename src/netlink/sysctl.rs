//! Files below /proc/sys.

use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};

use super::Error;

fn file(path: &str) -> PathBuf {
    Path::new("/proc/sys").join(path)
}

/// The value at this path below /proc/sys, without the line's end; `None` where the kernel has no
/// such setting.
pub fn read(path: &str) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(file(path)) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File {
            what: format!("read /proc/sys/{path}"),
            source,
        }),
    }
}

/// Writes the value at this path below /proc/sys.
pub fn write(path: &str, value: &str) -> Result<(), Error> {
    std::fs::write(file(path), value).map_err(|source| Error::File {
        what: format!("write {value} to /proc/sys/{path}"),
        source,
    })
}

/// Whether the setting at this path can be written: the file system may be read-only, as in a
/// container, or the user may not. CAP_NET_ADMIN counts for what is below net, whoever has it, which
/// access(2) would leave out for a user other than 0.
pub fn writable(path: &str) -> bool {
    let effective = AtFlags::AT_EACCESS;
    faccessat(AT_FDCWD, &file(path), AccessFlags::W_OK, effective).is_ok()
}
