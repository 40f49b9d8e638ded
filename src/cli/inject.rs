use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{Context, bail};
use clap::ValueEnum;
use seedwire_core::inject::{self, Done, Identity, Options, Refused, Source};

use super::{Usage, output};

/// Add seedwire to the pods of Kubernetes manifests as a sidecar
///
/// Reads manifests (Pod, Deployment, DaemonSet, StatefulSet, Job, CronJob, and Lists of them) and
/// writes them with seedwire as a native sidecar, which starts before the pod's containers and
/// stops after them; Kubernetes 1.29 or newer is needed. All other documents are passed on. Keys
/// stay in their order, comments are not kept. A sidecar from before is replaced, and `seedwire
/// uninject` takes it out again.
///
/// The configuration is the entry seedwire.yaml of the ConfigMap, and needs `control.http:
/// ":9586"`. Its keys are files in /etc/seedwire/keys, by the names of the Secret's entries, and
/// other entries of the ConfigMap, such as addresses, are files in /etc/seedwire/config; both may
/// be named by ${NODE_NAME} or ${POD_NAME}. With the ConfigMap among the documents it is looked
/// into, so give it along.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Modes:
  ports  the pod's programs connect to the `ports` of the configuration, such as
         http://127.0.0.1:3100; the pod's DNS stays as it is
  dns    they use the names of the seed: seedwire is the only nameserver of the pod, with
         `dns.listen: [\"127.0.0.1:53\"]` and `dns.upstreams: [\"${CLUSTER_DNS_1}\"]`, where
         CLUSTER_DNS_1, CLUSTER_DNS_2, ... are the addresses of --cluster-dns

Examples:
  seedwire inject config-map.yaml promtail.yaml | kubectl apply -f -
  helm template alloy grafana/alloy -n logging | seedwire inject --namespace logging --identity node -
  seedwire inject --mode dns --cluster-dns 10.96.0.10 agent.yaml")]
pub(super) struct Inject {
    /// Which way the pod's programs take to the seed
    #[arg(long, value_enum, default_value = "ports")]
    mode: Mode,
    /// Who carries the tunnel's packets
    #[arg(long, value_enum, default_value = "userspace")]
    backend: Backend,
    /// The ConfigMap that holds the configuration
    #[arg(long, value_name = "NAME", default_value = "seedwire", value_parser = object_name)]
    config_map: String,
    /// The Secret that holds the private keys
    #[arg(long, value_name = "NAME", default_value = "seedwire-keys", value_parser = object_name)]
    secret: String,
    /// The image of seedwire, from where the nodes pull it; the default is one loaded into them
    #[arg(long, value_name = "IMAGE", default_value = IMAGE, value_parser = image)]
    image: String,
    /// With --mode dns: a DNS server of the cluster, or node-local-dns; may be repeated
    #[arg(long, value_name = "IP", required_if_eq("mode", "dns"))]
    cluster_dns: Vec<IpAddr>,
    /// With --mode dns: the domain of the cluster
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", value_parser = object_name)]
    cluster_domain: String,
    /// The namespace of objects that name none, as for kubectl
    #[arg(short, long, value_name = "NAME", value_parser = object_name)]
    namespace: Option<String>,
    /// Who has a key and addresses of its own, where the ConfigMap is not among the documents
    #[arg(long, value_enum)]
    identity: Option<By>,
    /// Refuse a Kubernetes that is too old, such as 1.28
    #[arg(long, value_name = "VERSION")]
    kubernetes_version: Option<KubernetesVersion>,
    /// The manifests; `-` or none for standard input
    #[arg(value_name = "FILE")]
    files: Vec<String>,
}

const IMAGE: &str = concat!("localhost/seedwire:", env!("CARGO_PKG_VERSION"));

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Ports,
    Dns,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Backend {
    Userspace,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    Node,
    Pod,
}

