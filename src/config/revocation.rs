//! What is revoked: where that is kept, and what holds while it cannot be known.

use super::decode::Spanned;
use super::fields::{conf, default, words};
use crate::base::units::Span;

conf! {
    /// Revocations, kept in Redis (`redis`).
    pub struct RevocationConf {
        /// The name of the sorted set in Redis, and of the channel. Default `tollgate:revocations`.
        key: Spanned<String> = default("tollgate:revocations");
        /// How often all of it is read, so that a message that was missed is made up for, 1s to 1h. Default
        /// 30s.
        scan: Spanned<Span> = default("30s").range("1s", "1h");
        /// How long the gateway may not know whether it knows all, 1s to 1d. Default 1m.
        max_lag: Spanned<Span> = default("1m").range("1s", "1d");
        /// What holds beyond that: `allow` lets in whoever was not revoked before, `refuse` nobody who has
        /// to say who it is. Default `allow`.
        on_lag: Spanned<OnLagConf> = default("allow");
        /// The most entries held, 1000 to 10000000. Default 1000000.
        max_entries: Spanned<u32> = default("1000000").range("1000", "10000000");
    }
}

words! {
    /// What holds while revocations may be out of date.
    pub enum OnLagConf {
        /// What was not revoked before is let in.
        Allow = "allow",
        /// Nobody is let in who has to say who it is.
        Refuse = "refuse",
    }
}
