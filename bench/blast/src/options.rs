//! The command line: a command, then `--name value` or `--name` alone.

use std::str::FromStr;

use crate::Result;

/// Options that take no value.
const FLAGS: &[&str] = &["tls", "new-connections", "in-flight", "spin", "wait"];

/// What was asked for.
pub struct Options {
    /// The first word.
    pub command: String,
    given: Vec<(String, String)>,
}

impl Options {
    /// Reads a command line without the program's name.
    pub fn read(words: impl Iterator<Item = String>) -> Result<Options> {
        let mut words = words;
        let command = words.next().ok_or("a command is missing")?;
        let mut given = Vec::new();
        while let Some(word) = words.next() {
            let name = word
                .strip_prefix("--")
                .ok_or_else(|| format!("not an option: {word}"))?;
            let value = if FLAGS.contains(&name) {
                String::new()
            } else {
                words
                    .next()
                    .ok_or_else(|| format!("--{name} has no value"))?
            };
            given.push((name.to_owned(), value));
        }
        Ok(Options { command, given })
    }

    /// Whether a flag was given.
    pub fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(known, _)| known == name)
    }

    /// All values of an option.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.given
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The value of an option, if it was given.
    pub fn maybe<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        match self.all(name).last() {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(format!("--{name} cannot be {text:?}").into()),
            },
        }
    }

    /// The value of an option that must be given.
    pub fn need<T: FromStr>(&self, name: &str) -> Result<T> {
        self.maybe(name)?
            .ok_or_else(|| format!("--{name} is missing").into())
    }

    /// The value of an option, or another.
    pub fn or<T: FromStr>(&self, name: &str, default: T) -> Result<T> {
        Ok(self.maybe(name)?.unwrap_or(default))
    }
}
