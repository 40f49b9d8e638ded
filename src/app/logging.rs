//! What is logged, to standard error.

use std::io::stderr;

use seedwire_core::config::{Log, LogFormat, LogLevel};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::SetGlobalDefaultError;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::reload;

/// The log of the process, whose level can be changed.
#[derive(Clone, Debug)]
pub struct Logging {
    filter: reload::Handle<Targets, Registry>,
}

/// The process has a log already.
#[derive(Debug, thiserror::Error)]
#[error("failed to set up the log")]
pub struct LoggingError(#[from] SetGlobalDefaultError);

impl Logging {
    /// Starts the log of this process; once in its life. There are no colours, so that a log
    /// reads the same everywhere.
    ///
    /// # Errors
    /// When the process has a log already.
    pub fn start(log: &Log) -> Result<Self, LoggingError> {
        let (filter, handle) = reload::Layer::new(filter(log.level));
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(stderr)
            // It would be said on standard error, which is what failed, and panic there.
            .log_internal_errors(false);
        let lines = match log.format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        let subscriber = Registry::default().with(lines.with_filter(filter));
        tracing::subscriber::set_global_default(subscriber)?;
        Ok(Self { filter: handle })
    }

    /// Changes the level; the format stays what it was at the start.
    pub fn set_level(&self, level: LogLevel) {
        // Fails only when the log is gone, and it is for the life of the process.
        let _ = self.filter.reload(filter(level));
    }
}

/// Ours at the level, of others what is wrong.
fn filter(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("seedwire", level)
        .with_target("seedwire_core", level)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn the_level_is_ours_and_others_are_heard_when_something_is_wrong() {
        let info = filter(LogLevel::Info);
        assert!(info.would_enable("seedwire::app", &Level::INFO));
        assert!(!info.would_enable("seedwire::app", &Level::DEBUG));
        assert!(info.would_enable("hyper::proto", &Level::WARN));
        assert!(!info.would_enable("hyper::proto", &Level::INFO));
        let debug = filter(LogLevel::Debug);
        assert!(debug.would_enable("seedwire_core::dns", &Level::DEBUG));
        assert!(!debug.would_enable("hyper::proto", &Level::INFO));
        let error = filter(LogLevel::Error);
        assert!(!error.would_enable("hyper::proto", &Level::WARN));
        assert!(!error.would_enable("seedwire_core::dns", &Level::WARN));
    }
}
