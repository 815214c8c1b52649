//! Every algorithm with its own key, and signatures that nobody made.

use super::super::support::*;
use super::case::{Case, Rule, all_bad, all_good, bad, good, rule};
use super::site::{ALGS, Site, at};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

const ALGORITHM: &str = "token_algorithm_not_allowed";
const SIGNATURE: &str = "token_signature_invalid";
const MALFORMED: &str = "token_malformed";

/// The order of P-256, and of the group that Ed25519 works in (little endian).
const N: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
const L: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

pub fn rules(site: &Site) -> Vec<Rule> {
    let mut all = validation(site);
    all.extend(one_for_each(site));
    all.extend(never_another(site));
    all.extend(hmac(site));
    all.extend(curves(site));
    all.extend(best_practice(site));
    all
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2);
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    pairs.map(byte).collect()
}

/// The good token of an algorithm's route.
fn token(site: &Site, alg: &str) -> String {
    mint::sign(mint::key_for(alg), alg, None, &site.claims())
}

fn to(alg: &str, token: &str) -> Req {
    at(&format!("/alg/{alg}"), token)
}

/// The good token with another signature.
fn signed(site: &Site, alg: &str, signature: impl AsRef<[u8]>) -> Req {
    let token = token(site, alg);
    let (front, _) = token.rsplit_once('.').expect("a signature");
    to(alg, &format!("{front}.{}", mint::encode(signature)))
}

fn signature(site: &Site, alg: &str) -> Vec<u8> {
    let token = token(site, alg);
    let (_, signature) = token.rsplit_once('.').expect("a signature");
    URL_SAFE_NO_PAD.decode(signature).expect("base64url")
}

