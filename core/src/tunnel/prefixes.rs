use std::collections::BTreeSet;

use crate::types::Prefix;

/// So many are kept in a row; above that searching one would take too long.
const FEW: usize = 8;

/// The prefixes of one peer, in their order. One or two, as most peers have, take no more memory
/// than themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefixes(Kept);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    Few(Vec<Prefix>),
    Many(BTreeSet<Prefix>),
}

impl Default for Prefixes {
    fn default() -> Self {
        Self(Kept::Few(Vec::new()))
    }
}

impl Prefixes {
    /// Adds one; false when it was there.
    pub fn insert(&mut self, prefix: Prefix) -> bool {
        match &mut self.0 {
            Kept::Many(all) => return all.insert(prefix),
            Kept::Few(all) => {
                let Err(at) = all.binary_search(&prefix) else {
                    return false;
                };
                if all.len() < FEW {
                    all.reserve_exact(1);
                    all.insert(at, prefix);
                    return true;
                }
            }
        }
        self.0 = Kept::Many(self.iter().chain([prefix]).collect());
        true
    }

    /// Takes one out; false when it was not there.
    pub fn remove(&mut self, prefix: &Prefix) -> bool {
        match &mut self.0 {
            Kept::Many(all) => all.remove(prefix),
            Kept::Few(all) => all.binary_search(prefix).map(|at| all.remove(at)).is_ok(),
        }
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Prefix> {
        let (few, many) = match &self.0 {
            Kept::Few(all) => (Some(all), None),
            Kept::Many(all) => (None, Some(all)),
        };
        let few = few.into_iter().flatten();
        few.chain(many.into_iter().flatten()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix() -> impl Strategy<Value = Prefix> {
        (0u8..16, 24u8..=32).prop_map(|(last, length)| {
            Prefix::of([10, 0, 0, last].into(), length).expect("length in range")
        })
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(steps in prop::collection::vec((prefix(), any::<bool>()), 0..60)) {
            let mut prefixes = Prefixes::default();
            let mut model = BTreeSet::new();
            for (prefix, add) in steps {
                if add {
                    prop_assert_eq!(prefixes.insert(prefix), model.insert(prefix));
                } else {
                    prop_assert_eq!(prefixes.remove(&prefix), model.remove(&prefix));
                }
                prop_assert!(prefixes.iter().eq(model.iter().copied()));
            }
        }
    }
}
