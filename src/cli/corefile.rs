use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::bail;
use seedwire_core::config::{Dns, DnsProtocol, Zone};

use crate::config;

use super::output;

/// Print the CoreDNS server blocks for both sides
///
/// Prints, for each zone of the configuration, the server block that makes node-local-dns (or the
/// cluster's own CoreDNS) forward the zone to seedwire, and the one that makes the control plane's
/// DNS answer it from the seed. Paste the first into the Corefile of the user cluster, before its
/// other blocks, and the second into the Corefile of the zone's upstream in the seed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  seedwire corefile -c /etc/seedwire/config.yaml --bind 169.254.20.10")]
pub(super) struct Corefile {
    /// The configuration
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// The address that node-local-dns itself listens on
    #[arg(long, value_name = "ADDRESS", default_value = "169.254.20.10")]
    bind: IpAddr,
}

impl Corefile {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let file = self.config.display();
        let config = config::load(&self.config)?.config;
        let Some(dns) = config.dns.filter(|dns| !dns.zones.is_empty()) else {
            bail!("failed to make server blocks: {file} has no dns.zones");
        };
        let listen = forwarded_to(&dns);
        if listen.is_empty() {
            bail!(
                "failed to make server blocks: {file} has no address in dns.listen to forward to"
            );
        }
        let mut text = String::new();
        blocks(&mut text, &dns, &listen, self.bind)?;
        output::write(text)
    }
}

/// Where another server can send its questions.
fn forwarded_to(dns: &Dns) -> Vec<SocketAddr> {
    let addresses = dns.listen.iter().copied();
    addresses.filter(|a| !a.ip().is_unspecified()).collect()
}

fn blocks(text: &mut String, dns: &Dns, listen: &[SocketAddr], bind: IpAddr) -> fmt::Result {
    writeln!(
        text,
        "# In the user cluster: the Corefile of node-local-dns."
    )?;
    for zone in &dns.zones {
        block(
            text,
            zone,
            53,
            Some(format!("bind {bind}")),
            &join(listen.iter()),
        )?;
    }
    for zone in &dns.zones {
        writeln!(
            text,
            "\n# In the seed: the Corefile of the control plane's DNS at {}.",
            join(zone.upstreams.iter())
        )?;
        let upstream = zone.upstreams.first();
        let port = upstream.map_or(53, |server| server.address.port());
        let is_tls = upstream.is_some_and(|s| matches!(s.protocol, DnsProtocol::Tls(_)));
        if is_tls {
            write!(text, "tls://")?;
        }
        let tls = is_tls.then_some("tls /etc/coredns/tls.crt /etc/coredns/tls.key");
        block(text, zone, port, tls.map(str::to_owned), "/etc/resolv.conf")?;
    }
    Ok(())
}

fn block(text: &mut String, zone: &Zone, port: u16, line: Option<String>, to: &str) -> fmt::Result {
    writeln!(text, "{}:{port} {{\n    errors\n    cache 30", zone.zone)?;
    if let Some(line) = line {
        writeln!(text, "    {line}")?;
    }
    writeln!(text, "    forward . {to}\n}}")
}

fn join(addresses: impl Iterator<Item = impl ToString>) -> String {
    let addresses: Vec<_> = addresses.map(|address| address.to_string()).collect();
    addresses.join(" ")
}
