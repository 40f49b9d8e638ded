//! The sidecar and its volumes: the only place where they are written down.

use std::net::IpAddr;

use super::tree::{Map, Value, parse};
use super::{Mode, Options};

/// The name of the container, and what the names of its volumes start with.
pub(super) const NAME: &str = "seedwire";
/// The names of the volumes.
pub(super) const VOLUMES: [&str; 4] = [
    "seedwire-config",
    "seedwire-keys",
    "seedwire-run",
    "seedwire-tun",
];

// runAsNonRoot stands here because the pod's own `true` would keep the container from starting:
// a user other than 0 gets no effective capability from the list.
const CONTAINER: &str = "\
name: seedwire
image: IMAGE
args: [run, -c, /etc/seedwire/config/seedwire.yaml]
restartPolicy: Always
env:
  - name: NODE_NAME
    valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
  - name: POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
ports:
  - {name: seedwire, containerPort: 9586}
startupProbe:
  httpGet: {path: /startupz, port: seedwire}
  periodSeconds: 1
  failureThreshold: 90
livenessProbe:
  httpGet: {path: /livez, port: seedwire}
securityContext:
  runAsUser: 0
  runAsNonRoot: false
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL], add: [NET_ADMIN, NET_BIND_SERVICE]}
  seccompProfile: {type: RuntimeDefault}
resources:
  requests: {cpu: 5m, memory: 16Mi}
  limits: {memory: 64Mi}
volumeMounts:
  - {name: seedwire-config, mountPath: /etc/seedwire/config, readOnly: true}
  - {name: seedwire-keys, mountPath: /etc/seedwire/keys, readOnly: true}
  - {name: seedwire-run, mountPath: /run/seedwire}
  - {name: seedwire-tun, mountPath: /dev/net/tun}
";

const CONFIG: &str = "{name: seedwire-config, configMap: {name: NAME}}";
const KEYS: &str = "{name: seedwire-keys, secret: {secretName: NAME, defaultMode: 0400}}";
const RUN: &str = "{name: seedwire-run, emptyDir: {medium: Memory, sizeLimit: 1Mi}}";
const TUN: &str = "{name: seedwire-tun, hostPath: {path: /dev/net/tun, type: CharDevice}}";

/// The container as an init container that keeps running.
pub(super) fn container(options: &Options) -> Value {
    let mut container = fixed(CONTAINER);
    container.set("image", Value::text(&options.image));
    if let Mode::Dns { cluster_dns, .. } = &options.mode
        && let Some(Value::List(variables)) = container.get_mut("env")
    {
        variables.extend(cluster_dns_variables(cluster_dns));
    }
    Value::Map(container)
}

/// The volumes, in the order of [`VOLUMES`].
pub(super) fn volumes(options: &Options) -> Vec<Value> {
    let mut config = fixed(CONFIG);
    if let Some(source) = config.map_mut("configMap") {
        source.set("name", Value::text(&options.config_map));
    }
    let mut keys = fixed(KEYS);
    if let Some(source) = keys.map_mut("secret") {
        source.set("secretName", Value::text(&options.secret));
    }
    let volumes = [config, keys, fixed(RUN), fixed(TUN)];
    volumes.into_iter().map(Value::Map).collect()
}

/// When the startup probe gives up, in seconds.
pub(super) const STARTS_WITHIN: u64 = 90;

/// The name of the variable that holds an address of `--cluster-dns`, counted from 0.
pub(super) fn cluster_dns_variable(index: usize) -> String {
    format!("CLUSTER_DNS_{}", index + 1)
}

fn cluster_dns_variables(addresses: &[IpAddr]) -> impl Iterator<Item = Value> {
    let variable = |(i, address): (usize, &IpAddr)| {
        let mut variable = Map::default();
        variable.set("name", Value::text(cluster_dns_variable(i)));
        variable.set("value", Value::text(address.to_string()));
        Value::Map(variable)
    };
    addresses.iter().enumerate().map(variable)
}

fn fixed(text: &str) -> Map {
    match parse(text).map(|mut documents| documents.pop()) {
        Ok(Some(Value::Map(map))) => map,
        other => unreachable!("the constants above are mappings in YAML: {other:?}"),
    }
}
