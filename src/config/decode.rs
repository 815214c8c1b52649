//! What can be read from a config, and how: texts, lists, mappings, each with its place.
//!
//! Nothing stops at the first fault. What cannot be read leaves a note with the [`Decoder`] and a
//! stand-in, so that one run reports everything.

use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

use super::decoder::Decoder;
use super::error::{Key, Place};
use super::yaml::{Content, Node};

/// A value of the config and where it stands. Equal to another of the same value, wherever it
/// stands; printed as the value alone.
#[derive(Clone)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
    /// How it came about.
    pub origin: Origin,
}

/// How a value came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Someone wrote it.
    Written,
    /// Nobody wrote it, the default holds.
    Default,
    /// It could not be read and only stands in; a fault tells why. Never in a config that loads.
    Faulty,
}

impl<T> Spanned<T> {
    /// Whether it was written, rather than the default.
    pub fn is_written(&self) -> bool {
        self.origin != Origin::Default
    }

    /// The value, unless it only stands in for one that could not be read.
    pub fn sound(&self) -> Option<&T> {
        (self.origin != Origin::Faulty).then_some(&self.value)
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// A mapping whose keys are the user's own, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entries<T>(pub Vec<(Spanned<String>, T)>);

/// What can be read from a node.
pub trait Decode: Sized {
    /// Reads it. `None` after a fault that leaves nothing.
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self>;

    /// What stands in for one that could not be read.
    fn stand_in(place: &Place) -> Self;

    /// What it is when its key is left out, if it may be.
    fn absent() -> Option<Self> {
        None
    }

    /// Its size, for those that have a range.
    fn amount(&self) -> Option<u64> {
        None
    }

    /// The size that a text stands for.
    fn amount_of(_text: &str) -> Option<u64> {
        None
    }

    /// How many items it holds, if it holds items.
    fn count(&self) -> Option<usize> {
        None
    }
}

/// A value that is written as one text.
pub trait Value: Sized {
    /// Reads it. The error is a whole message.
    fn parse(text: &str) -> Result<Self, String>;

    /// What stands in for one that could not be read.
    fn stand_in() -> Self;

    /// Its size, for those that have a range.
    fn amount(&self) -> Option<u64> {
        None
    }
}

impl<T: Value> Decode for T {
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self> {
        let text = d.text(node)?;
        T::parse(&text).map_err(|e| d.fault(node, e)).ok()
    }

    fn stand_in(_place: &Place) -> Self {
        T::stand_in()
    }

    fn amount(&self) -> Option<u64> {
        Value::amount(self)
    }

    fn amount_of(text: &str) -> Option<u64> {
        T::parse(text).ok()?.amount()
    }
}

impl<T: Decode> Decode for Spanned<T> {
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self> {
        let place = d.place(node);
        let origin = d.origin();
        let Some(value) = T::decode(node, d) else {
            return Some(Self::stand_in(&place));
        };
        Some(Self {
            value,
            place,
            origin,
        })
    }

    fn stand_in(place: &Place) -> Self {
        Self {
            value: T::stand_in(place),
            place: place.clone(),
            origin: Origin::Faulty,
        }
    }

    fn amount(&self) -> Option<u64> {
        self.sound()?.amount()
    }

    fn amount_of(text: &str) -> Option<u64> {
        T::amount_of(text)
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self> {
        T::decode(node, d).map(Some)
    }

    fn stand_in(_place: &Place) -> Self {
        None
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn amount(&self) -> Option<u64> {
        self.as_ref()?.amount()
    }

    fn amount_of(text: &str) -> Option<u64> {
        T::amount_of(text)
    }

    fn count(&self) -> Option<usize> {
        self.as_ref()?.count()
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self> {
        let Content::List(items) = &node.content else {
            d.wrong_form(node, "a list such as `[a, b]`");
            return None;
        };
        let read = |(i, item): (usize, &Rc<Node>)| {
            let label = label(item).unwrap_or_else(|| i.to_string());
            let key = d.key().item(&label);
            d.under(key, |d| T::decode(item, d))
        };
        Some(items.iter().enumerate().filter_map(read).collect())
    }

    fn stand_in(_place: &Place) -> Self {
        Self::new()
    }

    fn count(&self) -> Option<usize> {
        Some(self.len())
    }
}

impl<T: Decode> Decode for Entries<T> {
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self> {
        let entries = d.entries(node, "a mapping such as `{ a: …, b: … }`", Key::item)?;
        let mut all = Vec::with_capacity(entries.len());
        for entry in entries {
            let key = d.key().item(&entry.key);
            let name = Spanned {
                value: entry.key.clone(),
                place: d.spot(entry.line, entry.column, key.clone()),
                origin: Origin::Written,
            };
            if let Some(value) = d.under(key, |d| T::decode(&entry.value, d)) {
                all.push((name, value));
            }
        }
        Some(Self(all))
    }

    fn stand_in(_place: &Place) -> Self {
        Self(Vec::new())
    }

    fn count(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The name that an item of a list goes by, as written.
fn label(item: &Node) -> Option<String> {
    let name = item.get("name")?.text()?;
    let usable = (1..=64).contains(&name.len()) && !name.contains(char::is_control);
    usable.then(|| name.to_owned())
}
