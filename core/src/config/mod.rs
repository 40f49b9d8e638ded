//! The configuration: as written, and as meant.
//!
//! [`parse`] builds a tree of the YAML text, reads the whole tree into the sections as written
//! (`written`), looks for what can't be true together (`check`), and then makes of it the
//! configuration as meant (`meaning`). The rest of the program only sees the last, [`Config`].

mod check;
mod hide;
mod leaf;
mod meaning;
mod model;
mod read;
mod report;
#[cfg(test)]
mod schema;
mod secret;
mod server;
mod surroundings;
#[cfg(test)]
mod tests;
mod written;
mod yaml;

use std::fmt;
use std::path::PathBuf;

use crate::types::InterfaceName;
pub use model::*;
use read::{Place, Reader, Written};
pub use report::{Position, Problem, Topic, Warning};
pub use surroundings::{FileAccess, FileContent, Surroundings, Unreadable};
use yaml::{Node, Value};

/// A configuration without errors.
#[derive(Debug)]
pub struct Parsed {
    /// What it means.
    pub config: Config,
    /// What should be looked at, in the order of the file.
    pub warnings: Vec<Warning>,
    /// The files that it names: keys, certificates and address lists.
    pub files: Vec<PathBuf>,
}

/// A configuration with errors: all of them, in the order of the file, one a line.
#[derive(Debug, thiserror::Error)]
pub struct Rejected {
    /// What is wrong; at least one.
    pub problems: Vec<Problem>,
    /// The files that it names, as far as they could be found out.
    pub files: Vec<PathBuf>,
    /// `tunnel.interface`, where that much is right: it is all that `down` needs.
    pub interface: Option<InterfaceName>,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{problem}")?;
        }
        Ok(())
    }
}

/// Reads a configuration; `file` is what messages call it.
///
/// # Errors
/// Everything that is wrong with it, in one pass; an error in the YAML itself stands alone.
pub fn parse(text: &[u8], file: &str, surroundings: &dyn Surroundings) -> Result<Parsed, Rejected> {
    let alone = |at: Position, expected: String| Rejected {
        problems: vec![Problem {
            file: file.to_owned(),
            at,
            path: String::new(),
            found: String::new(),
            expected,
        }],
        files: Vec::new(),
        interface: None,
    };
    let text = std::str::from_utf8(text).map_err(|error| {
        alone(
            end_of(&text[..error.valid_up_to()]),
            "expected UTF-8".into(),
        )
    })?;
    let root = yaml::parse(text)
        .map_err(|error| alone(error.at, format!("expected YAML: {}", error.reason)))?
        .ok_or_else(|| alone(Position::default(), NOTHING_TO_DO.to_owned()))?;
    let mut reader = Reader::new(surroundings, file);
    let place = Place::of_file(root.at);
    let written = written::Root::read(&root, &place, &mut reader);
    let config = written.and_then(|written| {
        check::all(&written, &place, &mut reader);
        meaning::of(written)
    });
    finish(config, reader).map_err(|rejected| Rejected {
        interface: interface_in(&root, surroundings),
        ..rejected
    })
}

/// The interface of the tunnel, whatever else is wrong.
fn interface_in(root: &Node, surroundings: &dyn Surroundings) -> Option<InterfaceName> {
    let Value::Scalar(raw) = &root.entry("tunnel")?.entry("interface")?.value else {
        return None;
    };
    let mut reader = Reader::new(surroundings, "");
    let text = reader.expand(raw, &Place::of_file(root.at))?;
    let interface: Option<InterfaceName> = text.parse().ok();
    // What is called lo there is never a tunnel of ours.
    interface.filter(|interface| interface.as_str() != "lo")
}

const NOTHING_TO_DO: &str = "expected at least one of tunnel, ports, dns";

fn finish(config: Option<Config>, reader: Reader<'_>) -> Result<Parsed, Rejected> {
    let Reader {
        mut errors,
        mut warnings,
        files,
        ..
    } = reader;
    errors.sort_by_key(|problem| problem.at);
    warnings.sort_by_key(|warning| warning.problem.at);
    match config {
        Some(config) if errors.is_empty() => Ok(Parsed {
            config,
            warnings,
            files,
        }),
        _ => Err(Rejected {
            problems: errors,
            files,
            interface: None,
        }),
    }
}

/// The position behind this text.
fn end_of(text: &[u8]) -> Position {
    let line_start = text
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |end| end + 1);
    Position {
        line: text.iter().filter(|b| **b == b'\n').count() + 1,
        column: String::from_utf8_lossy(&text[line_start..]).chars().count() + 1,
    }
}
