//! The demo's token issuer: `GET /.well-known/jwks.json`, `GET /token/NAME`, `POST /rotate`.

use super::serve::{Received, Reply, Service};
use super::tokens::Mint;
use std::sync::Arc;

/// The issuer, served.
pub struct Issuer {
    /// What makes its tokens.
    pub mint: Arc<Mint>,
}

impl Service for Issuer {
    fn answer(&self, request: &Received) -> Reply {
        match (request.method.as_str(), request.path()) {
            ("GET", "/.well-known/jwks.json") => match self.mint.key_set() {
                Ok(set) => Reply::json(200, &set),
                Err(why) => Reply::text(500, why.to_string()),
            },
            ("POST", "/rotate") => {
                let kid = self.mint.rotate();
                Reply::text(200, format!("tokens are signed with key {kid} from now on"))
            }
            ("GET", path) => match path.strip_prefix("/token/") {
                Some(name) => self.token(name),
                None => Reply::text(404, "not found"),
            },
            _ => Reply::text(404, "not found"),
        }
    }
}

impl Issuer {
    fn token(&self, name: &str) -> Reply {
        match self.mint.token(name) {
            Ok(Some(token)) => Reply::text(200, token),
            Ok(None) => Reply::text(404, "nobody of that name"),
            Err(why) => Reply::text(500, why.to_string()),
        }
    }
}
