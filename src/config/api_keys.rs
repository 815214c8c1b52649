//! Lists of API keys, and the files that hold them.

use std::collections::HashMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use super::check::{self, Findings};
use super::decode::{Decode, Spanned, Value};
use super::decoder::Decoder;
use super::error::{Fault, Faults, Key, Place, message};
use super::expand;
use super::fields::{conf, default, optional, required, words};
use super::value::{Header, Name, Scope, Timestamp};
use super::yaml::{self, Node};
use crate::base::secret::sha256;
use crate::base::units::{Rate, Span};
use crate::identity::key_format::KeyFormat;
use crate::identity::key_record::{KeyDigest, KeyRecord};

conf! {
    /// A list of API keys.
    pub struct ApiKeysConf {
        /// Its name, for routes to refer to.
        name: Spanned<Name> = required("a name such as `partners`");
        /// The header that bears the key. Default `X-API-Key`.
        header: Spanned<Header> = default("X-API-Key");
        /// The query parameter that bears it on routes with `key_in_query`. Left out: none does.
        query: Option<Spanned<Name>> = optional();
        /// Which texts may be keys. Default `any`.
        format: Spanned<KeyFormatConf> = default("any");
        /// The file that lists them, from the config's folder.
        file: Option<Spanned<KeyFile>> = optional();
        /// Where they are in Redis, instead of a file; needs `redis` at the top.
        redis: Option<Spanned<RedisKeysConf>> = optional();
    }
}

conf! {
    /// Keys in Redis: under each key's SHA-256 a record in JSON.
    pub struct RedisKeysConf {
        /// What stands before the digest. Default `apikey:`.
        prefix: Spanned<KeyPrefix> = default("apikey:");
        /// How long an answer is good while Redis tells of changes, 1s to 1h; 1s at most while it does not.
        /// Default 60s.
        ttl: Spanned<Span> = default("60s").range("1s", "1h");
        /// How long a known key goes on while Redis is away, since it was last confirmed, 0s to 30d. Default 1h.
        max_stale: Spanned<Span> = default("1h").range("0s", "30d");
        /// How long an unknown key is remembered as such, 1s to 1m. Default 5s.
        negative_ttl: Spanned<Span> = default("5s").range("1s", "1m");
        /// How many keys are remembered, 8 to 10000000. Default 100000.
        max_cached: Spanned<u32> = default("100000").range("8", "10000000");
    }
}

/// What the names of records in Redis start with: 1 to 64 visible ASCII characters without those that
/// a pattern is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPrefix(String);

impl Deref for KeyPrefix {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Value for KeyPrefix {
    fn parse(text: &str) -> Result<Self, String> {
        let usable = |b: u8| b.is_ascii_graphic() && !b"*?[]\\^".contains(&b);
        if (1..=64).contains(&text.len()) && text.bytes().all(usable) {
            return Ok(Self(text.to_owned()));
        }
        Err(message!(
            "is not the begin of a name in Redis (found `{text}`, want 1 to 64 visible characters without `*`, `?`, `[`, `]`, `^` and a backslash, such as `apikey:`)"
        ))
    }

    fn stand_in() -> Self {
        Self(String::new())
    }
}

words! {
    /// Which texts may be keys.
    pub enum KeyFormatConf {
        /// Any; what begins with `tg_` must have the form of keys made by `tollgate keys`.
        Any = "any",
        /// Only keys made by `tollgate keys`.
        Tollgate = "tollgate",
    }
}

impl KeyFormatConf {
    /// As the list has it.
    pub fn format(self) -> KeyFormat {
        match self {
            Self::Any => KeyFormat::Any,
            Self::Tollgate => KeyFormat::Tollgate,
        }
    }
}

/// A file of API keys and what it holds.
#[derive(Clone, Debug)]
pub struct KeyFile {
    /// Where it is, as seen from the working directory.
    pub path: PathBuf,
    /// The keys in it.
    pub keys: Arc<Keys>,
}

impl PartialEq for KeyFile {
    fn eq(&self, other: &Self) -> bool {
        let same = || Arc::ptr_eq(&self.keys, &other.keys) || self.keys == other.keys;
        self.path == other.path && same()
    }
}

/// The keys of a file. There may be a hundred thousand: what was written is kept as what is to be
/// used, and of places only what a message may have to name.
#[derive(Clone, Debug)]
pub struct Keys {
    file: Arc<str>,
    /// The keys, in order.
    pub records: Arc<[KeyRecord]>,
    spots: Box<[Spots]>,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            file: Arc::from(""),
            records: Arc::from([]),
            spots: Box::default(),
        }
    }
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        self.records == other.records
    }
}

/// Where the parts of a key stand.
#[derive(Clone, Copy, Debug)]
struct Spots {
    /// Which item of the list it is.
    item: u32,
    /// Where it begins.
    line: u32,
    id: (u32, u32),
    hash: (u32, u32),
}

