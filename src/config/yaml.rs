//! YAML text to a tree that remembers where everything stands.
//!
//! A subset is read: one document, keys that are plain words, no tags. Anchors and aliases work
//! within bounds, so that a short file cannot unfold into a huge one. Texts are not given types
//! here (`on`, `1.0` and `null` are just texts); what a text means is up to the key it stands under.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span};

use super::error::{Fault, Place, message};

/// The deepest nesting read, aliases unfolded.
pub const MAX_DEPTH: usize = 32;
/// The most nodes that all aliases of a file stand for. What is written out is bounded by the file's size:
/// a hundred thousand API keys are more than a million.
pub const MAX_NODES: usize = 1_000_000;

/// A value of the file and where it begins.
#[derive(Debug)]
pub struct Node {
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1, in characters.
    pub column: u32,
    /// What it holds.
    pub content: Content,
    /// How many nodes it unfolds to, itself included.
    size: usize,
    /// How many levels it has, itself included.
    height: usize,
}

/// What a node holds.
#[derive(Debug)]
pub enum Content {
    /// A text as YAML reads it; `plain` if it stood without quotes.
    Text {
        /// The text, escapes resolved.
        text: String,
        /// Whether it stood without quotes, so that an empty one means "nothing".
        plain: bool,
    },
    /// A sequence.
    List(Vec<Rc<Node>>),
    /// A mapping in the order of the file; a key may still occur twice.
    Map(Vec<Entry>),
}

/// One entry of a mapping.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The key's line, from 1.
    pub line: u32,
    /// The key's column, from 1.
    pub column: u32,
    /// The value.
    pub value: Rc<Node>,
}

impl Node {
    /// A node at a given place.
    pub fn new(line: u32, column: u32, content: Content) -> Self {
        let (mut size, mut height) = (1, 0);
        let mut count = |node: &Node| {
            size += node.size;
            height = height.max(node.height);
        };
        match &content {
            Content::Text { .. } => {}
            Content::List(items) => items.iter().for_each(|n| count(n)),
            Content::Map(entries) => entries.iter().for_each(|e| count(&e.value)),
        }
        Self {
            line,
            column,
            content,
            size,
            height: height + 1,
        }
    }

    /// The entries if it is a mapping.
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.content {
            Content::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value of the first entry under `key`.
    pub fn get(&self, key: &str) -> Option<&Rc<Node>> {
        let entry = self.entries()?.iter().find(|e| e.key == key);
        entry.map(|e| &e.value)
    }

    /// The text if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text { text, .. } => Some(text),
            _ => None,
        }
    }

    /// What it is, in words; never what it holds.
    pub fn what(&self) -> &'static str {
        match &self.content {
            Content::Text { .. } if self.is_nothing() => "nothing",
            Content::Text { .. } => "a single value",
            Content::List(_) => "a list",
            Content::Map(_) => "a mapping",
        }
    }

    /// Whether nothing was written (or `null`, or `~`).
    pub fn is_nothing(&self) -> bool {
        matches!(&self.content, Content::Text { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }
}

/// Reads the one document in `text`; `None` if there is nothing in it but comments.
///
/// # Errors
/// What makes it unreadable: bad YAML, or something outside of the subset.
pub fn read(text: &str, file: &Arc<str>) -> Result<Option<Rc<Node>>, Fault> {
    read_in_parts(text, file, "", &mut |_| {})
}

/// As [`read`], but the items of the list under `key` at the top are handed to `each` one after the
/// other and are not in the tree that is returned: a tree of a long list takes twenty times its text.
///
/// # Errors
/// As [`read`]; items before the fault were handed out then.
pub fn read_in_parts(
    text: &str,
    file: &Arc<str>,
    key: &str,
    each: &mut dyn FnMut(&Node),
) -> Result<Option<Rc<Node>>, Fault> {
    let mut builder = Builder {
        file: file.clone(),
        open: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        root: None,
        list: (key, each),
    };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|e| syntax(&e, text, file))?;
        builder.take(event, span)?;
    }
    Ok(builder.root)
}

struct Builder<'a> {
    file: Arc<str>,
    /// The lists and mappings that have begun, outermost first.
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    nodes: usize,
    root: Option<Rc<Node>>,
    /// The key of the list whose items are handed out, and to whom.
    list: (&'a str, &'a mut dyn FnMut(&Node)),
}

