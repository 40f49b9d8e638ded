//! The seedwire command.

use std::process::ExitCode;

fn main() -> ExitCode {
    seedwire::cli::main(std::env::args_os()).into()
}
