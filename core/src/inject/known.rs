//! What a ConfigMap among the documents says about the configuration. Its references `${NAME}` and
//! its files are not known here, so it is looked into and not checked.

use super::Identity;
use super::container::STARTS_WITHIN;
use super::tree::{Map, Value, parse};

/// The entry of the ConfigMap that holds the configuration.
pub(super) const ENTRY: &str = "seedwire.yaml";
/// Where the probes ask.
const HTTP_PORT: &str = "9586";

/// What is known of a configuration.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Who has a key and addresses of its own; `None` without a tunnel.
    pub(super) identity: Option<Identity>,
    /// The prefixes that lead into the tunnel.
    pub(super) prefixes: Vec<String>,
    /// `dns.listen`.
    pub(super) dns_listen: Vec<String>,
    /// `dns.upstreams`.
    pub(super) dns_upstreams: Vec<String>,
    /// `control.http`.
    http: Option<String>,
    /// `control.startupWait`.
    startup_wait: Option<String>,
}

impl Known {
    /// Looks into a ConfigMap.
    pub(super) fn of(config_map: &Map) -> Result<Self, String> {
        let text = config_map
            .map("data")
            .and_then(|data| data.scalar(ENTRY))
            .ok_or_else(|| format!("data.{ENTRY} is missing"))?;
        let documents = parse(text).map_err(|reason| format!("data.{ENTRY}: {reason}"))?;
        let [Value::Map(root)] = &*documents else {
            return Err(format!("data.{ENTRY}: expected one configuration"));
        };
        let dns = |key| texts(root.at(&["dns", key]));
        Ok(Self {
            identity: root.map("tunnel").map(identity),
            prefixes: root.map("tunnel").map_or_else(Vec::new, prefixes),
            dns_listen: dns("listen"),
            dns_upstreams: dns("upstreams"),
            http: texts(root.at(&["control", "http"])).pop(),
            startup_wait: texts(root.at(&["control", "startupWait"])).pop(),
        })
    }

    /// Whether /startupz may turn 200 only after the startup probe has given up.
    pub(super) fn starts_too_late(&self) -> bool {
        let wait = self.startup_wait.as_deref().unwrap_or("60s");
        let factors = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
        let millis = factors.iter().find_map(|(unit, factor)| {
            let number = wait.strip_suffix(unit)?.parse::<u64>().ok()?;
            number.checked_mul(*factor)
        });
        wait == "never" || millis.is_some_and(|millis| millis >= STARTS_WITHIN * 1000)
    }

    /// Whether the kubelet, which asks at the pod's address, finds the health checks.
    pub(super) fn probed(&self) -> bool {
        let http = self.http.as_deref().unwrap_or("127.0.0.1:9586");
        let every = ["", "0.0.0.0", "[::]"];
        http.contains("${")
            || every.iter().any(|host| {
                http.strip_prefix(host)
                    .is_some_and(|rest| rest.strip_prefix(':') == Some(HTTP_PORT))
            })
    }
}

/// Who has a key and addresses of its own: both have to differ.
fn identity(tunnel: &Map) -> Identity {
    let key = texts(tunnel.get("privateKeyFile").or(tunnel.get("privateKey")));
    let addresses = texts(tunnel.get("addressesFile").or(tunnel.get("addresses")));
    let by = |reference: &str| {
        let refers = |texts: &[String]| texts.iter().any(|text| text.contains(reference));
        refers(&key) && refers(&addresses)
    };
    if by("${POD_NAME}") {
        Identity::Pod
    } else if by("${NODE_NAME}") {
        Identity::Node
    } else {
        Identity::Shared
    }
}

fn prefixes(tunnel: &Map) -> Vec<String> {
    let peers = tunnel.list("peers").iter().filter_map(Value::as_map);
    peers
        .flat_map(|peer| texts(peer.get("allowedIPs")))
        .collect()
}

/// The scalars of a list, or the one scalar.
fn texts(value: Option<&Value>) -> Vec<String> {
    let one = value.filter(|v| !v.is_empty()).and_then(Value::scalar);
    let list = value.and_then(Value::as_list).unwrap_or_default();
    let all = one.into_iter().chain(list.iter().filter_map(Value::scalar));
    all.map(str::to_owned).collect()
}
