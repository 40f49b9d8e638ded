//! The main job on one machine: a seed and a user cluster in namespaces, two real seedwires, and a
//! log agent whose lines reach Loki.
//!
//! The command runs itself once more inside ([`sandbox`]), so that nothing can be left behind.
//! Inside, one thread for each namespace keeps it and opens what is needed in it ([`netns`]), and
//! all else happens on the main thread.

mod agent;
mod dns;
mod http;
mod instance;
mod netns;
mod receiver;
mod refusal;
mod report;
mod sandbox;
mod story;
mod world;

use std::net::Ipv4Addr;

use anyhow::{Context, Result};

/// What only the control plane's DNS knows.
const LOKI_NAME: &str = "loki.logging.svc.cluster.local";
/// What it says: the address of a service, as a cluster gives them.
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 77, 7);
const LOKI_PORT: u16 = 3100;
/// The hub as the internet knows it.
const HUB_NAME: &str = "hub.seed.example.com";

/// What is shown, and how.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many log lines are sent.
    pub lines: u32,
    /// Whether the summary is an object on standard output and all else goes to standard error.
    pub json: bool,
    /// Whether everything stays until it is interrupted.
    pub keep: bool,
}

/// Runs the demo in namespaces of its own; `arguments` start this program so that it comes to
/// [`run_inside`]. Must be called before the process has a second thread. Gives whether it went
/// well; if not, the reason is printed already.
///
/// # Errors
/// It could not begin, or was interrupted.
pub fn run(arguments: &[String], options: Options) -> Result<bool> {
    match sandbox::run_inside(arguments)? {
        sandbox::End::Itself(status) => sandbox::succeeded(status),
        // That is the way to end one that is kept.
        sandbox::End::Interrupted if options.keep => Ok(true),
        sandbox::End::Interrupted => anyhow::bail!("interrupted"),
    }
}

/// The demo itself, as the first process of its namespaces.
///
/// # Errors
/// The hop at which lines did not get on, or what could not be built.
pub fn run_inside(options: Options) -> Result<()> {
    let files = sandbox::settle()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?
        .block_on(story::tell(options, &files))
}
