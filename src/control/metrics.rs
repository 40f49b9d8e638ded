//! A snapshot as OpenMetrics text, for Prometheus.
//!
//! No label comes from a DNS question. A fact that is a time is in seconds since 1970, and 0 where
//! it never happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use seedwire_core::tunnel::PeerState;

use super::snapshot::{Dns, Port, ReasonKind, Snapshot, Step, Tunnel, Upstream};

/// The content type of the text (OpenMetrics 1.0.0).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The zone in the labels of the general upstreams.
const ROOT: &str = ".";

pub(super) fn encode(snapshot: Snapshot) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("seedwire");
    registry.register_collector(Box::new(Scrape(snapshot)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Scrape(Snapshot);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut out = Families(encoder);
        self.0.encode_instance(&mut out)?;
        if let Some(tunnel) = &self.0.tunnel {
            tunnel.encode(&mut out)?;
        }
        encode_network(&self.0.network, &mut out)?;
        encode_repairs(&self.0.repairs, &mut out)?;
        if let Some(dns) = &self.0.dns {
            dns.encode(&mut out)?;
            dns.encode_upstreams(&mut out)?;
            dns.encode_cache(&mut out)?;
        }
        encode_ports(&self.0.ports, &mut out)
    }
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Writes one family of metrics after the other.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    /// Writes a gauge for each row; a second row with the same labels is left out, because it
    /// would make the whole scrape invalid.
    fn gauge<'l, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'l>, V)>,
    ) -> fmt::Result {
        let rows = distinct(rows);
        if rows.is_empty() {
            return Ok(());
        }
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in rows {
            if labels.is_empty() {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    /// Writes a counter for each row, as [`Self::gauge`] does; `_total` comes behind `name`.
    fn counter<'l>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        let rows = distinct(rows);
        if rows.is_empty() {
            return Ok(());
        }
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in rows {
            if labels.is_empty() {
                family.encode_counter::<NoLabelSet, u64, f64>(&value, None)?;
            } else {
                family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, u64, f64>(&value, None)?;
            }
        }
        Ok(())
    }
}

fn distinct<'l, V>(rows: impl IntoIterator<Item = (Labels<'l>, V)>) -> Vec<(Labels<'l>, V)> {
    let mut seen = BTreeSet::new();
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.retain(|(labels, _)| seen.insert(labels.clone()));
    rows
}

impl Snapshot {
    fn encode_instance(&self, out: &mut Families<'_>) -> fmt::Result {
        let version = self.instance.version.as_str();
        out.gauge(
            "build_info",
            "The version that runs",
            [(vec![("version", version)], 1u64)],
        )?;
        out.gauge(
            "start_timestamp_seconds",
            "When the process started",
            [(vec![], self.instance.started.seconds())],
        )?;
        let reasons: BTreeSet<_> = self.reasons().into_iter().map(|r| r.kind).collect();
        out.gauge(
            "ready",
            "0 where this reason keeps the instance from being ready, 1 where it does not",
            ReasonKind::ALL.map(|kind| {
                let ready = u64::from(!reasons.contains(&kind));
                (vec![("reason", kind.as_str())], ready)
            }),
        )?;
        self.encode_config(out)
    }

    fn encode_config(&self, out: &mut Families<'_>) -> fmt::Result {
        let config = &self.config;
        out.gauge(
            "config_last_reload_successful",
            "Whether the last reading of the configuration was applied",
            [(vec![], u64::from(config.error.is_none()))],
        )?;
        out.gauge(
            "config_last_reload_success_timestamp_seconds",
            "When the configuration in force was applied",
            [(vec![], config.applied.seconds())],
        )?;
        out.counter(
            "config_reloads",
            "Reloads of the configuration by result",
            [
                (vec![("result", "applied")], config.reloads),
                (vec![("result", "failed")], config.failures),
            ],
        )?;
        let warnings = u64::try_from(config.warnings.len()).unwrap_or(u64::MAX);
        out.gauge(
            "config_warnings",
            "Settings that work and should be looked at",
            [(vec![], warnings)],
        )?;
        out.gauge(
            "config_readable_secrets",
            "Files of secrets that others can read",
            [(vec![], config.readable_secrets)],
        )
    }
}

