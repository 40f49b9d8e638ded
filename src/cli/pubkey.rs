use std::io::Read;

use anyhow::{Context, bail};
use seedwire_core::types::PrivateKey;
use zeroize::{Zeroize, Zeroizing};

use super::output;

/// Print the public key of a private key
///
/// Reads a private key in base64 from standard input and writes its public key in base64 to
/// standard output, as `wg pubkey` does.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  seedwire pubkey < private.key > public.key")]
pub(super) struct Pubkey {}

/// The length of 32 bytes in base64.
const BASE64_LENGTH: usize = 44;
/// Room for a key and the white space after it; a longer input is no key.
const INPUT_LIMIT: usize = 4096;

impl Pubkey {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut input = Zeroizing::new([0; INPUT_LIMIT]);
        let length = read_up_to(std::io::stdin().lock(), input.as_mut())
            .context("failed to read the key from standard input")?;
        let private = parse(&input[..length])?;
        output::write(format!("{}\n", private.public_key()))
    }
}

fn read_up_to(mut input: impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match input.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                buffer.zeroize();
                return Err(error);
            }
        }
    }
    Ok(length)
}

/// The key at the start of `input`, with nothing but white space behind it; errors are worded as
/// wg(8) words them.
fn parse(input: &[u8]) -> anyhow::Result<PrivateKey> {
    const NO_KEY: &str = "Key is not the correct length or format";
    let Some((key, rest)) = input.split_at_checked(BASE64_LENGTH) else {
        bail!(NO_KEY);
    };
    let is_space = |b: &u8| *b == 0 || *b == 0x0b || b.is_ascii_whitespace();
    if !rest.iter().all(is_space) {
        bail!("Trailing characters found after key");
    }
    match std::str::from_utf8(key).ok().map(str::parse) {
        Some(Ok(key)) => Ok(key),
        _ => bail!(NO_KEY),
    }
}
