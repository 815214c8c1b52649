//! Which route a request belongs to: pure functions over text, no clock, no I/O.
//!
//! A request's path and host are normalised once ([`path::normalise`], [`host::normalise`]). What
//! comes out is looked up in the [`table::Table`] and is also what goes upstream, so that router
//! and backend cannot read two different things in one request.
//!
//! # Which entry wins
//!
//! Of all entries that match host, path and method, the most specific wins, decided in this order:
//!
//! 1. **Host**: an exact name, then the longer wildcard, then the shorter wildcard, then no host.
//! 2. **Path**, segment by segment from the left: a literal, then a parameter, then the end of a
//!    prefix. Where both end on the same segment, the exact path goes before the prefix.
//! 3. **Method**: an entry that lists methods, then one that takes them all.
//!
//! The order in the file never matters. An entry that does not take the method, or a host none of
//! whose paths match, is passed over for the next in this order. Two entries that would tie are a
//! fault found when the table is built. [`Precedence`] is this list as an `Ord`.
//!
//! A path is refused as [`Found::Ambiguous`] when a backend that cuts `;…` or decodes more than it
//! must would see it belong elsewhere than to the entry that won (`/admin;x` where `/admin` has
//! rules of its own).

pub mod host;
pub mod method;
pub mod path;
pub mod pattern;
pub mod precedence;
pub mod table;
mod tree;

pub use host::{HostFault, HostPattern};
pub use method::MethodSet;
pub use path::PathFault;
pub use pattern::PathPattern;
pub use precedence::Precedence;
pub use table::{Clash, Entry, Found, Table};
