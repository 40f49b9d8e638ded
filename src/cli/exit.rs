use std::process::ExitCode;

use crate::config::ConfigError;

/// How the command ended; the numbers of sysexits.h where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: what was asked for is done.
    Done,
    /// 1: it failed at run time.
    Failed,
    /// 64, EX_USAGE: the command line is wrong.
    BadUsage,
    /// 78, EX_CONFIG: the configuration is wrong, and nothing was touched.
    BadConfiguration,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::BadUsage => 64,
            Exit::BadConfiguration => 78,
        })
    }
}

/// The command line is well formed but asks for what cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Prints clap's own message: help and version are no errors.
pub(super) fn of_usage_error(error: &clap::Error) -> Exit {
    // Nothing is left to report to when standard error is gone.
    let _ = error.print();
    if error.use_stderr() {
        Exit::BadUsage
    } else {
        Exit::Done
    }
}

/// The exit that the outermost error of a known type asks for.
pub(super) fn of_error(error: &anyhow::Error) -> Exit {
    if error.chain().any(|cause| cause.is::<Usage>()) {
        Exit::BadUsage
    } else if error.chain().any(|cause| cause.is::<ConfigError>()) {
        Exit::BadConfiguration
    } else {
        Exit::Failed
    }
}

/// Prints the chain of causes as one line, `seedwire: a: b: c`. The errors in a configuration
/// stand one a line and start with the file, so that editors find the place.
pub(super) fn print(error: &anyhow::Error) {
    if let Some(ConfigError::Rejected(rejected)) = error.downcast_ref() {
        eprintln!("{rejected}");
        return;
    }
    eprintln!("seedwire: {error:#}");
}
