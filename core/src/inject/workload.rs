//! Finds the pods in objects of Kubernetes, and says why one can't take the sidecar.

use std::collections::HashMap;

use super::container::STARTS_WITHIN;
use super::known::Known;
use super::tree::{Map, Value};
use super::{Document, Identity, Mode, Options, Report, dns, each_object, istio, pod, replicas};

/// An object of Kubernetes.
pub(super) struct Object<'a> {
    place: String,
    map: &'a mut Map,
}

impl<'a> Object<'a> {
    pub(super) fn new(place: String, map: &'a mut Map) -> Self {
        Self { place, map }
    }

    fn kind(&self) -> &str {
        self.map.scalar("kind").unwrap_or_default()
    }

    fn name(&self) -> Option<&str> {
        let metadata = self.map.map("metadata")?;
        metadata.scalar("name").or(metadata.scalar("generateName"))
    }

    fn namespace(&self, options: &Options) -> Option<String> {
        let metadata = self.map.map("metadata");
        let named = metadata.and_then(|metadata| metadata.scalar("namespace"));
        named.map(str::to_owned).or(options.namespace.clone())
    }

    /// What messages call it: where it stands, its kind and its name.
    fn called(&self) -> String {
        let name = self.name().unwrap_or("without a name");
        format!("{}: {} {name}", self.place, self.kind())
    }

    /// Where the pod template is, in one of the kinds that have one; a Pod is its own.
    fn pod_path(&self) -> Option<&'static [&'static str]> {
        match (self.map.scalar("apiVersion")?, self.kind()) {
            ("v1", "Pod") => Some(&[]),
            ("apps/v1", "Deployment" | "DaemonSet" | "StatefulSet") | ("batch/v1", "Job") => {
                Some(&["spec", "template"])
            }
            ("batch/v1", "CronJob") => Some(&["spec", "jobTemplate", "spec", "template"]),
            _ => None,
        }
    }

    fn pod(&mut self, path: &[&str]) -> Option<&mut Map> {
        let mut pod = &mut *self.map;
        for key in path {
            pod = pod.map_mut(key)?;
        }
        pod.map("spec").is_some().then_some(pod)
    }
}

/// What the documents say beside the pods.
#[derive(Default)]
pub(super) struct Surroundings {
    /// The labels of each Namespace.
    namespaces: HashMap<String, Map>,
    /// The ConfigMaps with the configuration, by namespace.
    configs: HashMap<Option<String>, Known>,
}

impl Surroundings {
    pub(super) fn of(documents: &mut [Document], options: &Options, report: &mut Report) -> Self {
        let mut found = Self::default();
        each_object(documents, &mut |object| {
            let name = object.name().map(str::to_owned);
            match (object.map.scalar("apiVersion"), object.kind(), name) {
                (Some("v1"), "Namespace", Some(name)) => {
                    let labels = object.map.at(&["metadata", "labels"]);
                    let labels = labels.and_then(Value::as_map).cloned();
                    found.namespaces.insert(name, labels.unwrap_or_default());
                }
                (Some("v1"), "ConfigMap", Some(name)) if name == options.config_map => {
                    match Known::of(object.map) {
                        Ok(known) => {
                            found.configs.insert(object.namespace(options), known);
                        }
                        Err(reason) => {
                            report
                                .problems
                                .push(format!("{}: {reason}", object.called()));
                        }
                    }
                }
                _ => {}
            }
        });
        found
    }
}

