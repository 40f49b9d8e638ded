//! The `unreachable` routes behind those into the tunnel.

use super::*;

#[test]
fn a_guard_is_the_first_to_come_and_the_last_to_go() {
    let mut state = net_state(host());
    let steps = state
        .apply(&want(&config(&["10.240.16.0/20", "fd88::/64"])))
        .unwrap();
    let text = |steps: &[Step]| steps.iter().map(Step::summary).collect::<Vec<_>>();
    let guard = |to: &str| format!("route unreachable {to} metric {}", instance().metric());
    let guards = [guard("10.240.16.0/20"), guard("fd88::/64")];
    assert_eq!(
        text(&steps.steps)[..2],
        guards.clone().map(|g| format!("add {g}"))
    );
    // A prefix that is no longer routed takes its guard with it.
    let steps = state
        .apply(&want(&config(&["10.240.16.0/20"])))
        .unwrap()
        .steps;
    assert_eq!(
        text(&steps),
        [
            "delete route fd88::/64 dev seed0".to_owned(),
            format!("delete {}", guards[1])
        ]
    );
    let steps = text(&state.clear().unwrap().steps);
    let at = |what: &str| steps.iter().position(|step| step == what).unwrap();
    let tunnel = at("delete route 10.240.16.0/20 dev seed0");
    assert!(tunnel < at(&format!("delete {}", guards[0])), "{steps:?}");
}

#[test]
fn instances_with_the_same_marks_are_told_and_leave_each_others_guards() {
    let other = (0..)
        .map(|n| Instance::new(format!("seed{n}").parse().unwrap()))
        .find(|other| other.metric() == instance().metric() && *other != instance())
        .unwrap();
    let mut host = host();
    host.others = vec![
        other.interface().clone(),
        other_instance().interface().clone(),
    ];
    host.routes.push(guard(&other, "10.240.0.0/16"));
    let error = error_of(&config(&["10.88.0.1/32"]), &host);
    assert!(error.contains(other.interface().as_str()), "{error}");
    let nothing = Desired::nothing(instance());
    assert_eq!(plan(&nothing, &host).unwrap(), []);
    host.others.remove(0);
    assert_eq!(plan(&nothing, &host).unwrap().len(), 1);
    assert!(plan_of(&config(&["10.88.0.1/32"]), &host).is_ok());
}
