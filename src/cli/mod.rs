//! The command line: one file per subcommand.

mod check;
mod completions;
mod corefile;
mod demo;
mod device;
mod down;
mod exit;
mod genkey;
mod genpsk;
mod inject;
pub(crate) mod keys;
mod offload;
mod output;
mod pubkey;
mod run;
mod status;

use std::ffi::OsString;

use clap::{Parser, Subcommand};

pub use device::Device;
pub use exit::{Exit, Usage};
pub use status::Status;

/// What [`main`](fn@main) was asked for.
#[derive(Debug, Parser)]
#[command(
    name = "seedwire",
    version,
    about = "Carries a cluster's logs and metrics to a Loki in the seed",
    long_about = "Connects a user cluster or an edge node to the seed cluster, so that log and \
        metric agents there reach Loki in the seed on its private addresses: a WireGuard tunnel, \
        the seed's routes and DNAT rules, and a DNS forwarder, in one program with one \
        configuration file.",
    after_help = EXIT_STATUS,
    arg_required_else_help = true
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_STATUS: &str = "\
Exit status:
  0   done
  1   failed at run time
  64  bad usage
  78  bad configuration; nothing was touched";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Check(check::Check),
    Genkey(genkey::Genkey),
    Pubkey(pubkey::Pubkey),
    Genpsk(genpsk::Genpsk),
    Corefile(corefile::Corefile),
    Inject(inject::Inject),
    Uninject(inject::Uninject),
    Status(Status),
    Down(down::Down),
    Demo(demo::Demo),
    Device(device::Device),
    Completions(completions::Completions),
}

/// Runs what the command line asks for and prints what went wrong, once, to standard error.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return exit::of_usage_error(&error),
    };
    let done = match arguments.command {
        Command::Run(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Genkey(command) => command.run(),
        Command::Pubkey(command) => command.run(),
        Command::Genpsk(command) => command.run(),
        Command::Corefile(command) => command.run(),
        Command::Inject(command) => command.run(),
        Command::Uninject(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Down(command) => command.run(),
        Command::Demo(command) => command.run(),
        Command::Device(command) => command.run(),
        Command::Completions(command) => command.run(),
    };
    match done {
        Ok(()) => Exit::Done,
        Err(error) => {
            exit::print(&error);
            exit::of_error(&error)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_description_of_the_command_line_is_sound() {
        super::Arguments::command().debug_assert();
    }

    #[test]
    fn every_subcommand_has_an_example() {
        for command in super::Arguments::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string);
            let name = command.get_name();
            assert!(
                help.is_some_and(|help| help.contains(&format!("seedwire {name}"))),
                "{name} has no example in its help"
            );
        }
    }
}
