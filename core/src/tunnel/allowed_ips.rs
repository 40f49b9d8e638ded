use std::net::IpAddr;

use crate::types::Prefix;

/// Which value holds an address: the one of the longest prefix that contains it.
///
/// A binary trie with compressed paths, one for each family, in two flat arrays: a copy is a copy
/// of memory, and a look-up allocates nothing.
#[derive(Clone, Debug)]
pub struct AllowedIps<T> {
    v4: Trie<T>,
    v6: Trie<T>,
}

#[derive(Clone, Debug)]
struct Trie<T> {
    nodes: Vec<Node<T>>,
    free: Vec<u32>,
    root: u32,
}

#[derive(Clone, Debug)]
struct Node<T> {
    /// The prefix, its first bit in the highest place and all bits after `length` zero.
    bits: u128,
    length: u8,
    value: Option<T>,
    children: [u32; 2],
}

const NONE: u32 = u32::MAX;

impl<T: Copy + PartialEq> Default for AllowedIps<T> {
    fn default() -> Self {
        Self {
            v4: Trie::new(),
            v6: Trie::new(),
        }
    }
}

impl<T: Copy + PartialEq> AllowedIps<T> {
    /// Gives the prefix to `value`; returns who had exactly this prefix before.
    pub fn insert(&mut self, prefix: Prefix, value: T) -> Option<T> {
        let bits = bits_of(prefix.address());
        self.trie_mut(prefix.is_ipv4())
            .insert(bits, prefix.length(), value)
    }

    /// Takes exactly this prefix away; returns who had it.
    pub fn remove(&mut self, prefix: Prefix) -> Option<T> {
        let bits = bits_of(prefix.address());
        self.trie_mut(prefix.is_ipv4())
            .remove(bits, prefix.length())
    }

    /// Who has exactly this prefix.
    pub fn get(&self, prefix: Prefix) -> Option<T> {
        let trie = if prefix.is_ipv4() { &self.v4 } else { &self.v6 };
        let found = trie.walk(bits_of(prefix.address()), prefix.length());
        found
            .filter(|node| node.length == prefix.length())
            .and_then(|node| node.value)
    }

    /// Whose longest prefix holds the address.
    pub fn lookup(&self, address: IpAddr) -> Option<T> {
        let trie = if address.is_ipv4() {
            &self.v4
        } else {
            &self.v6
        };
        trie.lookup(bits_of(address))
    }

    fn trie_mut(&mut self, ipv4: bool) -> &mut Trie<T> {
        if ipv4 { &mut self.v4 } else { &mut self.v6 }
    }
}

fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

/// The bit after the first `length` ones; 0 after the last.
fn bit(bits: u128, length: u8) -> usize {
    usize::from(length < 128 && bits & (1 << (127 - length)) != 0)
}

impl<T: Copy> Node<T> {
    fn contains(&self, bits: u128) -> bool {
        (self.bits ^ bits) & mask(self.length) == 0
    }
}

