//! What of the network state is this instance's doing.

use std::mem::discriminant;

use seedwire_core::netstate::Step;

use crate::control::snapshot;

/// The steps that are in force, in the order in which they were run.
#[derive(Debug, Default)]
pub(super) struct InForce(Vec<Step>);

impl InForce {
    /// Takes in steps that were run: each replaces the earlier one of the same object.
    pub(super) fn extend(&mut self, steps: impl IntoIterator<Item = Step>) {
        for step in steps {
            self.0.retain(|earlier| !same_object(earlier, &step));
            if !removes(&step) {
                self.0.push(step);
            }
        }
    }

    /// As status shows it.
    pub(super) fn shown(&self) -> Vec<snapshot::Step> {
        let shown = |step: &Step| snapshot::Step {
            kind: kind(step).to_owned(),
            text: step.to_string(),
            error: None,
        };
        self.0.iter().map(shown).collect()
    }
}

fn same_object(one: &Step, other: &Step) -> bool {
    match (one, other) {
        (Step::Sysctl { path: a, .. }, Step::Sysctl { path: b, .. }) => a == b,
        (
            Step::Link {
                name: a,
                property: p,
                ..
            },
            Step::Link {
                name: b,
                property: q,
                ..
            },
        ) => a == b && discriminant(p) == discriminant(q),
        (
            Step::Address {
                link: a,
                address: p,
                ..
            },
            Step::Address {
                link: b,
                address: q,
                ..
            },
        ) => a == b && p.address == q.address,
        (Step::Route { route: a, .. }, Step::Route { route: b, .. }) => {
            (a.table, a.to, a.metric) == (b.table, b.to, b.metric)
        }
        (Step::Rule { rule: a, .. }, Step::Rule { rule: b, .. }) => a == b,
        (Step::Table { name: a, .. }, Step::Table { name: b, .. }) => a == b,
        _ => false,
    }
}

fn removes(step: &Step) -> bool {
    match step {
        Step::Address { add, .. } | Step::Route { add, .. } | Step::Rule { add, .. } => !add,
        Step::Table { to, .. } => to.is_none(),
        Step::Sysctl { .. } | Step::Link { .. } => false,
    }
}

fn kind(step: &Step) -> &'static str {
    match step {
        Step::Sysctl { .. } => "sysctl",
        Step::Link { .. } => "link",
        Step::Address { .. } => "address",
        Step::Route { .. } => "route",
        Step::Rule { .. } => "rule",
        Step::Table { .. } => "nft",
    }
}
