//! The reader that is handed through a tree: knows where it is, and collects what is wrong.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::decode::Origin;
use super::error::{Fault, Key, Place, message};
use super::expand::{self, Env};
use super::yaml::{Entry, Node};

/// Reads a tree and collects what is wrong with it.
pub struct Decoder<'a> {
    file: Arc<str>,
    /// The folder of the config file, which file names in it start from.
    base: &'a Path,
    env: Env<'a>,
    /// The key that is being read.
    key: Key,
    /// Whether defaults are being read rather than the file.
    by_default: bool,
    /// What was found wrong so far.
    pub faults: Vec<Fault>,
}

impl<'a> Decoder<'a> {
    /// A reader of `file`, whose folder is `base`.
    pub fn new(file: Arc<str>, base: &'a Path, env: Env<'a>) -> Self {
        Self {
            file,
            base,
            env,
            key: Key::default(),
            by_default: false,
            faults: Vec::new(),
        }
    }

    /// The file name `text` as seen from the config's folder.
    pub fn path(&self, text: &str) -> PathBuf {
        self.base.join(text)
    }

    /// The key that is being read.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// How the value that is being read came about.
    pub fn origin(&self) -> Origin {
        if self.by_default {
            Origin::Default
        } else {
            Origin::Written
        }
    }

    /// Where a node stands, under the key that is being read.
    pub fn place(&self, node: &Node) -> Place {
        self.spot(node.line, node.column, self.key.clone())
    }

    /// A place in the file that is being read.
    pub fn spot(&self, line: u32, column: u32, key: Key) -> Place {
        let file = self.file.clone();
        Place {
            file,
            line,
            column,
            key,
        }
    }

    /// Notes a fault of a node.
    pub fn fault(&mut self, node: &Node, text: String) {
        self.faults.push(Fault::new(&self.place(node), text));
    }

    /// Notes that a node is a list where a text is wanted, or the like.
    pub fn wrong_form(&mut self, node: &Node, want: &str) {
        let text = match node.what() {
            "nothing" => message!("has no value (found nothing, want {want})"),
            what => message!("has the wrong form (found {what}, want {want})"),
        };
        self.fault(node, text);
    }

    /// Reads what stands under another key.
    pub fn under<R>(&mut self, key: Key, read: impl FnOnce(&mut Self) -> R) -> R {
        let outer = std::mem::replace(&mut self.key, key);
        let result = read(self);
        self.key = outer;
        result
    }

    /// Reads a default instead of what is in the file.
    pub fn by_default<R>(&mut self, read: impl FnOnce(&mut Self) -> R) -> R {
        let outer = std::mem::replace(&mut self.by_default, true);
        let result = read(self);
        self.by_default = outer;
        result
    }

    /// Reads another file from its start, under keys of its own.
    pub fn within<R>(&mut self, file: Arc<str>, read: impl FnOnce(&mut Self) -> R) -> R {
        let outer = std::mem::replace(&mut self.file, file);
        let result = self.under(Key::default(), read);
        self.file = outer;
        result
    }

    /// A node's text as written.
    pub fn raw_text<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        match node.text() {
            Some(text) if !node.is_nothing() => Some(text),
            _ => {
                self.wrong_form(node, "a single value");
                None
            }
        }
    }

    /// A node's text with its variables put in.
    pub fn text(&mut self, node: &Node) -> Option<String> {
        let text = self.raw_text(node)?;
        self.expand(node, text)
    }

    /// A text of a node with its variables put in.
    pub fn expand(&mut self, node: &Node, text: &str) -> Option<String> {
        let expanded = expand::expand(text, self.env);
        expanded.map_err(|e| self.fault(node, e)).ok()
    }

    /// The entries of a mapping, each key once; `named` makes the dotted name of one.
    pub fn entries<'n>(
        &mut self,
        node: &'n Node,
        want: &str,
        named: fn(&Key, &str) -> Key,
    ) -> Option<Vec<&'n Entry>> {
        let Some(entries) = node.entries() else {
            self.wrong_form(node, want);
            return None;
        };
        let mut first = HashMap::new();
        let mut unique = Vec::with_capacity(entries.len());
        for entry in entries {
            let place = self.spot(entry.line, entry.column, named(&self.key, &entry.key));
            match first.get(entry.key.as_str()) {
                None => {
                    first.insert(entry.key.as_str(), place);
                    unique.push(entry);
                }
                Some(earlier) => {
                    let earlier = Place::spot(earlier);
                    let text =
                        message!("is written twice (found it at {earlier} already, want it once)");
                    self.faults.push(Fault::new(&place, text));
                }
            }
        }
        Some(unique)
    }
}
