//! Key sets: which keys are taken, which are skipped, and which one a token gets.

use super::mint::*;
use serde_json::{Value, json};
use tollgate::base::secret::Secret;
use tollgate::identity::alg::{Alg, Algs};
use tollgate::identity::jwt::JwtFault;
use tollgate::identity::keyset::{
    KeySet, KeySetFault, MAX_KEYS, MAX_SET_BYTES, Material, Origin, StaticKey,
};

fn fetched(keys: &[Value]) -> Result<KeySet, KeySetFault> {
    KeySet::from_jwks(&jwks(keys), Origin::Fetched, Algs::all())
}

/// The good RSA key with some members changed.
fn rsa(changes: &Value) -> Value {
    let mut jwk = Signer::RsaA.jwk(Some("k1"));
    for (name, value) in changes.as_object().unwrap() {
        jwk[name] = value.clone();
    }
    jwk
}

#[test]
fn useless_keys_are_skipped_and_told_of() {
    let good = Signer::Ed25519.jwk(Some("good"));
    let mut small = Signer::RsaA.jwk(None);
    small["n"] = json!(encode([0xff; 128]));
    let mut off = Signer::P256.jwk(None);
    off["crv"] = json!("P-384");
    let mut k256 = Signer::P256.jwk(None);
    k256["crv"] = json!("secp256k1");
    for (useless, why) in [
        (rsa(&json!({"use": "enc"})), "use"),
        (rsa(&json!({"use": 1})), "use"),
        (rsa(&json!({"key_ops": ["sign"]})), "key_ops"),
        (rsa(&json!({"key_ops": "verify"})), "key_ops"),
        (rsa(&json!({"kty": "XYZ"})), "XYZ"),
        (rsa(&json!({"kty": 1})), "kty"),
        (
            rsa(&json!({"kty": "X".repeat(65)})),
            "kty is longer than 64",
        ),
        (rsa(&json!({"d": "AQAB"})), "private"),
        (rsa(&json!({"alg": "RSA-OAEP"})), "RSA-OAEP"),
        (rsa(&json!({"alg": "ES256"})), "cannot verify ES256"),
        (rsa(&json!({"n": "!!"})), "base64url"),
        (rsa(&json!({"n": null})), "no n"),
        (rsa(&json!({"e": "AQ"})), "exponent"),
        (rsa(&json!({"kid": 7})), "kid"),
        (rsa(&json!({"kid": "k".repeat(300)})), "kid"),
        (small, "1024 bits"),
        (off, "48 bytes"),
        (k256, "secp256k1"),
        (Signer::Secret.jwk(None), "no secret"),
        (json!("text"), "no kty"),
        (json!({}), "no kty"),
    ] {
        let set = fetched(&[useless.clone(), good.clone()]).unwrap();
        assert_eq!(set.count(), 1, "{useless}");
        let told = set.warnings().join("\n");
        assert!(told.contains(why), "{told}");
        let alone = fetched(&[useless]).unwrap_err();
        assert!(matches!(alone, KeySetFault::NoKeys(_)), "{alone}");
    }
    assert_eq!(
        fetched(&[rsa(&json!({"use": "sig", "key_ops": ["verify"]}))])
            .unwrap()
            .count(),
        1
    );
}