struct Open {
    start: Marker,
    anchor: usize,
    content: Content,
    /// The key whose value comes next.
    key: Option<Rc<Node>>,
}

impl Builder<'_> {
    /// Whether what stands next is an item of the list that is handed out.
    fn hands_out(&self) -> bool {
        let [top, list] = &self.open[..] else {
            return false;
        };
        let key = top.key.as_deref().and_then(Node::text);
        matches!(list.content, Content::List(_)) && key.is_some_and(|key| key == self.list.0)
    }

    fn take(&mut self, event: Event, span: Span) -> Result<(), Fault> {
        let start = span.start;
        match event {
            Event::DocumentStart(_) if self.root.is_some() => Err(self.fault(
                start,
                message!("holds a second document (found `---`, want one document a file)"),
            )),
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => Err(self.fault(
                start,
                message!(
                    "has a tag (found `!`, want the value alone, in quotes if it starts with `!`)"
                ),
            )),
            Event::Scalar(text, style, anchor, None) => {
                let text = text.into_owned();
                let plain = style == ScalarStyle::Plain;
                self.finish(start, anchor, Content::Text { text, plain })
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    let text = message!(
                        "is an alias inside of what it stands for (found `*`, want an anchor whose value ends above)"
                    );
                    return Err(self.fault(start, text));
                };
                self.put(start, &node, node.size)
            }
            Event::SequenceStart(anchor, None) => self.begin(start, anchor, Content::List(vec![])),
            Event::MappingStart(anchor, None) => self.begin(start, anchor, Content::Map(vec![])),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.finish(open.start, open.anchor, open.content),
                None => Ok(()),
            },
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn begin(&mut self, start: Marker, anchor: usize, content: Content) -> Result<(), Fault> {
        self.open.push(Open {
            start,
            anchor,
            content,
            key: None,
        });
        self.bound_depth(start, 0)
    }

    fn finish(&mut self, start: Marker, anchor: usize, content: Content) -> Result<(), Fault> {
        let (line, column) = numbers(start);
        let node = Rc::new(Node::new(line, column, content));
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.put(start, &node, 0)
    }

    /// Puts a node where it belongs; `unfolded` is for how many nodes an alias stands.
    fn put(&mut self, start: Marker, node: &Rc<Node>, unfolded: usize) -> Result<(), Fault> {
        self.bound_depth(start, node.height)?;
        self.nodes += unfolded;
        if self.nodes > MAX_NODES {
            let text = message!(
                "unfolds to too much (found aliases for over {MAX_NODES} values, want fewer of them)"
            );
            return Err(self.fault(start, text));
        }
        if self.hands_out() {
            (self.list.1)(node);
            return Ok(());
        }
        let node = node.clone();
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Map(entries) => match open.key.take() {
                None if node.text().is_none() => {
                    let what = node.what();
                    let text = message!(
                        "has a key that is no word (found {what}, want a word and a colon)"
                    );
                    return Err(self.fault(start, text));
                }
                None => open.key = Some(node),
                Some(key) => {
                    let (line, column) = (key.line, key.column);
                    let key = key.text().unwrap_or_default().to_owned();
                    entries.push(Entry {
                        key,
                        line,
                        column,
                        value: node,
                    });
                }
            },
            Content::Text { .. } => {}
        }
        Ok(())
    }

    fn bound_depth(&self, start: Marker, below: usize) -> Result<(), Fault> {
        if self.open.len() + below <= MAX_DEPTH {
            return Ok(());
        }
        let text = message!("is nested too deeply (want at most {MAX_DEPTH} levels)");
        Err(self.fault(start, text))
    }

    fn fault(&self, at: Marker, text: String) -> Fault {
        let (line, column) = numbers(at);
        Fault::new(&self.place(line, column), text)
    }

    fn place(&self, line: u32, column: u32) -> Place {
        Place {
            line,
            column,
            ..Place::start_of(&self.file, "yaml")
        }
    }
}

/// Line and column from 1.
fn numbers(mark: Marker) -> (u32, u32) {
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (small(mark.line().max(1)), small(mark.col() + 1))
}

