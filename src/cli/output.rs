use std::io::Write;

use anyhow::Context;

/// Writes to standard output, where a reader that went away is an error and no panic.
pub(super) fn write(text: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    output
        .write_all(text.as_ref())
        .and_then(|()| output.flush())
        .context("failed to write to standard output")
}