fn validation(site: &Site) -> Vec<Rule> {
    let [head, body, signature] = site.segments();
    let rs = |token: &String| at("/rs", token);
    let whole = format!("{head}.{body}.{signature}");
    let root = mint::encode(site.but(json!({ "sub": "root" })).to_string());
    let spaced = mint::encode(site.claims().to_string() + " ");
    let other = mint::encode(r#"{"kid":"a","alg":"RS256"}"#);
    let bent: Vec<String> = [0, 100, 254]
        .map(|at| {
            let mut bytes = URL_SAFE_NO_PAD.decode(&signature).expect("base64url");
            bytes[at] ^= 1;
            format!("{head}.{body}.{}", mint::encode(bytes))
        })
        .into();
    let lengths = [1, 32, 255, 257, 512].map(|length| {
        let zeros = mint::encode(vec![0; length]);
        format!("{head}.{body}.{zeros}")
    });
    vec![
        rule(
            "RFC 7515 §5.2",
            "the signature is over exactly the bytes that came",
            [
                good("as signed", rs(&whole)),
                all_bad(
                    SIGNATURE,
                    [
                        format!("{head}.{root}.{signature}"),
                        format!("{head}.{spaced}.{signature}"),
                        format!("{other}.{body}.{signature}"),
                    ],
                    rs,
                ),
                all_bad(SIGNATURE, bent, rs),
                all_bad(SIGNATURE, lengths, rs),
                bad(MALFORMED, "none at all", rs(&format!("{head}.{body}."))),
            ],
        ),
        rule(
            "RFC 7518 §3.3",
            "an RSA signature is as long as the modulus",
            [
                good("256 bytes", signed(site, "RS256", signature_of(site))),
                all_bad(SIGNATURE, [0_u8, 1, 0xff], |byte| {
                    signed(site, "RS256", vec![*byte; 256])
                }),
                bad(SIGNATURE, "a zero in front", {
                    signed(site, "RS256", [vec![0], signature_of(site)].concat())
                }),
                bad(SIGNATURE, "the last byte cut off", {
                    signed(site, "RS256", &signature_of(site)[..255])
                }),
            ],
        ),
    ]
}

fn signature_of(site: &Site) -> Vec<u8> {
    signature(site, "RS256")
}

/// Every algorithm at its own route, and every other's token there.
fn one_for_each(site: &Site) -> Vec<Rule> {
    let own = |alg: &&str| to(alg, &token(site, alg));
    let crossed = ALGS.iter().flat_map(|signed| {
        let others = ALGS.iter().filter(move |wanted| *wanted != signed);
        others.map(move |wanted| (*signed, *wanted))
    });
    let relabelled = |from: &str, alg: &str| {
        // Signed with one algorithm, named as another of the same key.
        let header = format!(r#"{{"alg":"{alg}"}}"#);
        let key = mint::key_for(from);
        to(alg, &mint::sign_header(key, from, &header, &site.claims()))
    };
    let pairs = [
        ("RS256", "RS384"),
        ("RS384", "RS256"),
        ("RS256", "PS256"),
        ("PS256", "RS256"),
        ("PS256", "PS384"),
        ("PS512", "PS256"),
        ("HS256", "HS384"),
        ("HS512", "HS256"),
    ];
    vec![
        rule(
            "RFC 7518 §3.1",
            "each algorithm by its name, and none in place of another",
            [
                all_good(ALGS, own),
                all_bad(ALGORITHM, crossed, |(from, wanted)| {
                    to(wanted, &token(site, from))
                }),
            ],
        ),
        rule(
            "RFC 8725 §3.1",
            "the algorithm is the one that was configured, and really the one used",
            [
                all_good(ALGS, own),
                all_bad(SIGNATURE, pairs, |(from, alg)| relabelled(from, alg)),
            ],
        ),
    ]
}

fn never_another(site: &Site) -> Vec<Rule> {
    let own = |alg: &&str| to(alg, &token(site, alg));
    let relabelled = |from: &str, alg: &str| {
        // Signed with one algorithm, named as another of the same key.
        let header = format!(r#"{{"alg":"{alg}"}}"#);
        let key = mint::key_for(from);
        to(alg, &mint::sign_header(key, from, &header, &site.claims()))
    };
    vec![
        rule(
            "RFC 7518 §3.5",
            "PSS is not PKCS #1 v1.5",
            [
                all_good(["PS256", "PS384", "PS512"], own),
                all_bad(
                    SIGNATURE,
                    [("RS256", "PS256"), ("RS384", "PS384"), ("RS512", "PS512")],
                    |(from, alg)| relabelled(from, alg),
                ),
            ],
        ),
        rule(
            "RFC 7518 §3.6",
            "none is no algorithm",
            [
                good("one", to("RS256", &token(site, "RS256"))),
                all_bad(
                    ALGORITHM,
                    ["none", "None", "NONE", "nOnE", "NoNe"],
                    |none| unsigned(site, none, ""),
                ),
                all_bad(ALGORITHM, ["none", "None"], |none| {
                    unsigned(site, none, "AAAA")
                }),
            ],
        ),
        rule(
            "RFC 7519 §6",
            "an unsecured token opens nothing",
            [
                good("a signed one", to("ES256", &token(site, "ES256"))),
                bad(ALGORITHM, "unsecured", unsigned(site, "none", "")),
            ],
        ),
    ]
}

fn unsigned(site: &Site, alg: &str, signature: &str) -> Req {
    let head = mint::encode(format!(r#"{{"alg":"{alg}","kid":"a"}}"#));
    let body = mint::encode(site.claims().to_string());
    at("/rs", &format!("{head}.{body}.{signature}"))
}

fn hmac(site: &Site) -> Vec<Rule> {
    let with = |alg: &str, secret: &str| to(alg, &mint::sign(secret, alg, None, &site.claims()));
    let zeros = "\0".repeat(64);
    let near: Vec<String> = vec![
        String::new(),
        "secret".into(),
        "your-256-bit-secret".into(),
        zeros.clone(),
        mint::SECRET.to_uppercase(),
        mint::SECRET[..63].into(),
        format!("{}\n", mint::SECRET),
        mint::encode(mint::SECRET),
    ];
    let mac = signature(site, "HS256");
    let mut cases = vec![
        all_good(["HS256", "HS384", "HS512"], |alg| {
            to(alg, &token(site, alg))
        }),
        all_bad(SIGNATURE, near, |secret| with("HS256", secret)),
    ];
    for length in [1, 16, 31] {
        let cut = signed(site, "HS256", &mac[..length]);
        cases.push(bad(SIGNATURE, &format!("{length} bytes of it"), cut));
    }
    cases.push(bad(
        SIGNATURE,
        "a byte more",
        signed(site, "HS256", [&mac[..], b"\0"].concat()),
    ));
    let cases: Vec<Case> = cases.into_iter().flatten().collect();
    vec![
        rule(
            "RFC 7518 §3.2",
            "the whole MAC, by the whole secret",
            [cases],
        ),
        rule(
            "RFC 7518 §6.4.1",
            "a secret is for HMAC alone",
            [
                good("for HMAC", to("HS512", &token(site, "HS512"))),
                bad(ALGORITHM, "at RSA's", to("RS256", &token(site, "HS512"))),
            ],
        ),
    ]
}

/// Pairs of numbers where a signature of P-256 should be.
fn numbers() -> Vec<(&'static str, Vec<u8>)> {
    let (zero, mut one, n) = (vec![0; 32], vec![0; 32], bytes(N));
    one[31] = 1;
    let pair = |r: &[u8], s: &[u8]| [r, s].concat();
    vec![
        ("r and s 0", pair(&zero, &zero)),
        ("r 0", pair(&zero, &one)),
        ("s 0", pair(&one, &zero)),
        ("r and s the order", pair(&n, &n)),
        ("r the order", pair(&n, &one)),
        ("s the order", pair(&one, &n)),
        ("r and s 1", pair(&one, &one)),
        ("all ones", vec![0xff; 64]),
    ]
}

fn curves(site: &Site) -> Vec<Rule> {
    let good_one = signature(site, "ES256");
    let ed = signature(site, "EdDSA");
    // The same point of the curve by another number: s + L.
    let mut carry = 0_u16;
    let high: Vec<u8> = ed[32..]
        .iter()
        .zip(bytes(L))
        .map(|(s, l)| {
            carry += u16::from(*s) + u16::from(l);
            let digit = carry as u8;
            carry >>= 8;
            digit
        })
        .collect();
    let high = [&ed[..32], &high].concat();
    vec![
        rule(
            "RFC 7518 §3.4",
            "r and s, as long as the curve's order, in this order",
            [
                all_good(["ES256", "ES384"], |alg| to(alg, &token(site, alg))),
                all_bad(SIGNATURE, numbers(), |(_, pair)| {
                    signed(site, "ES256", pair)
                }),
                all_bad(SIGNATURE, [1_usize, 63, 65, 70, 96], |length| {
                    signed(site, "ES256", vec![1; *length])
                }),
                bad(SIGNATURE, "in DER", signed(site, "ES256", der(&good_one))),
                bad(SIGNATURE, "s before r", {
                    signed(site, "ES256", [&good_one[32..], &good_one[..32]].concat())
                }),
                bad(SIGNATURE, "a zero in front of each", {
                    let (r, s) = good_one.split_at(32);
                    signed(site, "ES256", [&[0][..], r, &[0], s].concat())
                }),
            ],
        ),
        rule(
            "RFC 8037 §3.1",
            "Ed25519 as RFC 8032 has it",
            [
                good("64 bytes", to("EdDSA", &token(site, "EdDSA"))),
                bad(SIGNATURE, "s beyond the order", signed(site, "EdDSA", high)),
                all_bad(SIGNATURE, [1_usize, 63, 65, 114], |length| {
                    signed(site, "EdDSA", vec![1; *length])
                }),
                all_bad(SIGNATURE, [0_u8, 0xff], |byte| {
                    signed(site, "EdDSA", vec![*byte; 64])
                }),
            ],
        ),
    ]
}

/// A pair of numbers as ASN.1 has them.
fn der(pair: &[u8]) -> Vec<u8> {
    let number = |bytes: &[u8]| {
        let lead = if bytes[0] > 0x7f { vec![0] } else { vec![] };
        let length = (bytes.len() + lead.len()) as u8;
        [vec![2, length], lead, bytes.to_vec()].concat()
    };
    let (r, s) = pair.split_at(32);
    let both = [number(r), number(s)].concat();
    [vec![0x30, both.len() as u8], both].concat()
}

fn best_practice(site: &Site) -> Vec<Rule> {
    let own = |alg: &&str| to(alg, &token(site, alg));
    let [head, body, signature] = site.segments();
    let inner = format!("{head}.{body}.{signature}");
    let wrapped = |key: &str| {
        let header = r#"{"alg":"RS256","kid":"a","cty":"JWT"}"#;
        at("/rs", &mint::sign_text(key, "RS256", header, &inner))
    };
    vec![
        rule(
            "RFC 8725 §3.2",
            "algorithms that are sound for their use; nothing by default",
            [
                all_good(["RS256", "PS256", "ES256", "EdDSA"], own),
                all_bad(ALGORITHM, ["none", "HS1", "RS1", "MD5", "ES256K"], |alg| {
                    unsigned(site, alg, "AAAA")
                }),
            ],
        ),
        rule(
            "RFC 8725 §3.3",
            "all cryptography is checked; what is nested is not taken on trust",
            [
                good("one signature", at("/rs", &inner)),
                bad(MALFORMED, "a good one in a good one", wrapped("rsa-a")),
                bad(MALFORMED, "a good one in a bad one", wrapped("rsa-b")),
            ],
        ),
        rule(
            "RFC 8725 §3.4",
            "what goes into cryptography is checked",
            [
                good("a sound signature", to("ES256", &token(site, "ES256"))),
                all_bad(SIGNATURE, numbers(), |(_, pair)| {
                    signed(site, "ES256", pair)
                }),
            ],
        ),
        rule(
            "RFC 8725 §3.5",
            "a secret that can be guessed is none: shorter ones do not load",
            [
                good("64 bytes", to("HS256", &token(site, "HS256"))),
                all_bad(
                    SIGNATURE,
                    [
                        "",
                        "password",
                        "secret",
                        "changeme",
                        "0123456789abcdef0123456789abcdef",
                    ],
                    |word| to("HS256", &mint::sign(word, "HS256", None, &site.claims())),
                ),
            ],
        ),
    ]
}
