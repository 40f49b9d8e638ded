//! The two seedwires of the demo: their configurations and their processes.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use seedwire_core::types::PublicKey;
use tokio::time::timeout;

use super::http;
use super::netns::Netns;
use super::world::{LOKI, NODE_DNS, SEED_DNS, TUNNEL_HUB, TUNNEL_POD};
use super::{HUB_NAME, LOKI_NAME, LOKI_PORT, SERVICE};
use crate::cli::keys;
use crate::control;

/// Where each instance serves health and metrics.
const CONTROL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9586);
const WIREGUARD_PORT: u16 = 51820;

/// The tunnel's interface in the pod.
pub(super) const POD_LINK: &str = "seed0";
/// The tunnel's interface at the hub.
pub(super) const HUB_LINK: &str = "hub0";

/// The keys of both ends, in files.
pub(super) struct Keys {
    files: PathBuf,
    pod: PublicKey,
    hub: PublicKey,
}

impl Keys {
    /// Makes new keys and writes them into `files`.
    pub(super) fn new(files: &Path) -> Result<Self> {
        let pod = keys::new_private_key()?;
        let hub = keys::new_private_key()?;
        write_secret(&files.join("pod.key"), &pod.reveal())?;
        write_secret(&files.join("hub.key"), &hub.reveal())?;
        write_secret(&files.join("psk"), &keys::new_preshared_key()?.reveal())?;
        Ok(Self {
            files: files.to_owned(),
            pod: pod.public_key(),
            hub: hub.public_key(),
        })
    }

    /// The configuration of the hub.
    pub(super) fn hub_configuration(&self) -> String {
        let files = self.files.display();
        let pod = self.pod;
        format!(
            "\
tunnel:
  interface: {HUB_LINK}
  backend: userspace
  privateKeyFile: {files}/hub.key
  addresses: [{TUNNEL_HUB}/32]
  listenPort: {WIREGUARD_PORT}
  peers:
    - name: user-cluster
      publicKey: \"{pod}\"
      presharedKeyFile: {files}/psk
      allowedIPs: [{TUNNEL_POD}/32]
network:
  forward: true
control:
  http: {CONTROL}
"
        )
    }

    /// The configuration of the sidecar.
    pub(super) fn pod_configuration(&self) -> String {
        let files = self.files.display();
        let hub = self.hub;
        format!(
            "\
tunnel:
  interface: {POD_LINK}
  backend: userspace
  privateKeyFile: {files}/pod.key
  addresses: [{TUNNEL_POD}/32]
  peers:
    - name: seed
      publicKey: \"{hub}\"
      presharedKeyFile: {files}/psk
      endpoint: {HUB_NAME}:{WIREGUARD_PORT}
      keepalive: 25s
      allowedIPs: [{TUNNEL_HUB}/32, 10.240.16.0/20]
network:
  routes: auto
  dnat:
    - {{protocol: tcp, address: {SERVICE}, port: {LOKI_PORT}, to: \"{LOKI}:{LOKI_PORT}\"}}
dns:
  listen: [\"127.0.0.1:53\"]
  upstreams: [\"{NODE_DNS}:53\"]
  zones:
    - zone: {LOKI_NAME}
      upstreams: [\"{SEED_DNS}:53\"]
      probe: {LOKI_NAME}
control:
  http: {CONTROL}
"
        )
    }
}

fn write_secret(file: &Path, text: &str) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut open| writeln!(open, "{text}"))
        .with_context(|| format!("failed to write {}", file.display()))
}

/// A running `seedwire run`.
pub(super) struct Instance<'a> {
    namespace: &'a Netns,
    process: Child,
    socket: PathBuf,
}

impl<'a> Instance<'a> {
    /// Starts one with this interface in `namespace`; its configuration and its log are named
    /// after that.
    pub(super) fn start(
        namespace: &'a Netns,
        files: &Path,
        interface: &str,
        configuration: &str,
    ) -> Result<Self> {
        let name = namespace.name();
        let file = files.join(format!("{name}.yaml"));
        fs::write(&file, configuration)
            .with_context(|| format!("failed to write {}", file.display()))?;
        let log = File::create(files.join(format!("{name}.log")))
            .with_context(|| format!("failed to create {name}.log"))?;
        let process = namespace.run(move || {
            Command::new("/proc/self/exe")
                .arg0("seedwire")
                .args(["run", "-c"])
                .arg(&file)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()
                .context("failed to start seedwire")
        })?;
        Ok(Self {
            namespace,
            process,
            socket: files.join(format!("{interface}.sock")),
        })
    }

    /// Fails when it is no longer running.
    pub(super) fn check(&mut self) -> Result<()> {
        if let Some(status) = self
            .process
            .try_wait()
            .context("failed to look at seedwire")?
        {
            bail!("seedwire in the {} ended ({status})", self.namespace.name());
        }
        Ok(())
    }

    /// Why it is not ready; nothing when it is.
    pub(super) async fn not_ready(&self) -> Option<String> {
        match self.get("/readyz").await {
            Ok((200, _)) => None,
            Ok((_, reasons)) => Some(reasons),
            Err(error) => Some(format!("{error:#}")),
        }
    }

    /// What `seedwire status --json` prints.
    pub(super) async fn status(&self) -> Result<serde_json::Value> {
        let socket = self.socket.clone();
        let asked = tokio::task::spawn_blocking(move || control::request(&socket, "/status.json"));
        Ok(serde_json::from_str(&asked.await??)?)
    }

    async fn get(&self, path: &str) -> Result<(u16, String)> {
        let exchange = async {
            let stream = self.namespace.tcp()?.connect(CONTROL.into()).await?;
            let headers = [("Host", "localhost")];
            anyhow::Ok(http::exchange(stream, &format!("GET {path}"), &headers, b"").await?)
        };
        timeout(Duration::from_secs(2), exchange)
            .await
            .unwrap_or_else(|_| bail!("no answer"))
            .with_context(|| format!("failed to ask {CONTROL}{path}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_configurations_hold_and_give_no_warning() {
        let folder = std::env::temp_dir().join(format!("seedwire-demo-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let keys = Keys::new(&folder).unwrap();
        for text in [keys.hub_configuration(), keys.pod_configuration()] {
            let file = folder.join("configuration.yaml");
            fs::write(&file, &text).unwrap();
            let parsed = crate::config::load(&file);
            assert!(
                parsed.as_ref().is_ok_and(|p| p.warnings.is_empty()),
                "{parsed:?}\n{text}"
            );
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
