//! Loki, as one process with tenants.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::harness::{Host, Process, http, wait_until, wireguard};

/// Who pushes and who asks.
pub const TENANT: &str = "user-cluster-1";

/// A running Loki.
pub struct Loki {
    host: Host,
    address: String,
    _process: Process,
}

impl Loki {
    /// Starts Loki and waits until it takes lines. `address` is `IP:3100`.
    pub fn start(host: &Host, address: &str) -> Self {
        let folder = host.folder("loki").display().to_string();
        let (ip, port) = address.rsplit_once(':').expect("an address and a port");
        let config = CONFIG
            .replace("FOLDER", &folder)
            .replace("IP", ip)
            .replace("PORT", port);
        let file = format!("{folder}/loki.yaml");
        std::fs::write(&file, config).expect("a file in memory");
        let program = wireguard::built("loki");
        let process = host.spawn(&format!("{program} -config.file={file}"));
        let loki = Self {
            host: host.clone(),
            address: address.to_owned(),
            _process: process,
        };
        wait_until("Loki to be ready", || {
            http::get(&loki.host, address, "/ready", &[]).is_ok_and(|ready| ready.status == 200)
        });
        loki
    }

    /// Every line of the tenant's stream `{job="e2e"}`, in any order.
    pub fn lines(&self) -> Vec<String> {
        self.lines_of(TENANT)
    }

    /// The same for another tenant.
    pub fn lines_of(&self, tenant: &str) -> Vec<String> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_secs();
        let path = format!(
            "/loki/api/v1/query_range?query=%7Bjob%3D%22e2e%22%7D&limit=50000&start={}&end={}",
            now - 3600,
            now + 60
        );
        let tenant = format!("X-Scope-OrgID: {tenant}");
        let answer = http::get(&self.host, &self.address, &path, &[&tenant]);
        let Some(answer) = answer.ok().filter(|answer| answer.status == 200) else {
            return Vec::new();
        };
        let answer: Value = serde_json::from_str(&answer.body).expect("JSON");
        let streams = answer["data"]["result"].as_array().expect("streams").iter();
        let values = streams.flat_map(|stream| stream["values"].as_array().expect("values"));
        values
            .map(|value| value[1].as_str().expect("a line").to_owned())
            .collect()
    }
}

const CONFIG: &str = "
auth_enabled: true
server:
  http_listen_address: IP
  http_listen_port: PORT
  grpc_listen_address: 127.0.0.1
  grpc_listen_port: 9095
  log_level: warn
common:
  instance_addr: 127.0.0.1
  path_prefix: FOLDER
  replication_factor: 1
  ring: {kvstore: {store: inmemory}}
  storage:
    filesystem: {chunks_directory: FOLDER/chunks, rules_directory: FOLDER/rules}
ingester:
  lifecycler: {min_ready_duration: 0s}
schema_config:
  configs:
    - {from: 2024-01-01, store: tsdb, object_store: filesystem, schema: v13, index: {prefix: index_, period: 24h}}
limits_config:
  max_entries_limit_per_query: 100000
query_range:
  parallelise_shardable_queries: false
analytics:
  reporting_enabled: false
";
