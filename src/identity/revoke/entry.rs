//! What a revocation names, and how that is written in Redis.

use std::fmt;
use std::str::FromStr;

/// The longest text of one, in bytes: what it names comes from tokens, which are smaller.
pub const MAX_TEXT: usize = 4096;

/// What is not believed any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// One token, by its id (RFC 7519 §4.1.7).
    Token {
        /// Its issuer.
        issuer: String,
        /// Its id.
        jti: String,
    },
    /// Every token of a user that was issued at this time or before, or does not say when.
    Subject {
        /// Its issuer.
        issuer: String,
        /// The user.
        subject: String,
        /// In Unix seconds.
        before: u64,
    },
    /// An API key, by its id.
    Key {
        /// Its id.
        id: String,
    },
    /// Every token that a key signed (RFC 7515 §4.1.4).
    SigningKey {
        /// Its issuer.
        issuer: String,
        /// The key's id.
        kid: String,
    },
}

/// A text that says nothing we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

/// `1`, what it is, and what that needs, with spaces between. Before a text that another one follows stands
/// its length in bytes, so that no two say the same: `1 token 6 issuer id`.
impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token { issuer, jti } => write!(f, "1 token {} {issuer} {jti}", issuer.len()),
            Self::Subject {
                issuer,
                subject,
                before,
            } => write!(f, "1 subject {before} {} {issuer} {subject}", issuer.len()),
            Self::Key { id } => write!(f, "1 key {id}"),
            Self::SigningKey { issuer, kid } => {
                write!(f, "1 signing-key {} {issuer} {kid}", issuer.len())
            }
        }
    }
}

impl FromStr for Revoked {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let read = (text.len() <= MAX_TEXT).then(|| read(text)).flatten();
        // One way to write each: an entry is taken back by its text.
        read.filter(|read| read.to_string() == text).ok_or(Unknown)
    }
}

fn read(text: &str) -> Option<Revoked> {
    let (kind, rest) = text.strip_prefix("1 ")?.split_once(' ')?;
    let revoked = match kind {
        "token" => {
            let (issuer, jti) = two(rest)?;
            Revoked::Token { issuer, jti }
        }
        "subject" => {
            let (before, rest) = rest.split_once(' ')?;
            let (issuer, subject) = two(rest)?;
            Revoked::Subject {
                issuer,
                subject,
                before: before.parse().ok()?,
            }
        }
        "key" => Revoked::Key {
            id: rest.to_owned(),
        },
        "signing-key" => {
            let (issuer, kid) = two(rest)?;
            Revoked::SigningKey { issuer, kid }
        }
        _ => return None,
    };
    Some(revoked)
}

/// A length, a text of that length, another text.
fn two(text: &str) -> Option<(String, String)> {
    let (length, rest) = text.split_once(' ')?;
    let (first, rest) = rest.split_at_checked(length.parse().ok()?)?;
    Some((first.to_owned(), rest.strip_prefix(' ')?.to_owned()))
}

/// A message that something is revoked from now on: `+`, until when it is remembered, what.
pub fn message(revoked: &Revoked, until_s: u64) -> String {
    format!("+{until_s} {revoked}")
}

/// A message that something was taken back.
pub fn taken_back(revoked: &Revoked) -> String {
    format!("-{revoked}")
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// This is revoked, and remembered until then.
    Added(Revoked, u64),
    /// Something was taken back.
    TakenBack,
}

/// Reads a message.
pub(super) fn read_message(payload: &[u8]) -> Result<Message, Unknown> {
    let text = std::str::from_utf8(payload).map_err(|_| Unknown)?;
    if let Some(gone) = text.strip_prefix('-') {
        return gone.parse().map(|_: Revoked| Message::TakenBack);
    }
    let parts = text.strip_prefix('+').and_then(|t| t.split_once(' '));
    let (until, revoked) = parts.ok_or(Unknown)?;
    let until = until.parse().map_err(|_| Unknown)?;
    Ok(Message::Added(revoked.parse()?, until))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_written_in_one_way() {
        let text = |t: &str| t.to_owned();
        let (issuer, odd) = (text("https://a.example/"), text("x 3 y\u{e4} "));
        for (revoked, want) in [
            (
                Revoked::Token {
                    issuer: issuer.clone(),
                    jti: odd.clone(),
                },
                "1 token 18 https://a.example/ x 3 y\u{e4} ",
            ),
            (
                Revoked::Subject {
                    issuer: odd.clone(),
                    subject: issuer.clone(),
                    before: 17,
                },
                "1 subject 17 8 x 3 y\u{e4}  https://a.example/",
            ),
            (Revoked::Key { id: odd.clone() }, "1 key x 3 y\u{e4} "),
            (
                Revoked::SigningKey {
                    issuer: text("a"),
                    kid: String::new(),
                },
                "1 signing-key 1 a ",
            ),
        ] {
            assert_eq!(revoked.to_string(), want);
            assert_eq!(want.parse(), Ok(revoked.clone()));
            let added = message(&revoked, 99);
            let read = read_message(added.as_bytes());
            assert_eq!(read, Ok(Message::Added(revoked.clone(), 99)));
            let gone = read_message(taken_back(&revoked).as_bytes());
            assert_eq!(gone, Ok(Message::TakenBack));
        }
    }

    #[test]
    fn what_another_version_writes_is_unknown() {
        for text in [
            "",
            "1",
            "1 ",
            "1 key",
            "2 key a",
            "1 other a",
            "1 token 2 a b",
            "1 token 9 a b",
            "1 token 01 a b",
            "1 token +1 a b",
            "1 token 1 ab",
            "1 subject 1 a b",
            "1 subject x 1 a b",
            "1 subject 007 1 a b",
            "1 token 1 \u{e4} b",
            " 1 key a",
        ] {
            assert_eq!(text.parse::<Revoked>(), Err(Unknown), "{text:?}");
        }
        let long = format!("1 key {}", "k".repeat(MAX_TEXT));
        assert_eq!(long.parse::<Revoked>(), Err(Unknown));
        for message in [
            &b"x"[..],
            b"+1",
            b"+x 1 key a",
            b"+1 2 key a",
            b"-2 key a",
            b"+1 1 key \xff",
        ] {
            assert_eq!(read_message(message), Err(Unknown), "{message:?}");
        }
    }
}
