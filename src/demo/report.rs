//! What the demo tells, to a person or to a program.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use super::instance::POD_LINK;
use super::receiver::Arrival;
use super::world::{LOKI, World};
use super::{LOKI_NAME, LOKI_PORT, SERVICE};

/// As drawn; the addresses are those of [`super::world`].
const TOPOLOGY: &str = "
  user cluster                       the internet            seed
  +- pod 10.244.1.7 ------------+                  +- hub 203.0.113.10 -----------+
  |  log agent                  |                  |                              |
  |    | 1 name?   | 2 push     |    WireGuard     |                              |
  |  seedwire 10.88.0.2  =======|==================|=====  seedwire 10.88.0.1     |
  |    | other names            |                  |           |                  |
  +----|------------------------+                  +-----------|------------------+
  +- node ----------------------+                  +- network 10.240.16.0/20 -----+
  |  node-local-dns             |                  |  10.240.16.10  DNS of the    |
  |  169.254.20.10              |                  |                control plane |
  |  NAT to 198.51.100.2        |                  |  10.240.20.5   Loki          |
  +-----------------------------+                  +------------------------------+

";

/// The most lines of one push that are all shown; of more, the first.
const SHOWN: usize = 5;

/// How many lines of a log are shown.
const LOGGED: usize = 10;

/// What came out of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    /// The lines that the agent sent, all different.
    pub(super) sent: usize,
    /// The different lines that the receiver has.
    pub(super) received: usize,
    /// The pushes that had to be tried again.
    pub(super) retries: u32,
    /// The name of Loki.
    pub(super) name: String,
    /// The address that the agent got for it.
    pub(super) resolved: Ipv4Addr,
    /// The DNS server that knew it.
    pub(super) resolved_by: SocketAddr,
    /// How often that server was asked for the name.
    pub(super) questions: u64,
    /// Who asked it, as it saw it.
    pub(super) asked_from: Option<IpAddr>,
    /// How often node-local-dns was asked for the name.
    pub(super) questions_to_node: u64,
    /// Who pushed, as the receiver saw it.
    pub(super) seen_from: Option<SocketAddr>,
    /// Where the receiver took the pushes.
    pub(super) pushed_to: Option<SocketAddr>,
    /// The MTU of the tunnel in bytes.
    pub(super) tunnel_mtu: u32,
    /// How long the handshake took, in milliseconds.
    pub(super) handshake_ms: f64,
    /// From the start of seedwire in the pod until it was ready, in milliseconds.
    pub(super) ready_ms: f64,
    /// The whole demo, in milliseconds.
    pub(super) took_ms: f64,
}

/// A duration in milliseconds, to the microsecond.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Tells the story while it happens.
pub(super) struct Report {
    started: Instant,
    json: bool,
}

impl Report {
    /// The story begins now. With `json` it goes to standard error, and the end of it to standard
    /// output.
    pub(super) fn new(json: bool) -> Self {
        Self {
            started: Instant::now(),
            json,
        }
    }

    /// How long ago the story began.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn tell(&self, text: &str) -> Result<()> {
        let mut out: Box<dyn Write> = match self.json {
            true => Box::new(io::stderr().lock()),
            false => Box::new(io::stdout().lock()),
        };
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .context("failed to write the report")
    }

    /// Draws what is built.
    pub(super) fn topology(&self) -> Result<()> {
        self.tell(TOPOLOGY)?;
        self.tell(&format!(
            "  Only the control plane's DNS knows {LOKI_NAME}.\n  It says {SERVICE}, a service \
             address; seedwire's DNAT rule leads that to Loki, {LOKI}.\n\n"
        ))
    }

    /// Something came up.
    pub(super) fn stage(&self, name: &str, detail: &str) -> Result<()> {
        let at = self.elapsed().as_secs_f64();
        self.tell(&format!("  {at:6.3} s  {name:<10} {detail}\n"))
    }

    /// Lines arrived that were sent to `resolved`.
    pub(super) fn arrivals(&self, arrivals: &[Arrival], resolved: Ipv4Addr) -> Result<()> {
        let shown = if arrivals.len() > SHOWN {
            &arrivals[..1]
        } else {
            arrivals
        };
        for Arrival { line, from, at, .. } in shown {
            let path = format!("{} -> {resolved} -> {at}", from.ip());
            self.stage("arrived", &format!("{line:<24} {path}"))?;
        }
        match arrivals.len() - shown.len() {
            0 => Ok(()),
            more => self.stage("", &format!("and {more} more in the same push")),
        }
    }

    /// The end.
    pub(super) fn summary(&self, summary: &Summary) -> Result<()> {
        let Summary {
            sent,
            received,
            name,
            resolved,
            resolved_by,
            questions,
            questions_to_node,
            tunnel_mtu,
            handshake_ms,
            ..
        } = summary;
        let asker = summary
            .asked_from
            .map(|from| format!(" by {from}"))
            .unwrap_or_default();
        let path = match (summary.seen_from, summary.pushed_to) {
            (Some(from), Some(at)) => {
                format!("{} -> tunnel -> {resolved} -> DNAT -> {at}", from.ip())
            }
            _ => "nothing arrived".to_owned(),
        };
        let seconds = summary.took_ms / 1e3;
        self.tell(&format!(
            "
  lines     {sent} sent, {received} received
  name      {name} = {resolved}
            from {resolved_by} through the tunnel; asked {questions} times{asker}, \
             node-local-dns {questions_to_node} times
  path      {path}
  tunnel    WireGuard, MTU {tunnel_mtu}, handshake in {handshake_ms:.1} ms
  ready     {:.0} ms after seedwire was started in the pod
  in all    {seconds:.1} s
",
            summary.ready_ms
        ))?;
        if self.json {
            let line = serde_json::to_string(summary)?;
            writeln!(io::stdout(), "{line}").context("failed to write the summary")?;
        }
        Ok(())
    }

    /// The ends of what the instances logged, for when it went wrong.
    pub(super) fn logs(&self, files: &Path) -> Result<()> {
        for name in ["hub", "pod"] {
            let Ok(log) = fs::read_to_string(files.join(format!("{name}.log"))) else {
                continue;
            };
            let lines: Vec<_> = log.lines().collect();
            self.tell(&format!(
                "\n  the log of seedwire in the {name}, its end:\n"
            ))?;
            for line in &lines[lines.len().saturating_sub(LOGGED)..] {
                self.tell(&format!("    {line}\n"))?;
            }
        }
        Ok(())
    }

    /// How to look around.
    pub(super) fn ways_in(&self, world: &World) -> Result<()> {
        self.tell("\n  Look around, from another terminal:\n")?;
        for namespace in world.all() {
            self.tell(&format!(
                "    {:<9} nsenter -t {} -U -n -m --preserve-credentials\n",
                namespace.name(),
                namespace.task()
            ))?;
        }
        let seedwire = std::env::current_exe().context("failed to find this program")?;
        self.tell(&format!(
            "  and there, for instance:
    {} status --socket /run/seedwire/{POD_LINK}.sock
    curl http://{LOKI_NAME}:{LOKI_PORT}/ready    # in the pod
    ls /run/seedwire    # the configurations and the logs
  Ctrl-C ends it all.
",
            seedwire.display()
        ))
    }
}
