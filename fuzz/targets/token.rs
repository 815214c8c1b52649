//! Any text as a token, through the way in for tokens. It is judged by issuers of every kind of key; of all
//! texts only those that they have signed may pass.
#![no_main]

use std::sync::{Arc, LazyLock};
use tollgate::identity::jwt::JwtFault;
use tollgate::identity::provider::{KeySource, Provider, Verdict, authenticate, choose};
use tollgate::identity::seen::Seen;
use tollgate::identity::token::Unverified;
use tollgate_fuzz::json::Json;
use tollgate_fuzz::keys::{NOW_MS, SIGNED, providers};
use tollgate_fuzz::mutate;
use tollgate_fuzz::token::{LONGEST, Reading};

/// A gateway's tokens, cache and all: what was verified for one input may be remembered at the next.
struct Gate {
    providers: Vec<Arc<Provider>>,
    seen: Seen,
}

static GATE: LazyLock<Gate> = LazyLock::new(|| {
    let gate = Gate {
        providers: providers(),
        seen: Seen::new(16),
    };
    for token in SIGNED {
        let (first, again) = (gate.way_in(token), gate.way_in(token));
        assert!(
            first.is_some() && first == again,
            "signed, and refused: {token}"
        );
    }
    gate
});

impl Gate {
    /// The providers that would accept the token if they were asked.
    fn accepting(&self, token: &str) -> Vec<&Arc<Provider>> {
        let accepts = |provider: &&Arc<Provider>| {
            let KeySource::Fixed(keys) = provider.source() else {
                unreachable!("keys from a file");
            };
            let verdict = provider.issuer().verify(keys, token, NOW_MS);
            let too_large = verdict == Err(JwtFault::TooLarge);
            assert_eq!(too_large, token.len() > LONGEST, "a token's size");
            verdict.is_ok()
        };
        self.providers.iter().filter(accepts).collect()
    }

    /// The name of the provider that has let the token in, if one has.
    fn way_in(&self, token: &str) -> Option<String> {
        match authenticate(&self.providers, &self.seen, token, NOW_MS, true) {
            Verdict::Seen(caller) | Verdict::Verified(caller) => Some(caller.provider.to_string()),
            Verdict::Refused(_) => None,
            _ => unreachable!("keys from a file"),
        }
    }

    /// The same where one provider alone is accepted, with the cache that all share.
    fn lets_in(&self, provider: &Arc<Provider>, token: &str) -> bool {
        let only = std::slice::from_ref(provider);
        let verdict = authenticate(only, &self.seen, token, NOW_MS, true);
        matches!(verdict, Verdict::Seen(_) | Verdict::Verified(_))
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(token) = std::str::from_utf8(bytes) else {
        return;
    };
    let (gate, reading) = (&*GATE, Reading::of(token));
    let accepting = gate.accepting(token);
    assert!(
        accepting.len() <= 1,
        "one issuer's key never verifies another's token"
    );
    let provider = accepting
        .first()
        .map(|provider| provider.issuer().name().to_owned());
    if let Some(name) = &provider {
        assert!(
            SIGNED.contains(&token),
            "accepted by {name}, who has not signed it"
        );
        let reading = reading.as_ref().expect("accepted: it has one reading");
        let alg = reading
            .header
            .get("alg")
            .and_then(Json::text)
            .unwrap_or_default();
        assert_eq!(reading.fault(accepting[0].issuer().iss(), alg), None);
    }
    assert_eq!(gate.way_in(token), provider, "the way in, cached or not");
    for one in &gate.providers {
        let accepts = accepting.iter().any(|other| Arc::ptr_eq(one, other));
        assert_eq!(
            gate.lets_in(one, token),
            accepts,
            "by {} alone",
            one.issuer().name()
        );
    }
    unverified(gate, token, reading.as_ref(), accepting.first());
});

/// What is looked at before a signature is what is looked at after it.
fn unverified(gate: &Gate, token: &str, reading: Option<&Reading>, by: Option<&&Arc<Provider>>) {
    let Ok(read) = Unverified::read(token) else {
        return assert!(by.is_none(), "accepted, and cannot be read");
    };
    let reading = reading.expect("taken apart: it has one reading");
    let text = |json: &Json, name: &str| json.get(name).and_then(Json::text).map(str::to_owned);
    assert_eq!(
        read.kid(),
        text(&reading.header, "kid").as_deref(),
        "the key asked for"
    );
    assert_eq!(read.iss().ok(), text(&reading.claims, "iss").as_deref());
    let chosen = choose(&gate.providers, &read).ok();
    let named = |chosen: &Arc<Provider>| Some(chosen.issuer().iss()) == read.iss().ok();
    assert!(
        chosen.is_none_or(named),
        "another issuer than it names is to judge it"
    );
    assert!(by.is_none_or(|by| chosen.is_some_and(|chosen| Arc::ptr_eq(by, chosen))));
}

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, room: usize, seed: u32| {
    mutate::bytes(data, size, room, seed, mutate::token)
});
