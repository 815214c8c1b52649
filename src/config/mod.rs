//! The config file: text in, a [`file::FileConf`] out, or every fault at once.
//!
//! What a `…Conf` holds is exactly what was written, defaults filled in, every value with its
//! place. The way: [`yaml`] makes a tree, [`decode`] and [`fields`] make typed values of it (one
//! file a subject), `check` judges what cannot be judged from one value alone.
//!
//! A text may hold `${VAR}` from the environment, and secrets and keys may be `file:` and a path.
//! File names start from the folder of the config file.

pub mod api_keys;
pub mod auth;
pub mod certificates;
mod check;
mod check_api_keys;
mod check_auth;
mod check_certificates;
mod check_identity;
mod check_introspection;
mod check_limit;
mod check_listener;
mod check_redis;
mod check_route;
mod check_upstream;
mod check_upstream_tls;
pub mod decode;
pub mod decoder;
pub mod diff;
pub mod error;
mod expand;
pub mod fields;
pub mod file;
pub mod identity;
pub mod introspection;
pub mod limit;
pub mod listener;
pub mod material;
pub mod redis;
pub mod revocation;
pub mod route;
pub mod server;
mod spelling;
pub mod tls;
pub mod upstream;
pub mod value;
pub mod yaml;

use std::path::Path;
use std::sync::Arc;

pub use decode::{Entries, Origin, Spanned};
pub use error::{Fault, Faults, Place};
pub use expand::Env;
pub use file::FileConf;

use crate::base::secret::sha256;
use decode::Decode;
use decoder::Decoder;
use error::message;

/// A config that can be run.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub conf: FileConf,
    /// What tells its text from others: the first 16 hexadecimal digits of the SHA-256 of its file.
    pub hash: String,
    /// What is allowed but probably not meant, in the order of the file.
    pub warnings: Vec<Fault>,
}

/// The largest config file, in bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Reads the config at `path`; `env` looks up variables of the environment.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: &Path, env: Env) -> Result<Loaded, Faults> {
    let name: Arc<str> = path.display().to_string().into();
    let whole =
        |message: String| Faults(vec![Fault::new(&Place::start_of(&name, "file"), message)]);
    let text = expand::read(path, MAX_FILE).map_err(whole)?;
    let base = path.parent().unwrap_or(Path::new(""));
    parse(&text, &name, base, env)
}

/// Reads a config's text. `file_name` is what messages call it, `base_dir` the folder that file
/// names in it start from.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str, file_name: &str, base_dir: &Path, env: Env) -> Result<Loaded, Faults> {
    let file: Arc<str> = file_name.into();
    let root = yaml::read(text, &file).map_err(|fault| Faults(vec![fault]))?;
    let Some(root) = root else {
        let place = Place::start_of(&file, "file");
        let text = message!(
            "is empty (found no keys, want at least `listeners`, `upstreams` and `routes`)"
        );
        return Err(Faults(vec![Fault::new(&place, text)]));
    };
    let mut decoder = Decoder::new(file, base_dir, env);
    let read = FileConf::decode(&root, &mut decoder);
    let mut faults = decoder.faults;
    if let Some(mut conf) = read {
        settle(&mut conf);
        let findings = check::check(&conf);
        faults.extend(findings.faults);
        if faults.is_empty() {
            let warnings = Faults::sorted(findings.warnings).0;
            let hash = hash(text);
            return Ok(Loaded {
                conf,
                hash,
                warnings,
            });
        }
    }
    Err(Faults::sorted(faults))
}

fn hash(text: &str) -> String {
    let whole = sha256(text.as_bytes());
    let begin = whole.first_chunk().copied().unwrap_or_default();
    format!("{:016x}", u64::from_be_bytes(begin))
}

/// Fits defaults that depend on what was written.
fn settle(conf: &mut FileConf) {
    for listener in &mut conf.listeners {
        listener.value.settle();
        listener.value.http2.settle();
    }
    for upstream in &mut conf.upstreams {
        upstream.value.timeouts.settle();
        if let Some(health) = &mut upstream.value.health_check {
            health.value.settle();
        }
    }
}
