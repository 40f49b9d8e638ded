use std::path::PathBuf;

use crate::{app, config};

use super::output;

/// Check a configuration
///
/// Reads the configuration with every file and environment variable that it refers to, prints
/// everything that is wrong with it, one line each, and changes nothing. A configuration that
/// passes is one that `seedwire run` takes.
///
/// With --plan it also looks at the network state of this host, and prints every change that
/// `seedwire run` would make to it now; a conflict with what belongs to others is an error.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  seedwire check -c /etc/seedwire/config.yaml
  seedwire check -c /etc/seedwire/config.yaml --plan

Exit status:
  0   the configuration is good; there may be warnings
  1   with --plan: the network state can't be read, or something of others is in the way
  78  it is not; each line on standard error says
      FILE:LINE:COLUMN: KEY: value \"...\": expected ...")]
pub(super) struct Check {
    /// The configuration
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Print the changes that `run` would make to the network state
    #[arg(long)]
    plan: bool,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let parsed = config::load(&self.config)?;
        for warning in &parsed.warnings {
            eprintln!("{warning}");
        }
        if self.plan {
            let lines = app::plan(&parsed.config)?;
            return output::write(
                lines
                    .iter()
                    .map(|line| format!("{line}\n"))
                    .collect::<String>(),
            );
        }
        output::write(format!("{}: good\n", self.config.display()))
    }
}
