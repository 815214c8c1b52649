//! The tokens that the RFCs themselves give, with their keys. None of them is for us, and those that
//! end have ended: what counts is that they are refused for that and not for their signature, and that
//! they are refused for their signature with one bit of it changed. `src/identity/key/vectors.rs`
//! has those that are no JWTs.

use super::super::support::*;
use super::case::{Rule, bad, good, rule};
use super::site::{Site, at};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// The claims of RFC 7515 A.1 to A.3.
const JOE: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const A1: (&str, &str) = (
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
    "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
);
const A1_KEY: &str =
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
const A2: (&str, &str) = (
    "eyJhbGciOiJSUzI1NiJ9",
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
);
const A3: (&str, &str) = (
    "eyJhbGciOiJFUzI1NiJ9",
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
);
/// RFC 7515 A.4, whose payload is the word `Payload`, and A.5.
const A4: &str = "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn";
const A5: &str = "eyJhbGciOiJub25lIn0";
/// RFC 8037 A.4.
const ED: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

/// The public keys of A.1 to A.3.
fn keys() -> [(&'static str, Value); 3] {
    let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    [
        ("HS256", json!({ "kty": "oct", "k": A1_KEY })),
        ("RS256", json!({ "kty": "RSA", "n": n, "e": "AQAB" })),
        (
            "ES256",
            json!({ "kty": "EC", "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" }),
        ),
    ]
}

/// The key sets of the routes below `/joe`.
pub fn files() -> Vec<(String, String)> {
    let file = |(alg, key): (&str, Value)| (format!("joe-{alg}.json"), mint::jwks(&[key]));
    keys().map(file).into()
}

/// An issuer for each of the keys.
pub fn issuers(add: &mut impl FnMut(&str, &str)) {
    for (alg, _) in keys() {
        let settings = format!(
            "issuer: joe, audiences: [api], algorithms: [{alg}], jwks: {{ file: joe-{alg}.json }}"
        );
        add(&format!("joe.{alg}"), &settings);
    }
}

/// The vector, and the same with one bit of its signature changed.
fn joe(alg: &str, (head, signature): (&str, &str)) -> [Req; 2] {
    let route = format!("/joe/{alg}");
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    bytes[20] ^= 1;
    let bent = mint::encode(bytes);
    [signature, &bent].map(|signature| at(&route, &format!("{head}.{JOE}.{signature}")))
}

pub fn rules(site: &Site) -> Vec<Rule> {
    let ours = |alg: &str| {
        let token = mint::sign(mint::key_for(alg), alg, None, &site.claims());
        at(&format!("/alg/{alg}"), &token)
    };
    let vector = |section, alg: &'static str, token| {
        let [whole, bent] = joe(alg, token);
        rule(
            section,
            "its signature is good; it is for nobody",
            [
                good("one of ours with this algorithm", ours(alg)),
                bad("token_claim_missing", "as it is, without aud", whole),
                bad("token_signature_invalid", "one bit changed", bent),
            ],
        )
    };
    let not = |section, says, alg, code, token: String| {
        rule(
            section,
            says,
            [
                good("one of ours", ours(alg)),
                bad(code, "as it is", at("/joe/ES256", &token)),
            ],
        )
    };
    vec![
        vector("RFC 7515 A.1", "HS256", A1),
        vector("RFC 7515 A.2", "RS256", A2),
        vector("RFC 7515 A.3", "ES256", A3),
        not(
            "RFC 7515 A.4",
            "ES512 is not spoken here",
            "ES256",
            "token_algorithm_not_allowed",
            A4.to_owned(),
        ),
        not(
            "RFC 7515 A.5",
            "unsecured",
            "ES256",
            "token_algorithm_not_allowed",
            format!("{A5}.{JOE}."),
        ),
        not(
            "RFC 8037 A.4",
            "well signed, and no claims",
            "EdDSA",
            "token_malformed",
            ED.to_owned(),
        ),
    ]
}
