//! Mappings with known keys: one struct, one list of rules, one reader for all of them.

use std::rc::Rc;

use super::decode::Decode;
use super::decoder::Decoder;
use super::error::{Fault, Key, message};
use super::spelling::{choice, hint};
use super::yaml::{Content, Entry, Node};

/// Whether a key may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It may not; says what is wanted.
    Required(&'static str),
    /// It may.
    Optional,
    /// It may, and then this holds.
    Default(&'static str),
}

/// What is known about one key of a mapping.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The key.
    pub key: &'static str,
    /// What it is for, as its field's documentation says.
    pub doc: &'static str,
    /// Whether it may be left out.
    pub need: Need,
    /// The least and the greatest value.
    pub range: Option<(&'static str, &'static str)>,
    /// Whether it may hold no items.
    pub may_be_empty: bool,
    /// Whether a text instead of the mapping is this key's value.
    pub short: bool,
}

impl Rule {
    /// A rule of a certain need, its key still to be named.
    pub const fn new(need: Need) -> Self {
        Self {
            key: "",
            doc: "",
            need,
            range: None,
            may_be_empty: true,
            short: false,
        }
    }

    /// The same rule for this key.
    #[must_use]
    pub const fn named(mut self, key: &'static str, doc: &'static str) -> Self {
        self.key = key;
        self.doc = doc;
        self
    }

    /// The same rule, values from `least` to `most`.
    #[must_use]
    pub const fn range(mut self, least: &'static str, most: &'static str) -> Self {
        self.range = Some((least, most));
        self
    }

    /// The same rule, at least one item.
    #[must_use]
    pub const fn some(mut self) -> Self {
        self.may_be_empty = false;
        self
    }

    /// The same rule; where a text stands instead of the mapping, it is this key's value.
    #[must_use]
    pub const fn short(mut self) -> Self {
        self.short = true;
        self
    }
}

/// A key that must be there; `want` says what to write.
pub(super) const fn required(want: &'static str) -> Rule {
    Rule::new(Need::Required(want))
}

/// A key that may be left out.
pub(super) const fn optional() -> Rule {
    Rule::new(Need::Optional)
}

/// A key that stands for `text` when left out; `[a, b]` is a list, `{}` an empty mapping.
pub(super) const fn default(text: &'static str) -> Rule {
    Rule::new(Need::Default(text))
}

/// A mapping with known keys, read key by key in the order of its rules.
pub struct Fields<'n> {
    node: &'n Node,
    values: Vec<(&'n str, &'n Node)>,
    rules: std::slice::Iter<'static, Rule>,
}

impl<'n> Fields<'n> {
    /// Begins to read a mapping; keys that no rule names are noted.
    pub fn open(node: &'n Node, rules: &'static [Rule], d: &mut Decoder) -> Option<Self> {
        let known = rules.iter().map(|r| r.key);
        let short = rules.iter().find(|r| r.short);
        let mut values = Vec::with_capacity(rules.len());
        if let Some(rule) = short.filter(|_| node.text().is_some() && !node.is_nothing()) {
            values.push((rule.key, node));
        } else {
            let want = format!("a mapping with {}", choice(known.clone()));
            for entry in d.entries(node, &want, Key::field)? {
                if !known.clone().any(|key| key == entry.key) {
                    unknown(entry, known.clone(), d);
                }
                values.push((&entry.key, &*entry.value));
            }
        }
        let rules = rules.iter();
        Some(Self {
            node,
            values,
            rules,
        })
    }

    /// Reads the next rule's value.
    pub fn next<T: Decode>(&mut self, d: &mut Decoder) -> T {
        let rule = self.rules.next().expect("a field for each rule, in order");
        let key = d.key().field(rule.key);
        let found = self.values.iter().find(|(key, _)| *key == rule.key);
        d.under(key, |d| match found {
            Some((_, node)) => take(node, rule, d),
            None => self.left_out(rule, d),
        })
    }

    fn left_out<T: Decode>(&self, rule: &Rule, d: &mut Decoder) -> T {
        let read = match rule.need {
            Need::Default(text) => {
                let node = written(text, self.node);
                d.by_default(|d| T::decode(&node, d))
            }
            Need::Optional => T::absent(),
            Need::Required(want) => {
                d.fault(
                    self.node,
                    message!("is missing (found nothing, want {want})"),
                );
                None
            }
        };
        read.unwrap_or_else(|| T::stand_in(&d.place(self.node)))
    }
}

