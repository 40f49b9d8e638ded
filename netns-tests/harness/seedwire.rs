//! The program under test as a daemon.

use std::path::{Path, PathBuf};
use std::process::Output;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::refuse::{Refusal, refuse};
use super::{Host, Process, http, sandbox, wait_until};

/// Where the daemon of a host answers health checks, in the configurations of cases.
pub const HTTP: &str = "127.0.0.1:9586";

/// How `seedwire run` is started.
#[derive(Clone, Copy, Default)]
pub struct Start<'a> {
    /// More arguments.
    pub arguments: &'static [&'static str],
    /// What the kernel refuses it.
    pub refusals: &'static [Refusal],
    /// More variables in its environment.
    pub environment: &'a [(&'a str, &'a str)],
}

/// `seedwire run` with a configuration of its own.
pub struct Seedwire {
    host: Host,
    config: PathBuf,
    http: String,
    process: Process,
}

impl Seedwire {
    /// Writes the configuration and starts the daemon. Does not wait for it.
    pub fn start(host: &Host, config: &Value) -> Self {
        Self::start_like(host, config, &Start::default())
    }

    /// As [`Seedwire::start`], in another way.
    pub fn start_like(host: &Host, config: &Value, how: &Start<'_>) -> Self {
        let interface = config["tunnel"]["interface"].as_str().unwrap_or("none");
        let file = host
            .folder(&format!("seedwire-{interface}"))
            .join("config.yaml");
        std::fs::write(&file, config.to_string()).expect("a file in memory");
        let mut daemon = Self::start_file_like(host, &file, how);
        if let Some(address) = config["control"]["http"].as_str() {
            daemon.http = address.to_owned();
        }
        daemon
    }

    /// Starts the daemon with a configuration file that is there.
    pub fn start_file(host: &Host, file: &Path) -> Self {
        Self::start_file_like(host, file, &Start::default())
    }

    fn start_file_like(host: &Host, file: &Path, how: &Start<'_>) -> Self {
        let path = file.display().to_string();
        let mut line = vec![sandbox::seedwire(), "run", "-c", &path];
        line.extend(how.arguments);
        Self {
            host: host.clone(),
            config: file.to_owned(),
            http: HTTP.to_owned(),
            process: host.spawn_like(&line, |command| {
                command.envs(how.environment.iter().copied());
                refuse(command, how.refusals);
            }),
        }
    }

    /// Starts the daemon and waits until it is ready.
    #[track_caller]
    pub fn start_ready(host: &Host, config: &Value) -> Self {
        Self::start(host, config).ready()
    }

    /// The same, once it is ready.
    #[track_caller]
    pub fn ready(mut self) -> Self {
        self.wait_until_ready();
        self
    }

    /// Waits until /readyz is 200.
    #[track_caller]
    pub fn wait_until_ready(&mut self) {
        let name = self.host.name().to_owned();
        wait_until(&format!("seedwire on {name} to be ready"), || {
            assert!(
                self.process.is_running(),
                "seedwire on {name} ended:\n{}",
                self.log()
            );
            self.is_ready()
        });
    }

    /// Whether /readyz is 200.
    pub fn is_ready(&self) -> bool {
        self.get("/readyz")
            .is_some_and(|response| response.status == 200)
    }

    /// The answer to a GET request for health or metrics.
    pub fn get(&self, path: &str) -> Option<http::Response> {
        http::get(&self.host, &self.http, path, &[]).ok()
    }

    /// The value of a metric; the name with its labels, as /metrics writes it.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let body = self.get("/metrics")?.body;
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        body.lines().find_map(value)
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Replaces the configuration in one step; the daemon watches the folder.
    pub fn write_config(&self, config: &Value) {
        self.write_text(&config.to_string());
    }

    /// As [`Seedwire::write_config`], with any text.
    pub fn write_text(&self, text: &str) {
        let new = self.config.with_extension("new");
        std::fs::write(&new, text).expect("a file in memory");
        std::fs::rename(&new, &self.config).expect("a file in memory");
    }

    /// Runs another command with this configuration, such as `down`.
    pub fn command(&self, command: &str) -> Output {
        let program = sandbox::seedwire();
        self.host
            .try_run(&format!("{program} {command} -c {}", self.config.display()))
    }

    /// What `status --json` prints.
    pub fn status(&self) -> Value {
        let output = self.command("status --json");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Sends SIGTERM and asserts that it ends with exit code 0.
    #[track_caller]
    pub fn stop(&mut self) {
        self.process.signal(Signal::SIGTERM);
        let status = self.process.wait();
        assert!(
            status.success(),
            "seedwire ended with {status}:\n{}",
            self.log()
        );
    }

    /// Kills it with SIGKILL.
    pub fn kill_hard(&mut self) {
        self.process.kill();
    }
}
