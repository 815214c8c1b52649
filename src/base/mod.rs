//! The lowest floor: time, units, networks and secrets. Names nothing else of the crate.

pub mod clock;
pub mod net;
pub mod secret;
pub mod units;