/// The node that a default stands for, at the place of the mapping that leaves its key out.
fn written(text: &str, outer: &Node) -> Node {
    let node = |content| Node::new(outer.line, outer.column, content);
    let word = |text: &str| {
        let text = text.to_owned();
        node(Content::Text { text, plain: false })
    };
    match text.strip_prefix('[') {
        Some(list) => {
            let items = list
                .trim_end_matches(']')
                .split(", ")
                .filter(|w| !w.is_empty());
            node(Content::List(items.map(|w| Rc::new(word(w))).collect()))
        }
        None if text == "{}" => node(Content::Map(Vec::new())),
        None => word(text),
    }
}

fn unknown<'a>(entry: &Entry, known: impl Iterator<Item = &'a str> + Clone, d: &mut Decoder) {
    let key = &entry.key;
    let (hint, want) = (hint(key, known.clone()), choice(known));
    let text = message!("is not a key known here{hint} (found `{key}`, want {want})");
    let place = d.spot(entry.line, entry.column, d.key().field(key));
    d.faults.push(Fault::new(&place, text));
}

fn take<T: Decode>(node: &Node, rule: &Rule, d: &mut Decoder) -> T {
    let Some(value) = T::decode(node, d) else {
        return T::stand_in(&d.place(node));
    };
    if value.count() == Some(0) && !rule.may_be_empty {
        d.fault(
            node,
            message!("is empty (found no items, want at least one)"),
        );
    }
    let (Some((least, most)), Some(amount)) = (rule.range, value.amount()) else {
        return value;
    };
    let bounds = T::amount_of(least).zip(T::amount_of(most));
    if bounds.is_some_and(|(least, most)| (least..=most).contains(&amount)) {
        return value;
    }
    let found = d.text(node).unwrap_or_default();
    d.fault(
        node,
        message!("is out of range (found {found}, want {least} to {most})"),
    );
    T::stand_in(&d.place(node))
}

/// Declares a mapping of the config: one struct, one list of keys. Each field gives its type and
/// its rule; `as "key"` names a key that is not the field's name.
macro_rules! conf {
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
    (
        $(#[doc = $about:literal])+
        pub struct $Conf:ident {
            $($(#[doc = $doc:literal])+ $field:ident $(as $key:literal)?: $T:ty = $rule:expr;)+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Conf { $($(#[doc = $doc])+ pub $field: $T,)+ }

        impl $Conf {
            /// Its keys, in order.
            pub const RULES: &'static [$crate::config::fields::Rule] =
                &[$($rule.named(conf!(@key $field $($key)?), concat!($($doc),+)),)+];
        }

        impl $crate::config::decode::Decode for $Conf {
            fn decode(
                node: &$crate::config::yaml::Node,
                d: &mut $crate::config::decoder::Decoder,
            ) -> Option<Self> {
                let mut fields = $crate::config::fields::Fields::open(node, Self::RULES, d)?;
                Some(Self { $($field: fields.next(d),)+ })
            }

            fn stand_in(place: &$crate::config::error::Place) -> Self {
                Self { $($field: $crate::config::decode::Decode::stand_in(place),)+ }
            }
        }
    };
}
pub(super) use conf;

/// Declares a closed choice of words.
macro_rules! words {
    (
        $(#[doc = $about:literal])+
        pub enum $Word:ident { $($(#[doc = $doc:literal])+ $Variant:ident = $word:literal,)+ }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Word { $($(#[doc = $doc])+ $Variant,)+ }

        impl $Word {
            /// The words, in order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            const ALL: &'static [Self] = &[$(Self::$Variant),+];
        }

        impl $crate::config::decode::Value for $Word {
            fn parse(text: &str) -> Result<Self, String> {
                let at = $crate::config::fields::word(text, Self::WORDS)?;
                Ok(Self::ALL[at])
            }

            fn stand_in() -> Self {
                Self::ALL[0]
            }
        }
    };
}
pub(super) use words;

/// Which of the words it is.
pub(super) fn word(text: &str, words: &[&str]) -> Result<usize, String> {
    let at = words.iter().position(|w| *w == text);
    at.ok_or_else(|| {
        let known = words.iter().copied();
        let (hint, want) = (hint(text, known.clone()), choice(known));
        message!("is not a word known here{hint} (found `{text}`, want {want})")
    })
}
