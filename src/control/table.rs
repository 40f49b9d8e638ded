//! Status as a table that a person can read.

use std::fmt::{self, Display, Write};
use std::time::{Duration, SystemTime};

use seedwire_core::tunnel::PeerState;

use super::snapshot::{Dns, Peer, Port, StatusReport, Step, Timestamp, Tunnel, Upstream, Zone};

/// The whole status at `now`, with a line break at the end.
pub(super) fn draw(report: &StatusReport, now: SystemTime) -> String {
    let mut text = String::new();
    // A String takes everything.
    let _ = write_report(&mut text, report, now);
    text
}

fn write_report(out: &mut String, report: &StatusReport, now: SystemTime) -> fmt::Result {
    let snapshot = &report.snapshot;
    let instance = &snapshot.instance;
    let name = instance.interface.as_deref().unwrap_or("seedwire");
    let state = if report.ready { "ready" } else { "NOT READY" };
    let age = Age::at(instance.started, now);
    writeln!(
        out,
        "{name}: {state} (seedwire {}, pid {}, running for {age})",
        instance.version, instance.pid
    )?;
    for reason in &report.not_ready {
        writeln!(out, "  not ready: {}", reason.text)?;
    }
    let config = &snapshot.config;
    let applied = Age::at(config.applied, now);
    let file = config.file.display();
    writeln!(out, "configuration: {file}, applied {applied} ago")?;
    if let Some(error) = &config.error {
        writeln!(out, "  the last reload failed: {error}")?;
    }
    for warning in &config.warnings {
        writeln!(out, "  {warning}")?;
    }
    if let Some(tunnel) = &snapshot.tunnel {
        write_tunnel(out, tunnel, now)?;
    }
    write_network(out, &snapshot.network)?;
    if let Some(dns) = &snapshot.dns {
        write_dns(out, dns)?;
    }
    write_ports(out, &snapshot.ports)?;
    if let Some(error) = &snapshot.last_error {
        let age = Age::at(error.at, now);
        writeln!(out, "\nlast error, {age} ago: {}", error.text)?;
    }
    Ok(())
}

fn write_tunnel(out: &mut String, tunnel: &Tunnel, now: SystemTime) -> fmt::Result {
    writeln!(
        out,
        "\ntunnel: {} ({}), MTU {} ({}), UDP port {}",
        tunnel.backend, tunnel.backend_reason, tunnel.mtu, tunnel.mtu_reason, tunnel.listen_port
    )?;
    let unused: Vec<_> = tunnel
        .offloads
        .iter()
        .flat_map(|offloads| offloads.named())
        .filter_map(|(name, used)| (!used).then_some(name))
        .collect();
    if !unused.is_empty() {
        writeln!(out, "  offloads not in use: {}", unused.join(", "))?;
    }
    let mut table = Table::new([
        "PEER",
        "STATE",
        "ENDPOINT",
        "HANDSHAKE",
        "RECEIVED",
        "SENT",
        "ALLOWED IPS",
    ]);
    for peer in &tunnel.peers {
        table.row(peer_row(peer, now));
    }
    table.write(out)?;
    for peer in &tunnel.peers {
        if let Some(trouble) = &peer.trouble {
            writeln!(out, "  {}: {trouble}", peer.name)?;
        }
        if let Some(probe) = &peer.probe {
            let answered = match probe.answered {
                Some(at) => format!("answered {} ago", Age::at(at, now)),
                None => "has not answered yet".to_owned(),
            };
            let limit = probe
                .limit
                .map(|limit| format!(", takes {limit} bytes at most"));
            let (name, address) = (&peer.name, probe.address);
            writeln!(
                out,
                "  {name}: {address} {answered}{}",
                limit.unwrap_or_default()
            )?;
        }
    }
    Ok(())
}

fn peer_row(peer: &Peer, now: SystemTime) -> [String; 7] {
    let state = match peer.state {
        PeerState::Idle => "idle",
        PeerState::Up => "up",
        PeerState::Down => "DOWN",
    };
    let handshake = match peer.last_handshake {
        Some(at) => format!("{} ago", Age::at(at, now)),
        None => "never".to_owned(),
    };
    [
        peer.name.clone(),
        state.to_owned(),
        or_dash(peer.endpoint),
        handshake,
        Bytes(peer.received).to_string(),
        Bytes(peer.transmitted).to_string(),
        peer.allowed_ips.join(", "),
    ]
}

fn write_network(out: &mut String, steps: &[Step]) -> fmt::Result {
    if steps.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nnetwork:")?;
    let mut table = Table::new(["OBJECT", "STATE"]);
    for step in steps {
        let state = match &step.error {
            None => "as desired".to_owned(),
            Some(error) => format!("NOT AS DESIRED: {error}"),
        };
        // Of an nft table the head alone; `check --plan` has all of it.
        let head = step.text.lines().next().unwrap_or_default();
        table.row([head.trim_end_matches(" {").to_owned(), state]);
    }
    table.write(out)
}

