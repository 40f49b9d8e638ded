use std::path::PathBuf;

/// Remove what a crashed instance left
///
/// Removes everything that the interface of this configuration owns in the network state: the
/// interface, its addresses, routes, rules and its nft table, and nothing else. The next
/// `seedwire run` does the same by itself. While an instance runs, this fails and changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  seedwire down -c /etc/seedwire/config.yaml")]
pub struct Down {
    /// The configuration
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
}
