use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use anyhow::Context;
use seedwire_core::types::{PresharedKey, PrivateKey};
use zeroize::Zeroizing;

use super::output;

/// The bits of a file's mode that let others than its owner and group in (S_IRWXO).
const OTHERS: u32 = 0o007;

/// A new private key.
pub(crate) fn new_private_key() -> anyhow::Result<PrivateKey> {
    Ok(PrivateKey::from_bytes(*random()?))
}

/// A new preshared key.
pub(crate) fn new_preshared_key() -> anyhow::Result<PresharedKey> {
    Ok(PresharedKey::from_bytes(*random()?))
}

fn random() -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).context("failed to get random bytes")?;
    Ok(bytes)
}

/// Prints a secret, after a warning when it goes into a file that others can read, as wg(8) does.
pub(super) fn print_secret(key: &Zeroizing<String>) -> anyhow::Result<()> {
    if is_world_accessible_file(std::io::stdout()) {
        eprintln!(
            "Warning: writing to world accessible file.\n\
             Consider setting the umask to 077 and trying again."
        );
    }
    let mut line = Zeroizing::new(Vec::with_capacity(key.len() + 1));
    line.extend_from_slice(key.as_bytes());
    line.push(b'\n');
    output::write(line.as_slice())
}

fn is_world_accessible_file(output: impl AsFd) -> bool {
    output
        .as_fd()
        .try_clone_to_owned()
        .and_then(|fd| File::from(fd).metadata())
        .is_ok_and(|metadata| metadata.is_file() && metadata.mode() & OTHERS != 0)
}
