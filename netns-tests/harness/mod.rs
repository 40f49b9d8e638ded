//! Runs cases between hosts that are network namespaces on this machine: the real binary, real
//! peers, real DNS servers.
//!
//! A case is a function that panics when something is not as it should be. It runs alone in a
//! process of its own ([`sandbox`]), as root of its own user, network, mount and process
//! namespaces, so it needs no privileges and leaves nothing behind however it ends.

// Each suite is a binary of its own and uses its own part of this module.
#![allow(dead_code, unused_imports)]

pub mod caller;
pub mod calls;
pub mod client;
pub mod clock;
pub mod dns;
pub mod host;
pub mod http;
pub mod process;
pub mod refuse;
pub mod relay;
mod runner;
pub mod sandbox;
pub mod seedwire;
pub mod state;
pub mod wait;
pub mod wireguard;
pub mod world;

use std::time::Duration;

pub use host::{Host, link};
pub use process::Process;
pub use runner::main;
pub use seedwire::{Seedwire, Start};
pub use state::State;
pub use wait::{wait_for, wait_until};

/// What else may run while a case runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// One other ordinary case.
    Ordinary,
    /// No ordinary case: it loads every core.
    Heavy,
    /// Everything: it waits most of its time.
    Waiting,
    /// As `Waiting`, and only where `--ignored` asks for it: it takes longer than a CI run may.
    Soak,
}

/// A test between hosts.
#[derive(Clone, Copy)]
pub struct Case {
    name: &'static str,
    run: fn(),
    load: Load,
    deadline: Duration,
}

impl Case {
    /// An ordinary case that is ended after 100 s.
    pub const fn new(name: &'static str, run: fn()) -> Self {
        let (load, deadline) = (Load::Ordinary, Duration::from_secs(100));
        Self {
            name,
            run,
            load,
            deadline,
        }
    }

    /// The same case, kept apart from ordinary ones.
    pub const fn heavy(mut self) -> Self {
        self.load = Load::Heavy;
        self
    }

    /// The same case, started first and beside all others, with a deadline of its own.
    pub const fn waiting(mut self, seconds: u64) -> Self {
        self.load = Load::Waiting;
        self.deadline = Duration::from_secs(seconds);
        self
    }

    /// The same case, left out unless `--ignored` asks for it and its like.
    pub const fn soak(mut self, seconds: u64) -> Self {
        self.load = Load::Soak;
        self.deadline = Duration::from_secs(seconds);
        self
    }
}

/// A [`Case`] that is named like the function that it runs.
#[macro_export]
macro_rules! case {
    ($run:path) => {
        $crate::harness::Case::new(stringify!($run), $run)
    };
}
