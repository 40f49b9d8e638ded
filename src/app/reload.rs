//! Taking over another configuration, all of it or nothing.

use anyhow::{Context, bail};
use seedwire_core::config::{Config, Parsed};

use super::lifecycle::Running;
use super::privileges::Privileges;
use super::scope::network_scope;
use crate::config::{self, ConfigError, watch::Change};

impl Running {
    /// Reads the configuration again and applies it. When that fails the old one stays in force;
    /// why is logged, counted and shown in status.
    pub(super) async fn reload(&mut self, change: Change) {
        let reason = match change {
            Change::Files => "a file changed",
            Change::Asked => "SIGHUP",
        };
        match self.try_reload().await {
            Ok(parsed) => {
                self.instance.state.config_applied(&parsed.warnings);
                tracing::info!(reason, "reloaded the configuration");
                for warning in &parsed.warnings {
                    tracing::warn!("{warning}");
                }
                self.config = parsed.config;
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(reason, error, "kept the old configuration");
                self.instance.state.config_failed(error.clone());
                self.instance.state.failed(error);
            }
        }
    }

    async fn try_reload(&mut self) -> anyhow::Result<Parsed> {
        let loaded = config::load(&self.file);
        let named = match &loaded {
            Ok(parsed) => parsed.files.clone(),
            Err(ConfigError::Rejected(rejected)) => rejected.files.clone(),
            Err(ConfigError::Unreadable { .. }) => Vec::new(),
        };
        // A file that is missing or wrong now is read again as soon as it changes.
        let files = std::iter::once(self.file.clone()).chain(named);
        self.watcher.set_files(files);
        let parsed = loaded?;
        self.allow(&parsed.config)?;
        if let Err(error) = self.instance.configure(&parsed.config).await {
            self.instance
                .configure(&self.config)
                .await
                .with_context(|| format!("{error:#}, and failed to go back"))?;
            return Err(error);
        }
        self.logging.set_level(parsed.config.log.level);
        Ok(parsed)
    }

    fn allow(&self, new: &Config) -> anyhow::Result<()> {
        let scope = network_scope(new);
        if scope != self.scope {
            let name = |scope: &Option<_>| match scope {
                Some(interface) => format!("the interface {interface}"),
                None => "no interface".to_owned(),
            };
            bail!(
                "a running instance can't change from {} to {}: restart it",
                name(&self.scope),
                name(&scope)
            );
        }
        let backend = |config: &Config| config.tunnel.as_ref().map(|tunnel| tunnel.backend);
        if backend(new) != backend(&self.config) {
            bail!("a running instance can't change its tunnel.backend: restart it");
        }
        Ok(Privileges::of_this_process().allow(new)?)
    }
}