#[test]
fn bounds() {
    assert!(matches!(fetched(&[]), Err(KeySetFault::NoKeys(_))));
    let many = vec![Signer::P256.jwk(None); MAX_KEYS];
    assert_eq!(fetched(&many).unwrap().count(), MAX_KEYS);
    let more = vec![Signer::P256.jwk(None); MAX_KEYS + 1];
    assert_eq!(fetched(&more).unwrap_err(), KeySetFault::TooMany(51));
    let long = vec![b' '; MAX_SET_BYTES + 1];
    let fault = KeySet::from_jwks(&long, Origin::File, Algs::all()).unwrap_err();
    assert!(matches!(fault, KeySetFault::TooLarge(_)));
    for (text, want) in [
        ("", KeySetFault::NotJson),
        ("[]", KeySetFault::NotJson),
        ("{}", KeySetFault::NotASet),
        (r#"{"keys":{}}"#, KeySetFault::NotASet),
        (r#"{"keys":[],"keys":[]}"#, KeySetFault::NotJson),
        ("<html>", KeySetFault::NotJson),
    ] {
        let fault = KeySet::from_jwks(text.as_bytes(), Origin::File, Algs::all()).unwrap_err();
        assert_eq!(fault, want, "{text}");
    }
}

#[test]
fn a_kid_twice() {
    let twice = [Signer::RsaA.jwk(Some("k")), Signer::RsaB.jwk(Some("k"))];
    let fault = KeySet::from_jwks(&jwks(&twice), Origin::File, Algs::all()).unwrap_err();
    assert_eq!(fault, KeySetFault::SameKid("k".to_owned()));
    let set = fetched(&twice).unwrap();
    assert_eq!((set.count(), set.warnings().len()), (1, 1));
    let first = sign(Signer::RsaA, Alg::RS256, Some("k"), &claims());
    assert!(issuer(&[Alg::RS256]).verify(&set, &first, NOW_MS).is_ok());
    let key = |kid: &str| StaticKey {
        kid: Some(kid.to_owned()),
        alg: Alg::HS256,
        material: Signer::Secret.material(),
    };
    let fault = KeySet::from_static(&[key("a"), key("b"), key("a")]).unwrap_err();
    assert_eq!(fault, KeySetFault::SameKid("a".to_owned()));
}

#[test]
fn configured_keys_must_fit_their_algorithm() {
    for (alg, material, why) in [
        (
            Alg::HS256,
            Material::Secret(Secret::new(*b"short")),
            "at least 32 for HS256",
        ),
        (
            Alg::HS512,
            Material::Secret(Secret::new([1; 63])),
            "at least 64 for HS512",
        ),
        (Alg::RS256, Signer::Secret.material(), "cannot verify RS256"),
        (Alg::HS256, Signer::RsaA.material(), "cannot verify HS256"),
        (Alg::ES256, Signer::P384.material(), "cannot verify ES256"),
        (Alg::ES384, Signer::P256.material(), "cannot verify ES384"),
        (Alg::EdDSA, Signer::RsaA.material(), "cannot verify EdDSA"),
        (
            Alg::RS256,
            Material::PublicPem(RSA_SMALL_PUBLIC.into()),
            "1024 bits",
        ),
        (Alg::RS256, Material::PublicPem(b"junk".to_vec()), "PEM"),
    ] {
        let key = StaticKey {
            kid: None,
            alg,
            material,
        };
        let fault = KeySet::from_static(&[key]).unwrap_err().to_string();
        assert!(
            fault.starts_with("key 0: ") && fault.contains(why),
            "{fault}"
        );
        assert!(!fault.contains("short"), "shows the secret: {fault}");
    }
}

#[test]
fn a_key_with_an_alg_is_for_nothing_else() {
    let set = fetched(&[rsa(&json!({"alg": "RS256"}))]).unwrap();
    let issuer = issuer(&[Alg::RS256, Alg::RS512, Alg::PS256]);
    for alg in [Alg::RS512, Alg::PS256] {
        let token = sign(Signer::RsaA, alg, Some("k1"), &claims());
        let found = issuer.verify(&set, &token, NOW_MS);
        assert_eq!(found, Err(JwtFault::AlgorithmNotAllowed), "{alg}");
    }
    let token = sign(Signer::RsaA, Alg::RS256, Some("k1"), &claims());
    assert!(issuer.verify(&set, &token, NOW_MS).is_ok());
}

#[test]
fn tokens_and_keys_without_kid() {
    let issuer = issuer(&[Alg::RS256, Alg::ES256]);
    let verify = |set: &KeySet, signer, kid| {
        let alg = if signer == Signer::P256 {
            Alg::ES256
        } else {
            Alg::RS256
        };
        let token = sign(signer, alg, kid, &claims());
        issuer.verify(set, &token, NOW_MS).map(drop)
    };
    let set = fetched(&[Signer::RsaA.jwk(None), Signer::P256.jwk(Some("p"))]).unwrap();
    assert_eq!(verify(&set, Signer::RsaA, None), Ok(()));
    assert_eq!(
        verify(&set, Signer::P256, None),
        Ok(()),
        "a key with a kid serves too"
    );
    assert_eq!(
        verify(&set, Signer::RsaA, Some("x")),
        Err(JwtFault::UnknownKey)
    );
    assert_eq!(
        verify(&set, Signer::RsaB, None),
        Err(JwtFault::BadSignature)
    );
    let only = fetched(&[Signer::RsaA.jwk(None)]).unwrap();
    assert_eq!(verify(&only, Signer::P256, None), Err(JwtFault::UnknownKey));
    // Four are tried, a fifth is not.
    let mut four = vec![Signer::RsaB.jwk(None); 3];
    four.push(Signer::RsaA.jwk(None));
    assert_eq!(verify(&fetched(&four).unwrap(), Signer::RsaA, None), Ok(()));
    four.insert(0, Signer::RsaB.jwk(None));
    let fifth = verify(&fetched(&four).unwrap(), Signer::RsaA, None);
    assert_eq!(fifth, Err(JwtFault::BadSignature));
}

/// Whoever stole a key that was revoked left its id out of his tokens, and they were believed.
#[test]
fn a_token_is_marked_by_the_key_that_signed_it_whatever_it_names() {
    let set = fetched(&[Signer::P256.jwk(Some("p"))]).unwrap();
    for kid in [None, Some("p")] {
        let token = sign(Signer::P256, Alg::ES256, kid, &claims());
        let verified = issuer(&[Alg::ES256]).verify(&set, &token, NOW_MS).unwrap();
        assert_eq!(
            verified.principal.marks.kid.as_deref(),
            Some("p"),
            "{kid:?}"
        );
    }
}

#[test]
fn sets_are_told_apart_by_their_keys() {
    let (a, b) = (Signer::RsaA.jwk(Some("a")), Signer::RsaB.jwk(Some("b")));
    let one = fetched(&[a.clone(), b.clone()]).unwrap();
    let two = fetched(&[b, a.clone()]).unwrap();
    assert!(one.same_keys(&two) && one.generation() != two.generation());
    // A set that follows another goes on with the keys that are in both, and with no others.
    let mut next = fetched(&[Signer::RsaA.jwk(Some("a")), Signer::P256.jwk(Some("c"))]).unwrap();
    let before = fetched(&[Signer::RsaA.jwk(Some("a")), Signer::P256.jwk(Some("b"))]).unwrap();
    let kept = before.keys()[0].serial();
    assert!(!next.holds(kept));
    next.follow(&before);
    assert!(next.holds(kept) && !next.holds(before.keys()[1].serial()));
    assert!(!one.same_keys(&fetched(&[a]).unwrap()));
    let (renamed, bound) = (rsa(&json!({"kid": "k2"})), rsa(&json!({"alg": "RS256"})));
    let plain = fetched(&[rsa(&json!({}))]).unwrap();
    assert!(!plain.same_keys(&fetched(&[renamed]).unwrap()));
    assert!(!plain.same_keys(&fetched(&[bound]).unwrap()));
}
