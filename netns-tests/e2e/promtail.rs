//! Promtail, tailing one file.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use super::loki::TENANT;
use crate::harness::{Host, Process, wireguard};

/// A running Promtail and the file that it tails.
pub struct Promtail {
    log: File,
    written: usize,
    _process: Process,
}

impl Promtail {
    /// Starts Promtail on a host; it pushes to `url`.
    pub fn start(host: &Host, url: &str) -> Self {
        let folder = host.folder("promtail");
        let log: PathBuf = folder.join("app.log");
        let config = CONFIG
            .replace("FOLDER", &folder.display().to_string())
            .replace("URL", url)
            .replace("TENANT", TENANT);
        let file = folder.join("promtail.yaml");
        std::fs::write(&file, config).expect("a file in memory");
        let program = wireguard::built("promtail");
        let process = host.spawn(&format!("{program} -config.file={}", file.display()));
        Self {
            log: File::create(log).expect("a file in memory"),
            written: 0,
            _process: process,
        }
    }

    /// Appends this many lines, each with the next number.
    pub fn write(&mut self, count: usize) {
        for number in self.written..self.written + count {
            writeln!(self.log, "{}", line(number)).expect("a file in memory");
        }
        self.written += count;
    }
}

/// The text of the line with a number.
pub fn line(number: usize) -> String {
    format!("level=info number={number:05} msg=\"a line of the user cluster\"")
}

const CONFIG: &str = "
server: {http_listen_address: 127.0.0.1, http_listen_port: 9080, grpc_listen_port: 0, log_level: warn}
positions: {filename: FOLDER/positions.yaml, sync_period: 1s}
clients:
  - url: URL
    tenant_id: TENANT
    batchwait: 200ms
    batchsize: 16384
    timeout: 5s
    backoff_config: {min_period: 200ms, max_period: 2s, max_retries: 200}
scrape_configs:
  - job_name: e2e
    static_configs:
      - {targets: [localhost], labels: {job: e2e, __path__: FOLDER/*.log}}
";
