use std::path::PathBuf;

use super::offload;
use crate::app;
use crate::tunnel::Offload;

/// Run an instance in the foreground
///
/// Brings up what the configuration asks for (the tunnel, its routes and translations, the local
/// ports, the DNS forwarder) and keeps it so until SIGTERM or SIGINT, which undo everything.
/// SIGHUP, and a change of the configuration or of a file that it names, reload it; a bad new
/// configuration keeps the old state and says why. A seed that can't be reached never ends it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  seedwire run -c /etc/seedwire/config.yaml
  seedwire run -c /etc/seedwire/config.yaml --offload none

Exit status:
  0   ended by a signal, everything undone
  1   failed at run time, or an instance with this interface runs already
  78  the configuration is bad; nothing was touched")]
pub(super) struct Run {
    /// The configuration
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Whether a userspace tunnel moves many packets in one call, where the kernel can
    #[arg(long, value_name = "WHICH", default_value = "auto", value_parser = offload::parser())]
    offload: Offload,
}

impl Run {
    pub(super) fn run(self) -> anyhow::Result<()> {
        app::run(&self.config, self.offload)
    }
}
