use std::path::PathBuf;

/// Show how an instance is doing
///
/// Asks a running instance over its Unix socket and prints its peers with their handshakes, bytes,
/// endpoints and states, its routes, its DNS zones with the health of their upstreams, and its
/// last error.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  seedwire status -c /etc/seedwire/config.yaml
  seedwire status --socket /run/seedwire/seed0.sock --json")]
pub struct Status {
    /// The configuration of the instance, which says where its socket is
    #[arg(short, long, value_name = "FILE", conflicts_with = "socket")]
    pub config: Option<PathBuf>,
    /// The socket of the instance; without it and without FILE, the only one in /run/seedwire
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub json: bool,
}