fn write_dns(out: &mut String, dns: &Dns) -> fmt::Result {
    let listen: Vec<_> = dns.listen.iter().map(ToString::to_string).collect();
    let listen = match listen.join(", ") {
        none if none.is_empty() => "own needs only".to_owned(),
        listen => listen,
    };
    let cache = &dns.cache;
    writeln!(
        out,
        "\ndns: {listen}, {} questions; cache: {} answers, {}, {} hits, {} misses, {} stale",
        dns.queries.values().sum::<u64>(),
        cache.entries,
        Bytes(cache.bytes),
        cache.hits,
        cache.misses,
        dns.stale
    )?;
    let mut table = Table::new([
        "ZONE",
        "STATE",
        "UPSTREAM",
        "STATE",
        "QUESTIONS",
        "FAILURES",
        "TIME",
        "LAST ERROR",
    ]);
    for zone in &dns.zones {
        let state = if zone.not_ready.is_none() {
            "ready"
        } else {
            "NOT READY"
        };
        for upstream in &zone.upstreams {
            table.row(upstream_row(&zone.zone, state, upstream));
        }
    }
    for upstream in dns.upstreams.iter().flatten() {
        table.row(upstream_row("(everything else)", "-", upstream));
    }
    table.write(out)?;
    for Zone {
        zone, not_ready, ..
    } in &dns.zones
    {
        if let Some(why) = not_ready {
            writeln!(out, "  {zone}: {why}")?;
        }
    }
    Ok(())
}

fn upstream_row(zone: &str, state: &str, upstream: &Upstream) -> [String; 8] {
    let health = if upstream.up { "up" } else { "DOWN" };
    let time = upstream
        .latency_seconds
        .map(|seconds| format!("{:.1} ms", seconds * 1e3));
    [
        zone.to_owned(),
        state.to_owned(),
        upstream.address.clone(),
        health.to_owned(),
        upstream.queries.to_string(),
        upstream.failures.to_string(),
        or_dash(time),
        or_dash(upstream.last_error.as_ref()),
    ]
}

fn write_ports(out: &mut String, ports: &[Port]) -> fmt::Result {
    if ports.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nports:")?;
    let mut table = Table::new([
        "LISTEN",
        "TO",
        "OPEN",
        "TAKEN",
        "FAILED",
        "RECEIVED",
        "SENT",
        "LAST ERROR",
    ]);
    for port in ports {
        table.row([
            port.listen.to_string(),
            port.to.clone(),
            port.open.to_string(),
            port.accepted.to_string(),
            port.failed.to_string(),
            Bytes(port.received).to_string(),
            Bytes(port.transmitted).to_string(),
            or_dash(port.last_error.as_ref()),
        ]);
    }
    table.write(out)
}

fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Columns under their names, each as wide as its longest cell.
struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    fn new(names: [&str; N]) -> Self {
        Self {
            rows: vec![names.map(str::to_owned)],
        }
    }

    fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    /// Writes nothing when there is no row below the names.
    fn write(&self, out: &mut String) -> fmt::Result {
        if self.rows.len() < 2 {
            return Ok(());
        }
        let width = |column: usize| {
            let widths = self.rows.iter().map(|row| row[column].chars().count());
            widths.max().unwrap_or_default()
        };
        let widths: [usize; N] = std::array::from_fn(width);
        for row in &self.rows {
            let cells: Vec<_> = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            writeln!(out, "  {}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// How long ago something was, in its two greatest units.
struct Age(Duration);

impl Age {
    fn at(then: Timestamp, now: SystemTime) -> Self {
        Self(now.duration_since(then.0).unwrap_or_default())
    }
}

impl Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds} s"),
            (0, 0, _) => write!(f, "{minutes} min {} s", seconds % 60),
            (0, _, _) => write!(f, "{hours} h {} min", minutes % 60),
            _ => write!(f, "{days} d {} h", hours % 24),
        }
    }
}

/// A size in the greatest unit in which it is at least 1.
struct Bytes(u64);

impl Display for Bytes {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut size = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while size >= 1024.0 && unit + 1 < UNITS.len() {
            size /= 1024.0;
            unit += 1;
        }
        write!(f, "{size:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes_are_short() {
        let age = |seconds| Age(Duration::from_secs(seconds)).to_string();
        assert_eq!(age(59), "59 s");
        assert_eq!(age(61), "1 min 1 s");
        assert_eq!(age(3 * 3600 + 125), "3 h 2 min");
        assert_eq!(age(49 * 3600), "2 d 1 h");
        assert_eq!(Bytes(1023).to_string(), "1023 B");
        assert_eq!(Bytes(1536).to_string(), "1.5 KiB");
        assert_eq!(Bytes(u64::MAX).to_string(), "16384.0 PiB");
    }
}
