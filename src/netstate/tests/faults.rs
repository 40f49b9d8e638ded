//! A fault at each request in turn.

use proptest::prelude::*;
use seedwire_core::netstate::{Contests, Step, plan_around};

use super::super::fake::{Fault, FaultKind};
use super::*;

const KINDS: [FaultKind; 4] = [
    FaultKind::Refused,
    FaultKind::LostUndone,
    FaultKind::LostDone,
    FaultKind::LostThenRefused,
];

/// All faults of a kind at request 0, 1, 2 and so on, as long as `strikes` says that it struck.
fn each_fault(lasts: bool, mut strikes: impl FnMut(Fault) -> bool) {
    for kind in KINDS {
        let fault = |after| Fault { after, kind, lasts };
        assert!((0..).map(fault).take_while(|fault| strikes(*fault)).count() < 200);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_fault_at_any_request_leaves_the_old_state(
        host in any_host(), one in any_config(), other in any_config(),
    ) {
        let mut start = net_state(host);
        let _ = start.apply(&want(&one));
        let before = start.kernel.state.clone();
        each_fault(false, |fault| {
            let mut state = start.clone();
            state.kernel.fault = Some(fault);
            match state.apply(&want(&other)) {
                Err(ApplyError::Step { left, .. }) => {
                    assert!(left.is_empty(), "{left:?}");
                    assert_eq!(state.kernel.state, before, "{fault:?}");
                    state.kernel.fault = None;
                    assert!(state.apply(&want(&other)).is_ok());
                    true
                }
                Err(ApplyError::Conflict(_)) => {
                    assert_eq!(state.kernel.state, before);
                    false
                }
                Err(error) => panic!("{error}"),
                Ok(_) => false,
            }
        });
    }

    #[test]
    fn when_even_the_way_back_fails_the_report_says_what_is_left(
        host in any_host(), one in any_config(), other in any_config(),
    ) {
        let mut start = net_state(host);
        let _ = start.apply(&want(&one));
        let before = start.kernel.state.clone();
        each_fault(true, |fault| {
            let mut state = start.clone();
            state.kernel.fault = Some(fault);
            let Err(ApplyError::Step { left, .. }) = state.apply(&want(&other)) else {
                return false;
            };
            let silent = left.is_empty() && state.kernel.state != before;
            assert!(!silent, "{fault:?} leaves something unsaid");
            // Whoever comes next finds its way from there.
            state.kernel.fault = None;
            assert!(state.apply(&want(&other)).is_ok(), "{fault:?}");
            true
        });
    }

    #[test]
    fn a_removal_goes_on_past_a_fault_and_the_next_one_ends_it(
        host in any_host(), config in any_config(),
    ) {
        let mut start = net_state(host.clone());
        if start.apply(&want(&config)).is_err() {
            return Ok(());
        }
        each_fault(false, |fault| {
            let mut state = start.clone();
            state.kernel.fault = Some(fault);
            let failed = state.clear().is_err();
            state.kernel.fault = None;
            state.clear().unwrap();
            let left = without_settings(state.kernel.state);
            assert_eq!(left, without_settings(host.clone()), "{fault:?}");
            failed
        });
    }

    #[test]
    fn a_repair_after_any_damage_and_any_fault_ends_as_desired(
        host in any_host(), config in any_config(), damage in any::<u64>(),
    ) {
        let wanted = want(&config);
        let mut start = net_state(host);
        let Ok(report) = start.apply(&wanted) else {
            return Ok(());
        };
        let intact = start.kernel.state.clone();
        for (index, step) in report.steps.iter().enumerate().rev() {
            // It is seen to only when forwarding is switched on.
            let is_accept_ra = step.to_string().contains("accept_ra");
            let is_link = matches!(step, Step::Link { .. });
            if damage >> (index % 64) & 1 == 1 && !is_link && !is_accept_ra {
                start.kernel.run(&[step.inverse()]);
            }
        }
        each_fault(false, |fault| {
            let mut state = start.clone();
            state.kernel.fault = Some(fault);
            let contests = &mut Contests::default();
            let now = std::time::Instant::now();
            let first = state.repair(&wanted, contests, now).unwrap();
            let struck = state.kernel.fault.is_none();
            state.kernel.fault = None;
            let last = state.repair(&wanted, contests, now).unwrap();
            assert!(last.failed.is_empty() && last.conflicts.is_empty(), "{last:?}");
            assert_eq!(state.kernel.state, intact, "{fault:?} {first:?}");
            let observed = state.observe().unwrap();
            assert_eq!(plan_around(&wanted, &observed), (Vec::new(), Vec::new()));
            struck
        });
    }
}

#[test]
fn ipv6_is_not_forwarded_again_before_router_advertisements_are_seen_to() {
    let mut config = config(&["fd24::/64"]);
    config.network.forward = true;
    let wanted = want(&config);
    let mut state = net_state(host());
    state.apply(&wanted).unwrap();
    let accept_ra = sysctl::accept_ra("eth0");
    let sysctls = &mut state.kernel.state.sysctls;
    sysctls.insert(sysctl::IPV6_FORWARD.to_owned(), "0".to_owned());
    sysctls.insert(accept_ra.clone(), "1".to_owned());
    state.kernel.fault = Some(Fault {
        after: 0,
        kind: FaultKind::Refused,
        lasts: false,
    });
    let mut contests = Contests::default();
    let now = std::time::Instant::now();
    let repair = state.repair(&wanted, &mut contests, now).unwrap();
    assert_eq!((repair.done.len(), repair.failed.len()), (0, 1));
    assert_eq!(state.kernel.state.sysctls[sysctl::IPV6_FORWARD], "0");
    let repair = state.repair(&wanted, &mut contests, now).unwrap();
    assert_eq!((repair.done.len(), repair.failed.len()), (2, 0));
    assert_eq!(state.kernel.state.sysctls[&accept_ra], "2");
}

#[test]
fn a_state_that_cannot_be_read_changes_nothing() {
    let mut state = net_state(host());
    state.apply(&want(&config(&["10.240.16.0/20"]))).unwrap();
    let before = state.kernel.state.clone();
    state.kernel.unreadable = true;
    let nothing = want(&config(&[]));
    assert!(matches!(state.apply(&nothing), Err(ApplyError::Observe(_))));
    assert!(state.clear().is_err());
    let mut contests = Contests::default();
    let repair = state.repair(&nothing, &mut contests, std::time::Instant::now());
    assert!(repair.is_err());
    assert_eq!(state.kernel.state, before);
}
