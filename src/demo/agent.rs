//! The log agent: finds Loki by name and pushes lines to it, again and again until they are taken.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use hickory_proto::rr::Name;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::dns::{self, LookupError};
use super::http;
use super::netns::Netns;

/// How long one step of a push may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long is waited before the next try.
const PAUSE: Duration = Duration::from_millis(200);

/// A log agent in a pod.
pub(super) struct Agent<'a> {
    /// Where it runs.
    pub(super) pod: &'a Netns,
    /// Who resolves names for it.
    pub(super) resolver: SocketAddr,
    /// The name of Loki.
    pub(super) loki: Name,
    /// The TCP port of Loki.
    pub(super) port: u16,
}

/// How a push went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pushed {
    /// The address that the name was resolved to.
    pub(super) resolved: Ipv4Addr,
    /// How many tries it took, at least 1.
    pub(super) tries: u32,
}

/// The hop at which a push failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PushError {
    /// No socket.
    #[error("the pod has no socket to give")]
    Socket(#[source] anyhow::Error),
    /// The name was not resolved.
    #[error("the name {name} was not resolved by {resolver}")]
    Name {
        /// The name.
        name: Name,
        /// Who was asked.
        resolver: SocketAddr,
        /// Why.
        source: LookupError,
    },
    /// No connection.
    #[error("no connection to {to}, the address of the name")]
    Connection {
        /// Where to.
        to: SocketAddrV4,
        /// Why.
        source: io::Error,
    },
    /// The connection broke.
    #[error("no answer from {to} to a push")]
    Answer {
        /// Where to.
        to: SocketAddrV4,
        /// Why.
        source: io::Error,
    },
    /// Loki refused.
    #[error("{to} refused a push with status {status}: {text}")]
    Refused {
        /// Where to.
        to: SocketAddrV4,
        /// The HTTP status code.
        status: u16,
        /// What it said.
        text: String,
    },
}

impl Agent<'_> {
    /// Resolves the name of Loki with one question.
    pub(super) async fn resolve(&self) -> Result<Ipv4Addr, PushError> {
        let socket = self.pod.udp().map_err(PushError::Socket)?;
        let asked = dns::look_up(&socket, self.resolver, &self.loki);
        let found = timeout(PATIENCE, asked)
            .await
            .unwrap_or_else(|_| Err(no_answer().into()));
        found
            .map(|addresses| addresses[0])
            .map_err(|source| PushError::Name {
                name: self.loki.clone(),
                resolver: self.resolver,
                source,
            })
    }

    /// Pushes lines until they are taken.
    ///
    /// # Errors
    /// The last failure, when `deadline` has passed.
    pub(super) async fn push(&self, lines: &[String], deadline: Instant) -> Result<Pushed> {
        let body = body(lines)?;
        let mut tries = 1;
        loop {
            match self.try_push(&body).await {
                Ok(resolved) => return Ok(Pushed { resolved, tries }),
                Err(error) if Instant::now() >= deadline => return Err(error.into()),
                Err(_) => sleep(PAUSE).await,
            }
            tries += 1;
        }
    }

    async fn try_push(&self, body: &[u8]) -> Result<Ipv4Addr, PushError> {
        let resolved = self.resolve().await?;
        let to = SocketAddrV4::new(resolved, self.port);
        let socket = self.pod.tcp().map_err(PushError::Socket)?;
        let stream = timeout(PATIENCE, socket.connect(to.into()))
            .await
            .unwrap_or_else(|_| Err(no_answer()))
            .map_err(|source| PushError::Connection { to, source })?;
        let host = self.loki.to_ascii();
        let headers = [
            ("Host", host.trim_end_matches('.')),
            ("Content-Type", "application/json"),
        ];
        let exchange = http::exchange(stream, "POST /loki/api/v1/push", &headers, body);
        let (status, text) = timeout(PATIENCE, exchange)
            .await
            .unwrap_or_else(|_| Err(no_answer()))
            .map_err(|source| PushError::Answer { to, source })?;
        match status {
            200..300 => Ok(resolved),
            _ => Err(PushError::Refused { to, status, text }),
        }
    }
}

fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer")
}

fn body(lines: &[String]) -> Result<Vec<u8>> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock is before 1970")?
        .as_nanos();
    let values: Vec<_> = lines
        .iter()
        .zip(now..)
        .map(|(line, time)| json!([time.to_string(), line]))
        .collect();
    let stream = json!({"job": "shop", "namespace": "default", "pod": "shop-7d9c"});
    let push = json!({"streams": [{"stream": stream, "values": values}]});
    Ok(serde_json::to_vec(&push)?)
}
