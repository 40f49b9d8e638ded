//! How many pods of a workload may run at the same time.

use super::Identity;
use super::tree::{Map, Value};

/// Why two pods of the workload may run at the same time: the path, and the reason; `None` where
/// they can't.
pub(super) fn several(kind: &str, object: &Map) -> Option<(String, String)> {
    let number = |path: &[&str]| object.at(path).and_then(Value::scalar)?.parse::<u64>().ok();
    let more = |path: &[&str]| {
        let count = number(path).filter(|count| *count > 1)?;
        Some((path.join("."), format!("{count} pods run at the same time")))
    };
    match kind {
        "DaemonSet" => Some((
            "kind".to_owned(),
            "a DaemonSet runs a pod on each node".to_owned(),
        )),
        "Deployment" => more(&["spec", "replicas"]).or_else(|| deployment_surge(object)),
        "StatefulSet" => more(&["spec", "replicas"]),
        "Job" => more(&["spec", "parallelism"]),
        "CronJob" => more(&["spec", "jobTemplate", "spec", "parallelism"]).or_else(|| {
            let policy = object.at(&["spec", "concurrencyPolicy"]);
            let overlaps = policy.and_then(Value::scalar).is_none_or(|p| p == "Allow");
            overlaps.then(|| {
                let reason = "a job may start while the one before it runs; Forbid or Replace \
                     would prevent that";
                ("spec.concurrencyPolicy".to_owned(), reason.to_owned())
            })
        }),
        _ => None,
    }
}

/// Why two pods of a DaemonSet may run on one node, or two of another workload anywhere, while a
/// new version is rolled out.
pub(super) fn surge(kind: &str, object: &Map) -> Option<(String, String)> {
    let path = ["spec", "updateStrategy", "rollingUpdate", "maxSurge"];
    (kind == "DaemonSet" && object.at(&path).is_some_and(is_some)).then(|| {
        let reason = "while a new version is rolled out two pods run on one node";
        (path.join("."), reason.to_owned())
    })
}

fn deployment_surge(object: &Map) -> Option<(String, String)> {
    let spec = object.map("spec")?;
    let kind = spec.at(&["strategy", "type"]).and_then(Value::scalar);
    let surge = spec.at(&["strategy", "rollingUpdate", "maxSurge"]);
    let none = surge.is_some_and(|surge| !is_some(surge) && !surge.is_empty());
    if kind == Some("Recreate") || none || spec.scalar("replicas") == Some("0") {
        return None;
    }
    let reason = "while a new version is rolled out two pods run at the same time; type Recreate \
         or rollingUpdate.maxSurge 0 would prevent that";
    Some(("spec.strategy".to_owned(), reason.to_owned()))
}

fn is_some(surge: &Value) -> bool {
    !surge.is_empty() && !matches!(surge.scalar(), Some("0" | "0%"))
}

/// What may go wrong although the identity is not shared.
pub(super) fn doubt(kind: &str, identity: Identity, pod: &Map) -> Option<&'static str> {
    let apart = [
        "affinity",
        "podAntiAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
    ];
    match (identity, kind) {
        (Identity::Pod, "StatefulSet" | "Pod") | (Identity::Node, "DaemonSet" | "Pod") => None,
        (Identity::Pod, _) => Some(
            "the names of its pods end at random, so that a key for each can't be made beforehand",
        ),
        (Identity::Node, _) if pod.at(&apart).is_none() => Some(
            "two of its pods on one node would share a key: a required podAntiAffinity by \
             kubernetes.io/hostname keeps them apart",
        ),
        _ => None,
    }
}
