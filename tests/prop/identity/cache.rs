//! The cache of verified tokens against a naive twin, and through the way in for tokens.

use super::mint::*;
use proptest::prelude::*;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use tollgate::identity::alg::Alg;
use tollgate::identity::jwt::JwtFault;
use tollgate::identity::principal::{Method, Principal};
use tollgate::identity::provider::{KeySource, Provider, Verdict, authenticate, choose};
use tollgate::identity::seen::{Seen, Stamp};
use tollgate::identity::token::Unverified;

fn caller(user: u64) -> Arc<Principal> {
    Arc::new(Principal {
        user: Some(user.to_string()),
        ..Principal::new(Method::Jwt, &Arc::from("corp"))
    })
}

#[derive(Clone, Debug)]
enum Step {
    Put { token: u8, issuer: u64, life: u64 },
    Get { token: u8 },
    Rotate { issuer: u64 },
    Pass { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..40_u8, 0..3_u64, 0..400_u64).prop_map(|(token, issuer, life)| Step::Put {
            token,
            issuer,
            life
        }),
        (0..40_u8).prop_map(|token| Step::Get { token }),
        (0..3_u64).prop_map(|issuer| Step::Rotate { issuer }),
        (0..50_u64).prop_map(|ms| Step::Pass { ms }),
    ]
}

/// Tokens that share tails and lengths, so that only a whole comparison tells them apart.
fn alike(token: u8) -> Vec<u8> {
    let mut text = vec![b'0' + token / 4; 10];
    text.extend(vec![b'a' + token % 2; 70]);
    text.push(token % 4 / 2);
    text
}

/// Tokens whose tails differ, as signatures do.
fn distinct(token: u8) -> Vec<u8> {
    vec![token; 80]
}

/// Runs the steps on a cache of `capacity`, with tokens spelled by `text`; says whether
/// everything that holds was found.
fn run(steps: &[Step], capacity: usize, text: fn(u8) -> Vec<u8>) -> Result<bool, TestCaseError> {
    let seen = Seen::new(capacity);
    let mut twin: HashMap<u8, (Stamp, u64, u64)> = HashMap::new();
    let mut keys = [0_u64; 3];
    let (mut now, mut put, mut complete) = (1_u64, 0_u64, true);
    for step in steps {
        match *step {
            Step::Put {
                token,
                issuer,
                life,
            } => {
                put += 1;
                let stamp = Stamp {
                    issuer,
                    key: keys[issuer as usize],
                };
                seen.put(&text(token), stamp, now + life, now, caller(put));
                if life > 0 {
                    twin.insert(token, (stamp, now + life, put));
                }
            }
            Step::Get { token } => {
                // Issuer 2 is not accepted on this route.
                let counts =
                    |stamp: Stamp| stamp.issuer < 2 && keys[stamp.issuer as usize] == stamp.key;
                let found = seen.get(&text(token), now, counts);
                let want = twin.get(&token);
                let want = want.filter(|(stamp, exp, _)| now < *exp && counts(*stamp));
                let want = want.map(|(_, _, put)| put.to_string());
                match found {
                    Some(found) => prop_assert_eq!(&found.user, &want),
                    None => complete &= want.is_none(),
                }
            }
            Step::Rotate { issuer } => keys[issuer as usize] += 1,
            Step::Pass { ms } => now += ms,
        }
    }
    Ok(complete)
}

proptest! {
    #[test]
    fn never_answers_what_the_twin_would_not(
        steps in prop::collection::vec(step(), 1..400),
        capacity in 1_usize..64,
    ) {
        run(&steps, capacity, alike)?;
    }

    #[test]
    fn forgets_nothing_while_there_is_room(steps in prop::collection::vec(step(), 1..400)) {
        // 40 tokens in 16,384 sets of four: five of them in one set is as good as impossible.
        prop_assert!(run(&steps, 65_536, distinct)?);
    }
}

