//! What a token looks like: three segments of strict base64url with a JSON object in the first two.

use super::super::support::*;
use super::case::{Rule, all_bad, all_good, bad, good, rule};
use super::site::{HEADER, Site, at, carrying};
use base64::{Engine, engine::general_purpose::URL_SAFE};
use serde_json::json;

const MALFORMED: &str = "token_malformed";

pub fn rules(site: &Site) -> Vec<Rule> {
    let mut all = base64url(site);
    all.extend(segments(site));
    all.extend(other_serializations(site));
    all.extend(header_text(site));
    all.extend(exactly_json(site));
    all.extend(claims_text(site));
    all.extend(encodings(site));
    all.extend(compression(site));
    all
}

fn base64url(site: &Site) -> Vec<Rule> {
    let [head, body, signature] = site.segments();
    let rs = |token: String| at("/rs", &token);
    let whole = format!("{head}.{body}.{signature}");
    let padded = URL_SAFE.encode(HEADER.to_owned() + " ");
    assert!(padded.ends_with('='));
    // 256 bytes leave four bits over in the last character, which have to be zero.
    let last = signature.chars().last().expect("a character");
    let twin = char::from(last as u8 + 1);
    let bits = format!("{}{twin}", &signature[..signature.len() - 1]);
    vec![rule(
        "RFC 7515 §2",
        "base64url without padding, line breaks, other characters or bits left over",
        [
            good("as it should be", rs(whole.clone())),
            all_good(["-_"], |_| {
                // Claims whose base64url has both characters that base64 writes otherwise.
                site.saying(json!({ "x": "\u{3fb}\u{3ff}???>>>~~~" }))
            }),
            bad(
                MALFORMED,
                "padded header",
                rs(format!("{padded}.{body}.{signature}")),
            ),
            bad(MALFORMED, "padded signature", rs(format!("{whole}=="))),
            bad(MALFORMED, "one sign of padding", rs(format!("{whole}="))),
            bad(
                MALFORMED,
                "bits left over",
                rs(format!("{head}.{body}.{bits}")),
            ),
            bad(
                MALFORMED,
                "the characters of base64",
                rs(format!("{head}.{body}.+/{}", &signature[2..])),
            ),
            bad(
                MALFORMED,
                "percent-encoded",
                rs(format!("{head}.{body}.%2D{}", &signature[1..])),
            ),
            bad(
                MALFORMED,
                "one character over",
                rs(format!("{head}.{body}.{signature}AAA")),
            ),
        ],
    )]
}

fn segments(site: &Site) -> Vec<Rule> {
    let [head, body, signature] = site.segments();
    let rs = |token: &String| at("/rs", token);
    let whole = format!("{head}.{body}.{signature}");
    vec![
        rule(
            "RFC 7515 §3.1",
            "three parts: header, payload, signature",
            [
                good("three", rs(&whole)),
                all_bad(
                    MALFORMED,
                    [
                        head.clone(),
                        format!("{head}.{body}"),
                        format!(".{body}.{signature}"),
                        format!("{head}..{signature}"),
                        format!("{head}.{body}."),
                        "..".to_owned(),
                        ".".to_owned(),
                    ],
                    rs,
                ),
            ],
        ),
        rule(
            "RFC 7515 §7.1",
            "the compact serialization has exactly two periods",
            [
                good("two", rs(&whole)),
                all_bad(
                    MALFORMED,
                    [
                        format!("{whole}."),
                        format!(".{whole}"),
                        format!("{whole}.{signature}"),
                        format!("{whole}.{whole}"),
                    ],
                    rs,
                ),
            ],
        ),
    ]
}

