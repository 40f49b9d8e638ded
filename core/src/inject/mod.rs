//! Puts seedwire into the pods of Kubernetes manifests as a native sidecar, and takes it out.
//!
//! Documents are read into trees (`tree`), the pods in them are found (`workload`) and changed
//! (`pod`), and everything is written anew in one form (`emit`): keys stay in their order,
//! comments go. What was there before is kept in an annotation, so that taking the sidecar out
//! gives what was put in.

mod container;
mod dns;
mod emit;
mod istio;
mod known;
mod pod;
mod replicas;
#[cfg(test)]
mod tests;
mod tree;
mod workload;

use std::fmt;
use std::net::IpAddr;

use tree::{Map, Value};
use workload::{Object, Surroundings};

/// What is put into the pods.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which way the pod's programs take.
    pub mode: Mode,
    /// The image of the container.
    pub image: String,
    /// The ConfigMap with the configuration in its entry `seedwire.yaml`.
    pub config_map: String,
    /// The Secret with the private keys.
    pub secret: String,
    /// The namespace of objects that name none.
    pub namespace: Option<String>,
    /// Who has a key and addresses of its own, where the ConfigMap is not among the documents.
    pub identity: Option<Identity>,
}

/// Which way the programs in a pod take to the seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They connect to local ports; the pod's DNS stays as it is.
    Ports,
    /// They use the names of the seed: seedwire is the pod's only nameserver.
    Dns {
        /// The DNS servers of the cluster, which answer all other names; at least one.
        cluster_dns: Vec<IpAddr>,
        /// The domain of the cluster.
        cluster_domain: String,
    },
}

/// Who has a key and addresses of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Nobody: all pods have the same.
    Shared,
    /// Each node: they are named by `${NODE_NAME}`.
    Node,
    /// Each pod: they are named by `${POD_NAME}`.
    Pod,
}

/// A text with manifests.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// What messages call it, such as the file's path.
    pub name: &'a str,
    /// The manifests in YAML or JSON.
    pub text: &'a str,
}

/// What came out.
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    /// All documents.
    pub yaml: String,
    /// How many pods or pod templates were changed.
    pub changed: usize,
    /// What should be looked at, one line each.
    pub warnings: Vec<String>,
}

/// Something can't be done; all reasons, one line each.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub Vec<String>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Refused {}

/// Puts the sidecar into every pod of the documents, in place of one that is there.
///
/// # Errors
///
/// All reasons why a pod can't take it, each with the source, document, object and path.
pub fn inject(sources: &[Source<'_>], options: &Options) -> Result<Done, Refused> {
    let mut documents = read(sources)?;
    let mut report = Report::default();
    let surroundings = Surroundings::of(&mut documents, options, &mut report);
    each_object(&mut documents, &mut |object| {
        workload::inject(object, options, &surroundings, &mut report);
    });
    report.done(&documents)
}

/// Takes the sidecar out of every pod of the documents that [`inject`] put it into.
///
/// # Errors
///
/// All documents that can't be read.
pub fn uninject(sources: &[Source<'_>]) -> Result<Done, Refused> {
    let mut documents = read(sources)?;
    let mut report = Report::default();
    each_object(&mut documents, &mut |object| {
        workload::uninject(object, &mut report);
    });
    report.done(&documents)
}

/// What is found on the way.
#[derive(Debug, Default)]
struct Report {
    problems: Vec<String>,
    warnings: Vec<String>,
    changed: usize,
}

impl Report {
    fn done(self, documents: &[Document]) -> Result<Done, Refused> {
        if !self.problems.is_empty() {
            return Err(Refused(self.problems));
        }
        let texts: Vec<_> = documents.iter().map(|d| emit::document(&d.root)).collect();
        Ok(Done {
            yaml: texts.join("---\n"),
            changed: self.changed,
            warnings: self.warnings,
        })
    }
}

/// A document and where it stands.
struct Document {
    place: String,
    root: Map,
}

fn read(sources: &[Source<'_>]) -> Result<Vec<Document>, Refused> {
    let mut documents = Vec::new();
    let mut problems = Vec::new();
    for source in sources {
        match tree::parse(source.text) {
            Ok(values) => {
                for (i, value) in values.into_iter().enumerate() {
                    let place = format!("{}: document {}", source.name, i + 1);
                    match value {
                        value if value.is_empty() => {}
                        Value::Map(root) => documents.push(Document { place, root }),
                        _ => problems.push(format!("{place}: expected an object of Kubernetes")),
                    }
                }
            }
            Err(reason) => problems.push(format!("{}:{reason}", source.name)),
        }
    }
    if problems.is_empty() {
        Ok(documents)
    } else {
        Err(Refused(problems))
    }
}

/// Calls `act` with each object, those within a List too.
fn each_object(documents: &mut [Document], act: &mut dyn FnMut(Object<'_>)) {
    for document in documents {
        let is_list = document.root.scalar("kind") == Some("List");
        match document.root.get_mut("items") {
            Some(Value::List(items)) if is_list => {
                for (i, item) in items.iter_mut().enumerate() {
                    if let Value::Map(map) = item {
                        act(Object::new(format!("{}: items[{i}]", document.place), map));
                    }
                }
            }
            _ => act(Object::new(document.place.clone(), &mut document.root)),
        }
    }
}
