use crate::demo::{self, Options};

/// Show the main job on this machine: log lines of a user cluster reach Loki in the seed
///
/// Makes namespaces of its own with a user cluster, the internet and a seed in them, runs seedwire
/// on both sides, and sends log lines through. Needs neither root nor anything installed, and
/// leaves nothing behind.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  seedwire demo
  seedwire demo --lines 1000 --json | jq .received
  seedwire demo --keep")]
pub(super) struct Demo {
    /// How many log lines are sent
    #[arg(long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    lines: u32,
    /// Print the summary as one JSON object; all else goes to standard error
    #[arg(long)]
    json: bool,
    /// Stay until Ctrl-C, and print how to look around
    #[arg(long)]
    keep: bool,
    /// This is the process inside the namespaces
    #[arg(long, hide = true)]
    inside: bool,
}

impl Demo {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let options = Options {
            lines: self.lines,
            json: self.json,
            keep: self.keep,
        };
        if self.inside {
            return demo::run_inside(options);
        }
        if !demo::run(&self.arguments_inside(), options)? {
            // The process inside has said why.
            std::process::exit(1);
        }
        Ok(())
    }

    fn arguments_inside(&self) -> Vec<String> {
        let mut arguments = vec!["demo".to_owned(), "--inside".to_owned()];
        arguments.push(format!("--lines={}", self.lines));
        arguments.extend(self.json.then(|| "--json".to_owned()));
        arguments.extend(self.keep.then(|| "--keep".to_owned()));
        arguments
    }
}
