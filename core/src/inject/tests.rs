use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::emit::{document, surely_text};
use super::tree::{Key, Map, Value, parse};
use super::{Identity, Mode, Options, Source, inject, uninject};

fn options(mode: Mode) -> Options {
    Options {
        mode,
        image: "registry.example.com/seedwire:0.1.0".to_owned(),
        config_map: "seedwire".to_owned(),
        secret: "seedwire-keys".to_owned(),
        namespace: Some("logging".to_owned()),
        identity: Some(Identity::Node),
    }
}

fn dns(address: &str) -> Mode {
    Mode::Dns {
        cluster_dns: vec![address.parse().expect("an address")],
        cluster_domain: "cluster.local".to_owned(),
    }
}

fn source(text: &str) -> [Source<'_>; 1] {
    [Source { name: "x", text }]
}

fn injected(text: &str, options: &Options) -> String {
    inject(&source(text), options).expect("it is taken").yaml
}

fn normalised(text: &str) -> String {
    uninject(&source(text)).expect("it is read").yaml
}

/// Strings with what YAML readers stumble over.
fn nasty() -> impl Strategy<Value = String> {
    let fixed = [
        "",
        " ",
        "yes",
        "No",
        "null",
        "~",
        "0400",
        "1e3",
        "- a",
        "a: b",
        "a #b",
        "#",
        "'",
        "\"",
        "a\n",
        "a\n\n",
        "\n",
        "\na",
        " a\nb",
        "a\n b\n  \nc",
        "a\n \n",
        "\t\n",
        "a\tb\n",
        "{}",
        "[]",
        "a\r\nb",
        "\u{85}",
        "a\u{2028}b\nc",
        "\u{feff}",
        "é\nö",
        "---\na",
        "...\n",
        "a\\b",
        "!tag",
        "&a",
        "*a",
        "%",
        "@",
        "`",
        "|",
        ">",
        "?",
        ": ",
        "<<",
        "=",
        "1:30",
        "é",
        "𝄞",
    ];
    prop_oneof![
        select(fixed.to_vec()).prop_map(str::to_owned),
        "[a-z/ :#\\-\n\t\"']{0,12}",
        "\\PC{0,6}",
        any::<String>().prop_map(|s| s.chars().take(6).collect()),
    ]
}

fn scalar() -> impl Strategy<Value = Value> {
    let plain = select(vec![
        "null", "~", "1", "0400", "true", "off", "1.5", "10.0.0.1",
    ]);
    prop_oneof![
        nasty().prop_map(Value::Text),
        plain.prop_map(|text| Value::Plain(text.to_owned())),
    ]
}

fn map_of(entries: Vec<(String, Value)>) -> Map {
    let mut map = Map::default();
    for (text, value) in entries {
        if map.get(&text).is_none() {
            let plain = surely_text(&text);
            map.0.push((Key { text, plain }, value));
        }
    }
    map
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::List),
            vec((nasty(), inner), 0..4).prop_map(|entries| Value::Map(map_of(entries))),
        ]
    })
}

