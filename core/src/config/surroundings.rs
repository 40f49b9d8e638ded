//! What a configuration refers to outside of itself.

use std::fmt;
use std::path::Path;

use zeroize::Zeroizing;

/// The environment and the files that a configuration may refer to.
pub trait Surroundings {
    /// The value of an environment variable; `None` when it is not set or not UTF-8.
    fn variable(&self, name: &str) -> Option<Zeroizing<String>>;

    /// Reads a file.
    ///
    /// # Errors
    /// When it can't be read.
    fn read(&self, path: &Path) -> Result<FileContent, Unreadable>;
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileContent {
    /// What is in it.
    pub content: Zeroizing<Vec<u8>>,
    /// Who may use it.
    pub access: FileAccess,
}

/// Who may use a file, judged at the end of its symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileAccess {
    /// The user that owns it.
    pub uid: u32,
    /// The group that owns it.
    pub gid: u32,
    /// The permission bits, 0 to 0o7777 (inode(7)).
    pub mode: u32,
}

impl FileAccess {
    /// Whether others than its owner and group may read it.
    pub fn readable_by_others(&self) -> bool {
        self.mode & 0o004 != 0
    }
}

/// A file could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Why, in the words of the system.
    pub cause: String,
    /// The effective user of this process.
    pub our_uid: u32,
    /// The effective group of this process.
    pub our_gid: u32,
    /// Who may use the file; `None` when it could not be found.
    pub access: Option<FileAccess>,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cause,
            our_uid,
            our_gid,
            access,
        } = self;
        write!(
            f,
            "{cause}; seedwire runs with uid {our_uid}, gid {our_gid}"
        )?;
        match access {
            Some(FileAccess { uid, gid, mode }) => {
                write!(f, "; the file has uid {uid}, gid {gid}, mode {mode:04o}")
            }
            None => Ok(()),
        }
    }
}
