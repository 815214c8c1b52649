//! Tokens to the letter: for every rule of RFC 7515 to 7519, 7797, 8037, 8725 and 9068 that a gateway
//! can keep or break, and for every attack that others fell to, a good token and a bad one, judged by
//! the real gateway with its exact reason.
//!
//! A bad token reaches no service, is answered with a challenge and is not echoed; whatever addresses
//! it brings are not asked.

mod access;
mod attacks;
mod case;
mod claims;
mod header;
mod key_sets;
mod shape;
mod signatures;
mod site;
mod vectors;

use site::Site;
use std::collections::BTreeSet;

/// What has to have a rule here, as rules name it.
const SECTIONS: &[&str] = &[
    "RFC 7515 §2",
    "RFC 7515 §3.1",
    "RFC 7515 §4",
    "RFC 7515 §4.1.1",
    "RFC 7515 §4.1.2",
    "RFC 7515 §4.1.3",
    "RFC 7515 §4.1.4",
    "RFC 7515 §4.1.5",
    "RFC 7515 §4.1.6",
    "RFC 7515 §4.1.7",
    "RFC 7515 §4.1.8",
    "RFC 7515 §4.1.9",
    "RFC 7515 §4.1.10",
    "RFC 7515 §4.1.11",
    "RFC 7515 §4.2",
    "RFC 7515 §5.2",
    "RFC 7515 §5.3",
    "RFC 7515 §7.1",
    "RFC 7515 §7.2",
    "RFC 7515 §10.12",
    "RFC 7515 §10.13",
    "RFC 7515 A.1",
    "RFC 7515 A.2",
    "RFC 7515 A.3",
    "RFC 7515 A.4",
    "RFC 7515 A.5",
    "RFC 7516 §9",
    "RFC 7517 §4",
    "RFC 7517 §4.1",
    "RFC 7517 §4.2",
    "RFC 7517 §4.3",
    "RFC 7517 §4.4",
    "RFC 7517 §4.5",
    "RFC 7517 §4.7",
    "RFC 7517 §5",
    "RFC 7517 §9.2",
    "RFC 7518 §3.1",
    "RFC 7518 §3.2",
    "RFC 7518 §3.3",
    "RFC 7518 §3.4",
    "RFC 7518 §3.5",
    "RFC 7518 §3.6",
    "RFC 7518 §6.2.1",
    "RFC 7518 §6.3.1",
    "RFC 7518 §6.4.1",
    "RFC 7519 §2",
    "RFC 7519 §4",
    "RFC 7519 §4.1.1",
    "RFC 7519 §4.1.2",
    "RFC 7519 §4.1.3",
    "RFC 7519 §4.1.4",
    "RFC 7519 §4.1.5",
    "RFC 7519 §4.1.6",
    "RFC 7519 §4.1.7",
    "RFC 7519 §4.2",
    "RFC 7519 §5.1",
    "RFC 7519 §5.2",
    "RFC 7519 §5.3",
    "RFC 7519 §6",
    "RFC 7519 §7.2",
    "RFC 7519 §7.3",
    "RFC 7797 §7",
    "RFC 8037 §2",
    "RFC 8037 §3.1",
    "RFC 8037 A.4",
    "RFC 8725 §3.1",
    "RFC 8725 §3.2",
    "RFC 8725 §3.3",
    "RFC 8725 §3.4",
    "RFC 8725 §3.5",
    "RFC 8725 §3.6",
    "RFC 8725 §3.7",
    "RFC 8725 §3.8",
    "RFC 8725 §3.9",
    "RFC 8725 §3.10",
    "RFC 8725 §3.11",
    "RFC 8725 §3.12",
    "RFC 9068 §2.1",
    "RFC 9068 §2.2",
    "RFC 9068 §2.2.3",
    "RFC 9068 §4",
];

#[test]
fn every_rule_has_a_good_and_a_bad_token_judged_right() {
    let site = Site::open();
    let mut rules = Vec::new();
    for table in [
        shape::rules,
        header::rules,
        signatures::rules,
        key_sets::rules,
        claims::rules,
        access::rules,
        attacks::rules,
        vectors::rules,
    ] {
        rules.extend(table(&site));
    }
    let (mut good, mut bad, mut wrong) = (0, 0, Vec::new());
    for rule in &rules {
        let (passing, refused) = rule.count();
        assert!(passing > 0 && refused > 0, "one-sided: {rule}");
        (good, bad) = (good + passing, bad + refused);
        wrong.extend(site.judge(rule));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(site.stranger.hits(), 0, "an address in a token was asked");
    let covered: BTreeSet<&str> = rules.iter().map(|rule| rule.section).collect();
    let missing: Vec<_> = SECTIONS.iter().filter(|s| !covered.contains(**s)).collect();
    assert!(missing.is_empty(), "no rule of {missing:?}");
    println!(
        "{} rules of {} sections, {} tokens: {good} good, {bad} bad",
        rules.len(),
        covered.len(),
        good + bad
    );
}
