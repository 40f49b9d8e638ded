//! Running steps with a journal, and taking them back.

use std::fmt;
use std::slice;

use seedwire_core::netstate::Step;

use crate::netlink;

use super::{ApplyError, Kernel};

/// A step that could not be done while cleaning up.
#[derive(Debug)]
pub struct Left {
    /// The step, as text.
    pub step: String,
    /// Why.
    pub error: netlink::Error,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.step)?;
        let mut cause: Option<&dyn std::error::Error> = Some(&self.error);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// What was left, for the end of an error's text.
pub(super) fn describe_left(left: &[Left]) -> String {
    match left {
        [] => String::new(),
        left => {
            let left: Vec<String> = left.iter().map(Left::to_string).collect();
            format!("; these steps of the clean-up failed: {}", left.join("; "))
        }
    }
}

/// What became of steps that were handed to the kernel.
#[derive(Default)]
struct Journal {
    done: Vec<Step>,
    /// The kernel's answer was lost.
    uncertain: Vec<Step>,
    failed: Vec<(Step, netlink::Error)>,
}

impl Journal {
    fn run<K: Kernel>(&mut self, kernel: &mut K, steps: &[Step]) {
        let mut results = kernel.run(steps).into_iter();
        for step in steps {
            match results.next() {
                Some(Ok(())) => self.done.push(step.clone()),
                Some(Err(error)) => {
                    if error.is_uncertain() {
                        self.uncertain.push(step.clone());
                    }
                    self.failed.push((step.clone(), error));
                }
                None => self.uncertain.push(step.clone()),
            }
        }
    }
}

/// Runs the steps in order. On the first error all are taken back, last first.
pub(super) fn all_or_nothing<K: Kernel>(kernel: &mut K, steps: &[Step]) -> Result<(), ApplyError> {
    let mut journal = Journal::default();
    for group in groups(steps) {
        journal.run(kernel, group);
        if !journal.failed.is_empty() {
            return Err(roll_back(kernel, journal));
        }
    }
    Ok(())
}

fn roll_back<K: Kernel>(kernel: &mut K, journal: Journal) -> ApplyError {
    let inverses = |steps: &[Step]| steps.iter().rev().map(Step::inverse).collect::<Vec<_>>();
    let mut left = Vec::new();
    for step in inverses(&journal.uncertain) {
        match kernel.run(slice::from_ref(&step)).pop() {
            // What is there was never deleted.
            Some(Err(error)) if error.errno() != Some(libc::EEXIST) => left.push(Left {
                step: step.to_string(),
                error,
            }),
            _ => {}
        }
    }
    let undo = inverses(&journal.done);
    left.extend(as_many_as_possible(kernel, &undo).err().unwrap_or_default());
    let mut failed = journal.failed.into_iter();
    let (step, source) = failed
        .next()
        .expect("a roll back begins with a failed step");
    ApplyError::Step {
        what: step.to_string(),
        source: Box::new(source),
        rolled_back: undo.iter().map(ToString::to_string).collect(),
        left,
    }
}

/// Runs all steps in order, whether others fail or not; the error is what failed.
pub(super) fn as_many_as_possible<K: Kernel>(
    kernel: &mut K,
    steps: &[Step],
) -> Result<(), Vec<Left>> {
    let mut left = Vec::new();
    for group in groups(steps) {
        let mut journal = Journal::default();
        journal.run(kernel, group);
        left.extend(journal.failed.into_iter().map(|(step, error)| Left {
            step: step.to_string(),
            error,
        }));
    }
    if left.is_empty() { Ok(()) } else { Err(left) }
}

/// The steps in runs that the kernel takes in one system call: routes that are all added or all
/// deleted; every other step is alone.
fn groups(steps: &[Step]) -> impl Iterator<Item = &[Step]> {
    steps.chunk_by(|one, other| {
        matches!(
            (one, other),
            (Step::Route { add: one, .. }, Step::Route { add: other, .. }) if one == other
        )
    })
}
