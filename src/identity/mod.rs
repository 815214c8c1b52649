//! Who is calling: tokens and keys go in, a [`principal::Principal`] or a closed fault comes out.
//!
//! Everything here is pure but for [`fetch`], which keeps an issuer's published keys fresh,
//! [`introspect`], which asks an issuer about tokens that only it can read, [`key_redis`], which asks
//! Redis for API keys, and [`revoke`], which keeps what is not believed any more.
//! [`provider::authenticate`] is the way in for a token, [`key_list::KeyList::judge`] for a key.

pub mod alg;
pub mod api_key;
pub mod budget;
pub mod certificate;
pub mod claims;
pub mod desk;
pub mod discovery;
pub mod fetch;
pub mod introspect;
pub mod json;
pub mod jwk;
pub mod jwt;
pub mod key;
pub mod key_cache;
pub mod key_format;
pub mod key_list;
pub mod key_record;
pub mod key_redis;
pub mod keyset;
pub mod pem;
pub mod principal;
pub mod provider;
pub mod revoke;
pub mod rfc3339;
pub mod seen;
pub mod token;
pub mod verifier;