impl<T: Copy + PartialEq> Trie<T> {
    fn new() -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            root: NONE,
        }
    }

    fn node(&self, index: u32) -> Option<&Node<T>> {
        self.nodes.get(index as usize)
    }

    fn lookup(&self, bits: u128) -> Option<T> {
        let mut best = None;
        let mut at = self.root;
        while let Some(node) = self.node(at).filter(|node| node.contains(bits)) {
            best = node.value.or(best);
            at = node.children[bit(bits, node.length)];
            if node.length == 128 {
                break;
            }
        }
        best
    }

    /// The deepest node that holds the prefix.
    fn walk(&self, bits: u128, length: u8) -> Option<&Node<T>> {
        let mut found = None;
        let mut at = self.root;
        while let Some(node) = self
            .node(at)
            .filter(|node| node.length <= length && node.contains(bits))
        {
            found = Some(node);
            if node.length == length {
                break;
            }
            at = node.children[bit(bits, node.length)];
        }
        found
    }

    fn add(&mut self, bits: u128, length: u8, value: Option<T>) -> u32 {
        let node = Node {
            bits: bits & mask(length),
            length,
            value,
            children: [NONE; 2],
        };
        if let Some(index) = self.free.pop() {
            self.nodes[index as usize] = node;
            index
        } else {
            self.nodes.push(node);
            (self.nodes.len() - 1) as u32
        }
    }

    /// Puts `child` where `parent` (and its side) or the root points to.
    fn link(&mut self, parent: Option<(u32, usize)>, child: u32) {
        match parent {
            Some((index, side)) => self.nodes[index as usize].children[side] = child,
            None => self.root = child,
        }
    }

    fn insert(&mut self, bits: u128, length: u8, value: T) -> Option<T> {
        let mut parent = None;
        let mut at = self.root;
        while let Some(node) = self
            .node(at)
            .filter(|node| node.length <= length && node.contains(bits))
        {
            if node.length == length {
                return self.nodes[at as usize].value.replace(value);
            }
            let side = bit(bits, node.length);
            parent = Some((at, side));
            at = node.children[side];
        }
        let leaf = self.add(bits, length, Some(value));
        if let Some(other) = self.node(at) {
            let common = (other.bits ^ bits).leading_zeros().min(128) as u8;
            let common = common.min(length).min(other.length);
            let other_bits = other.bits;
            if common == length {
                self.nodes[leaf as usize].children[bit(other_bits, length)] = at;
                self.link(parent, leaf);
            } else {
                let fork = self.add(bits, common, None);
                self.nodes[fork as usize].children[bit(bits, common)] = leaf;
                self.nodes[fork as usize].children[bit(other_bits, common)] = at;
                self.link(parent, fork);
            }
        } else {
            self.link(parent, leaf);
        }
        None
    }

    fn remove(&mut self, bits: u128, length: u8) -> Option<T> {
        let mut grandparent = None;
        let mut parent = None;
        let mut at = self.root;
        loop {
            let node = self
                .node(at)
                .filter(|node| node.length <= length && node.contains(bits))?;
            if node.length == length {
                break;
            }
            let side = bit(bits, node.length);
            grandparent = parent;
            parent = Some((at, side));
            at = node.children[side];
        }
        let removed = self.nodes[at as usize].value.take()?;
        self.splice(parent, at);
        if let Some((index, _)) = parent {
            self.splice(grandparent, index);
        }
        Some(removed)
    }

    /// Takes a node without a value out when it joins nothing.
    fn splice(&mut self, parent: Option<(u32, usize)>, index: u32) {
        let node = &self.nodes[index as usize];
        let only = match node.children {
            _ if node.value.is_some() => return,
            [NONE, child] | [child, NONE] => child,
            _ => return,
        };
        self.link(parent, only);
        self.free.push(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix() -> impl Strategy<Value = Prefix> {
        // Few distinct bits, so that prefixes nest and meet often.
        let v4 = (0u32..64, 0u8..=32)
            .prop_map(|(bits, length)| (IpAddr::from((bits.reverse_bits()).to_be_bytes()), length));
        let v6 = (0u128..64, 0u8..=128)
            .prop_map(|(bits, length)| (IpAddr::from((bits.reverse_bits()).to_be_bytes()), length));
        let low = (0u32..8, 29u8..=32)
            .prop_map(|(bits, length)| (IpAddr::from(bits.to_be_bytes()), length));
        prop_oneof![v4, v6, low]
            .prop_map(|(address, length)| Prefix::of(address, length).expect("length in range"))
    }

    fn naive_lookup(model: &[(Prefix, u8)], address: IpAddr) -> Option<u8> {
        let holding = model.iter().filter(|(prefix, _)| prefix.contains(address));
        holding
            .max_by_key(|(prefix, _)| prefix.length())
            .map(|(_, value)| *value)
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_model(
            steps in prop::collection::vec((prefix(), prop::option::of(0u8..5)), 0..60),
            asked in prop::collection::vec(prefix(), 0..40),
        ) {
            let mut trie = AllowedIps::default();
            let mut model: Vec<(Prefix, u8)> = Vec::new();
            for (prefix, value) in steps {
                let before = model.iter().position(|(p, _)| *p == prefix);
                let before = before.map(|at| model.remove(at).1);
                let told = match value {
                    Some(value) => {
                        model.push((prefix, value));
                        trie.insert(prefix, value)
                    }
                    None => trie.remove(prefix),
                };
                prop_assert_eq!(told, before);
            }
            for (prefix, value) in &model {
                prop_assert_eq!(trie.get(*prefix), Some(*value));
            }
            for asked in asked {
                let address = asked.address();
                prop_assert_eq!(trie.lookup(address), naive_lookup(&model, address));
            }
        }

        #[test]
        fn is_empty_after_everything_was_removed(prefixes in prop::collection::vec(prefix(), 0..60)) {
            let mut trie = AllowedIps::default();
            for prefix in &prefixes {
                trie.insert(*prefix, 1u8);
            }
            for prefix in &prefixes {
                trie.remove(*prefix);
            }
            prop_assert_eq!((trie.v4.root, trie.v6.root), (NONE, NONE));
            prop_assert_eq!(trie.v4.free.len(), trie.v4.nodes.len());
            prop_assert_eq!(trie.v6.free.len(), trie.v6.nodes.len());
        }
    }

    #[test]
    fn the_identical_prefix_moves_to_the_last() {
        let mut trie = AllowedIps::default();
        let prefix: Prefix = "10.0.0.0/8".parse().expect("a prefix");
        assert_eq!(trie.insert(prefix, 1), None);
        assert_eq!(trie.insert(prefix, 2), Some(1));
        assert_eq!(trie.lookup(IpAddr::from([10, 1, 2, 3])), Some(2));
    }
}