/// What the scanner objects to, with the advice that usually helps. Shows no text of the file,
/// since it may be a secret.
fn syntax(error: &ScanError, text: &str, file: &Arc<str>) -> Fault {
    let (line, column) = numbers(*error.marker());
    let rest = text.lines().nth(line as usize - 1).unwrap_or("");
    let rest: Vec<char> = rest.chars().skip(column as usize - 1).take(2).collect();
    let info = error.info();
    let text = match rest.as_slice() {
        ['*', ..] if info.contains("anchor") => {
            message!(
                "is an alias of nothing (found `*`, want an anchor above it, or quotes around a text that starts with `*`)"
            )
        }
        [c @ ('@' | '%' | '`'), ..] => {
            message!(
                "is not valid YAML (found `{c}` at the start of a text, want the text in quotes)"
            )
        }
        ['{', ..] => {
            message!(
                "is not valid YAML (found `{{` within a text, want the text in quotes, as in `\"${{VAR}}\"`)"
            )
        }
        _ if info.contains("tabs disallowed") => {
            message!("is not valid YAML (found a tab, want spaces to indent with)")
        }
        _ => message!("is not valid YAML ({info})"),
    };
    let place = Place {
        line,
        column,
        ..Place::start_of(file, "yaml")
    };
    Fault::new(&place, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Result<Option<Rc<Node>>, String> {
        read(text, &"t.yaml".into()).map_err(|f| f.to_string())
    }

    fn show(node: &Node) -> String {
        let at = format!("@{}:{}", node.line, node.column);
        match &node.content {
            Content::Text { text, plain } => format!("{text}{}{at}", if *plain { "" } else { "'" }),
            Content::List(items) => {
                let items: Vec<String> = items.iter().map(|n| show(n)).collect();
                format!("[{}]{at}", items.join(" "))
            }
            Content::Map(entries) => {
                let one =
                    |e: &Entry| format!("{}@{}:{}={}", e.key, e.line, e.column, show(&e.value));
                let entries: Vec<String> = entries.iter().map(one).collect();
                format!("{{{}}}{at}", entries.join(" "))
            }
        }
    }

    #[test]
    fn everything_knows_its_place() {
        let text = "a: 1\nb:\n  - x\n  - {y: 'z'}\n";
        let node = tree(text).unwrap().unwrap();
        assert_eq!(
            show(&node),
            "{a@1:1=1@1:4 b@2:1=[x@3:5 {y@4:6=z'@4:9}@4:5]@3:3}@1:1"
        );
    }

    #[test]
    fn an_alias_is_its_anchor() {
        let node = tree("a: &x [1, 2]\nb: *x\n&k c: *k\n").unwrap().unwrap();
        let list = "[1@1:8 2@1:11]@1:4";
        assert_eq!(
            show(&node),
            format!("{{a@1:1={list} b@2:1={list} c@3:1=c@3:1}}@1:1")
        );
    }

    #[test]
    fn nothing_is_nothing() {
        assert!(tree("").unwrap().is_none());
        assert!(tree("# only a comment\n").unwrap().is_none());
        assert!(tree("~").unwrap().unwrap().is_nothing());
        assert!(!tree("''").unwrap().unwrap().is_nothing());
    }

    #[test]
    fn a_list_in_parts_is_the_whole_list() {
        let text = "a: &x [1]\nkeys:\n  - x: 1\n    keys: [2]\n  - *x\n  - &y z\nmore: [*y]\n";
        let whole = tree(text).unwrap().unwrap();
        let Content::List(items) = &whole.get("keys").unwrap().content else {
            panic!("a list")
        };
        let want: Vec<String> = items.iter().map(|item| show(item)).collect();
        let mut found = Vec::new();
        let mut each = |node: &Node| found.push(show(node));
        let rest = read_in_parts(text, &"t.yaml".into(), "keys", &mut each);
        let rest = show(&rest.unwrap().unwrap());
        assert_eq!(found, want);
        assert_eq!(rest, show(&whole).replace(&want.join(" "), ""));
    }

    #[test]
    fn unfolding_is_bounded() {
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..9 {
            let item = format!("*a{} ", i - 1);
            let items = [item.as_str(); 10].join(",");
            laughs = format!("{laughs}a{i}: &a{i} [{items}]\n");
        }
        assert!(tree(&laughs).unwrap_err().contains("unfolds to too much"));
        let long = format!("[{}]", "a,".repeat(MAX_NODES + 1));
        assert!(tree(&long).is_ok(), "what is written out may be long");
        assert!(tree(&"[".repeat(40)).unwrap_err().contains("too deeply"));
        let fits = format!("{}{}", "[".repeat(31), "]".repeat(31));
        assert!(tree(&fits).is_ok());
    }
}
