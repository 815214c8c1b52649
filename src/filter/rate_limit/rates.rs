//! How much each caller may: the limit's rate, that of its tier, or its own.

use crate::base::units::Rate;
use crate::identity::principal::Principal;
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// A rule of some kind for each caller.
pub struct Rates<R> {
    /// For whom nothing else holds.
    pub all: R,
    /// By tier.
    pub tiers: Box<[(Box<str>, R)]>,
    /// For those who bring their own.
    pub own: Option<OwnRate<R>>,
}

/// Rates that callers bring with them.
pub struct OwnRate<R> {
    /// No more is believed than this, neither at a stroke nor in the long run.
    pub most: Rate,
    /// The place in [`Principal::claims`] of the claim that says it.
    pub claim: Option<usize>,
    /// The window of a claim that says only how many.
    pub per: Duration,
    /// Makes a rule of a rate.
    pub make: Box<dyn Fn(Rate) -> Option<R> + Send + Sync>,
}

impl<R: Copy> Rates<R> {
    /// What holds for a caller.
    pub fn of(&self, caller: Option<&Principal>) -> R {
        let Some(caller) = caller else {
            return self.all;
        };
        let own = self.own.as_ref().and_then(|own| own.of(caller));
        own.or_else(|| self.of_tier(caller.tier.as_deref()?))
            .unwrap_or(self.all)
    }

    fn of_tier(&self, tier: &str) -> Option<R> {
        let found = self.tiers.iter().find(|(name, _)| **name == *tier);
        found.map(|(_, rule)| *rule)
    }
}

impl<R> OwnRate<R> {
    fn of(&self, caller: &Principal) -> Option<R> {
        let claimed = || {
            caller
                .claims
                .get(self.claim?)?
                .as_ref()
                .and_then(|c| self.read(c))
        };
        let rate = caller.rate_limit.or_else(claimed)?;
        (self.make)(self.believed(rate))
    }

    /// A rate such as `1000/1h`, or a number of requests in the limit's window.
    fn read(&self, claim: &Value) -> Option<Rate> {
        let rate = match claim {
            Value::String(text) => text.parse().ok()?,
            other => Rate {
                count: other.as_u64()?,
                per: self.per,
            },
        };
        Some(rate).filter(|rate: &Rate| rate.is_countable())
    }

    fn believed(&self, rate: Rate) -> Rate {
        let most = self.most;
        let dense = |a: Rate, b: Rate| u128::from(a.count) * b.per.as_nanos();
        if rate.count > most.count || dense(rate, most) > dense(most, rate) {
            most
        } else {
            rate
        }
    }
}

impl<R: fmt::Debug> fmt::Debug for Rates<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rates({:?}, {} tiers)", self.all, self.tiers.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::principal::Method;
    use serde_json::json;

    fn rate(text: &str) -> Rate {
        text.parse().expect("a rate")
    }

    fn rates() -> Rates<Rate> {
        Rates {
            all: rate("10/1m"),
            tiers: Box::new([("gold".into(), rate("100/1m"))]),
            own: Some(OwnRate {
                most: rate("1000/1m"),
                claim: Some(0),
                per: Duration::from_secs(60),
                make: Box::new(Some),
            }),
        }
    }

    fn caller(claim: Value) -> Principal {
        Principal {
            claims: Box::new([Some(claim)]),
            ..Principal::new(Method::Jwt, &"corp".into())
        }
    }

    #[test]
    fn a_tier_that_is_not_known_gets_what_all_get() {
        let mut who = caller(Value::Null);
        assert_eq!(rates().of(None), rate("10/1m"));
        assert_eq!(rates().of(Some(&who)), rate("10/1m"));
        for (tier, want) in [("gold", "100/1m"), ("GOLD", "10/1m"), ("", "10/1m")] {
            who.tier = Some(tier.into());
            assert_eq!(rates().of(Some(&who)), rate(want), "{tier}");
        }
    }

    #[test]
    fn an_own_rate_is_believed_up_to_the_most() {
        for (claim, want) in [
            (json!("50/1m"), "50/1m"),
            (json!("1000/1h"), "1000/1h"),
            (json!(70), "70/1m"),
            // More than the most at a stroke, or in the long run.
            (json!("2000/1h"), "1000/1m"),
            (json!("100/1s"), "1000/1m"),
            (json!(1_000_000), "1000/1m"),
            // No rate at all: as if nothing were there.
            (json!("lots"), "10/1m"),
            (json!(0), "10/1m"),
            (json!(-5), "10/1m"),
            (json!({"n": 5}), "10/1m"),
            (Value::Null, "10/1m"),
        ] {
            assert_eq!(
                rates().of(Some(&caller(claim.clone()))),
                rate(want),
                "{claim}"
            );
        }
        let mut with_key = caller(json!("50/1m"));
        with_key.rate_limit = Some(rate("5/1m"));
        assert_eq!(
            rates().of(Some(&with_key)),
            rate("5/1m"),
            "the key's counts first"
        );
    }
}
