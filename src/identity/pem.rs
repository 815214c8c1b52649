//! Public keys from PEM text (RFC 7468): SPKI, PKCS #1 and certificates.
//!
//! A small DER reader of our own, because the key's exact kind, curve and size decide what it may
//! verify. Only definite lengths and the few shapes a public key can have are read; a
//! certificate is taken for its key only, its dates and issuer are not judged.

use base64::{Engine, engine::general_purpose::STANDARD};

/// The parts of a public key, as the signature library wants them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// Modulus and exponent, big-endian without leading zeros.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The public exponent.
        e: Vec<u8>,
    },
    /// An uncompressed point on P-256, 65 bytes.
    P256(Vec<u8>),
    /// An uncompressed point on P-384, 97 bytes.
    P384(Vec<u8>),
    /// An Ed25519 key, 32 bytes.
    Ed25519(Vec<u8>),
}

/// Reads the one public key in `text`. The error says in full what is wrong with it.
pub fn public_key(text: &[u8]) -> Result<PublicKey, String> {
    let text = std::str::from_utf8(text)
        .map_err(|_| "found bytes that are no text, want PEM".to_owned())?;
    let (label, der) = block(text)?;
    let key = match label {
        "PUBLIC KEY" => whole(&der).and_then(spki),
        "RSA PUBLIC KEY" => whole(&der).and_then(pkcs1),
        "CERTIFICATE" => certificate(&der).and_then(spki),
        other if other.ends_with("PRIVATE KEY") => {
            return Err("found a private key, want its public half only".to_owned());
        }
        other => {
            return Err(format!(
                "found a PEM block {other:?}, want a public key or a certificate"
            ));
        }
    };
    key.ok_or_else(|| {
        format!("found a {label} that cannot be read, want one of RSA, P-256, P-384 or Ed25519")
    })
}

/// The label and the decoded content of the only PEM block in `text`.
fn block(text: &str) -> Result<(&str, Vec<u8>), String> {
    const BEGIN: &str = "-----BEGIN ";
    let found = text.matches(BEGIN).count();
    if found != 1 {
        return Err(format!("found {found} PEM blocks, want exactly one"));
    }
    let broken = || {
        "found a PEM block without a proper frame, want its BEGIN and END lines alike".to_owned()
    };
    let (_, rest) = text.split_once(BEGIN).ok_or_else(broken)?;
    let (label, rest) = rest.split_once("-----").ok_or_else(broken)?;
    let (body, _) = rest
        .split_once(&format!("-----END {label}-----"))
        .ok_or_else(broken)?;
    let body: String = body.split_ascii_whitespace().collect();
    let der = STANDARD
        .decode(body)
        .map_err(|_| "found PEM with broken base64, want the text as it was made".to_owned())?;
    Ok((label, der))
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OID: u8 = 0x06;
/// `[0] EXPLICIT`, the optional version at the start of a certificate.
const VERSION: u8 = 0xa0;

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// What is left to read of a DER value.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Takes the next value and its tag.
    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first & 0x80 != 0 {
            let count = usize::from(first & 0x7f);
            if !(1..=3).contains(&count) {
                return None;
            }
            let (bytes, after) = rest.split_at_checked(count)?;
            length = bytes.iter().fold(0, |sum, b| sum << 8 | usize::from(*b));
            rest = after;
        }
        let (body, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some((tag, body))
    }

    /// Takes the next value if it has this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, body) = self.any()?;
        (found == tag).then_some(body)
    }
}

/// The content of the sequence that `der` consists of, nothing after it.
fn whole(der: &[u8]) -> Option<&[u8]> {
    let mut outer = Der(der);
    let body = outer.take(SEQUENCE)?;
    outer.0.is_empty().then_some(body)
}

/// `SubjectPublicKeyInfo` out of a certificate (RFC 5280 §4.1).
fn certificate(der: &[u8]) -> Option<&[u8]> {
    let mut tbs = Der(Der(whole(der)?).take(SEQUENCE)?);
    if tbs.0.first() == Some(&VERSION) {
        tbs.any()?;
    }
    tbs.take(INTEGER)?; // serial number
    for _ in ["signature", "issuer", "validity", "subject"] {
        tbs.take(SEQUENCE)?;
    }
    tbs.take(SEQUENCE)
}

