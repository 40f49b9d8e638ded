use std::path::PathBuf;

use crate::config;

use super::output;

/// Check a configuration
///
/// Reads the configuration with every file and environment variable that it refers to, prints
/// everything that is wrong with it, one line each, and changes nothing. A configuration that
/// passes is one that `seedwire run` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  seedwire check -c /etc/seedwire/config.yaml

Exit status:
  0   the configuration is good; there may be warnings
  78  it is not; each line on standard error says
      FILE:LINE:COLUMN: KEY: value \"...\": expected ...")]
pub(super) struct Check {
    /// The configuration
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let parsed = config::load(&self.config)?;
        for warning in &parsed.warnings {
            eprintln!("{warning}");
        }
        output::write(format!("{}: good\n", self.config.display()))
    }
}
