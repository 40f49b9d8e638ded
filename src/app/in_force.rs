//! What of the network state is this instance's doing.

use std::collections::{HashMap, HashSet};

use seedwire_core::netstate::{Object, Step};

use crate::control::snapshot;

/// The steps that are in force, in the order in which they were run.
#[derive(Debug, Default)]
pub(super) struct InForce(Vec<Step>);

impl InForce {
    /// Takes in steps that were run: each replaces the earlier one of the same object.
    pub(super) fn extend(&mut self, steps: impl IntoIterator<Item = Step>) {
        let mut last: Vec<Step> = steps.into_iter().collect();
        let mut objects = HashSet::new();
        last.reverse();
        last.retain(|step| objects.insert(step.object()));
        last.reverse();
        self.0
            .retain(|earlier| !objects.contains(&earlier.object()));
        self.0
            .extend(last.into_iter().filter(|step| !step.removes()));
    }

    /// As status shows it, with what is wrong with some of the objects.
    pub(super) fn shown(&self, wrong: &HashMap<Object, String>) -> Vec<snapshot::Step> {
        let shown = |step: &Step| snapshot::Step {
            kind: step.kind().to_owned(),
            text: step.to_string(),
            error: wrong.get(&step.object()).cloned(),
        };
        self.0.iter().map(shown).collect()
    }
}
