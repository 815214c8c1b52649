//! Redis as several gateways share it: through its library side, against a real server.

mod answers;
mod login;
mod watching;
