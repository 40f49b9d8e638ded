mod faults;
mod guards;
mod leftovers;

use std::collections::BTreeSet;
use std::error::Error as _;
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use seedwire_core::config::{
    Backend, Cache, Config, Control, Dnat, Dns, Log, LogFormat, LogLevel, Network, Order, Peer,
    Protocol, Route as ConfigRoute, Routes, Tunnel,
};
use seedwire_core::netstate::{
    Address, Conflict, Desired, Facts, Family, Instance, LINK_ALIAS, Link, MAIN_TABLE, Observed,
    ObservedTable, PROTOCOL, Route, RouteKind, Rule, Step, desired, plan, sysctl,
};
use seedwire_core::types::{InterfaceName, Prefix, PrivateKey, PublicKey};

use super::fake::FakeKernel;
use super::{ApplyError, Kernel, NetState};

const LO: u32 = 1;
const ETH: u32 = 2;
const TUNNEL: u32 = 7;

fn interface() -> InterfaceName {
    "seed0".parse().unwrap()
}

fn instance() -> Instance {
    Instance::new(interface())
}

fn link(index: u32, name: &str, up: bool) -> Link {
    Link {
        index,
        name: name.to_owned(),
        alias: None,
        kind: None,
        mtu: 1500,
        up,
        address_generation: Some(0),
    }
}

fn address(link: u32, text: &str) -> Address {
    Address {
        link,
        address: text.parse().unwrap(),
        protocol: 0,
        metric: 0,
    }
}

fn route(link: u32, to: &str, metric: u32) -> Route {
    Route {
        table: MAIN_TABLE,
        to: to.parse().unwrap(),
        metric,
        kind: RouteKind::Unicast,
        protocol: 3,
        link: Some(link),
        gateway: None,
        mtu: None,
    }
}

