//! What is wrong with a config, and where: places, faults, and the texts an operator reads.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Writes the text of a fault. It is `format!` under a name of its own, so that a test can find
/// every text a config can be refused with and ask for a case that shows it.
macro_rules! message {
    ($($text:tt)*) => { format!($($text)*) };
}
pub(super) use message;

/// The dotted name of a value in a config: `routes[users].auth.any[0]`. Items of a list go by
/// their `name` if they have one, else by their index from 0. Cheap to clone.
#[derive(Clone, Default)]
pub struct Key(Option<Arc<Step>>);

struct Step {
    parent: Key,
    part: Part,
}

enum Part {
    Field(Box<str>),
    Item(Box<str>),
}

impl Key {
    /// The value under `name` in the mapping that this key names.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        self.step(Part::Field(printable(name.to_owned()).into()))
    }

    /// The item `label` of the list, or the entry `label` of the free mapping, that this key names.
    #[must_use]
    pub fn item(&self, label: &str) -> Self {
        self.step(Part::Item(printable(label.to_owned()).into()))
    }

    /// Whether this is no key at all, but the whole.
    fn is_root(&self) -> bool {
        self.0.is_none()
    }

    fn step(&self, part: Part) -> Self {
        let parent = self.clone();
        Self(Some(Arc::new(Step { parent, part })))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(step) = &self.0 else { return Ok(()) };
        step.parent.fmt(f)?;
        match &step.part {
            Part::Field(name) if step.parent.is_root() => f.write_str(name),
            Part::Field(name) => write!(f, ".{name}"),
            Part::Item(label) => write!(f, "[{label}]"),
        }
    }
}

/// Text of a file may hold anything; what is printed stays on its line.
fn printable(text: String) -> String {
    if text.contains(char::is_control) {
        text.replace(char::is_control, "?")
    } else {
        text
    }
}

/// Where a value stands: its file, line and column (both from 1, columns in characters) and its
/// dotted key. A default stands where the mapping begins that leaves it out.
#[derive(Clone)]
pub struct Place {
    /// The file as it was named to us.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1, in characters.
    pub column: u32,
    /// The dotted key.
    pub key: Key,
}

impl Place {
    /// The first character of a file, with a word instead of a key for what concerns it whole.
    pub fn start_of(file: &Arc<str>, word: &str) -> Self {
        Self {
            file: file.clone(),
            line: 1,
            column: 1,
            key: Key::default().field(word),
        }
    }

    /// `file:line:column`, without the key; for messages that point at another place.
    pub fn spot(&self) -> String {
        format!("{}:{}:{}", self.file, self.line, self.column)
    }

    /// The same spot under the key of something that is missing there.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        Self {
            key: self.key.field(name),
            ..self.clone()
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        let spot = |p: &Self| (p.line, p.column);
        let files = self.file.cmp(&other.file);
        files.then_with(|| spot(self).cmp(&spot(other)))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spot())?;
        if self.key.is_root() {
            return f.write_str(": file");
        }
        write!(f, ": {}", self.key)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One thing that is wrong, or in a list of warnings one that looks wrong, printed as
/// `file:line:column: key: what is wrong (found X, want Y)`.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What, and what to write instead. Never holds a secret.
    pub message: String,
}

impl Fault {
    /// A fault at a place.
    pub fn new(place: &Place, message: impl Into<String>) -> Self {
        Self {
            place: place.clone(),
            message: printable(message.into()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Every fault of a config, in the order of their places. Printed one a line.
#[derive(Clone, Debug, Default)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Sorts faults by place; two at one place stay in the order they were found.
    pub fn sorted(mut faults: Vec<Fault>) -> Self {
        faults.sort_by(|a, b| a.place.order(&b.place));
        Self(faults)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: u32, column: u32) -> Place {
        Place {
            line,
            column,
            ..Place::start_of(&"a.yaml".into(), "routes")
        }
    }

    #[test]
    fn a_key_reads_as_it_is_written() {
        let key = Key::default().field("routes").item("users").field("auth");
        assert_eq!(
            key.field("any").item("0").to_string(),
            "routes[users].auth.any[0]"
        );
        assert_eq!(Key::default().to_string(), "");
    }

    #[test]
    fn faults_are_sorted_and_printed_one_a_line() {
        let faults = vec![
            Fault::new(&place(2, 1), "third"),
            Fault::new(&place(1, 9), "second"),
            Fault::new(&place(1, 2).field("x"), "first"),
        ];
        assert_eq!(
            Faults::sorted(faults).to_string(),
            "a.yaml:1:2: routes.x: first\na.yaml:1:9: routes: second\na.yaml:2:1: routes: third"
        );
    }
}
