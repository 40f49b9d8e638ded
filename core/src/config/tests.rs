//! The configuration through its front door, [`super::parse`].

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;

const PRIVATE_KEY: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const PSK: &str = "FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE=";
const EXAMPLES: [(&str, &str); 5] = [
    (
        "promtail-sidecar.yaml",
        include_str!("../../../config/promtail-sidecar.yaml"),
    ),
    (
        "node-local-dns.yaml",
        include_str!("../../../config/node-local-dns.yaml"),
    ),
    (
        "edge-host.yaml",
        include_str!("../../../config/edge-host.yaml"),
    ),
    ("hub.yaml", include_str!("../../../config/hub.yaml")),
    (
        "cluster-gateway.yaml",
        include_str!("../../../config/cluster-gateway.yaml"),
    ),
];

/// A world with the variables and files that the examples refer to.
struct World {
    variables: HashMap<&'static str, String>,
    files: HashMap<&'static str, (String, u32)>,
}

impl World {
    fn new() -> Self {
        let key = || (format!("{PRIVATE_KEY}\n"), 0o400);
        let psk = || (format!("{PSK}\n"), 0o400);
        let addresses = "10.88.0.2/32, fd88::2 # both families\n".to_owned();
        Self {
            variables: HashMap::from([
                ("NODE_NAME", "node-1".to_owned()),
                ("WG_KEY", PRIVATE_KEY.to_owned()),
            ]),
            files: HashMap::from([
                ("/etc/seedwire/private.key", key()),
                ("/etc/seedwire/keys/node-1", key()),
                ("/etc/seedwire/addresses/node-1", (addresses, 0o644)),
                ("/etc/seedwire/psk", psk()),
                ("/etc/seedwire/psk/node-1", psk()),
                ("/etc/seedwire/psk/edge-7", psk()),
                ("/open.key", (PRIVATE_KEY.to_owned(), 0o644)),
            ]),
        }
    }
}

impl Surroundings for World {
    fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        self.variables.get(name).cloned().map(Zeroizing::new)
    }

    fn read(&self, path: &Path) -> Result<FileContent, Unreadable> {
        let file = path.to_str().and_then(|path| self.files.get(path));
        let (content, mode) = file.ok_or_else(|| Unreadable {
            cause: "permission denied".to_owned(),
            our_uid: 1000,
            our_gid: 1001,
            access: Some(FileAccess {
                uid: 0,
                gid: 5,
                mode: 0o600,
            }),
        })?;
        Ok(FileContent {
            content: Zeroizing::new(content.clone().into_bytes()),
            access: FileAccess {
                uid: 0,
                gid: 0,
                mode: *mode,
            },
        })
    }
}

fn parsed(text: &str) -> Parsed {
    match parse(text.as_bytes(), "c.yaml", &World::new()) {
        Ok(parsed) => parsed,
        Err(rejected) => panic!("rejected: {rejected}"),
    }
}

fn rejected(text: &str) -> Vec<String> {
    match parse(text.as_bytes(), "c.yaml", &World::new()) {
        Ok(_) => panic!("taken: {text}"),
        Err(rejected) => rejected.problems.iter().map(ToString::to_string).collect(),
    }
}

/// A tunnel with one peer and these keys beside.
fn tunnel(more: &str) -> String {
    format!(
        "tunnel:\n  interface: seed0\n  privateKeyFile: /etc/seedwire/private.key\n  \
         addresses: [10.88.0.2/32]\n  peers:\n    - name: seed\n      \
         publicKey: qHH/4nTnYNPtRVA0dG4TPxykQ7CVRAoFsLsZCKSJ4BE=\n      \
         endpoint: 192.0.2.1:51820\n      allowedIPs: [10.240.16.0/20]\n{more}"
    )
}

#[test]
fn every_example_is_taken_without_a_warning() {
    for (name, text) in EXAMPLES {
        let parsed = match parse(text.as_bytes(), name, &World::new()) {
            Ok(parsed) => parsed,
            Err(rejected) => panic!("{rejected}"),
        };
        assert_eq!(parsed.warnings, [], "{name}");
        assert!(!parsed.files.is_empty(), "{name} names files");
    }
}

