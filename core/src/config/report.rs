//! What is said about a configuration.

use std::fmt;

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
}

impl Default for Position {
    fn default() -> Self {
        Self { line: 1, column: 1 }
    }
}

impl Position {
    pub(super) fn of(marker: &granit_parser::Marker) -> Self {
        Self {
            line: marker.line().max(1),
            column: marker.col() + 1,
        }
    }
}

/// One thing that is wrong, as `FILE:LINE:COLUMN: KEY.PATH: value "...": expected ...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as it was named.
    pub file: String,
    /// Where in it.
    pub at: Position,
    /// The key's path, as in `tunnel.peers[0].endpoint`; empty for the whole file.
    pub path: String,
    /// What was found there; never a secret.
    pub found: String,
    /// What was expected in its place.
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.at.line, self.at.column)?;
        for part in [&self.path, &self.found] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.expected)
    }
}

/// What a [`Warning`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A secret's file can be read by others.
    ReadableSecret,
    /// A setting that is likely to disturb others or to do nothing.
    Doubtful,
}

/// Something that works and should be looked at, as
/// `FILE:LINE:COLUMN: warning: KEY.PATH: value "...": ...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What it is about.
    pub topic: Topic,
    /// Where and what.
    pub problem: Problem,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem {
            file,
            at,
            path,
            found,
            expected,
        } = &self.problem;
        write!(
            f,
            "{file}:{}:{}: warning: {path}: {found}: {expected}",
            at.line, at.column
        )
    }
}
