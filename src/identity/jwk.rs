//! One JSON Web Key (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2) into a [`Key`], or why not.

use super::alg::{Alg, Algs};
use super::key::Key;
use super::keyset::Origin;
use super::pem::{PublicKey, without_zeros};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

/// The longest `kty`, `alg` or `crv`, in bytes; those that are registered have up to 22.
const MAX_TERM: usize = 64;

/// The key in `jwk` for those of `allowed` that it may verify. The error says why it is of no
/// use to us; it never holds key material.
pub fn key(jwk: &Value, origin: Origin, allowed: Algs) -> Result<Key, String> {
    check_purpose(jwk)?;
    let algs = algorithms(jwk, allowed)?;
    let kid = match jwk.get("kid") {
        None => None,
        Some(kid) => Some(kid.as_str().ok_or("its kid is not a text")?),
    };
    match term(jwk, "kty")? {
        "oct" if origin == Origin::Fetched => {
            Err("a shared secret that is published is no secret".to_owned())
        }
        "oct" => Key::secret(kid, &bytes(jwk, "k")?, algs),
        _ if jwk.get("d").is_some() => Err("it is a private key".to_owned()),
        "RSA" => Key::public(kid, &rsa(jwk)?, algs),
        "EC" => Key::public(kid, &curve(jwk)?, algs),
        "OKP" => Key::public(kid, &edwards(jwk)?, algs),
        other => Err(format!("its kty {other:?} is not one we know")),
    }
}

/// The key must be for signatures, and for checking them (RFC 7517 §4.2, §4.3).
fn check_purpose(jwk: &Value) -> Result<(), String> {
    if jwk.get("use").is_some_and(|purpose| purpose != "sig") {
        return Err("its use is not sig".to_owned());
    }
    let Some(ops) = jwk.get("key_ops") else {
        return Ok(());
    };
    let verifies = ops
        .as_array()
        .is_some_and(|ops| ops.iter().any(|op| op == "verify"));
    if verifies {
        Ok(())
    } else {
        Err("its key_ops lack verify".to_owned())
    }
}

/// What is allowed, narrowed to the key's own `alg` if it names one.
fn algorithms(jwk: &Value, allowed: Algs) -> Result<Algs, String> {
    if jwk.get("alg").is_none() {
        return Ok(allowed);
    }
    let name = term(jwk, "alg")?;
    let alg = match name {
        "Ed25519" => Some(Alg::EdDSA), // RFC 9864's name for the same thing
        _ => Alg::named(name),
    };
    let alg = alg.filter(|alg| allowed.contains(*alg));
    let alg = alg.ok_or_else(|| format!("its alg {name:?} is not among those configured"))?;
    Ok([alg].into_iter().collect())
}

fn rsa(jwk: &Value) -> Result<PublicKey, String> {
    let n = without_zeros(&bytes(jwk, "n")?);
    let e = without_zeros(&bytes(jwk, "e")?);
    Ok(PublicKey::Rsa { n, e })
}

fn curve(jwk: &Value) -> Result<PublicKey, String> {
    let (size, make): (usize, fn(Vec<u8>) -> PublicKey) = match term(jwk, "crv")? {
        "P-256" => (32, PublicKey::P256),
        "P-384" => (48, PublicKey::P384),
        other => return Err(format!("its crv {other:?} is not P-256 or P-384")),
    };
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    if x.len() != size || y.len() != size {
        return Err(format!("its x and y are not {size} bytes each"));
    }
    Ok(make([&[4], x.as_slice(), y.as_slice()].concat()))
}

fn edwards(jwk: &Value) -> Result<PublicKey, String> {
    match (term(jwk, "crv")?, bytes(jwk, "x")?) {
        ("Ed25519", x) if x.len() == 32 => Ok(PublicKey::Ed25519(x)),
        ("Ed25519", _) => Err("its x is not 32 bytes".to_owned()),
        (other, _) => Err(format!("its crv {other:?} is not Ed25519")),
    }
}

fn text<'a>(jwk: &'a Value, name: &str) -> Result<&'a str, String> {
    let value = jwk.get(name).and_then(Value::as_str);
    value.ok_or_else(|| format!("it has no {name}"))
}

/// A registered name (RFC 7518 §7). The log quotes those that we do not know, so they must be short.
fn term<'a>(jwk: &'a Value, name: &str) -> Result<&'a str, String> {
    let said = text(jwk, name)?;
    if said.len() > MAX_TERM {
        return Err(format!("its {name} is longer than {MAX_TERM} bytes"));
    }
    Ok(said)
}

fn bytes(jwk: &Value, name: &str) -> Result<Vec<u8>, String> {
    let decoded = URL_SAFE_NO_PAD.decode(text(jwk, name)?);
    decoded.map_err(|_| format!("its {name} is not base64url"))
}
