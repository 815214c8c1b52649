//! `tollgate keys`: makes, lists, replaces and takes back API keys, in a file or in Redis. A key itself
//! is shown once and stored nowhere.

mod file;
mod show;
mod store;

use super::USAGE;
use super::check;
use crate::base::clock::Clock;
use crate::base::units::{Rate, Span};
use crate::identity::key_format::generate;
use crate::identity::key_record::{KeyFault, KeyRecord};
use crate::identity::rfc3339;
use clap::{Args, Subcommand};
use file::KeyFile;
use std::path::PathBuf;
use std::process::ExitCode;
use store::RedisStore;

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a key: prints it once; what is kept holds its digest alone.
    New(New),
    /// Show the keys there are, without their digests.
    List {
        /// Where it is looked for.
        #[command(flatten)]
        from: Where,
        /// As a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Take a key out: whoever presents it is refused from then on.
    Revoke {
        /// The key's id.
        id: String,
        /// Where it is looked for.
        #[command(flatten)]
        from: Where,
    },
    /// Make a second key with the same rights for the same client, and let the old one end after a while.
    Rotate(Rotate),
}

/// Where keys are kept.
#[derive(Debug, Args)]
pub struct Where {
    /// The key file.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
    /// The config that has the list.
    #[arg(short, long, value_name = "FILE", requires = "list")]
    config: Option<PathBuf>,
    /// The list's name in the config.
    #[arg(long, value_name = "NAME", requires = "config")]
    list: Option<String>,
}

/// A key to be made.
#[derive(Debug, Args)]
pub struct New {
    /// The client it is for.
    #[arg(long)]
    client: String,
    /// The client's service tier.
    #[arg(long)]
    tier: Option<String>,
    /// A scope it gives; may be repeated.
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// A role it gives; may be repeated.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// How much may be asked with it, such as 1000/h; what the routes allow without this.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate_limit: Option<Rate>,
    /// When it ends, such as 2027-01-31T00:00:00Z; never without this.
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    #[command(flatten)]
    to: Where,
}

/// A key to be replaced.
#[derive(Debug, Args)]
pub struct Rotate {
    /// The id of the key that is to end.
    id: String,
    /// How long the old key is still good.
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    grace: Span,
    /// When the new key ends; when the old one would have without this.
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    #[command(flatten)]
    from: Where,
}

fn rate(text: &str) -> Result<Rate, String> {
    let rate: Rate = text.parse()?;
    let counted = rate.is_countable().then_some(rate);
    counted.ok_or_else(|| format!("found `{text}`, want at least 1 in whole seconds up to 31d"))
}

/// What could not be done, and what the process ends with.
struct Failure(ExitCode, String);

impl Failure {
    fn usage(why: impl Into<String>) -> Self {
        Self(USAGE.into(), why.into())
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self(ExitCode::FAILURE, why)
    }
}

/// Where keys are kept, opened.
enum Store {
    /// Nowhere: what is made is printed.
    Nowhere,
    /// In a file.
    File(KeyFile),
    /// In Redis.
    Redis(RedisStore),
}

/// Runs the command.
pub fn run(keys: Keys) -> ExitCode {
    let done = match keys {
        Keys::New(new) => make(new),
        Keys::List { from, json } => list(&from, json),
        Keys::Revoke { id, from } => revoke(&id, &from),
        Keys::Rotate(rotate) => replace(&rotate),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, why)) => {
            if !why.is_empty() {
                eprintln!("{why}");
            }
            code
        }
    }
}

impl Where {
    fn open(&self) -> Result<Store, Failure> {
        if let Some(path) = &self.file {
            return Ok(Store::File(KeyFile::new(path.clone())));
        }
        let (Some(config), Some(name)) = (&self.config, &self.list) else {
            return Ok(Store::Nowhere);
        };
        // It has said what is wrong.
        let loaded = check::load(config).map_err(|code| Failure(code, String::new()))?;
        let lists = &loaded.conf.identity.api_keys;
        let Some(list) = lists.iter().find(|list| *list.name.value == **name) else {
            let known: Vec<_> = lists.iter().map(|list| &*list.value.name.value).collect();
            let want = match known.as_slice() {
                [] => "one defined under `identity.api_keys`, which has none".to_owned(),
                known => known.join(" or "),
            };
            let why = format!("--list: no list is called so (found `{name}`, want {want})");
            return Err(Failure::usage(why));
        };
        match (&list.file, &list.redis, &loaded.conf.redis) {
            (Some(file), ..) => Ok(Store::File(KeyFile::new(file.path.clone()))),
            (None, Some(list), Some(redis)) => {
                Ok(Store::Redis(RedisStore::open(redis, &list.prefix)?))
            }
            // The check lets no such list pass.
            (None, ..) => Err(Failure::usage(
                "--list: the list has neither file nor redis",
            )),
        }
    }

    /// As [`Where::open`], of keys that are there already.
    fn open_kept(&self) -> Result<Store, Failure> {
        match self.open()? {
            Store::Nowhere => Err(Failure::usage(
                "found neither --file nor --config, want --file and the key file, or --config and --list",
            )),
            store => Ok(store),
        }
    }
}

