//! Reads the configuration and the files it names.

mod folders;
mod surroundings;
pub mod watch;

use std::path::{Path, PathBuf};

use seedwire_core::config::{self, Parsed, Rejected, Unreadable};

pub use surroundings::System;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file itself can't be read.
    #[error("failed to read the configuration {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: UnreadableFile,
    },
    /// The file has errors.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

/// A file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnreadableFile(Unreadable);

/// Reads, checks and understands the configuration in a file, with the environment and the files
/// that it refers to. [`Parsed::files`] has those files without the configuration itself; so has
/// [`Rejected::files`].
///
/// # Errors
/// When the file can't be read, or with everything that is wrong in it.
pub fn load(path: &Path) -> Result<Parsed, ConfigError> {
    let file = surroundings::read(path).map_err(|error| ConfigError::Unreadable {
        path: path.to_owned(),
        source: UnreadableFile(error),
    })?;
    let name = path.display().to_string();
    Ok(config::parse(&file.content, &name, &System)?)
}