#[test]
fn defaults_are_filled_in() {
    let config = parsed(&tunnel("")).config;
    let tunnel = config.tunnel.as_ref().expect("it has a tunnel");
    assert_eq!(tunnel.backend, Backend::Auto);
    assert_eq!(tunnel.listen_port, None);
    assert_eq!(tunnel.peers[0].keepalive, Some(Duration::from_secs(25)));
    assert_eq!(config.network, Network::default());
    let control = Control {
        http: Some("127.0.0.1:9586".parse().expect("an address")),
        socket: Some("/run/seedwire/seed0.sock".into()),
        startup_wait: Some(Duration::from_secs(60)),
    };
    assert_eq!(config.control, control);
    assert_eq!(config.log.level, LogLevel::Info);

    let dns = parsed("dns: {upstreams: [192.0.2.53]}").config;
    assert_eq!(dns.control.socket, None);
    let dns = dns.dns.expect("it has dns");
    assert_eq!(dns.cache.max_entries, 10_000);
    assert_eq!(dns.cache.max_bytes, 4 << 20);
    let lifetimes = Lifetimes {
        max_ttl: Duration::from_secs(3600),
        max_negative_ttl: Duration::from_secs(30),
        stale: Duration::from_secs(3600),
        stale_ttl: 30,
        stale_on_nxdomain: Duration::ZERO,
    };
    assert_eq!(dns.cache.lifetimes, lifetimes);
    assert_eq!(dns.order, Order::Fastest);
    let address = "192.0.2.53:53".parse().expect("an address");
    assert_eq!(
        dns.upstreams,
        Some(vec![Upstream::Server(Server::plain(address))])
    );
}

#[test]
fn a_zone_keeps_answers_as_long_as_the_rest_unless_it_says_otherwise() {
    let text = "dns:\n  order: listed\n  searchDomains: [svc.cluster.local]\n  \
        cache: {maxTTL: 2m, stale: 0s, staleTTL: 5s}\n  zones:\n    \
        - {zone: a.test, upstreams: [192.0.2.1]}\n    \
        - {zone: b.test, upstreams: [192.0.2.1], cache: {stale: 1h, staleOnNXDOMAIN: 10m}}\n";
    let dns = parsed(text).config.dns.expect("it has dns");
    let [a, b] = dns.zones.as_slice() else {
        panic!("two zones");
    };
    assert_eq!(a.lifetimes, dns.cache.lifetimes);
    assert_eq!(
        (a.lifetimes.stale, a.lifetimes.stale_ttl),
        (Duration::ZERO, 5)
    );
    let expected = Lifetimes {
        stale: Duration::from_secs(3600),
        stale_on_nxdomain: Duration::from_secs(600),
        ..a.lifetimes
    };
    assert_eq!(b.lifetimes, expected);
    assert_eq!(dns.order, Order::Listed);
    assert_eq!(
        dns.search_domains,
        ["svc.cluster.local".parse().expect("a name")]
    );
}

#[test]
fn values_are_read_in_each_of_their_forms() {
    let text = tunnel(
        "  fwmark: 0x20\n  listenPort: 51820\n  handshakesPerAddress: 50\nnetwork:\n  routes:\n    \
         - {to: 10.240.16.0/21, table: 254, metric: 0}\n    - {to: 10.240.24.0/21, table: 7}\n\
         dns: {upstreams: [system, \"fd10::a\"], cache: {maxBytes: 64KiB, maxTTL: 500ms}}\n\
         control: {http: \":80\", startupWait: never, socket: /run/x.sock}\n\
         log: {level: debug, format: json}\n",
    );
    let config = parsed(&text).config;
    let tunnel = config.tunnel.expect("it has a tunnel");
    assert_eq!((tunnel.fwmark, tunnel.listen_port), (Some(32), Some(51820)));
    assert_eq!(tunnel.handshakes_per_address, 50);
    let Routes::List(routes) = config.network.routes else {
        panic!("a list of routes");
    };
    assert_eq!((routes[0].table, routes[0].metric), (None, Some(0)));
    assert_eq!((routes[1].table, routes[1].metric), (Some(7), None));
    let dns = config.dns.expect("it has dns");
    assert_eq!(dns.cache.max_bytes, 64 << 10);
    assert_eq!(dns.cache.lifetimes.max_ttl, Duration::from_millis(500));
    let general = dns.upstreams.expect("general upstreams");
    let second = "[fd10::a]:53".parse().expect("an address");
    assert_eq!(
        general,
        [Upstream::System, Upstream::Server(Server::plain(second))]
    );
    let http = "[::]:80".parse().expect("an address");
    assert_eq!(config.control.http, Some(http));
    assert_eq!(config.control.startup_wait, None);
    assert_eq!(config.log.format, LogFormat::Json);

    let off = "dns: {upstreams: [system]}\ncontrol: {http: off}";
    assert_eq!(parsed(off).config.control.http, None);
}

