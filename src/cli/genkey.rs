use super::keys;

/// Print a new private key
///
/// Writes a new random Curve25519 private key in base64 to standard output, as `wg genkey` does.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  (umask 077; seedwire genkey > private.key)")]
pub(super) struct Genkey {}

impl Genkey {
    pub(super) fn run(self) -> anyhow::Result<()> {
        keys::print_secret(&keys::new_private_key()?.reveal())
    }
}
