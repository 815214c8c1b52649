//! Pure cores against naive twins: one module a core.

mod balance;
mod breaker;
mod identity;
mod limit;
mod route;
