//! The life of an instance: start, run, stop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use seedwire_core::config::{Config, Parsed};
use seedwire_core::types::InterfaceName;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use super::instance::{Event, Instance};
use super::lock::Lock;
use super::logging::Logging;
use super::privileges::Privileges;
use super::scope::network_scope;
use super::state::State;
use crate::config::{self, watch::Watcher};
use crate::control::snapshot::{Reason, ReasonKind};
use crate::control::{Health, Heartbeats};
use crate::netstate::NetState;
use crate::tunnel::Offload;

/// How often the state that health and status are made from is brought up to date at rest, and how
/// soon after something happened.
const REFRESH: Duration = Duration::from_secs(1);
const FIRST_REFRESH: Duration = Duration::from_millis(10);
/// A main loop that stood still for this long is dead.
const STALE: Duration = Duration::from_secs(30);

/// Runs the instance of a configuration until SIGTERM or SIGINT, and undoes everything.
///
/// # Errors
/// When the configuration is wrong, with nothing touched; when the instance can't be started, or
/// a part of it fails, after everything was undone.
pub fn run(file: &Path, offload: Offload) -> anyhow::Result<()> {
    let parsed = config::load(file)?;
    let logging = Logging::start(&parsed.config.log)?;
    let scope = network_scope(&parsed.config);
    let _lock = scope.as_ref().map(Lock::acquire).transpose()?;
    Privileges::of_this_process().allow(&parsed.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let life = Life {
        file: file.to_owned(),
        logging,
        scope: scope.clone(),
        offload,
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(life.live(parsed))));
    outcome.unwrap_or_else(|_| {
        // The panic hook has said what happened.
        if let Some(scope) = scope {
            NetState::new(scope).clear()?;
        }
        bail!("the main loop panicked")
    })
}

/// What a life needs beside the parts of the instance.
struct Life {
    file: PathBuf,
    logging: Logging,
    scope: Option<InterfaceName>,
    offload: Offload,
}

/// A running instance and what it is to be.
pub(super) struct Running {
    pub(super) file: PathBuf,
    pub(super) logging: Logging,
    pub(super) scope: Option<InterfaceName>,
    pub(super) config: Config,
    pub(super) instance: Instance,
    pub(super) watcher: Watcher,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("failed to catch signals");
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
        })
    }

    async fn stop(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

impl Life {
    async fn live(self, parsed: Parsed) -> anyhow::Result<()> {
        let mut signals = Signals::catch()?;
        let watched = std::iter::once(self.file.clone()).chain(parsed.files);
        let watcher = Watcher::new(watched).context("failed to catch signals")?;
        let interface = parsed.config.tunnel.as_ref();
        let interface = interface.map(|tunnel| tunnel.interface.to_string());
        let state = State::starting(self.file.clone(), interface);
        for warning in &parsed.warnings {
            tracing::warn!("{warning}");
        }
        let health = Health::new(Heartbeats::default());
        let heartbeat = health.heartbeats().register("the main loop", STALE);
        let net = self.scope.clone().map(clean).transpose()?;
        let mut running = Running {
            file: self.file,
            logging: self.logging,
            scope: self.scope,
            instance: Instance::new(Arc::clone(&state), health, net, self.offload)?,
            watcher,
            config: parsed.config,
        };
        let started = running.instance.configure(&running.config).await;
        let outcome = match started {
            Ok(()) => {
                state.config_started(&parsed.warnings);
                state.set_conditions(Vec::new());
                tracing::info!(version = env!("CARGO_PKG_VERSION"), "started");
                running.keep(&mut signals, || heartbeat.beat()).await
            }
            Err(error) => Err(error),
        };
        state.set_conditions(vec![Reason::new(ReasonKind::Stopping, "stopping")]);
        let stopped = running.instance.stop().await;
        if let (Err(error), Err(_)) = (&stopped, &outcome) {
            // The outcome tells why it ended; this would be lost.
            tracing::error!(error = format!("{error:#}"), "failed to undo everything");
        }
        outcome.and(stopped)
    }
}

/// The network state of this scope, without what an instance that was killed left behind.
fn clean(scope: InterfaceName) -> anyhow::Result<NetState> {
    let mut net = NetState::new(scope);
    let report = net.clear()?;
    if !report.steps.is_empty() {
        let steps = report.steps.len();
        tracing::info!(steps, "removed what an earlier instance left behind");
    }
    Ok(net)
}

impl Running {
    /// Keeps the instance as it is to be until it is told to stop or a part fails.
    async fn keep(&mut self, signals: &mut Signals, beat: impl Fn()) -> anyhow::Result<()> {
        let mut pause = FIRST_REFRESH;
        loop {
            tokio::select! {
                signal = signals.stop() => {
                    tracing::info!(signal, "stopping");
                    return Ok(());
                }
                () = sleep(pause) => {
                    pause = REFRESH.min(pause * 2);
                    self.instance.follow_path(&self.config);
                }
                change = self.watcher.changed() => {
                    self.reload(change).await;
                    pause = FIRST_REFRESH;
                }
                event = self.instance.event() => match event {
                    Event::TunnelChanged | Event::NetworkChanged => {
                        self.instance.heal(&self.config);
                        pause = FIRST_REFRESH;
                    }
                    Event::Failed(error) => return Err(error),
                }
            }
            beat();
            self.instance.refresh().await;
        }
    }
}
