//! The lowest floor: time, numbers, units, networks and secrets. Names nothing else of the crate.

pub mod clock;
pub mod decimal;
pub mod net;
pub mod secret;
pub mod units;
