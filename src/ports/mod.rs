//! Local TCP ports that lead into the seed.

mod relay;

use std::net::SocketAddr;
use std::sync::Arc;

use seedwire_core::config::PortRelay;
use seedwire_core::tunnel::Paths;
use seedwire_core::types::Endpoint;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::resolve::Resolve;
use relay::Relay;

/// A port can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on port relay {address}{}", crate::listen::why(.source))]
pub struct PortsError {
    /// The address.
    pub address: SocketAddr,
    /// The system's error.
    pub source: std::io::Error,
}

/// A relay at one moment.
#[derive(Clone, Debug)]
pub struct RelayStatus {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where they are led.
    pub to: Endpoint,
    /// What was counted since the start.
    pub counters: RelayCounters,
    /// Why the last connection that failed did so.
    pub last_error: Option<String>,
}

/// What a relay counted since its start.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct RelayCounters {
    /// Connections that stand.
    pub open: u64,
    /// Connections that were taken.
    pub accepted: u64,
    /// Connections that were closed because the far end could not be reached.
    pub failed: u64,
    /// Bytes that went into the seed, of connections that have ended.
    pub sent_bytes: u64,
    /// Bytes that came out of it, of connections that have ended.
    pub received_bytes: u64,
}

/// All relays of a configuration. Dropped, they end at once, with their connections.
pub struct Relays {
    running: Mutex<Vec<Relay>>,
    resolve: Arc<dyn Resolve>,
    paths: Arc<dyn Paths>,
}

impl Relays {
    /// Listens on all ports; must be called in a tokio runtime.
    ///
    /// # Errors
    /// When one can't be listened on; then none is.
    pub fn start(
        ports: &[PortRelay],
        resolve: Arc<dyn Resolve>,
        paths: Arc<dyn Paths>,
    ) -> Result<Self, PortsError> {
        let start = |port| Relay::start(port, Arc::clone(&resolve), Arc::clone(&paths));
        let running = ports.iter().map(start).collect::<Result<_, _>>()?;
        Ok(Self {
            running: Mutex::new(running),
            resolve,
            paths,
        })
    }

    /// Takes another configuration. Relays that stay keep their listeners and connections, also
    /// when they lead elsewhere from now on; connections of those that go may end as they like.
    ///
    /// # Errors
    /// When a new port can't be listened on; then nothing has changed.
    pub async fn reload(&self, ports: &[PortRelay]) -> Result<(), PortsError> {
        let mut running = self.running.lock().await;
        let is_new = |port: &&PortRelay| !running.iter().any(|relay| relay.listen() == port.listen);
        let start = |port| Relay::start(port, Arc::clone(&self.resolve), Arc::clone(&self.paths));
        let new = ports
            .iter()
            .filter(is_new)
            .map(start)
            .collect::<Result<Vec<_>, _>>()?;
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut *running)
            .into_iter()
            .partition(|relay| ports.iter().any(|port| port.listen == relay.listen()));
        for relay in &kept {
            if let Some(port) = ports.iter().find(|port| port.listen == relay.listen()) {
                relay.lead_to(&port.to);
            }
        }
        for relay in gone {
            relay.close();
        }
        running.extend(kept);
        running.extend(new);
        Ok(())
    }

    /// Takes no more connections, gives those that stand at most 1 s to end, and closes them.
    pub async fn stop(&self) {
        let relays = std::mem::take(&mut *self.running.lock().await);
        let drains: Vec<_> = relays
            .into_iter()
            .map(|relay| tokio::spawn(relay.drain()))
            .collect();
        for drain in drains {
            // It can only fail by a panic, which was reported by its hook.
            let _ = drain.await;
        }
    }

    /// How things are.
    pub async fn status(&self) -> Vec<RelayStatus> {
        self.running
            .lock()
            .await
            .iter()
            .map(Relay::status)
            .collect()
    }
}