impl Store {
    fn all(&self) -> Result<Vec<KeyRecord>, String> {
        match self {
            Self::Nowhere => Ok(Vec::new()),
            Self::File(file) => file.all(),
            Self::Redis(redis) => redis.all(),
        }
    }

    fn one(&self, id: &str) -> Result<KeyRecord, Failure> {
        let mut found = match self {
            Self::Redis(redis) => redis.with_id(id)?,
            Self::Nowhere | Self::File(_) => {
                let mut all = self.all()?;
                all.retain(|record| *record.id == *id);
                all
            }
        };
        match (found.pop(), found.len()) {
            (None, _) => Err(format!("no key has this id (found `{id}`)").into()),
            (Some(one), 0) => Ok(one),
            (Some(_), more) => {
                let count = more + 1;
                Err(
                    format!("{count} keys have this id (found `{id}`, want it to be one's alone)")
                        .into(),
                )
            }
        }
    }

    fn add(&self, record: &KeyRecord) -> Result<(), String> {
        match self {
            Self::Nowhere => Ok(()),
            Self::File(file) => file.add(record),
            Self::Redis(redis) => redis.add(record),
        }
    }

    fn remove(&self, record: &KeyRecord) -> Result<(), String> {
        match self {
            Self::Nowhere => Ok(()),
            Self::File(file) => file.put(record, &[]),
            Self::Redis(redis) => redis.remove(record),
        }
    }

    /// Puts down the old key as it is from now on, and its successor.
    fn succeed(&self, old: &KeyRecord, new: &KeyRecord) -> Result<(), String> {
        match self {
            Self::Nowhere => Ok(()),
            Self::File(file) => file.put(old, &[old, new]),
            Self::Redis(redis) => {
                redis.add(new)?;
                redis.end(old)
            }
        }
    }

    /// When a running gateway goes by what was changed.
    fn effect(&self) {
        match self {
            Self::Nowhere => {}
            Self::File(_) => eprintln!(
                "a running gateway goes by it once it reloads (`tollgate reload`, SIGHUP, or `watch: true`)"
            ),
            Self::Redis(_) => eprintln!("running gateways go by it at once"),
        }
    }
}

fn time(text: Option<&str>) -> Result<Option<u64>, Failure> {
    let time = text.map(rfc3339::parse).transpose();
    time.map_err(|why| Failure::usage(format!("--expires: {why}")))
}

fn make(new: New) -> Result<(), Failure> {
    let expires_unix_s = time(new.expires.as_deref())?;
    if new.client.trim().is_empty() {
        return Err(Failure::usage(
            "--client: found an empty name, want the client's name",
        ));
    }
    let boxes = |texts: Vec<String>| texts.into_iter().map(String::into_boxed_str).collect();
    let (plain, record) = generate(&new.client);
    let record = KeyRecord {
        tier: new.tier.map(String::into_boxed_str),
        scopes: boxes(new.scopes),
        roles: boxes(new.roles),
        rate_limit: new.rate_limit,
        expires_unix_s,
        ..record
    };
    let store = new.to.open()?;
    store.add(&record)?;
    println!("key (shown once): {plain}");
    if let Store::Nowhere = store {
        println!("\nkeys:\n{}", file::entry(&record));
    }
    store.effect();
    Ok(())
}

fn list(from: &Where, json: bool) -> Result<(), Failure> {
    let records = from.open_kept()?.all()?;
    let now_unix_s = Clock::system().now().unix_s();
    if json {
        println!("{:#}", show::json(&records, now_unix_s));
    } else {
        print!("{}", show::table(&records, now_unix_s));
    }
    Ok(())
}

fn revoke(id: &str, from: &Where) -> Result<(), Failure> {
    let store = from.open_kept()?;
    let record = store.one(id)?;
    store.remove(&record)?;
    println!("revoked: {id} of {}", record.client);
    store.effect();
    Ok(())
}

fn replace(rotate: &Rotate) -> Result<(), Failure> {
    let expires = time(rotate.expires.as_deref())?;
    let store = rotate.from.open_kept()?;
    let old = store.one(&rotate.id)?;
    let now_unix_s = Clock::system().now().unix_s();
    let ends = now_unix_s.saturating_add(rotate.grace.0.as_secs());
    let expires = expires.or(old.expires_unix_s);
    if old.usable(now_unix_s) == Err(KeyFault::Disabled) {
        let why = format!(
            "the key is disabled (found `{}`, want one that is in use)",
            rotate.id
        );
        return Err(why.into());
    }
    if expires.is_some_and(|end| end <= now_unix_s) {
        let why = "--expires: the new key would have ended already (want a time to come)";
        return Err(Failure::usage(why));
    }
    let (plain, made) = generate(&old.client);
    let new = KeyRecord {
        id: made.id,
        digest: made.digest,
        expires_unix_s: expires,
        ..old.clone()
    };
    let ends = old.expires_unix_s.map_or(ends, |end| end.min(ends));
    let old = KeyRecord {
        expires_unix_s: Some(ends),
        ..old
    };
    store.succeed(&old, &new)?;
    println!("key (shown once): {plain}");
    println!("{} ends at {}", old.id, rfc3339::format(ends));
    store.effect();
    Ok(())
}