/// A host with an Ethernet link, and a tunnel link that was just made.
fn host() -> Observed {
    let mut observed = Observed {
        links: vec![
            link(LO, "lo", true),
            link(ETH, "eth0", true),
            link(TUNNEL, "seed0", false),
        ],
        addresses: vec![
            address(LO, "127.0.0.1/8"),
            address(LO, "::1/128"),
            address(ETH, "192.0.2.5/24"),
        ],
        address_protocols: true,
        routes: vec![route(ETH, "0.0.0.0/0", 0), route(ETH, "192.0.2.0/24", 0)],
        sysctls_writable: true,
        ..Observed::default()
    };
    for (path, value) in [
        (sysctl::IPV4_FORWARD, "0"),
        (sysctl::IPV6_FORWARD, "0"),
        (sysctl::SRC_VALID_MARK, "0"),
        ("net/ipv6/conf/eth0/accept_ra", "1"),
        ("net/ipv4/conf/eth0/rp_filter", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
    ] {
        observed.sysctls.insert(path.to_owned(), value.to_owned());
    }
    observed.addresses.sort();
    observed.routes.sort();
    observed
}

fn config(allowed_ips: &[&str]) -> Config {
    Config {
        tunnel: Some(Tunnel {
            interface: interface(),
            backend: Backend::Auto,
            private_key: PrivateKey::from_bytes([1; 32]),
            addresses: vec!["10.88.0.2/32".parse().unwrap()],
            listen_port: None,
            mtu: None,
            fwmark: None,
            handshakes_per_address: 2000,
            resolvers: Vec::new(),
            peers: vec![Peer {
                name: "seed".to_owned(),
                public_key: PublicKey::from_bytes([2; 32]),
                preshared_key: None,
                endpoints: Vec::new(),
                keepalive: None,
                allowed_ips: allowed_ips.iter().map(|p| p.parse().unwrap()).collect(),
                probe: None,
            }],
        }),
        network: Network::default(),
        ports: Vec::new(),
        dns: None,
        control: Control {
            http: None,
            socket: None,
            startup_wait: None,
        },
        log: Log {
            level: LogLevel::Info,
            format: LogFormat::Text,
        },
    }
}

fn dns_on(listen: &str) -> Dns {
    Dns {
        listen: vec![listen.parse().unwrap()],
        upstreams: None,
        zones: Vec::new(),
        order: Order::Listed,
        search_domains: Vec::new(),
        cache: Cache::default(),
    }
}

fn facts() -> Facts {
    Facts {
        mtu: 1420,
        endpoints: vec!["198.51.100.7".parse().unwrap()],
    }
}

fn want(config: &Config) -> Desired {
    desired(instance(), config, &facts())
}

fn net_state(state: Observed) -> NetState<FakeKernel> {
    let kernel = FakeKernel {
        state,
        ..FakeKernel::default()
    };
    NetState::with_kernel(interface(), kernel)
}

/// What is not ours by any mark, for comparison before and after.
fn foreign(observed: &Observed) -> Observed {
    let mut foreign = observed.clone();
    let ours_by_link = |link: u32| link == TUNNEL;
    foreign.links.retain(|l| !ours_by_link(l.index));
    foreign
        .addresses
        .retain(|a| !ours_by_link(a.link) && a.metric != instance().metric());
    foreign
        .routes
        .retain(|r| r.link != Some(TUNNEL) && !instance().owns_guard(r));
    foreign.rules.retain(|r| !instance().owns_rule(r));
    foreign.table = None;
    foreign.sysctls.clear();
    foreign
}

/// A guard of the instance of this interface.
fn guard(of: &Instance, to: &str) -> Route {
    let to: Prefix = to.parse().unwrap();
    Route {
        table: MAIN_TABLE,
        to,
        metric: of.metric(),
        kind: RouteKind::Refuse,
        protocol: PROTOCOL,
        link: Some(LO).filter(|_| !to.is_ipv4()),
        gateway: None,
        mtu: None,
    }
}

fn other_instance() -> Instance {
    Instance::new("seed7".parse().unwrap())
}

fn prefixes() -> Vec<Prefix> {
    [
        "0.0.0.0/0",
        "::/0",
        "10.240.0.0/16",
        "10.240.16.0/20",
        "10.88.0.0/24",
        "198.51.100.0/24",
        "fd88::/64",
        "2001:db8::/32",
    ]
    .iter()
    .map(|p| p.parse().unwrap())
    .collect()
}

prop_compose! {
    fn any_config()(
        allowed in subsequence(prefixes(), 0..=8),
        listed in proptest::option::of(subsequence(prefixes(), 0..=4)),
        metric in proptest::option::of(0_u32..200),
        masquerade in subsequence(prefixes(), 0..=2),
        addresses in subsequence(
            vec!["10.88.0.2/32", "10.88.0.2/24", "10.88.0.3/24", "fd88::2/128", "fd88::2/64"], 0..=3),
        dnat in subsequence(vec!["10.96.77.7", "fd77::7"], 0..=2),
        listen in subsequence(vec!["127.0.0.53", "169.254.20.11", "192.0.2.5", "fe80::53"], 0..=4),
        forward in any::<bool>(),
        fwmark in proptest::option::of(1_u32..9),
    ) -> Config {
        let mut config = config(&[]);
        let tunnel = config.tunnel.as_mut().unwrap();
        tunnel.peers[0].allowed_ips = allowed;
        // An address is given once, whatever its length; the configuration says so.
        let mut seen = Vec::<IpAddr>::new();
        tunnel.addresses = addresses
            .iter()
            .map(|a| a.parse().unwrap())
            .filter(|a: &seedwire_core::types::InterfaceAddress| {
                let new = !seen.contains(&a.address());
                seen.push(a.address());
                new
            })
            .collect();
        tunnel.fwmark = fwmark;
        config.network = Network {
            routes: listed.map_or(Routes::Auto, |list| Routes::List(
                list.into_iter().map(|to| ConfigRoute { to, table: None, metric }).collect(),
            )),
            forward,
            masquerade,
            dnat: dnat.iter().map(|text| {
                let address: IpAddr = text.parse().unwrap();
                let to = if address.is_ipv4() { "10.240.20.5:3100" } else { "[2001:db8::5]:3100" };
                Dnat { protocol: Protocol::Tcp, address, port: 3100, to: to.parse().unwrap() }
            }).collect(),
        };
        config.dns = Some(Dns {
            listen: listen.iter().map(|a| SocketAddr::new(a.parse().unwrap(), 53)).collect(),
            upstreams: None,
            zones: Vec::new(),
            order: Order::Listed,
            search_domains: Vec::new(),
            cache: Cache::default(),
        });
        config
    }
}

prop_compose! {
    /// A host where others have put things that look much like ours.
    fn any_host()(
        routes in subsequence(vec![
            route(ETH, "10.240.0.0/16", 0),
            route(ETH, "10.240.16.0/20", 50),
            route(ETH, "fd88::/64", 1024),
            route(TUNNEL, "10.240.0.0/16", 0),
            Route { protocol: PROTOCOL, ..route(ETH, "203.0.113.0/24", 0) },
            Route { table: 77, ..route(ETH, "10.240.0.0/16", 0) },
            Route { kind: RouteKind::Refuse, link: None, ..route(ETH, "2001:db8::/32", 1024) },
            Route { protocol: 3, ..guard(&instance(), "10.88.0.0/24") },
            guard(&other_instance(), "10.240.0.0/16"),
            guard(&other_instance(), "fd88::/64"),
            guard(&instance(), "10.240.16.0/20"),
            guard(&instance(), "10.77.0.0/16"),
            guard(&instance(), "fd77::/64"),
        ], 0..=6),
        rules in subsequence(vec![
            Rule { family: Family::V4, priority: 32766, protocol: 2, table: MAIN_TABLE,
                invert: false, mark: None, suppress_prefix_length: None },
            Rule { family: Family::V4, priority: instance().priority(), protocol: 3, table: MAIN_TABLE,
                invert: false, mark: None, suppress_prefix_length: Some(0) },
            Rule { family: Family::V6, priority: instance().priority() + 1, protocol: PROTOCOL,
                table: 51820, invert: true, mark: Some((1, 1)), suppress_prefix_length: None },
        ], 0..=3),
        addresses in subsequence(vec![
            address(ETH, "169.254.20.11/16"),
            address(LO, "169.254.20.10/32"),
            Address { protocol: PROTOCOL, metric: 3, ..address(LO, "169.254.20.12/32") },
            address(TUNNEL, "10.88.9.9/32"),
        ], 0..=4),
        table in proptest::option::weighted(0.1, Just(ObservedTable {
            comment: None, rules: 2, fingerprint: 0, content: None, edited: false,
        })),
        address_protocols in any::<bool>(),
        sysctls_writable in any::<bool>(),
        forwards in select(vec!["0", "1"]),
    ) -> Observed {
        let mut host = host();
        host.routes.extend(routes);
        host.routes.sort();
        host.rules = rules;
        host.rules.sort();
        // Without the kernel's help every address on our own link counts as ours.
        host.addresses.extend(addresses.into_iter().filter(|a| a.link != TUNNEL || address_protocols));
        host.addresses.sort();
        host.table = table;
        host.address_protocols = address_protocols;
        host.sysctls_writable = sysctls_writable;
        host.sysctls.insert(sysctl::IPV4_FORWARD.to_owned(), forwards.to_owned());
        host
    }
}

/// The state without what stays when everything is removed: link settings and sysctls.
fn without_settings(mut observed: Observed) -> Observed {
    // Another one that was killed may have left guards.
    observed.routes.retain(|r| !instance().owns_guard(r));
    observed.links.clear();
    observed.sysctls.clear();
    observed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_was_applied_needs_no_step_and_foreign_state_stays(
        host in any_host(), one in any_config(), other in any_config(),
    ) {
        let mut state = net_state(host.clone());
        for config in [one, other] {
            let before = state.kernel.state.clone();
            let wanted = want(&config);
            match state.apply(&wanted) {
                Ok(_) => {
                    let observed = state.observe().unwrap();
                    prop_assert_eq!(plan(&wanted, &observed).unwrap(), Vec::<Step>::new());
                    let ours: Vec<&Route> = observed.routes.iter()
                        .filter(|r| r.link == Some(TUNNEL) && r.protocol == PROTOCOL).collect();
                    prop_assert!(ours.len() <= wanted.routes.len());
                    let guards = observed.routes.iter().filter(|r| instance().owns_guard(r));
                    let guards: BTreeSet<(u32, Prefix)> = guards.map(|r| (r.table, r.to)).collect();
                    let routed = wanted.routes.iter().map(|r| (r.table, r.to));
                    prop_assert_eq!(guards, routed.collect());
                }
                Err(ApplyError::Conflict(_)) => prop_assert_eq!(&state.kernel.state, &before),
                Err(error) => prop_assert!(false, "{}", error),
            }
            prop_assert_eq!(foreign(&state.kernel.state), foreign(&host));
        }
    }

    #[test]
    fn clearing_leaves_what_was_before(host in any_host(), config in any_config()) {
        let mut state = net_state(host.clone());
        if state.apply(&want(&config)).is_ok() {
            // Another process, which knows only what the kernel knows.
            let mut state = net_state(state.kernel.state.clone());
            state.clear().unwrap();
            prop_assert_eq!(without_settings(state.kernel.state), without_settings(host));
        }
    }
}

fn plan_of(config: &Config, observed: &Observed) -> Result<Vec<String>, Conflict> {
    let steps = plan(&want(config), observed)?;
    Ok(steps.iter().map(ToString::to_string).collect())
}

fn error_of(config: &Config, observed: &Observed) -> String {
    plan_of(config, observed).unwrap_err().to_string()
}

#[test]
fn the_plan_of_a_sidecar_reads_as_expected() {
    let mut config = config(&["10.88.0.1/32", "10.240.16.0/20"]);
    config.network.dnat = vec![Dnat {
        protocol: Protocol::Tcp,
        address: "10.96.77.7".parse().unwrap(),
        port: 3100,
        to: "10.240.20.5:3100".parse().unwrap(),
    }];
    let mut host = host();
    host.sysctls_writable = false;
    let metric = instance().metric();
    let guard = |to: &str| format!("add route unreachable {to} metric {metric}");
    let expected = [
        &guard("10.88.0.1/32"),
        &guard("10.96.77.7/32"),
        &guard("10.240.16.0/20"),
        "set the alias of link seed0 to \"seedwire\"",
        "set the MTU of link seed0 to 1420 (was 1500)",
        "set addr_gen_mode of link seed0 to 1 (was 0)",
        "set link seed0 up",
        "add address 10.88.0.2/32 on seed0",
        "add route 10.88.0.1/32 dev seed0",
        "add route 10.96.77.7/32 dev seed0",
        "add route 10.240.16.0/20 dev seed0",
        r#"set nft table inet seedwire-seed0 {
	chain mangle-prerouting {
		type filter hook prerouting priority -150; policy accept;
		iifname "seed0" meta nfproto ipv4 meta l4proto tcp tcp flags & (syn | rst) == syn tcp option maxseg size set 1380
		iifname "seed0" meta nfproto ipv6 meta l4proto tcp tcp flags & (syn | rst) == syn tcp option maxseg size set 1360
	}
	chain mangle-postrouting {
		type filter hook postrouting priority -150; policy accept;
		oifname "seed0" meta nfproto ipv4 meta l4proto tcp tcp flags & (syn | rst) == syn tcp option maxseg size set 1380
		oifname "seed0" meta nfproto ipv6 meta l4proto tcp tcp flags & (syn | rst) == syn tcp option maxseg size set 1360
	}
	chain dnat-prerouting {
		type nat hook prerouting priority -110; policy accept;
		meta nfproto ipv4 ip daddr 10.96.77.7/32 meta l4proto tcp th dport 3100 dnat ip to 10.240.20.5:3100
	}
	chain dnat-output {
		type nat hook output priority -110; policy accept;
		meta nfproto ipv4 ip daddr 10.96.77.7/32 meta l4proto tcp th dport 3100 dnat ip to 10.240.20.5:3100
	}
	chain masquerade {
		type nat hook postrouting priority 90; policy accept;
		oifname "seed0" ct status dnat meta nfproto ipv4 ip saddr != 10.88.0.2/32 masquerade
	}
}"#,
    ];
    assert_eq!(plan_of(&config, &host).unwrap(), expected);
}

