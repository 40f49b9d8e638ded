//! Changes a pod template, and keeps in an annotation what was there before.

use super::container::{NAME, VOLUMES, container, volumes};
use super::istio::EXCLUDED;
use super::tree::{Map, Value, parse};
use super::{Mode, Options, emit};

/// The annotation on the pod: the mode, and the values of keys that gave way.
const RECORD: &str = "seedwire/injected";

/// Puts the sidecar into a pod that does not have it.
///
/// `dns` is its new `dnsConfig`, `exclude` its new annotation for Istio.
pub(super) fn add(pod: &mut Map, options: &Options, dns: Option<Map>, exclude: Option<String>) {
    let mut before = Before(Map::default());
    before.keep_empty(pod, "metadata");
    let metadata = child(pod, 0, "metadata");
    before.keep_empty(metadata, "annotations");
    let end = metadata.0.len();
    let annotations = child(metadata, end, "annotations");
    let mut record = Map::default();
    let mode = match options.mode {
        Mode::Ports => "ports",
        Mode::Dns { .. } => "dns",
    };
    record.set("mode", Value::text(mode));
    if let Some(exclude) = exclude {
        record.set("istio", Value::text("excluded"));
        before.keep(annotations, EXCLUDED);
        annotations.set(EXCLUDED, Value::Text(exclude));
    }
    if let Some(Value::Map(spec)) = pod.get_mut("spec") {
        change_spec(spec, options, dns, &mut before);
    }
    if !before.0.0.is_empty() {
        record.set("before", Value::Map(before.0));
    }
    let end = pod.0.len();
    let metadata = child(pod, end, "metadata");
    let end = metadata.0.len();
    let text = Value::Text(emit::document(&record));
    child(metadata, end, "annotations").set(RECORD, text);
}

fn change_spec(spec: &mut Map, options: &Options, dns: Option<Map>, before: &mut Before) {
    before.keep_empty(spec, "initContainers");
    before.keep_empty(spec, "volumes");
    let first = spec.index("containers").unwrap_or(0);
    list(spec, first, "initContainers").insert(0, container(options));
    let end = spec.0.len();
    list(spec, end, "volumes").extend(volumes(options));
    if let Some(dns) = dns {
        before.keep(spec, "dnsPolicy");
        before.keep(spec, "dnsConfig");
        spec.set("dnsPolicy", Value::text("None"));
        spec.set("dnsConfig", Value::Map(dns));
    }
}

/// Takes the sidecar out of a pod; whether [`add`] had put it in.
///
/// # Errors
///
/// The path and the reason where the annotation is not as it was written.
pub(super) fn remove(pod: &mut Map) -> Result<bool, (String, String)> {
    let record = pod.at(&["metadata", "annotations", RECORD]);
    let Some(record) = record.and_then(Value::scalar) else {
        return Ok(false);
    };
    let Some(Value::Map(record)) = parse(record).ok().and_then(|mut all| all.pop()) else {
        let path = format!("metadata.annotations.{RECORD}");
        return Err((path, "is not as `seedwire inject` wrote it".to_owned()));
    };
    let before = Before(record.map("before").cloned().unwrap_or_default());
    if let Some(spec) = pod.map_mut("spec") {
        retain(spec, "initContainers", |name| name != NAME);
        retain(spec, "volumes", |name| !VOLUMES.contains(&name));
        before.restore_empty(spec, "initContainers");
        before.restore_empty(spec, "volumes");
        if record.scalar("mode") == Some("dns") {
            before.restore(spec, "dnsPolicy");
            before.restore(spec, "dnsConfig");
        }
    }
    if let Some(metadata) = pod.map_mut("metadata") {
        if let Some(annotations) = metadata.map_mut("annotations") {
            annotations.remove(RECORD);
            if record.get("istio").is_some() {
                before.restore(annotations, EXCLUDED);
            }
        }
        before.restore_empty(metadata, "annotations");
    }
    before.restore_empty(pod, "metadata");
    Ok(true)
}

/// What in the pod has a name that the sidecar needs.
pub(super) fn taken(pod: &Map) -> Option<String> {
    let spec = pod.map("spec")?;
    ["initContainers", "containers", "volumes"]
        .iter()
        .find_map(|part| {
            let of_ours = |name: &str| match *part {
                "volumes" => VOLUMES.contains(&name),
                _ => name == NAME,
            };
            let mut names = spec.list(part).iter().filter_map(name);
            names
                .find(|name| of_ours(name))
                .map(|name| format!("{part}: {name}"))
        })
}

/// The values of keys that gave way, by key.
struct Before(Map);

impl Before {
    fn keep(&mut self, map: &Map, key: &str) {
        if let Some(value) = map.get(key) {
            self.0.set(key, value.clone());
        }
    }

    fn keep_empty(&mut self, map: &Map, key: &str) {
        if map.get(key).is_some_and(Value::is_empty) {
            self.keep(map, key);
        }
    }

    fn restore(&self, map: &mut Map, key: &str) {
        match self.0.get(key) {
            Some(value) => map.set(key, value.clone()),
            None => {
                map.remove(key);
            }
        }
    }

    fn restore_empty(&self, map: &mut Map, key: &str) {
        if map.get(key).is_some_and(Value::is_empty) {
            self.restore(map, key);
        }
    }
}

/// The mapping of a key, made at `index` where it is absent or empty.
fn child<'a>(map: &'a mut Map, index: usize, key: &str) -> &'a mut Map {
    if !matches!(map.get(key), Some(Value::Map(_))) {
        map.set_at(index, key, Value::Map(Map::default()));
    }
    map.map_mut(key)
        .expect("invariant: the mapping was just made")
}

/// The list of a key, made at `index` where it is absent or empty.
fn list<'a>(map: &'a mut Map, index: usize, key: &str) -> &'a mut Vec<Value> {
    if !matches!(map.get(key), Some(Value::List(_))) {
        map.set_at(index, key, Value::List(Vec::new()));
    }
    match map.get_mut(key) {
        Some(Value::List(list)) => list,
        _ => unreachable!("the list was just made"),
    }
}

fn retain(map: &mut Map, key: &str, stays: impl Fn(&str) -> bool) {
    if let Some(Value::List(list)) = map.get_mut(key) {
        list.retain(|item| name(item).is_none_or(&stays));
    }
}

fn name(item: &Value) -> Option<&str> {
    item.as_map()?.scalar("name")
}