/// The key in the content of a `SubjectPublicKeyInfo` (RFC 5480, RFC 8410).
fn spki(body: &[u8]) -> Option<PublicKey> {
    let mut body = Der(body);
    let mut algorithm = Der(body.take(SEQUENCE)?);
    let (0, key) = body.take(BIT_STRING)?.split_first().map(|(u, k)| (*u, k))? else {
        return None;
    };
    match algorithm.take(OID)? {
        RSA => pkcs1(whole(key)?),
        ED25519 => (key.len() == 32).then(|| PublicKey::Ed25519(key.to_vec())),
        EC => match algorithm.take(OID)? {
            P256 => point(key, 32).map(PublicKey::P256),
            P384 => point(key, 48).map(PublicKey::P384),
            _ => None,
        },
        _ => None,
    }
}

/// An uncompressed point with coordinates of `size` bytes.
fn point(key: &[u8], size: usize) -> Option<Vec<u8>> {
    (key.len() == 1 + 2 * size && key[0] == 4).then(|| key.to_vec())
}

/// The content of an `RSAPublicKey` (RFC 8017 §A.1.1).
fn pkcs1(body: &[u8]) -> Option<PublicKey> {
    let mut body = Der(body);
    let n = without_zeros(body.take(INTEGER)?);
    let e = without_zeros(body.take(INTEGER)?);
    body.0.is_empty().then_some(PublicKey::Rsa { n, e })
}

/// A big-endian number without the zero bytes in front of it.
pub(super) fn without_zeros(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|b| **b == 0).count();
    number[zeros..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA_A: &str = include_str!("../../tests/keys/test-rsa-a.pub.pem");
    const P256_PEM: &str = include_str!("../../tests/keys/test-p256.pub.pem");

    fn read(text: &str) -> Result<PublicKey, String> {
        public_key(text.as_bytes())
    }

    #[test]
    fn one_rsa_key_in_its_three_dresses() {
        let key = read(RSA_A).unwrap();
        let PublicKey::Rsa { n, e } = &key else {
            panic!("not RSA")
        };
        assert_eq!((n.len(), e.as_slice()), (256, [1, 0, 1].as_slice()));
        let pkcs1 = include_str!("../../tests/keys/test-rsa-a.pkcs1.pem");
        assert_eq!(read(pkcs1).as_ref(), Ok(&key));
        let certificate = include_str!("../../tests/keys/test-rsa-a.cert.pem");
        assert_eq!(read(certificate), Ok(key));
    }

    #[test]
    fn curves_are_told_apart() {
        assert!(matches!(read(P256_PEM), Ok(PublicKey::P256(p)) if p.len() == 65));
        let p384 = include_str!("../../tests/keys/test-p384.pub.pem");
        assert!(matches!(read(p384), Ok(PublicKey::P384(p)) if p.len() == 97));
        let ed = include_str!("../../tests/keys/test-ed25519.pub.pem");
        assert!(matches!(read(ed), Ok(PublicKey::Ed25519(k)) if k.len() == 32));
    }

    #[test]
    fn anything_else_is_refused_in_words() {
        let private = include_str!("../../tests/keys/test-rsa-a.key.pem");
        let why = read(private).unwrap_err();
        assert!(why.contains("private key"), "{why}");
        for (text, word) in [
            ("", "found 0 PEM blocks"),
            ("hello", "found 0 PEM blocks"),
            (&format!("{RSA_A}{RSA_A}"), "found 2 PEM blocks"),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n", "frame"),
            (
                "-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----",
                "base64",
            ),
            (
                "-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----",
                "cannot be read",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----",
                "cannot be read",
            ),
            ("-----BEGIN X-----\nMAA=\n-----END X-----", "block \"X\""),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.contains(word), "{text}: {why}");
        }
        assert!(public_key(&[0xff, 0xfe]).is_err());
    }

    #[test]
    fn cut_and_bent_der_never_panics() {
        let (_, der) = block(RSA_A).unwrap();
        for cut in 0..der.len() {
            assert!(whole(&der[..cut]).and_then(spki).is_none(), "cut at {cut}");
        }
        for at in 0..40 {
            for value in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut bent = der.clone();
                bent[at] = value;
                let _ = whole(&bent).and_then(spki);
                let _ = certificate(&bent);
            }
        }
    }
}
