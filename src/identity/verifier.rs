//! What checks signatures: the library's keys, read once, one for each algorithm.
//!
//! A key that is parsed for every token costs an RS256 check an eighth of what it costs by itself. What
//! is no key, such as a point that is not on its curve, is refused here and not at the first token.

use super::alg::{Alg, Algs};
use super::pem::PublicKey;
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaPublicKeyComponents,
};

/// A key, ready to verify with one algorithm.
enum Ready {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

/// One key, ready for each of its algorithms.
pub struct Verifier(Box<[(Alg, Ready)]>);

impl Verifier {
    /// A shared secret.
    pub fn secret(secret: &[u8], algs: Algs) -> Verifier {
        let ready = algs.iter().filter_map(|alg| {
            let hash = match alg {
                Alg::HS256 => hmac::HMAC_SHA256,
                Alg::HS384 => hmac::HMAC_SHA384,
                Alg::HS512 => hmac::HMAC_SHA512,
                _ => return None,
            };
            Some((alg, Ready::Secret(Box::new(hmac::Key::new(hash, secret)))))
        });
        Verifier(ready.collect())
    }

    /// A public key. None if it is none: a point off its curve, a modulus that the library refuses.
    pub fn public(key: &PublicKey, algs: Algs) -> Option<Verifier> {
        let ready = algs.iter().map(|alg| Some((alg, public(key, alg)?)));
        ready.collect::<Option<_>>().map(Verifier)
    }

    /// Whether `signature` is one of `message`; never by an algorithm that the key is not for.
    pub fn verify(&self, alg: Alg, message: &[u8], signature: &[u8]) -> bool {
        let ready = self.0.iter().find(|(own, _)| *own == alg);
        match ready {
            Some((_, Ready::Secret(key))) => hmac::verify(key, message, signature).is_ok(),
            Some((_, Ready::Public(key))) => key.verify_sig(message, signature).is_ok(),
            None => false,
        }
    }
}

fn public(key: &PublicKey, alg: Alg) -> Option<Ready> {
    let parsed = match (key, alg) {
        (PublicKey::Rsa { n, e }, _) => {
            let parameters = match alg {
                Alg::RS256 => &RSA_PKCS1_2048_8192_SHA256,
                Alg::RS384 => &RSA_PKCS1_2048_8192_SHA384,
                Alg::RS512 => &RSA_PKCS1_2048_8192_SHA512,
                Alg::PS256 => &RSA_PSS_2048_8192_SHA256,
                Alg::PS384 => &RSA_PSS_2048_8192_SHA384,
                Alg::PS512 => &RSA_PSS_2048_8192_SHA512,
                _ => return None,
            };
            RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters)
        }
        (PublicKey::P256(point), Alg::ES256) => {
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        }
        (PublicKey::P384(point), Alg::ES384) => {
            ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)
        }
        (PublicKey::Ed25519(key), Alg::EdDSA) => ParsedPublicKey::new(&ED25519, key),
        _ => return None,
    };
    parsed.ok().map(Ready::Public)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_is_refused_at_once() {
        let only = |alg: Alg| [alg].into_iter().collect();
        let off_curve = PublicKey::P256([&[4], [7; 64].as_slice()].concat());
        assert!(Verifier::public(&off_curve, only(Alg::ES256)).is_none());
        let other_curve = PublicKey::P384([&[4], [7; 64].as_slice()].concat());
        assert!(Verifier::public(&other_curve, only(Alg::ES384)).is_none());
        assert!(Verifier::public(&PublicKey::Ed25519(vec![7; 31]), only(Alg::EdDSA)).is_none());
        let zero = PublicKey::Rsa {
            n: Vec::new(),
            e: vec![3],
        };
        assert!(Verifier::public(&zero, only(Alg::RS256)).is_none());
    }

    #[test]
    fn an_algorithm_that_the_key_is_not_for_verifies_nothing() {
        let (secret, message) = ([7; 64], b"message");
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA384, &secret), message);
        let both = Verifier::secret(&secret, Algs::all());
        assert!(both.verify(Alg::HS384, message, tag.as_ref()));
        assert!(!both.verify(Alg::HS256, message, tag.as_ref()));
        assert!(!both.verify(Alg::RS256, message, tag.as_ref()));
        let other = Verifier::secret(&secret, [Alg::HS256].into_iter().collect());
        assert!(!other.verify(Alg::HS384, message, tag.as_ref()));
    }
}