/// Puts the sidecar into the object's pod, if it has one.
pub(super) fn inject(
    mut object: Object<'_>,
    options: &Options,
    surroundings: &Surroundings,
    report: &mut Report,
) {
    let Some(path) = object.pod_path() else {
        return;
    };
    let called = object.called();
    let in_pod: String = path.iter().map(|key| format!("{key}.")).collect();
    let namespace = object.namespace(options);
    let labels = namespace
        .as_ref()
        .and_then(|n| surroundings.namespaces.get(n));
    let known = surroundings.configs.get(&namespace);
    let mut facts = Facts {
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    facts.namespace(namespace.as_deref(), labels);
    facts.copies(&object, path, known, options);
    if let Some(known) = known {
        facts.configuration(known, options);
    }
    match object.pod(path) {
        None => facts.refuse(&format!("{in_pod}spec"), "expected the spec of a pod"),
        Some(pod) => {
            if let Err((path, reason)) = pod::remove(pod) {
                facts.refuse(&format!("{in_pod}{path}"), &reason);
            } else {
                facts.pod(pod, &in_pod);
                facts.add(pod, &in_pod, namespace.as_deref(), labels, known, options);
            }
        }
    }
    report.changed += 1;
    let line = |text: String| format!("{called}: {text}");
    report.problems.extend(facts.problems.into_iter().map(line));
    report.warnings.extend(facts.warnings.into_iter().map(line));
}

/// Takes the sidecar out of the object's pod, if it has one.
pub(super) fn uninject(mut object: Object<'_>, report: &mut Report) {
    let Some(path) = object.pod_path() else {
        return;
    };
    let called = object.called();
    match object.pod(path).map(pod::remove) {
        Some(Ok(true)) => report.changed += 1,
        Some(Err((path, reason))) => {
            report.problems.push(format!("{called}: {path}: {reason}"));
        }
        Some(Ok(false)) | None => {}
    }
}

/// What is wrong or doubtful with one object.
struct Facts {
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Facts {
    fn refuse(&mut self, path: &str, reason: &str) {
        self.problems.push(format!("{path}: {reason}"));
    }

    fn namespace(&mut self, namespace: Option<&str>, labels: Option<&Map>) {
        let enforced = labels.and_then(|l| l.scalar("pod-security.kubernetes.io/enforce"));
        if let Some(level @ ("restricted" | "baseline")) = enforced {
            self.refuse(
                "metadata.namespace",
                &format!(
                    "the namespace {} enforces the pod security level {level}, which forbids \
                     NET_ADMIN and hostPath; the sidecar needs the level privileged",
                    namespace.unwrap_or_default()
                ),
            );
        }
    }

    /// A key and its addresses belong to one running instance.
    fn copies(
        &mut self,
        object: &Object<'_>,
        path: &[&str],
        known: Option<&Known>,
        options: &Options,
    ) {
        let identity = match known {
            Some(Known { identity: None, .. }) => return,
            Some(Known {
                identity: Some(identity),
                ..
            }) => *identity,
            None => options.identity.unwrap_or(Identity::Shared),
        };
        let kind = object.kind();
        let several = replicas::several(kind, object.map);
        let surge = replicas::surge(kind, object.map);
        match (identity, several, surge) {
            (Identity::Shared, Some((at, why)), _) => {
                let way_out = if known.is_some() {
                    "in the ConfigMap name the key and the addresses by ${NODE_NAME} or ${POD_NAME}"
                } else {
                    "with a key and addresses for each, give the ConfigMap too, or --identity"
                };
                self.refuse(
                    &at,
                    &format!("{why}, and a key belongs to one running instance; {way_out}"),
                );
            }
            (Identity::Node, _, Some((at, why))) => {
                self.refuse(
                    &at,
                    &format!("{why}, and a key of the node belongs to one of them"),
                );
            }
            (identity, Some(_), _) => {
                let mut pod_spec = path.to_vec();
                pod_spec.push("spec");
                let pod_spec = object.map.at(&pod_spec).and_then(Value::as_map);
                let doubt = pod_spec.and_then(|spec| replicas::doubt(kind, identity, spec));
                self.warnings.extend(doubt.map(str::to_owned));
            }
            _ => {}
        }
    }

    fn configuration(&mut self, known: &Known, options: &Options) {
        let path = format!("ConfigMap {}", options.config_map);
        if !known.probed() {
            self.refuse(
                &path,
                "control.http has to be \":9586\": the kubelet probes the pod's address",
            );
        }
        if known.starts_too_late() {
            self.refuse(
                &path,
                &format!(
                    "control.startupWait has to be less than {STARTS_WITHIN}s, when the kubelet \
                     gives up and starts the sidecar anew"
                ),
            );
        }
        if let Mode::Dns { cluster_dns, .. } = &options.mode
            && let Some(missing) = dns::missing_upstream(known, cluster_dns)
        {
            self.refuse(&path, &missing);
        }
    }

    fn pod(&mut self, pod: &Map, in_pod: &str) {
        let spec = |path: &[&str]| pod.at(path).and_then(Value::scalar);
        if spec(&["spec", "hostNetwork"]) == Some("true") {
            self.refuse(
                &format!("{in_pod}spec.hostNetwork"),
                "the tunnel and its routes would be the node's; run seedwire once on each node \
                 instead",
            );
        }
        if spec(&["spec", "os", "name"]) == Some("windows") {
            self.refuse(&format!("{in_pod}spec.os.name"), "seedwire runs on Linux");
        }
        if let Some(taken) = pod::taken(pod) {
            self.refuse(
                &format!("{in_pod}spec.{taken}"),
                "is there already, and not by `seedwire inject`",
            );
        }
    }

    fn add(
        &mut self,
        pod: &mut Map,
        in_pod: &str,
        namespace: Option<&str>,
        labels: Option<&Map>,
        known: Option<&Known>,
        options: &Options,
    ) {
        if !self.problems.is_empty() {
            return;
        }
        let dns = match dns::settings(pod, namespace, known, &options.mode) {
            Ok(dns) => dns,
            Err((path, reason)) => return self.refuse(&format!("{in_pod}{path}"), &reason),
        };
        let mut exclude = None;
        if istio::is_there(pod, labels) {
            match istio::excluded(pod, known) {
                Ok(ranges) => exclude = Some(ranges),
                Err(warning) => self.warnings.push(warning),
            }
        }
        pod::add(pod, options, dns, exclude);
    }
}
