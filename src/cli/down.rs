use std::path::PathBuf;

use crate::app;

use super::output;

/// Remove what a crashed instance left
///
/// Removes everything that the interface of this configuration owns in the network state: the
/// interface, its addresses, routes, rules and its nft table, and nothing else. The next
/// `seedwire run` does the same by itself. While an instance runs, this fails and changes nothing.
/// Of the configuration only `tunnel.interface` has to be right; what else is wrong is printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  seedwire down -c /etc/seedwire/config.yaml")]
pub(super) struct Down {
    /// The configuration
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

impl Down {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let removed = app::down(&self.config)?;
        if let Some(rejected) = &removed.rejected {
            eprintln!("{rejected}");
        }
        let lines: String = removed
            .steps
            .iter()
            .map(|step| format!("{step}\n"))
            .collect();
        output::write(lines)
    }
}