#[test]
fn a_default_route_goes_to_a_private_table_behind_rules() {
    let steps = plan_of(&config(&["0.0.0.0/0"]), &host()).unwrap();
    let (table, priority) = (instance().table(), instance().priority());
    let next = priority + 1;
    for expected in [
        format!(
            "add route unreachable 0.0.0.0/0 table {table:#x} metric {}",
            instance().metric()
        ),
        format!("add route 0.0.0.0/0 table {table:#x} dev seed0"),
        format!("add rule IPv4 priority {priority}: lookup main suppress_prefixlength 0"),
        format!("add rule IPv4 priority {next}: not fwmark 0x1000/0x1000 lookup {table:#x}"),
        "set sysctl net.ipv4.conf.all.src_valid_mark to 1 (was 0)".to_owned(),
    ] {
        assert!(steps.contains(&expected), "{expected} is not in {steps:#?}");
    }
    assert_eq!(want(&config(&["0.0.0.0/0"])).fwmark, Some(0x1000));
    assert_eq!(want(&config(&["10.240.16.0/20"])).fwmark, None);
}

#[test]
fn a_prefix_around_an_endpoint_needs_a_rule_too() {
    let wanted = want(&config(&["198.51.100.0/24", "10.240.16.0/20"]));
    let tables: Vec<u32> = wanted.routes.iter().map(|route| route.table).collect();
    assert_eq!(tables, [MAIN_TABLE, instance().table()]);
    assert_eq!(wanted.rules.len(), 2);
}

