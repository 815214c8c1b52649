//! One host's entries as a tree of path segments. All knowledge of the order in which paths win is
//! in the way the tree is walked; `precedence` has it as a rule to read.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::method::MethodSet;
use super::pattern::{PathPattern, Segment, first_segment};

/// What a look-up carries along.
pub(super) struct Search {
    pub(super) method: MethodSet,
    /// The methods of all entries that matched but for the method.
    pub(super) allowed: MethodSet,
}

impl Search {
    fn choose(&mut self, rules: &[Rule]) -> Option<u32> {
        for rule in rules {
            match rule.methods {
                Some(methods) if !methods.overlaps(self.method) => {
                    self.allowed = self.allowed.union(methods);
                }
                _ => return Some(rule.id),
            }
        }
        None
    }
}

/// One entry, as far as a place in the tree needs to know it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) id: u32,
    pub(super) methods: Option<MethodSet>,
}

impl Rule {
    fn ties_with(self, other: Self) -> bool {
        match (self.methods, other.methods) {
            (None, None) => true,
            (Some(a), Some(b)) => a.overlaps(b),
            // The one that lists its methods goes first.
            _ => false,
        }
    }
}

/// A place between two segments of a path.
#[derive(Debug, Default)]
pub(super) struct Node {
    literals: Map<Node>,
    parameter: Option<Box<Node>>,
    /// Entries whose exact path ends here; those that list methods come first.
    exact: Vec<Rule>,
    /// Entries whose prefix ends here; in the same order.
    prefix: Vec<Rule>,
}

impl Node {
    /// Puts an entry where its path ends, or gives back the other entries there that it ties with.
    pub(super) fn insert(&mut self, path: &PathPattern, rule: Rule) -> Vec<u32> {
        let node = path
            .segments()
            .iter()
            .fold(self, |node, segment| match segment {
                Segment::Literal(text) => node.literals.entry(text.clone()).or_default(),
                Segment::Parameter(_) => node.parameter.get_or_insert_default(),
            });
        let rules = if path.is_prefix() {
            &mut node.prefix
        } else {
            &mut node.exact
        };
        let mut ties: Vec<u32> = rules
            .iter()
            .filter(|other| other.ties_with(rule))
            .map(|other| other.id)
            .collect();
        if ties.is_empty() {
            let at = match rule.methods {
                Some(_) => rules.partition_point(|other| other.methods.is_some()),
                None => rules.len(),
            };
            rules.insert(at, rule);
        }
        // An entry that names one host twice meets itself.
        ties.retain(|id| *id != rule.id);
        ties
    }

    /// The best entry below here. `rest` is what the path has after this place; `None` at its end.
    /// Goes as deep as the patterns do, and sees every node at most once.
    pub(super) fn find(&self, rest: Option<&str>, search: &mut Search) -> Option<u32> {
        if let Some(rest) = rest {
            let (segment, rest) = first_segment(rest);
            if let Some(node) = self.literals.get(segment)
                && let Some(id) = node.find(rest, search)
            {
                return Some(id);
            }
            if let Some(node) = &self.parameter
                && !segment.is_empty()
                && let Some(id) = node.find(rest, search)
            {
                return Some(id);
            }
        } else if let Some(id) = search.choose(&self.exact) {
            return Some(id);
        }
        search.choose(&self.prefix)
    }
}

pub(super) type Map<V> = HashMap<Box<str>, V, BuildHasherDefault<WordHasher>>;

/// Multiplies eight bytes at a time. Only for keys from the configuration: it has no secret, so
/// keys that a client chooses could be made to collide.
#[derive(Default)]
pub(super) struct WordHasher(u64);

impl WordHasher {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

impl Hasher for WordHasher {
    fn write(&mut self, bytes: &[u8]) {
        // Words may overlap in what follows; the length keeps texts apart that then read alike.
        self.0 ^= bytes.len() as u64;
        if let Some(tail) = bytes.last_chunk::<8>() {
            for word in bytes.as_chunks::<8>().0 {
                self.add(u64::from_le_bytes(*word));
            }
            self.add(u64::from_le_bytes(*tail));
        } else if let (Some(head), Some(tail)) = (bytes.first_chunk(), bytes.last_chunk()) {
            let high = u64::from(u32::from_le_bytes(*head)) << 32;
            self.add(high | u64::from(u32::from_le_bytes(*tail)));
        } else {
            self.add(
                bytes
                    .iter()
                    .fold(0, |word, byte| word << 8 | u64::from(*byte)),
            );
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.add(u64::from(byte));
    }

    fn finish(&self) -> u64 {
        // The high bits are the well-mixed ones, the map looks at both ends.
        self.0 ^ (self.0 >> 32)
    }
}