#[test]
fn the_private_key_comes_from_a_file_or_the_environment() {
    let key = PRIVATE_KEY.parse().expect("a key");
    let file = parsed(&tunnel("")).config;
    let variable = tunnel("").replace(
        "privateKeyFile: /etc/seedwire/private.key",
        "privateKey: ${WG_KEY}",
    );
    for config in [file, parsed(&variable).config] {
        assert!(config.tunnel.expect("it has a tunnel").private_key == key);
    }
}

#[test]
fn a_key_in_the_text_is_rejected_and_never_shown() {
    let places = [
        tunnel("").replace(
            "privateKeyFile: /etc/seedwire/private.key",
            "privateKey: KEY",
        ),
        tunnel("").replace("/etc/seedwire/private.key", "KEY"),
        tunnel("").replace("/etc/seedwire/private.key", "/KEY"),
        tunnel("").replace("192.0.2.1:51820", "KEY:51820"),
        tunnel("").replace("name: seed", "name: KEY"),
        tunnel("").replace("interface: seed0", "interface: KEY"),
        tunnel("").replace("qHH/4nTnYNPtRVA0dG4TPxykQ7CVRAoFsLsZCKSJ4BE=", "xKEY"),
        tunnel("").replace("privateKeyFile: ", "privateKey:KEY\n  privateKeyFile: "),
        tunnel("  password: KEY\n"),
        tunnel("  KEY: 1\n"),
        tunnel("").replace("/etc/seedwire/private.key", "/${KEY}"),
        tunnel("").replace("[10.240.16.0/20]", "[KEY]"),
        tunnel("").replace("[10.240.16.0/20]", "[*KEY]"),
        "KEY".to_owned(),
        "KEY: {".to_owned(),
    ];
    let short = &PRIVATE_KEY[..42];
    for place in places {
        for key in [PRIVATE_KEY, short] {
            for message in rejected(&place.replace("KEY", key)) {
                assert!(!message.contains(&key[..20]), "{message}");
            }
        }
    }
}

#[test]
fn a_key_file_that_others_can_read_is_a_warning_and_strictly_an_error() {
    let text = tunnel("").replace("/etc/seedwire/private.key", "/open.key");
    let warnings = parsed(&text).warnings;
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].topic, Topic::ReadableSecret);
    assert_eq!(
        warnings[0].to_string(),
        "c.yaml:3:19: warning: tunnel.privateKeyFile: value \"/open.key\": better a file that \
         others can't read; it has mode 0644"
    );
    assert_eq!(
        rejected(&format!("{text}strictSecrets: true\n")),
        [
            "c.yaml:3:19: tunnel.privateKeyFile: value \"/open.key\": expected a file that others \
          can't read; it has mode 0644"
        ]
    );
}

#[test]
fn a_file_that_cannot_be_read_names_both_users_and_the_mode() {
    assert_eq!(
        rejected(&tunnel("").replace("/etc/seedwire/private.key", "/closed.key")),
        [
            "c.yaml:3:19: tunnel.privateKeyFile: value \"/closed.key\": expected a file that can be \
          read: permission denied; seedwire runs with uid 1000, gid 1001; the file has uid 0, \
          gid 5, mode 0600"
        ]
    );
}

#[test]
fn the_files_are_known_even_when_the_configuration_is_rejected() {
    let text = tunnel("").replace("/etc/seedwire/private.key", "/closed.key");
    let rejected = parse(text.as_bytes(), "c.yaml", &World::new()).expect_err("it is rejected");
    assert_eq!(rejected.files, [PathBuf::from("/closed.key")]);
}

#[test]
fn a_mark_that_others_use_is_a_warning() {
    let warnings = parsed(&tunnel("  fwmark: 0x4000\n")).warnings;
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "c.yaml:10:11: warning: tunnel.fwmark: value \"0x4000\": better a mark without the bits \
          0x4000, which kube-proxy uses"
        ]
    );
}

