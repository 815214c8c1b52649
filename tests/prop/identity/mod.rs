//! Tokens, key sets, the token cache and key fetching, from outside: what must be refused is
//! refused, what is remembered holds no longer than it may.

mod answers;
mod cache;
mod key_cache;
mod mint;
mod remote;
mod sets;
mod tokens;