#[test]
fn many_threads_at_once_never_mix_callers_up() {
    let seen = Seen::new(16);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let seen = &seen;
            scope.spawn(move || {
                for round in 0..20_000_u64 {
                    let user = (round * 7 + thread) % 50;
                    let token = format!("{user:0>80}");
                    let stamp = Stamp { issuer: 1, key: 1 };
                    if let Some(found) = seen.get(token.as_bytes(), 1, |_| true) {
                        assert_eq!(found.user, Some(user.to_string()));
                    } else {
                        seen.put(token.as_bytes(), stamp, 10, 1, caller(user));
                    }
                }
            });
        }
    });
}

#[test]
fn the_way_in_remembers_and_forgets() {
    let seen = Seen::new(64);
    let corp = || {
        let keys = KeySource::Fixed(Arc::new(one_key(Signer::RsaA, Alg::RS256, Some("k1"))));
        [Arc::new(
            Provider::new(issuer(&[Alg::RS256]), keys).unwrap(),
        )]
    };
    let providers = corp();
    let token = sign(Signer::RsaA, Alg::RS256, Some("k1"), &claims());
    let judge = |at: &[Arc<Provider>], now| authenticate(at, &seen, &token, now, true);
    assert!(matches!(judge(&providers, NOW_MS), Verdict::Verified(_)));
    let Verdict::Seen(caller) = judge(&providers, NOW_MS + 299_999) else {
        panic!("not remembered")
    };
    assert_eq!(caller.user.as_deref(), Some("u1"));
    // In the leeway it is verified each time, after it refused.
    for _ in 0..2 {
        assert!(matches!(
            judge(&providers, NOW_MS + 300_000),
            Verdict::Verified(_)
        ));
    }
    let late = judge(&providers, NOW_MS + 330_000);
    assert!(matches!(late, Verdict::Refused(JwtFault::Expired)));
    // The same rules compiled anew are another issuer; a route without it does not take the token.
    assert!(matches!(judge(&corp(), NOW_MS), Verdict::Verified(_)));
    assert!(matches!(
        judge(&[], NOW_MS),
        Verdict::Refused(JwtFault::WrongIssuer)
    ));
}

#[test]
fn keys_that_do_not_fit_their_issuer_do_not_load() {
    let keys = Arc::new(one_key(Signer::RsaA, Alg::RS256, None));
    let fault = Provider::new(issuer(&[Alg::ES256]), KeySource::Fixed(keys));
    assert!(fault.err().unwrap().contains("none of them fits"));
}

#[test]
fn the_issuer_chooses_the_provider_and_its_keys() {
    let provider = |name: &str, iss: &str, signer: Signer| {
        let keys = KeySource::Fixed(Arc::new(one_key(signer, Alg::RS256, Some("k1"))));
        Arc::new(Provider::new(named_issuer(name, iss, &[Alg::RS256]), keys).unwrap())
    };
    let both = [
        provider("a", "iss-a", Signer::RsaA),
        provider("b", "iss-b", Signer::RsaB),
    ];
    let token = |signer, iss: &str| {
        let mut all = claims();
        all["iss"] = json!(iss);
        sign(signer, Alg::RS256, Some("k1"), &all)
    };
    let chosen = |token: &str| {
        let chosen = choose(&both, &Unverified::read(token)?);
        chosen.map(|provider| provider.issuer().name())
    };
    assert_eq!(chosen(&token(Signer::RsaB, "iss-b")), Ok("b"));
    assert_eq!(
        chosen(&token(Signer::RsaA, "iss-c")),
        Err(JwtFault::WrongIssuer)
    );
    assert_eq!(chosen("x"), Err(JwtFault::Malformed));
    // Issuer b's key cannot vouch for issuer a, nor the reverse.
    let cross = token(Signer::RsaB, "iss-a");
    let KeySource::Fixed(keys) = both[0].source() else {
        unreachable!()
    };
    assert_eq!(
        both[0].issuer().verify(keys, &cross, NOW_MS),
        Err(JwtFault::BadSignature)
    );
    let KeySource::Fixed(keys) = both[1].source() else {
        unreachable!()
    };
    assert_eq!(
        both[1].issuer().verify(keys, &cross, NOW_MS),
        Err(JwtFault::WrongIssuer)
    );
}