#[test]
fn the_same_prefix_elsewhere_is_a_conflict_that_names_both() {
    let mut host = host();
    host.routes.push(Route {
        gateway: Some("192.0.2.1".parse().unwrap()),
        ..route(ETH, "10.240.16.0/20", 100)
    });
    assert_eq!(
        error_of(&config(&["10.240.16.0/20"]), &host),
        "10.240.16.0/20 can't be routed to seed0: there is already a route \
         10.240.16.0/20 via 192.0.2.1 metric 100 dev eth0"
    );
    // Longer and shorter prefixes are no conflict.
    assert!(plan_of(&config(&["10.240.0.0/16", "10.240.16.0/24"]), &host).is_ok());
}

#[test]
fn a_chosen_metric_lives_beside_another_route() {
    let mut host = host();
    host.routes.push(route(ETH, "10.240.16.0/20", 100));
    let with_metric = |metric| {
        let mut config = config(&[]);
        config.network.routes = Routes::List(vec![ConfigRoute {
            to: "10.240.16.0/20".parse().unwrap(),
            table: None,
            metric: Some(metric),
        }]);
        config
    };
    assert!(plan_of(&with_metric(50), &host).is_ok());
    assert!(plan_of(&with_metric(100), &host).is_err());
}

#[test]
fn what_belongs_to_others_is_named() {
    let wanted = config(&[]);
    let mut with_alias = host();
    with_alias.links[2].alias = Some("uplink".to_owned());
    assert_eq!(
        error_of(&wanted, &with_alias),
        "link seed0 belongs to someone else: its alias is \"uplink\""
    );
    let mut with_table = host();
    with_table.table = Some(ObservedTable {
        comment: Some("mine".to_owned()),
        rules: 0,
        fingerprint: 0,
        content: None,
        edited: false,
    });
    assert_eq!(
        error_of(&wanted, &with_table),
        "nft table inet seedwire-seed0 was not made by seedwire"
    );
    let mut with_address = host();
    with_address.addresses.push(address(ETH, "10.88.0.2/24"));
    assert_eq!(
        error_of(&wanted, &with_address),
        "address 10.88.0.2 of seed0 is already on link eth0"
    );
    let mut without_link = host();
    without_link.links.pop();
    assert_eq!(error_of(&wanted, &without_link), "link seed0 is not there");
}