fn other_serializations(site: &Site) -> Vec<Rule> {
    let [head, body, signature] = site.segments();
    let rs = |token: &String| at("/rs", token);
    let json = format!(r#"{{"payload":"{body}","protected":"{head}","signature":"{signature}"}}"#);
    let general = format!(
        r#"{{"payload":"{body}","signatures":[{{"protected":"{head}","signature":"{signature}"}}]}}"#
    );
    let whole = format!("{head}.{body}.{signature}");
    let five = |alg: &str| {
        let head = mint::encode(format!(r#"{{"alg":"{alg}","enc":"A128GCM"}}"#));
        format!("{head}.AAAA.AAAA.{body}.AAAA")
    };
    let tail = "AAAA";
    vec![
        rule(
            "RFC 7515 §7.2",
            "JWTs are not in the JSON serialization (RFC 7519 §1)",
            [
                good("compact", rs(&whole)),
                all_bad(MALFORMED, [json, general], rs),
            ],
        ),
        rule(
            "RFC 7516 §9",
            "five segments are an encrypted token, which nobody here opens",
            [
                good("signed", rs(&whole)),
                all_bad(
                    MALFORMED,
                    [five("dir"), five("RSA-OAEP"), five("RS256")],
                    rs,
                ),
                bad(
                    "token_algorithm_not_allowed",
                    "an encrypting algorithm in three segments",
                    rs(&format!(
                        "{}.{body}.{tail}",
                        mint::encode(r#"{"alg":"RSA-OAEP","enc":"A128GCM"}"#)
                    )),
                ),
            ],
        ),
    ]
}

fn header_text(site: &Site) -> Vec<Rule> {
    vec![rule(
        "RFC 7515 §4",
        "the header is a JSON object with each member once",
        [
            all_good(
                [
                    HEADER,
                    " {\"kid\" : \"a\",\n\"alg\":\"RS\\u0032\\u00356\"} ",
                ],
                |h| site.headed(h),
            ),
            all_bad(
                MALFORMED,
                [
                    "",
                    "null",
                    "[]",
                    "\"RS256\"",
                    "[{\"alg\":\"RS256\"}]",
                    "{alg:RS256}",
                    "{'alg':'RS256'}",
                    "{\"alg\":\"RS256\",}",
                    "{\"alg\":\"RS256\",\"kid\":\"a\"}x",
                    "{\"alg\":\"RS256\",\"kid\":\"a\"}{}",
                    "\u{feff}{\"alg\":\"RS256\",\"kid\":\"a\"}",
                    "{\"alg\":\"RS256\",\"kid\":\"a\",\"alg\":\"RS256\"}",
                    "{\"alg\":\"none\",\"kid\":\"a\",\"\\u0061lg\":\"RS256\"}",
                    "{\"alg\":\"RS256\",\"kid\":\"a\",\"kid\":\"b\"}",
                    "{\"alg\":\"RS256\",\"kid\":\"a\",\"x\":{\"y\":1,\"y\":2}}",
                    "{\"alg\":\"RS256\",\"kid\":\"a\",\"typ\":\"\\ud800\"}",
                ],
                |h| site.headed(h),
            ),
        ],
    )]
}

fn exactly_json(site: &Site) -> Vec<Rule> {
    let text = site.claims().to_string();
    let open = text.trim_end_matches('}');
    vec![rule(
        "RFC 7515 §10.12",
        "what is not exactly JSON is refused",
        [
            good("white space around", carrying(format!("\r\n {text}\t"))),
            all_bad(
                MALFORMED,
                [
                    format!("{text}{text}"),
                    format!("{text},"),
                    format!("{text}\0"),
                    format!("{open},\"x\":01}}"),
                    format!("{open},\"x\":+1}}"),
                    format!("{open},\"x\":.5}}"),
                    format!("{open},\"x\":NaN}}"),
                    format!("{open},\"x\":Infinity}}"),
                    format!("{open},\"x\":1e999}}"),
                    format!("{open},\"x\":\"\n\"}}"),
                    format!("{open},\"x\":\"\\x41\"}}"),
                    format!("{open}/* */}}"),
                    format!("{open},\"x\":{}}}", "[".repeat(500)),
                ],
                |t| carrying(t),
            ),
        ],
    )]
}

fn claims_text(site: &Site) -> Vec<Rule> {
    let text = site.claims().to_string();
    let open = text.trim_end_matches('}');
    vec![
        rule(
            "RFC 7519 §4",
            "each claim once",
            [
                good("once", carrying(&text)),
                all_bad(
                    MALFORMED,
                    [
                        format!("{open},\"sub\":\"root\"}}"),
                        format!("{open},\"s\\u0075b\":\"root\"}}"),
                        format!("{{\"exp\":1,{}", &text[1..]),
                        format!("{open},\"x\":[{{\"a\":1,\"a\":1}}]}}"),
                    ],
                    |t| carrying(t),
                ),
            ],
        ),
        rule(
            "RFC 7519 §7.2",
            "the payload is a JSON object in UTF-8",
            [
                good("an object", carrying(&text)),
                all_bad(
                    MALFORMED,
                    ["", "[]", "null", "true", "7", "\"text\"", "<a/>", "alice"],
                    |t| carrying(t),
                ),
                bad(MALFORMED, "a list of claims", carrying(format!("[{text}]"))),
            ],
        ),
    ]
}

fn encodings(site: &Site) -> Vec<Rule> {
    let text = site.claims().to_string();
    let open = text.trim_end_matches('}');
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let bytes = |more: &[u8]| [open.as_bytes(), b",\"x\":\"", more, b"\"}"].concat();
    vec![rule(
        "RFC 8725 §3.7",
        "UTF-8, and no other encoding",
        [
            good("beyond ASCII", carrying(bytes("é漢😀".as_bytes()))),
            bad(MALFORMED, "UTF-16", carrying(utf16)),
            all_bad(
                MALFORMED,
                [
                    &b"\xff"[..],
                    b"\xc0\xaf",
                    b"\xed\xa0\x80",
                    b"\xe9",
                    b"\xf5\x80\x80\x80",
                ],
                |b| carrying(bytes(b)),
            ),
            bad(
                MALFORMED,
                "in the header",
                site.headed(b"{\"alg\":\"RS256\",\"kid\":\"\xe9\"}"),
            ),
        ],
    )]
}

fn compression(site: &Site) -> Vec<Rule> {
    let text = site.claims().to_string();
    vec![rule(
        "RFC 8725 §3.6",
        "what is compressed is not opened",
        [
            good("plain", carrying(&text)),
            bad(
                MALFORMED,
                "deflated",
                at(
                    "/rs",
                    &mint::sign_text(
                        "rsa-a",
                        "RS256",
                        r#"{"alg":"RS256","kid":"a","zip":"DEF"}"#,
                        b"\xab\x56\xca\x2c\x2e\x56\xb2\x52\x4a\xcc\xc9\x4c\x4e\x55\xaa\x05\x00",
                    ),
                ),
            ),
        ],
    )]
}
