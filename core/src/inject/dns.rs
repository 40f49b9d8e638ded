//! The DNS of a pod whose only nameserver is seedwire.

use std::net::IpAddr;

use super::Mode;
use super::container::cluster_dns_variable;
use super::known::Known;
use super::tree::{Map, Value};

/// The pod's `dnsConfig` for `dnsPolicy: None`; `None` where its DNS stays as it is.
///
/// There is exactly one nameserver: musl asks all of them at once and takes the first answer, so
/// that a second one would deny the seed's names.
pub(super) fn settings(
    pod: &Map,
    namespace: Option<&str>,
    known: Option<&Known>,
    mode: &Mode,
) -> Result<Option<Map>, (String, String)> {
    let Mode::Dns {
        cluster_dns,
        cluster_domain,
    } = mode
    else {
        return Ok(None);
    };
    let policy = pod.at(&["spec", "dnsPolicy"]).and_then(Value::scalar);
    let own = pod.at(&["spec", "dnsConfig"]).and_then(Value::as_map);
    let own = own.cloned().unwrap_or_default();
    let mut searches = Vec::new();
    if !matches!(policy, Some("None" | "Default")) {
        let Some(namespace) = namespace else {
            let reason = "the search domains need it; give --namespace";
            return Err(("metadata.namespace".to_owned(), reason.to_owned()));
        };
        searches.push(Value::text(format!("{namespace}.svc.{cluster_domain}")));
        searches.push(Value::text(format!("svc.{cluster_domain}")));
        searches.push(Value::text(cluster_domain));
    }
    for search in own.list("searches") {
        if !searches.contains(search) {
            searches.push(search.clone());
        }
    }
    let mut config = Map::default();
    let nameserver = nameserver(known, cluster_dns);
    config.set("nameservers", Value::List(vec![Value::text(nameserver)]));
    config.set("searches", Value::List(searches));
    config.set("options", Value::List(resolver_options(&own)));
    Ok(Some(config))
}

fn resolver_options(own: &Map) -> Vec<Value> {
    let mut options = own.list("options").to_vec();
    let name = |option: &Value| option.as_map()?.scalar("name").map(str::to_owned);
    if !options.iter().any(|o| name(o).as_deref() == Some("ndots")) {
        let mut ndots = Map::default();
        ndots.set("name", Value::text("ndots"));
        ndots.set("value", Value::text("5"));
        options.push(Value::Map(ndots));
    }
    options
}

/// Where seedwire listens, if that is known; else the loopback address of the cluster's family.
fn nameserver(known: Option<&Known>, cluster_dns: &[IpAddr]) -> &'static str {
    let six = match known {
        Some(known) => !listens(known, "127.0.0.1") && listens(known, "::1"),
        None => cluster_dns.iter().all(IpAddr::is_ipv6),
    };
    if six { "::1" } else { "127.0.0.1" }
}

/// Why a pod that asks only seedwire would not get its answers.
pub(super) fn missing_upstream(known: &Known, cluster_dns: &[IpAddr]) -> Option<String> {
    if !listens(known, "127.0.0.1") && !listens(known, "::1") {
        return Some("dns.listen has to hold 127.0.0.1:53 or [::1]:53 for --mode dns".to_owned());
    }
    let missing = cluster_dns.iter().enumerate().find(|(i, address)| {
        let variable = format!("${{{}}}", cluster_dns_variable(*i));
        let port_53 = |text: &String| text.strip_suffix(":53").unwrap_or(text).to_owned();
        let is_it = |text: &String| {
            let host = port_53(text);
            host == variable
                || text.parse() == Ok(**address)
                || host.trim_matches(['[', ']']).parse() == Ok(**address)
        };
        !known.dns_upstreams.iter().any(is_it)
    });
    missing.map(|(i, address)| {
        format!(
            "dns.upstreams has to hold \"${{{}}}\" or {address}, which --cluster-dns gives; else \
             the cluster's names are not answered",
            cluster_dns_variable(i)
        )
    })
}

/// Whether seedwire answers at this loopback address.
fn listens(known: &Known, address: &str) -> bool {
    let forms = if address == "::1" {
        ["::1", "[::1]:53", "[::]:53", "::"]
    } else {
        ["127.0.0.1", "127.0.0.1:53", "0.0.0.0:53", "0.0.0.0"]
    };
    known.dns_listen.iter().any(|text| forms.contains(&&**text))
}