#[test]
fn a_read_only_sysctl_is_refused_by_name_only_where_it_is_needed() {
    let mut host = host();
    host.sysctls_writable = false;
    assert_eq!(
        error_of(&config(&["0.0.0.0/0"]), &host),
        "sysctl net.ipv4.conf.all.src_valid_mark is 0 and must be 1 so that the strict rp_filter \
         lets replies to the tunnel's marked packets in, but /proc/sys is read-only here"
    );
    let loose = |host: &mut Observed| {
        host.sysctls
            .insert(sysctl::rp_filter("all"), "2".to_owned())
    };
    loose(&mut host);
    assert!(plan_of(&config(&["0.0.0.0/0"]), &host).is_ok());
    let mut forward = config(&[]);
    forward.network.forward = true;
    assert_eq!(
        error_of(&forward, &host),
        "sysctl net.ipv4.ip_forward is 0 and must be 1 to forward IPv4 (network.forward), but \
         /proc/sys is read-only here"
    );
    host.sysctls
        .insert(sysctl::IPV4_FORWARD.to_owned(), "1".to_owned());
    assert!(plan_of(&forward, &host).is_ok());
}

#[test]
fn forwarding_ipv6_keeps_router_advertisements() {
    let mut forward = config(&["fd88::/64"]);
    forward.network.forward = true;
    let steps = plan_of(&forward, &host()).unwrap();
    assert_eq!(
        steps[..3],
        [
            "set sysctl net.ipv4.ip_forward to 1 (was 0)",
            "set sysctl net.ipv6.conf.eth0.accept_ra to 2 (was 1)",
            "set sysctl net.ipv6.conf.all.forwarding to 1 (was 0)",
        ]
    );
}