impl Keys {
    /// Where a key's `id` or `hash` stands.
    pub fn place(&self, at: usize, part: &str) -> Place {
        let keys = Key::default().field("keys");
        let Some(spots) = self.spots.get(at) else {
            return Place::start_of(&self.file, "keys");
        };
        let (line, column) = if part == "id" { spots.id } else { spots.hash };
        Place {
            file: self.file.clone(),
            line,
            column,
            key: keys.item(&spots.item.to_string()).field(part),
        }
    }

    /// The line where a key's entry begins, from 1.
    pub fn line(&self, at: usize) -> usize {
        self.spots.get(at).map_or(1, |spots| spots.line as usize)
    }
}

conf! {
    /// What a file of API keys may hold at its top.
    pub struct KeyListConf {
        /// The keys.
        keys: Vec<Spanned<ApiKeyConf>> = required("a list of keys");
    }
}

conf! {
    /// One API key. The key itself is written nowhere, only its digest.
    pub struct ApiKeyConf {
        /// Its own name, shown in logs; unique in the file.
        id: Spanned<Name> = required("a name such as `acme-2027`");
        /// The SHA-256 digest of the key.
        hash: Spanned<KeyDigest> = required("`sha256:` and the 64 hexadecimal digits of the key's digest");
        /// The client it belongs to.
        client: Spanned<String> = required("the client's name");
        /// The client's tier. Left out: none.
        tier: Option<Spanned<String>> = optional();
        /// What it may do. Default: nothing in particular.
        scopes: Vec<Spanned<Scope>> = default("[]");
        /// Which roles it has. Default: none.
        roles: Vec<Spanned<String>> = default("[]");
        /// How much may be asked with it. Left out: what the routes allow.
        rate_limit: Option<Spanned<Rate>> = optional();
        /// When it ends, in UTC (RFC 3339). Left out: never.
        expires: Option<Spanned<Timestamp>> = optional();
        /// Whether it is switched off. Default false.
        disabled: Spanned<bool> = default("false");
    }
}

impl ApiKeyConf {
    fn record(self) -> KeyRecord {
        let ApiKeyConf {
            id,
            hash,
            client,
            tier,
            scopes,
            roles,
            rate_limit,
            expires,
            disabled,
        } = self;
        KeyRecord {
            id: (*id.value).into(),
            digest: hash.value,
            client: client.value.into(),
            tier: tier.map(|tier| tier.value.into()),
            scopes: scopes.iter().map(|scope| (*scope.value).into()).collect(),
            roles: roles.into_iter().map(|role| role.value.into()).collect(),
            rate_limit: rate_limit.map(|rate| rate.value),
            expires_unix_s: expires.map(|expires| expires.value.0),
            disabled: disabled.value,
        }
    }
}

impl Value for KeyDigest {
    fn parse(text: &str) -> Result<Self, String> {
        Self::from_text(text).ok_or_else(|| {
            // Someone may have put the key itself here.
            let length = text.chars().count();
            message!("is not a digest (found a text of {length} characters, want `sha256:` and 64 hexadecimal digits)")
        })
    }

    fn stand_in() -> Self {
        Self::default()
    }
}

/// The largest file of API keys, in bytes.
const MAX_KEY_FILE: u64 = 256 * 1024 * 1024;

impl Decode for KeyFile {
    fn decode(node: &Node, d: &mut Decoder) -> Option<Self> {
        let text = d.text(node)?;
        let path = d.path(&text);
        let read = expand::read(&path, MAX_KEY_FILE);
        let text = read.map_err(|e| d.fault(node, e)).ok()?;
        let keys = remembered(&path, &text, || {
            let name: Arc<str> = path.display().to_string().into();
            let before = d.faults.len();
            let keys = d.within(name.clone(), |d| key_list(&text, &name, d))?;
            Some((Arc::new(keys), d.faults.len() == before))
        })?;
        Some(Self { path, keys })
    }

    fn stand_in(_place: &Place) -> Self {
        let (path, keys) = Default::default();
        Self { path, keys }
    }
}

/// What this text of this file was read as, if a config still holds it; else what is read now. Of a
/// hundred thousand keys that is most of the time of a reload, which seldom changes one of them.
/// `read` says too whether it found no fault.
fn remembered(
    path: &Path,
    text: &str,
    read: impl FnOnce() -> Option<(Arc<Keys>, bool)>,
) -> Option<Arc<Keys>> {
    type Read = HashMap<PathBuf, ([u8; 32], Weak<Keys>)>;
    static READ: LazyLock<Mutex<Read>> = LazyLock::new(Mutex::default);
    let all = || READ.lock().unwrap_or_else(PoisonError::into_inner);
    let digest = sha256(text.as_bytes());
    let known = all().get(path).filter(|(of, _)| *of == digest).cloned();
    if let Some(keys) = known.and_then(|(_, keys)| keys.upgrade()) {
        return Some(keys);
    }
    let (keys, sound) = read()?;
    // A variable stands for what the environment says, not the text.
    if sound && !text.contains("${") {
        let mut all = all();
        all.retain(|_, (_, keys)| keys.strong_count() > 0);
        all.insert(path.to_owned(), (digest, Arc::downgrade(&keys)));
    }
    Some(keys)
}