impl Tunnel {
    fn encode(&self, out: &mut Families<'_>) -> fmt::Result {
        out.gauge(
            "tunnel_info",
            "Who carries the packets",
            [(vec![("backend", self.backend.as_str())], 1u64)],
        )?;
        out.gauge(
            "tunnel_mtu_bytes",
            "The MTU of the interface",
            [(vec![], u64::from(self.mtu))],
        )?;
        self.encode_offloads(out)?;
        out.counter(
            "tunnel_refused_datagrams",
            "Datagrams that were dropped, by reason",
            self.refused
                .iter()
                .map(|(reason, count)| (vec![("reason", reason.as_str())], *count)),
        )?;
        let states = self.peers.iter().flat_map(|peer| {
            [
                ("idle", PeerState::Idle),
                ("up", PeerState::Up),
                ("down", PeerState::Down),
            ]
            .map(|(word, state)| {
                let labels = vec![("peer", peer.name.as_str()), ("state", word)];
                (labels, u64::from(peer.state == state))
            })
        });
        out.gauge("peer_state", "1 for the state of the peer", states)?;
        let peers = || {
            self.peers
                .iter()
                .map(|p| (vec![("peer", p.name.as_str())], p))
        };
        out.gauge(
            "peer_last_handshake_timestamp_seconds",
            "When the last handshake was completed",
            peers().map(|(labels, p)| (labels, p.last_handshake.map_or(0, |at| at.seconds()))),
        )?;
        out.counter(
            "peer_receive_bytes",
            "Bytes received from the peer",
            peers().map(|(labels, p)| (labels, p.received)),
        )?;
        out.counter(
            "peer_transmit_bytes",
            "Bytes sent to the peer",
            peers().map(|(labels, p)| (labels, p.transmitted)),
        )?;
        let probed = || peers().filter_map(|(labels, p)| Some((labels, p.probe?)));
        out.gauge(
            "peer_probe_answer_timestamp_seconds",
            "When the address that is probed behind the peer answered last",
            probed().map(|(labels, p)| (labels, p.answered.map_or(0, |at| at.seconds()))),
        )?;
        out.gauge(
            "peer_path_mtu_bytes",
            "The longest packet that passes through the peer, as far as is known",
            probed().map(|(labels, p)| (labels, u64::from(p.limit.unwrap_or(self.mtu)))),
        )
    }

    fn encode_offloads(&self, out: &mut Families<'_>) -> fmt::Result {
        let offloads = self.offloads.iter().flat_map(|offloads| offloads.named());
        out.gauge(
            "tunnel_offload",
            "1 where the kernel handles many packets in one call, 0 where they go one by one",
            offloads.map(|(name, used)| (vec![("offload", name)], u64::from(used))),
        )?;
        out.counter(
            "tunnel_refused_runs",
            "Runs of datagrams that were refused in one call and sent one by one",
            self.offloads
                .map(|offloads| (vec![], offloads.refused_runs)),
        )
    }
}

fn encode_network(steps: &[Step], out: &mut Families<'_>) -> fmt::Result {
    let mut kinds: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for step in steps {
        let (all, failed) = kinds.entry(&step.kind).or_default();
        *all += 1;
        *failed += u64::from(step.error.is_some());
    }
    let labels = |kind| vec![("kind", kind)];
    out.gauge(
        "netstate_objects",
        "What is written into the network state",
        kinds.iter().map(|(kind, (all, _))| (labels(*kind), *all)),
    )?;
    out.gauge(
        "netstate_failed_objects",
        "What is not as desired in the network state",
        kinds
            .iter()
            .map(|(kind, (_, failed))| (labels(*kind), *failed)),
    )
}

fn encode_repairs(repairs: &BTreeMap<String, u64>, out: &mut Families<'_>) -> fmt::Result {
    // A counter that appears with its first event hides that event from rate().
    let kinds = ["sysctl", "link", "address", "route", "rule", "nft"];
    out.counter(
        "netstate_repairs",
        "Objects that were put back after others had changed them",
        kinds.map(|kind| {
            let count = repairs.get(kind).copied().unwrap_or(0);
            (vec![("kind", kind)], count)
        }),
    )
}

