//! HTTP/1.1 to the letter: for every rule of RFC 9112 by which two readers could disagree a good
//! request and a bad one, and what a service can do wrong in its answers.
//!
//! Each bad request is refused and its connection closed; an origin that records what it gets shows
//! that nothing came to it that the client had not plainly sent.

mod advisory;
mod answer;
mod body;
pub mod case;
mod chunk;
mod connection;
mod expect;
mod field;
mod forwarded;
mod found;
mod hop;
mod line;
mod message;
mod octet;
mod via;