#[test]
fn a_peer_that_calls_an_unknown_port_is_a_warning() {
    let text = tunnel("").replace("      endpoint: 192.0.2.1:51820\n", "");
    let warnings = parsed(&text).warnings;
    assert_eq!(warnings.len(), 1);
    assert_eq!(
        warnings[0].to_string(),
        "c.yaml:6:7: warning: tunnel.peers[0]: a mapping: better a tunnel.listenPort beside a peer \
         without an endpoint, which calls us"
    );
    let known = text.replace("  peers:", "  listenPort: 51820\n  peers:");
    assert_eq!(parsed(&known).warnings, []);
}

#[test]
fn a_family_without_an_own_address_is_a_warning() {
    let warnings = parsed(&tunnel("").replace("[10.240", "[\"fd10::/64\", 10.240")).warnings;
    assert_eq!(warnings.len(), 1);
    assert_eq!(
        warnings[0].to_string(),
        "c.yaml:9:20: warning: tunnel.peers[0].allowedIPs[0]: value \"fd10::/64\": the interface has \
         no IPv6 address to send from"
    );
}

#[test]
fn a_prefix_inside_another_peers_prefix_is_normal() {
    let second = "    - name: other\n      \
                  publicKey: g+CkYJ1dCLONkVNJgRrJZnOkCd/HoPxKKbzZtmNvtjk=\n      \
                  allowedIPs: [10.240.16.0/24]\n";
    parsed(&tunnel(second));
}

#[test]
fn an_endpoint_inside_an_automatic_route_has_a_rule() {
    for prefix in ["192.0.2.0/24", "0.0.0.0/0"] {
        parsed(&tunnel("").replace("10.240.16.0/20", prefix));
    }
}

#[test]
fn text_that_is_not_utf8_is_rejected_at_its_place() {
    let rejected = parse(b"dns:\n  a\xff", "c.yaml", &World::new()).expect_err("it is rejected");
    assert_eq!(rejected.to_string(), "c.yaml:2:4: expected UTF-8");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes, "c.yaml", &World::new());
    }

    #[test]
    fn no_yaml_makes_it_panic(text in "[-{}\\[\\]:,&*!|>'\"%@`#?~ \n\ta0$.\\\\]{0,80}") {
        let _ = parse(text.as_bytes(), "c.yaml", &World::new());
    }

    #[test]
    fn no_change_to_an_example_makes_it_panic(
        example in 0..EXAMPLES.len(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        moved in 0..40_usize,
    ) {
        let mut bytes = EXAMPLES[example].1.as_bytes().to_vec();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        let _ = parse(&bytes, "c.yaml", &World::new());
        let cut = cut.index(bytes.len());
        let end = bytes.len().min(cut + moved);
        let part: Vec<u8> = bytes.drain(cut..end).collect();
        bytes.extend(part);
        let _ = parse(&bytes, "c.yaml", &World::new());
    }

    #[test]
    fn a_rejection_says_why(text in "[a-z:{}\\[\\] \n-]{0,40}") {
        if let Err(rejected) = parse(text.as_bytes(), "c.yaml", &World::new()) {
            prop_assert!(!rejected.problems.is_empty());
        }
    }
}

#[test]
fn a_dns_server_is_written_in_many_forms() {
    let text = "dns:\n  upstreams:\n    - 192.0.2.1\n    - 192.0.2.2:54\n    - tcp://[fd10::a]:55\n    \
        - tls://192.0.2.3\n    - tls://192.0.2.4:443#Dns.Example.\n    - fe80::1%eth0\n    \
        - \"[fe80::2%eth0]:56\"\n    - {address: fd10::b, protocol: tcp, maxAge: 5m}\n    \
        - {address: 192.0.2.5#dns.example, protocol: tls}\n";
    let dns = parsed(text).config.dns.expect("it has dns");
    let upstreams = dns.upstreams.expect("upstreams");
    let servers: Vec<&Server> = upstreams
        .iter()
        .map(|upstream| match upstream {
            Upstream::Server(server) => server,
            Upstream::System => panic!("not the system's"),
        })
        .collect();
    let shown: Vec<String> = servers.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "192.0.2.1:53",
            "192.0.2.2:54",
            "tcp://[fd10::a]:55",
            "tls://192.0.2.3:853",
            "tls://192.0.2.4:443#dns.example",
            "[fe80::1%eth0]:53",
            "[fe80::2%eth0]:56",
            "tcp://[fd10::b]:53",
            "tls://192.0.2.5:853#dns.example",
        ]
    );
    assert_eq!(servers[7].max_age, Duration::from_secs(300));
    assert_eq!(servers[0].max_age, Duration::from_secs(60));
}