impl Dns {
    fn encode(&self, out: &mut Families<'_>) -> fmt::Result {
        let transports = self.queries.iter();
        out.counter(
            "dns_queries",
            "Questions by transport",
            transports.map(|(by, count)| (vec![("transport", by.as_str())], *count)),
        )?;
        let codes = self.responses.iter();
        out.counter(
            "dns_responses",
            "Answers by response code",
            codes.map(|(code, count)| (vec![("rcode", code.as_str())], *count)),
        )?;
        out.counter(
            "dns_coalesced",
            "Questions that joined one under way",
            [(vec![], self.coalesced)],
        )?;
        out.counter(
            "dns_hedged",
            "Questions that a second upstream was asked because the first was slow",
            [(vec![], self.hedged)],
        )?;
        out.counter(
            "dns_truncated",
            "Answers that were cut short over UDP",
            [(vec![], self.truncated)],
        )?;
        out.counter(
            "dns_stale_answers",
            "Answers beyond their end, given because no upstream answered, or for an NXDOMAIN",
            [(vec![], self.stale)],
        )?;
        out.counter(
            "dns_cache_refreshes",
            "Popular answers that were asked for again before their end",
            [(vec![], self.refreshed)],
        )?;
        out.counter(
            "dns_distrusted_nxdomains",
            "NXDOMAINs that were not believed",
            [(vec![], self.distrusted)],
        )?;
        out.counter(
            "dns_ignored",
            "Packets that were no questions",
            [(vec![], self.ignored)],
        )
    }

    fn encode_upstreams(&self, out: &mut Families<'_>) -> fmt::Result {
        let zones = self.zones.iter();
        out.gauge(
            "dns_zone_ready",
            "Whether the zone is known to answer",
            zones.map(|z| {
                let ready = u64::from(z.not_ready.is_none());
                (vec![("zone", z.zone.as_str())], ready)
            }),
        )?;
        let of_zones = self.zones.iter().map(|z| (z.zone.as_str(), &z.upstreams));
        let general = self.upstreams.iter().map(|upstreams| (ROOT, upstreams));
        let upstreams: Vec<(&str, &Upstream)> = of_zones
            .chain(general)
            .flat_map(|(zone, list)| list.iter().map(move |u| (zone, u)))
            .collect();
        let rows = || {
            upstreams.iter().map(|(zone, upstream)| {
                let labels = vec![("zone", *zone), ("upstream", upstream.address.as_str())];
                (labels, *upstream)
            })
        };
        out.gauge(
            "dns_upstream_up",
            "Whether the upstream answers",
            rows().map(|(labels, u)| (labels, u64::from(u.up))),
        )?;
        out.counter(
            "dns_upstream_queries",
            "Questions sent to the upstream",
            rows().map(|(labels, u)| (labels, u.queries)),
        )?;
        out.counter(
            "dns_upstream_failures",
            "Questions it did not answer, or answered with SERVFAIL or REFUSED",
            rows().map(|(labels, u)| (labels, u.failures)),
        )?;
        out.gauge(
            "dns_upstream_latency_seconds",
            "The smoothed time to an answer",
            rows().filter_map(|(labels, u)| Some((labels, u.latency_seconds?))),
        )
    }

    fn encode_cache(&self, out: &mut Families<'_>) -> fmt::Result {
        let cache = &self.cache;
        let entries = [(vec![], cache.entries)];
        out.gauge("dns_cache_entries", "Answers kept", entries)?;
        let bytes = [(vec![], cache.bytes)];
        out.gauge("dns_cache_bytes", "The memory the answers take", bytes)?;
        let hits = [(vec![], cache.hits)];
        out.counter("dns_cache_hits", "Questions answered from the cache", hits)?;
        let misses = [(vec![], cache.misses)];
        out.counter("dns_cache_misses", "Questions that were not", misses)?;
        let evictions = [(vec![], cache.evictions)];
        out.counter(
            "dns_cache_evictions",
            "Answers that made room for others",
            evictions,
        )
    }
}

fn encode_ports(ports: &[Port], out: &mut Families<'_>) -> fmt::Result {
    let listens: Vec<String> = ports.iter().map(|port| port.listen.to_string()).collect();
    let rows = || {
        let listens = listens.iter().map(|listen| ("listen", listen.as_str()));
        listens.zip(ports)
    };
    out.gauge(
        "port_open_connections",
        "Connections open now",
        rows().map(|(listen, p)| (vec![listen], p.open)),
    )?;
    out.counter(
        "port_connections",
        "Connections that were taken",
        rows().map(|(listen, p)| (vec![listen], p.accepted)),
    )?;
    out.counter(
        "port_failed_connections",
        "Connections that were closed because the far end could not be reached",
        rows().map(|(listen, p)| (vec![listen], p.failed)),
    )?;
    out.counter(
        "port_receive_bytes",
        "Bytes from the seed to the clients",
        rows().map(|(listen, p)| (vec![listen], p.received)),
    )?;
    out.counter(
        "port_transmit_bytes",
        "Bytes from the clients into the seed",
        rows().map(|(listen, p)| (vec![listen], p.transmitted)),
    )
}
