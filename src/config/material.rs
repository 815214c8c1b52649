//! Secrets, keys and key sets: values that may stand in files of their own, and that no message shows.

use std::fmt;
use std::path::PathBuf;

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::decode::Decode;
use super::decoder::Decoder;
use super::error::{Place, message};
use super::expand::{self, FILE};
use super::yaml::Node;
use crate::base::secret::Secret;
use crate::identity::pem;

/// The largest file a `file:` value may name, in bytes.
const MAX_VALUE: u64 = 64 * 1024;
/// The largest key set file, in bytes.
const MAX_KEY_SET: u64 = 256 * 1024;

/// The text of a node, or of the file it names after `file:`. Only what was written can name a
/// file, not what a variable holds.
fn text_or_file(node: &Node, d: &mut Decoder) -> Option<String> {
    let Some(path) = d.raw_text(node)?.strip_prefix(FILE) else {
        return d.text(node);
    };
    let path = d.expand(node, path)?;
    let read = expand::read(&d.path(&path), MAX_VALUE);
    let text = read.map_err(|e| d.fault(node, e)).ok()?;
    Some(expand::without_newline(&text).to_owned())
}

impl Decode for Secret {
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self> {
        let text = text_or_file(node, d)?;
        if text.is_empty() {
            d.fault(
                node,
                message!("is empty (found a secret of no characters, want some)"),
            );
            return None;
        }
        Some(Secret::new(text))
    }

    fn stand_in(_place: &Place) -> Self {
        Secret::default()
    }
}

/// A secret that was written in base64, standard or URL-safe, padded or not; holds the bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Base64Secret(pub Secret);

impl Decode for Base64Secret {
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self> {
        let text = text_or_file(node, d)?;
        let loose =
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let read = |alphabet| GeneralPurpose::new(alphabet, loose).decode(&text).ok();
        match read(&STANDARD).or_else(|| read(&URL_SAFE)) {
            Some(bytes) if !bytes.is_empty() => Some(Self(Secret::new(bytes))),
            _ => {
                let length = text.chars().count();
                d.fault(node, message!("is not base64 (found a secret of {length} characters, want letters, digits, `+` and `/` or `-` and `_`)"));
                None
            }
        }
    }

    fn stand_in(_place: &Place) -> Self {
        Self(Secret::default())
    }
}

/// A public key as PEM text (RFC 7468): a key or a certificate, RSA, P-256, P-384 or Ed25519.
#[derive(Clone, PartialEq)]
pub struct Pem(pub String);

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a PEM text of {} bytes", self.0.len())
    }
}

impl Decode for Pem {
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self> {
        let text = text_or_file(node, d)?;
        if let Err(why) = pem::public_key(text.as_bytes()) {
            d.fault(node, message!("is not a public key in PEM ({why})"));
            return None;
        }
        Some(Self(text))
    }

    fn stand_in(_place: &Place) -> Self {
        Self(String::new())
    }
}

/// The largest PEM file of certificates or keys, in bytes.
pub(super) const MAX_PEM: u64 = 1024 * 1024;

/// A PEM file of certificates or of a key, by its path; read once here to tell at once if it cannot
/// be, and again by whoever uses it.
#[derive(Clone, Debug, PartialEq)]
pub struct PemFile(pub PathBuf);

impl PemFile {
    /// What it holds now. The error is a whole message.
    pub fn read(&self) -> Result<String, String> {
        expand::read(&self.0, MAX_PEM)
    }
}

impl Decode for PemFile {
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self> {
        let text = d.text(node)?;
        let path = d.path(&text);
        let read = expand::read(&path, MAX_PEM);
        read.map_err(|e| d.fault(node, e)).ok()?;
        Some(Self(path))
    }

    fn stand_in(_place: &Place) -> Self {
        Self(PathBuf::new())
    }
}

/// A key set (RFC 7517 §5) in a file.
#[derive(Clone, PartialEq)]
pub struct KeySetFile {
    /// Where the file is, as seen from the working directory.
    pub path: PathBuf,
    /// What it holds: a JSON object with a list `keys` that is not empty.
    pub text: String,
}

impl fmt::Debug for KeySetFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

impl Decode for KeySetFile {
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self> {
        let text = d.text(node)?;
        let path = d.path(&text);
        let read = expand::read(&path, MAX_KEY_SET);
        let text = read.map_err(|e| d.fault(node, e)).ok()?;
        let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        let keys = json.as_ref().and_then(|set| set.get("keys")?.as_array());
        if keys.is_none_or(Vec::is_empty) {
            let shown = path.display();
            d.fault(node, message!("is not a key set (found `{shown}`, want JSON such as `{{\"keys\": […]}}` with at least one key)"));
            return None;
        }
        Some(Self { path, text })
    }

    fn stand_in(_place: &Place) -> Self {
        Self {
            path: PathBuf::new(),
            text: String::new(),
        }
    }
}
