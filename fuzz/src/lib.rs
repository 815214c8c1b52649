//! What the fuzz targets judge by: readers written a second time, slow and plain, so that what the gateway
//! accepts can be held against what the standards say of it.

pub mod api_key;
pub mod base64url;
pub mod json;
pub mod keys;
pub mod mutate;
pub mod token;
