//! Who may do what: tokens, scopes, roles, API keys.

use crate::cli::demo::stage::{Addresses, Place};
use crate::cli::demo::step::{Act, Step};
use crate::cli::demo::tokens::{EXPIRED, GOLD};

pub(super) fn tokens(at: &Addresses) -> Act {
    let get = |shows| Step::get(shows, at.gateway("/users/42"));
    let as_user = |shows, name| get(shows).with("Authorization", &at.token(name));
    let steps = vec![
        get("users want to be told who calls")
            .refused(401, "credentials_missing")
            .json("/detail", "Missing authorization header")
            .present("www-authenticate"),
        get("a password is no bearer token")
            .with("Authorization", "Basic dXNlcjpwYXNzd29yZA==")
            .refused(401, "bearer_required")
            .json("/detail", "Bearer token required"),
        as_user(
            "a token is checked here; the service gets headers instead of it",
            "buyer",
        )
        .json("/headers/x-user-id", "buyer")
        .json("/headers/x-user-email", "buyer@demo.example")
        .json(
            "/headers/x-user-scopes",
            "read:orders read:users write:orders",
        )
        .absent("/headers/authorization"),
        as_user("a token that is over", "expired")
            .refused(401, "token_expired")
            .json("/detail", "Token expired"),
        as_user("a token that somebody else signed", "forged")
            .refused(401, "token_signature_invalid")
            .json("/detail", "Invalid or expired token"),
        as_user("a token that nobody signed (alg none)", "unsigned")
            .refused(401, "token_algorithm_not_allowed"),
        get("something that is no token at all")
            .with("Authorization", "Bearer abc")
            .refused(401, "token_malformed"),
        Step::get(
            "the issuer changes its key",
            at.url(Place::Issuer, "/rotate"),
        )
        .method("POST")
        .holds("demo-b"),
        as_user(
            "the new key is fetched when a token first names it",
            "buyer",
        )
        .wait(11)
        .json("/headers/x-user-id", "buyer"),
        Step::get(
            "what services are told cannot be made up, not even where nobody asks who calls",
            at.gateway("/products/7"),
        )
        .with("X-User-ID", "admin")
        .with("X-User-Roles", "[\"admin\"]")
        .absent("/headers/x-user-id")
        .absent("/headers/x-user-roles"),
    ];
    Act {
        title: "Tokens (JWT)",
        steps,
    }
}

pub(super) fn rights(at: &Addresses) -> Act {
    let as_user = |shows, path, name| {
        let step = Step::get(shows, at.gateway(path));
        step.with("Authorization", &at.token(name))
    };
    let steps = vec![
        as_user("scopes may also come as a list", "/users/42", "reader")
            .json("/headers/x-user-scopes", "read:users"),
        as_user("a scope is missing, and is named", "/orders/1", "reader")
            .refused(403, "scope_insufficient")
            .json("/detail", "Insufficient scope. Required: 'read:orders'")
            .present("www-authenticate"),
        as_user("with it", "/orders/1", "buyer").json("/service", "orders"),
        as_user("to delete takes a role", "/orders/1", "buyer")
            .method("DELETE")
            .refused(403, "role_insufficient"),
        as_user("which this user has", "/orders/1", "admin")
            .method("DELETE")
            .json("/method", "DELETE")
            .json("/headers/x-user-roles", "[\"admin\"]"),
    ];
    Act {
        title: "Scopes and roles",
        steps,
    }
}

pub(super) fn api_keys(at: &Addresses) -> Act {
    let get = |shows, path| Step::get(shows, at.gateway(path));
    let steps = vec![
        get("payments are for machines, with an API key", "/payments/9")
            .refused(401, "api_key_required")
            .json("/detail", "API key required"),
        get("a key that nobody has", "/payments/9")
            .with("X-API-Key", "demo-key-guessed")
            .refused(401, "api_key_unknown")
            .json("/detail", "Invalid API key"),
        get("a key whose time is over", "/payments/9")
            .with("X-API-Key", EXPIRED)
            .refused(401, "api_key_expired"),
        get(
            "a good key: the service gets the client's name instead of it",
            "/payments/9",
        )
        .with("X-API-Key", GOLD)
        .json("/headers/x-client-id", "mobile-app")
        .absent("/headers/x-api-key"),
        get("users take either, a token or a key", "/users/42")
            .with("X-API-Key", GOLD)
            .json("/headers/x-client-id", "mobile-app"),
    ];
    Act {
        title: "API keys",
        steps,
    }
}
