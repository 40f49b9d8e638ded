//! A list that mostly holds one item.

/// A list that has its first item within itself, so that one of them takes no allocation.
#[derive(Clone, Debug)]
pub(super) struct Few<T> {
    /// Absent only while `more` is empty.
    first: Option<T>,
    more: Vec<T>,
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        let (first, more) = (None, Vec::new());
        Self { first, more }
    }
}

impl<T> Few<T> {
    pub(super) fn push(&mut self, item: T) {
        match &self.first {
            None => self.first = Some(item),
            Some(_) => self.more.push(item),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.more)
    }

    pub(super) fn last(&self) -> Option<&T> {
        self.more.last().or(self.first.as_ref())
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Keeps the items for which `keep` is true, in their order.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.first = self.first.take().filter(&mut keep);
        self.more.retain(keep);
        if self.first.is_none() && !self.more.is_empty() {
            self.first = Some(self.more.remove(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn holds_what_a_vec_holds(items: Vec<u8>, least: u8) {
            let mut few = Few::default();
            let mut all = Vec::new();
            for item in items {
                few.push(item);
                all.push(item);
                prop_assert_eq!(few.last(), all.last());
            }
            few.retain(|item| *item >= least);
            all.retain(|item| *item >= least);
            prop_assert_eq!(few.iter().copied().collect::<Vec<_>>(), all.clone());
            prop_assert_eq!((few.len(), few.is_empty()), (all.len(), all.is_empty()));
            few.push(7);
            all.push(7);
            prop_assert!(few.iter().eq(&all));
        }
    }
}