impl Inject {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if let Some(KubernetesVersion(major, minor)) = self.kubernetes_version
            && (major, minor) < (1, 29)
        {
            bail!(
                "failed to inject the sidecar: Kubernetes {major}.{minor} has no native sidecars; \
                 1.29 is the first that starts them by default"
            );
        }
        let Backend::Userspace = self.backend;
        let mode = match self.mode {
            Mode::Ports if !self.cluster_dns.is_empty() => {
                return Err(Usage("--cluster-dns is for --mode dns alone".to_owned()).into());
            }
            Mode::Ports => inject::Mode::Ports,
            Mode::Dns => inject::Mode::Dns {
                cluster_dns: self.cluster_dns,
                cluster_domain: self.cluster_domain,
            },
        };
        let options = Options {
            mode,
            image: self.image,
            config_map: self.config_map,
            secret: self.secret,
            namespace: self.namespace,
            identity: self.identity.map(|by| match by {
                By::Node => Identity::Node,
                By::Pod => Identity::Pod,
            }),
        };
        let texts = read(&self.files)?;
        let done = inject::inject(&sources(&texts), &options);
        write(done, "failed to inject the sidecar")
    }
}

/// Take seedwire out of the pods of Kubernetes manifests
///
/// Reads what `seedwire inject` wrote and writes it without the sidecar: as it was before, keys in
/// their order, but without comments. Documents without the sidecar are passed on.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  seedwire uninject agent.yaml | kubectl apply -f -")]
pub(super) struct Uninject {
    /// The manifests; `-` or none for standard input
    #[arg(value_name = "FILE")]
    files: Vec<String>,
}

impl Uninject {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let texts = read(&self.files)?;
        let done = inject::uninject(&sources(&texts));
        write(done, "failed to take out the sidecar")
    }
}

/// Writes all that came out, or each reason against it in a line of its own.
fn write(done: Result<Done, Refused>, failed: &str) -> anyhow::Result<()> {
    let done = match done {
        Ok(done) => done,
        Err(refused) => {
            eprintln!("{refused}");
            bail!("{failed}; nothing was written");
        }
    };
    for warning in &done.warnings {
        eprintln!("warning: {warning}");
    }
    if done.changed == 0 {
        eprintln!("warning: nothing was changed: the documents hold no pod that it is for");
    }
    output::write(done.yaml)
}

/// The texts with their names, in the order of the command line.
fn read(files: &[String]) -> anyhow::Result<Vec<(&str, String)>> {
    if files.is_empty() {
        return Ok(vec![read_one("-")?]);
    }
    files.iter().map(|file| read_one(file)).collect()
}

fn read_one(file: &str) -> anyhow::Result<(&str, String)> {
    if file == "-" {
        let text = std::io::read_to_string(std::io::stdin());
        return Ok((
            "standard input",
            text.context("failed to read standard input")?,
        ));
    }
    let text = std::fs::read_to_string(file);
    Ok((
        file,
        text.with_context(|| format!("failed to read {file}"))?,
    ))
}

fn sources<'a>(texts: &'a [(&'a str, String)]) -> Vec<Source<'a>> {
    let source = |(name, text): &'a (&str, String)| Source { name, text };
    texts.iter().map(source).collect()
}

/// A name of an object (RFC 1123, 2.1).
fn object_name(text: &str) -> Result<String, String> {
    let valid = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(inner)
    };
    if text.len() <= 253 && text.split('.').all(valid) {
        Ok(text.to_owned())
    } else {
        Err("expected labels of a-z, 0-9 and - with dots between them".to_owned())
    }
}

fn image(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("expected the name of an image".to_owned());
    }
    Ok(text.to_owned())
}

/// Major and minor version of Kubernetes.
#[derive(Clone, Copy, Debug)]
struct KubernetesVersion(u32, u32);

impl FromStr for KubernetesVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.trim_start_matches('v').split('.');
        let mut number = || {
            let part = parts.next()?;
            let digits = part
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(part.len());
            part[..digits].parse().ok()
        };
        match (number(), number()) {
            (Some(major), Some(minor)) => Ok(Self(major, minor)),
            _ => Err("expected a version such as 1.35 or v1.29.3".to_owned()),
        }
    }
}
