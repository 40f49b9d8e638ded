//! The network state of a host, to see that what others put there is still there.

use seedwire_core::netstate::Instance;
use serde_json::{Map, Value};

use super::Host;

const QUESTIONS: [&str; 7] = [
    "ip -j link",
    "ip -j addr",
    "ip -j -4 route show table all",
    "ip -j -6 route show table all",
    "ip -j -4 rule",
    "ip -j -6 rule",
    "nft -j list ruleset",
];

const PARAMETERS: [&str; 4] = [
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/all/src_valid_mark",
    "net/ipv6/conf/all/forwarding",
];

/// Addresses, links, routes, rules, nft's rule set and some kernel parameters.
#[derive(Clone, PartialEq, Eq)]
pub struct State(Vec<(&'static str, Value)>);

impl State {
    /// The state of a host now.
    pub fn of(host: &Host) -> Self {
        let ask = |line: &'static str| {
            let text = host.run(line);
            let text = if text.trim().is_empty() {
                "[]"
            } else {
                text.trim()
            };
            let mut value = serde_json::from_str(text).expect("JSON");
            remove_counters(&mut value);
            (line, value)
        };
        let read = |name: &'static str| (name, Value::String(host.read_sysctl(name)));
        Self(
            QUESTIONS
                .map(ask)
                .into_iter()
                .chain(PARAMETERS.map(read))
                .collect(),
        )
    }

    /// The state without what belongs to the seedwire of an interface.
    pub fn without(mut self, interface: &str) -> Self {
        let table = format!("seedwire-{interface}");
        let instance = Instance::new(interface.parse().expect("a name"));
        let is_foreign = |item: &Value| {
            let is_of = |item: &Value| {
                ["dev", "ifname"].iter().any(|key| item[*key] == interface)
                    || item["table"].as_str() == Some(&table)
                    || item["metric"].as_u64() == Some(instance.metric().into())
                    || item["name"].as_str() == Some(&table)
            };
            let inner = item.as_object().into_iter().flat_map(Map::values);
            !is_of(item) && !inner.into_iter().any(is_of)
        };
        for (question, value) in &mut self.0 {
            match value {
                Value::Array(items) if question.contains(" rule") => {
                    // Ours carry a number that has no name.
                    let number = |rule: &Value| rule["protocol"].as_str()?.parse::<u8>().ok();
                    items.retain(|rule| number(rule).is_none());
                }
                Value::Array(items) => items.retain(is_foreign),
                Value::Object(object) => {
                    for items in object.values_mut().filter_map(Value::as_array_mut) {
                        items.retain(is_foreign);
                    }
                }
                _ => {}
            }
        }
        self
    }

    /// The state without an address that seedwire lent to an interface of somebody else.
    pub fn without_address(mut self, address: &str) -> Self {
        for items in self
            .0
            .iter_mut()
            .filter_map(|(_, value)| value.as_array_mut())
        {
            items.retain(|route| route["dst"] != address);
            let addresses = |item| Value::get_mut(item, "addr_info")?.as_array_mut();
            for addresses in items.iter_mut().filter_map(addresses) {
                addresses.retain(|item| item["local"] != address);
            }
        }
        self
    }

    /// The answers that differ, in words.
    fn difference(&self, other: &Self) -> String {
        let pairs = self.0.iter().zip(&other.0).filter(|(a, b)| a != b);
        pairs
            .map(|((what, a), (_, b))| format!("{what}\n  was {a}\n  is  {b}\n"))
            .collect()
    }
}

/// Asserts that a host's state, less what is an interface's, is as it was.
#[track_caller]
pub fn assert_unchanged(when: &str, before: &State, after: &State) {
    assert!(
        before == after,
        "{when}, the state differs:\n{}",
        before.difference(after)
    );
}

/// Removes what changes by itself.
fn remove_counters(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(remove_counters),
        Value::Object(object) => {
            for key in ["packets", "bytes", "expires", "used", "cache"] {
                object.remove(key);
            }
            object.values_mut().for_each(remove_counters);
        }
        _ => {}
    }
}
