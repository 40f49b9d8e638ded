use super::keys;

/// Print a new preshared key
///
/// Writes 32 random bytes in base64 to standard output, as `wg genpsk` does: a secret that two
/// peers share beside their key pairs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  (umask 077; seedwire genpsk > psk)")]
pub(super) struct Genpsk {}

impl Genpsk {
    pub(super) fn run(self) -> anyhow::Result<()> {
        keys::print_secret(&keys::new_preshared_key()?.reveal())
    }
}
