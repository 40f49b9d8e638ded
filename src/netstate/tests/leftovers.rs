//! What an instance left, and what of it is whose.

use super::*;

#[test]
fn a_killed_instance_leaves_nothing_behind() {
    let mut config = config(&["0.0.0.0/0"]);
    config.dns = Some(dns_on("169.254.20.11:53"));
    let mut state = net_state(host());
    state.apply(&want(&config)).unwrap();
    let mut left = state.kernel.state;
    left.links.retain(|l| l.index != TUNNEL);
    left.addresses.retain(|a| a.link != TUNNEL);
    left.routes.retain(|r| r.link != Some(TUNNEL));
    let mut next = net_state(left);
    let steps = next.clear().unwrap().steps;
    let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
    let priority = instance().priority();
    assert_eq!(
        steps,
        [
            "delete nft table inet seedwire-seed0".to_owned(),
            format!("delete rule IPv4 priority {priority}: lookup main suppress_prefixlength 0"),
            format!(
                "delete rule IPv4 priority {}: not fwmark 0x1000/0x1000 lookup {:#x}",
                priority + 1,
                instance().table()
            ),
            format!(
                "delete route unreachable 0.0.0.0/0 table {:#x} metric {}",
                instance().table(),
                instance().metric()
            ),
            "delete address 169.254.20.11/32 on lo".to_owned(),
        ]
    );
    assert_eq!(next.clear().unwrap().steps, []);
}

#[test]
fn names_alone_give_the_loopback_its_address_back() {
    let lo: InterfaceName = "lo".parse().unwrap();
    let mut config = config(&[]);
    config.tunnel = None;
    config.dns = Some(dns_on("169.254.20.11:53"));
    let before = host();
    let kernel = FakeKernel {
        state: before.clone(),
        ..FakeKernel::default()
    };
    let mut state = NetState::with_kernel(lo.clone(), kernel);
    let wanted = desired(Instance::new(lo), &config, &facts());
    assert_eq!(state.apply(&wanted).unwrap().steps.len(), 1);
    assert_eq!(state.apply(&wanted).unwrap().steps, []);
    assert_eq!(state.clear().unwrap().steps.len(), 1);
    assert_eq!(state.kernel.state, before);
}

#[test]
fn the_plan_makes_the_link_and_takes_nobody_elses() {
    let mut without = host();
    without.links.retain(|l| l.index != TUNNEL);
    let plan = net_state(without).plan_text(&want(&config(&[]))).unwrap();
    assert_eq!(plan.first().unwrap(), "add link seed0");
    let error = net_state(host())
        .plan_text(&want(&config(&[])))
        .unwrap_err();
    assert_eq!(
        error.source().unwrap().to_string(),
        "link seed0 is already there and was not made by seedwire"
    );
    let mut ours = host();
    ours.links[2].alias = Some(LINK_ALIAS.to_owned());
    let plan = net_state(ours).plan_text(&want(&config(&[]))).unwrap();
    assert!(plan.iter().all(|step| step != "add link seed0"), "{plan:?}");
}

#[test]
fn a_link_that_outlived_its_process_is_removed_and_nobody_elses() {
    for (alias, kind, stays) in [
        (Some(LINK_ALIAS), "wireguard", false),
        (Some(LINK_ALIAS), "tun", true),
        (Some("someone else"), "wireguard", true),
        (None, "wireguard", true),
    ] {
        let mut host = host();
        host.links[2].alias = alias.map(str::to_owned);
        host.links[2].kind = Some(kind.to_owned());
        let mut state = net_state(host);
        state.clear().unwrap();
        let is_there = state.kernel.state.link("seed0").is_some();
        assert_eq!(is_there, stays, "{alias:?} {kind}");
    }
}

#[test]
fn an_alias_of_ours_is_taken_for_ours() {
    let mut host = host();
    host.links[2].alias = Some(LINK_ALIAS.to_owned());
    assert!(plan_of(&config(&[]), &host).is_ok());
}

#[test]
fn instances_with_the_same_priorities_share_a_rule_until_the_last_has_gone() {
    let one = instance();
    let other = (0..)
        .map(|n| Instance::new(format!("seed{n}").parse().unwrap()))
        .find(|other| other.priority() == one.priority() && *other != one)
        .unwrap();
    let rules_of = |instance: &Instance| {
        let config = config(&["0.0.0.0/0", "::/0"]);
        desired(instance.clone(), &config, &facts()).rules
    };
    let mut observed = host();
    observed.rules = rules_of(&one);
    observed.rules.extend(rules_of(&other));
    observed.rules.sort();
    observed.rules.dedup();
    assert_eq!(observed.rules.len(), 6, "one rule of each family is shared");
    let mut kernel = FakeKernel {
        state: observed,
        ..FakeKernel::default()
    };
    for (leaves, left) in [(&one, 4), (&other, 0)] {
        let nothing = Desired::nothing(leaves.clone());
        kernel.run(&plan(&nothing, &kernel.state).unwrap());
        assert_eq!(kernel.state.rules.len(), left);
    }
}