/// An object of a kind with a pod in it, with parts there, empty or absent.
fn workload() -> impl Strategy<Value = String> {
    let kind = select(vec![
        "Pod",
        "Deployment",
        "DaemonSet",
        "StatefulSet",
        "Job",
        "CronJob",
    ]);
    let part = |parts: &[&'static str]| option::of(select(parts.to_vec()));
    let metadata = part(&[
        "null",
        "{}",
        "{labels: {a: b}}",
        "{annotations: null}",
        "{annotations: {}, name: x}",
        "{annotations: {a: '1'}}",
        "{labels: {sidecar.istio.io/inject: 'true'}}",
    ]);
    let init = part(&["null", "[]", "[{name: first, image: i}]"]);
    let volumes = part(&["null", "[]", "[{name: data, emptyDir: {}}]"]);
    let policy = part(&["null", "ClusterFirst", "Default", "None"]);
    let config = part(&[
        "null",
        "{}",
        "{nameservers: [192.0.2.1], searches: [cluster.local, example.com]}",
        "{options: [{name: ndots, value: '2'}, {name: edns0}]}",
    ]);
    (
        kind,
        metadata,
        init,
        volumes,
        policy,
        config,
        value(),
        any::<bool>(),
    )
        .prop_map(
            |(kind, metadata, init, volumes, policy, config, other, last)| {
                let mut pod = String::from("spec:\n");
                let mut add = |key: &str, value: Option<&str>| {
                    if let Some(value) = value {
                        pod.push_str(&format!("  {key}: {value}\n"));
                    }
                };
                add("dnsPolicy", policy);
                add("volumes", volumes);
                add("containers", (!last).then_some("[{name: app, image: i}]"));
                add("initContainers", init);
                add("dnsConfig", config);
                add("containers", last.then_some("[{name: app, image: i}]"));
                add("restartPolicy", Some("Never"));
                if let Some(metadata) = metadata {
                    pod.push_str(&format!("metadata: {metadata}\n"));
                }
                let (api, keys): (_, &[&str]) = match kind {
                    "Pod" => ("v1", &[]),
                    "Job" => ("batch/v1", &["spec", "template"]),
                    "CronJob" => ("batch/v1", &["spec", "jobTemplate", "spec", "template"]),
                    _ => ("apps/v1", &["spec", "template"]),
                };
                for key in keys.iter().rev() {
                    pod = format!("{key}:\n  {}\n", pod.trim_end().replace('\n', "\n  "));
                }
                let other = document(&map_of(vec![("other".to_owned(), other)]));
                format!("apiVersion: {api}\nkind: {kind}\n{pod}{other}")
            },
        )
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_it_was(entries in vec((nasty(), value()), 0..5)) {
        let map = map_of(entries);
        let text = document(&map);
        prop_assert_eq!(parse(&text), Ok(vec![Value::Map(map)]), "{}", text);
    }

    #[test]
    fn the_sidecar_goes_in_once_and_out_without_a_trace(
        objects in vec(workload(), 1..3),
        mode in select(vec![Mode::Ports, dns("10.96.0.10"), dns("fd96::a")]),
        before in select(vec![Mode::Ports, dns("10.96.0.11")]),
    ) {
        let text = objects.join("---\n");
        let once = injected(&text, &options(mode.clone()));
        prop_assert_ne!(&once, &normalised(&text));
        prop_assert_eq!(&injected(&once, &options(mode.clone())), &once);
        prop_assert_eq!(normalised(&once), normalised(&text));
        let changed = injected(&injected(&text, &options(before)), &options(mode));
        prop_assert_eq!(changed, once);
    }

    #[test]
    fn no_text_is_too_odd_to_be_read_or_refused(text in nasty(), more in "\\PC{0,40}") {
        let _ = uninject(&source(&format!("{text}{more}")));
    }
}

#[test]
fn the_values_of_a_yaml_reader_of_1_1_stay_strings() {
    for word in [
        "yes",
        "Off",
        "y",
        "NULL",
        "0x1f",
        "1_000",
        "1:30",
        "12e3",
        ".5",
        "2001-01-01",
    ] {
        assert!(!surely_text(word), "{word}");
    }
    for word in [
        "nginx:1.25",
        "/etc/seedwire",
        "http://a:1/b",
        "a b",
        "node-1",
    ] {
        assert!(surely_text(word), "{word}");
    }
}

#[test]
fn aliases_are_written_out_and_bounded() {
    let text = "a: &x {b: [1]}\nc: *x\n";
    let out = "a:\n  b:\n    - 1\nc:\n  b:\n    - 1\n";
    assert_eq!(normalised(text), out);
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..9 {
        let inner = format!("*a{},", i - 1).repeat(10);
        bomb.push_str(&format!("a{i}: &a{i} [{inner}]\n"));
    }
    assert!(uninject(&source(&bomb)).is_err());
}
