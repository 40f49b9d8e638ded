use clap::CommandFactory;
use clap_complete::Shell;

use super::{Arguments, output};

/// Print the completions for a shell
///
/// Writes a script to standard output that makes the shell complete seedwire's subcommands and
/// options.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  seedwire completions bash > /etc/bash_completion.d/seedwire")]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(
            self.shell,
            &mut Arguments::command(),
            "seedwire",
            &mut script,
        );
        output::write(script)
    }
}
