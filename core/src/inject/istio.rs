//! Istio's proxy catches what leaves a pod; the tunnel's prefixes have to pass it by.

use super::known::Known;
use super::tree::{Map, Value};

/// The annotation that lists what passes by.
pub(super) const EXCLUDED: &str = "traffic.sidecar.istio.io/excludeOutboundIPRanges";
const INJECT: &str = "sidecar.istio.io/inject";

/// Whether the pod gets Istio's proxy: it says so itself, or its namespace does.
pub(super) fn is_there(pod: &Map, namespace: Option<&Map>) -> bool {
    let own = ["labels", "annotations"].iter().find_map(|part| {
        let value = pod.at(&["metadata", part, INJECT])?;
        value.scalar().map(str::to_owned)
    });
    match own.as_deref() {
        Some("true") => true,
        Some("false") => false,
        _ => namespace.is_some_and(|labels| {
            labels.scalar("istio-injection") == Some("enabled")
                || (labels.get("istio-injection").is_none() && labels.get("istio.io/rev").is_some())
        }),
    }
}

/// The annotation's value with the tunnel's prefixes in it, or why they are not known.
pub(super) fn excluded(pod: &Map, known: Option<&Known>) -> Result<String, String> {
    let prefixes = known.map(|known| &*known.prefixes).unwrap_or_default();
    if prefixes.is_empty() || prefixes.iter().any(|prefix| prefix.contains("${")) {
        return Err(format!(
            "Istio's proxy would catch what goes to the seed: give the ConfigMap with allowedIPs \
             too, or write the tunnel's prefixes into the annotation {EXCLUDED}"
        ));
    }
    let own = pod.at(&["metadata", "annotations", EXCLUDED]);
    let own = own.and_then(Value::scalar).unwrap_or_default();
    let mut ranges: Vec<&str> = own.split(',').map(str::trim).collect();
    ranges.retain(|range| !range.is_empty());
    for prefix in prefixes {
        if !ranges.contains(&&**prefix) {
            ranges.push(prefix);
        }
    }
    Ok(ranges.join(","))
}
