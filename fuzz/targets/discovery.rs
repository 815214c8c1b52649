//! Any text as an issuer's discovery document: it leads to keys only if it is that issuer's, and only to where
//! nobody on the way can put in some of his own.
#![no_main]

use tollgate::identity::discovery::{Discovery, DiscoveryFault, keys_address};
use tollgate_fuzz::json;
use tollgate_fuzz::keys::iss;
use tollgate_fuzz::mutate;

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let (reading, issuer) = (json::object(text), iss("secret"));
    let from = Discovery::Oidc.address(&issuer, false).expect("an address");
    for insecure_http in [false, true] {
        match keys_address(text, &issuer, &from, insecure_http) {
            Ok(url) => {
                let said = |name: &str| reading.as_ref()?.get(name)?.text();
                assert_eq!(said("issuer"), Some(issuer.as_str()), "another issuer's");
                assert!(said("jwks_uri").is_some());
                assert!(
                    url.scheme() == "https" && url.host_str().is_some_and(|host| !host.is_empty()),
                    "{url}"
                );
                assert!(
                    url.username().is_empty() && url.password().is_none(),
                    "{url}"
                );
            }
            Err(fault) => {
                let none = fault == DiscoveryFault::NotJson;
                assert_eq!(none, reading.is_none(), "{fault}: {reading:?}");
            }
        }
    }
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, room: usize, seed: u32| {
    mutate::bytes(data, size, room, seed, mutate::value)
});