/// Reads the text of a key file, which messages call `name`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read_keys(text: &str, name: &str) -> Result<Keys, Faults> {
    let file: Arc<str> = name.into();
    let mut decoder = Decoder::new(file.clone(), Path::new(""), &|_| None);
    let keys = key_list(text, &file, &mut decoder);
    match keys {
        Some(keys) if decoder.faults.is_empty() => Ok(keys),
        _ => Err(Faults::sorted(decoder.faults)),
    }
}

/// Reads a list item by item, each of which is let go once its record is made: all of them with their
/// places at once take twenty times the file.
fn key_list(text: &str, name: &Arc<str>, d: &mut Decoder) -> Option<Keys> {
    let before = d.faults.len();
    let (mut records, mut spots, mut item) = (Vec::new(), Vec::new(), 0);
    let mut add = |key: Spanned<ApiKeyConf>, item: u32, d: &mut Decoder| {
        if let Some(rate) = &key.rate_limit {
            let mut findings = Findings::default();
            check::rate(rate, &mut findings);
            d.faults.append(&mut findings.faults);
        }
        let spot = |place: &Place| (place.line, place.column);
        if key.id.sound().is_some() && key.hash.sound().is_some() {
            let (id, hash) = (spot(&key.id.place), spot(&key.hash.place));
            let line = key.place.line;
            spots.push(Spots {
                item,
                line,
                id,
                hash,
            });
            records.push(key.value.record());
        }
    };
    let root = yaml::read_in_parts(text, name, "keys", &mut |node| {
        let key = d.key().field("keys").item(&item.to_string());
        let read = d.under(key, |d| Spanned::<ApiKeyConf>::decode(node, d));
        if let Some(key) = read {
            add(key, item, d);
        }
        item += 1;
    });
    let root: Option<Rc<Node>> = root
        .map_err(|fault| {
            // What the rest of it would have said is not known: what is wrong with the items neither.
            d.faults.truncate(before);
            d.faults.push(fault);
        })
        .ok()?;
    let Some(root) = root else {
        let place = Place::start_of(name, "keys");
        let text =
            message!("is missing (found an empty file, want `keys: []` if there are none yet)");
        d.faults.push(Fault::new(&place, text));
        return None;
    };
    // What a list behind an alias holds is not handed out.
    let KeyListConf { keys } = KeyListConf::decode(&root, d)?;
    for (at, key) in keys.into_iter().enumerate() {
        add(key, u32::try_from(at).unwrap_or(u32::MAX), d);
    }
    Some(Keys {
        file: name.clone(),
        records: records.into(),
        spots: spots.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// The keys of a config whose key file holds these clients.
    fn keys(folder: &Path, clients: &[&str]) -> Arc<Keys> {
        let digest = |n: usize| KeyDigest::of(&n.to_le_bytes()).to_text();
        let entry = |(n, client): (usize, &&str)| {
            let hash = digest(n);
            format!("  - {{ id: k{n}, hash: \"{hash}\", client: \"{client}\" }}\n")
        };
        let entries: String = clients.iter().enumerate().map(entry).collect();
        std::fs::write(folder.join("keys.yaml"), format!("keys:\n{entries}")).expect("writes");
        let text = "listeners: [{ name: l, address: \"127.0.0.1:0\" }]\n\
                    upstreams: [{ name: u, targets: [\"127.0.0.1:1\"] }]\n\
                    identity: { api_keys: [{ name: k, file: keys.yaml }] }\n\
                    routes: [{ name: r, match: { path: / }, auth: { any: [k] }, to: u }]\n";
        let env = |name: &str| (name == "CLIENT").then(|| "somebody".to_owned());
        let loaded = config::parse(text, "test.yaml", folder, &env);
        let loaded = loaded.unwrap_or_else(|e| panic!("{e}"));
        let list = &loaded.conf.identity.api_keys[0];
        list.file.as_ref().expect("a file").keys.clone()
    }

    #[test]
    fn a_key_file_is_read_again_only_if_it_says_something_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = keys(folder.path(), &["a", "b"]);
        let again = keys(folder.path(), &["a", "b"]);
        assert!(Arc::ptr_eq(&first, &again));
        let other = keys(folder.path(), &["a", "c"]);
        assert_eq!(&*other.records[1].client, "c");
        let back = keys(folder.path(), &["a", "b"]);
        assert!(!Arc::ptr_eq(&first, &back) && first == back);
        let forgotten = Arc::downgrade(&back);
        drop((first, again, other, back));
        assert!(forgotten.upgrade().is_none(), "nothing is held for later");
        // What the environment says may be another thing next time.
        let one = keys(folder.path(), &["${CLIENT}"]);
        assert_eq!(&*one.records[0].client, "somebody");
        assert!(!Arc::ptr_eq(&one, &keys(folder.path(), &["${CLIENT}"])));
    }
}
