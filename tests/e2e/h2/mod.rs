//! HTTP/2 (RFC 9113) and its header compression (RFC 7541), rule by rule, with frames written by
//! hand. Each case names the section that it tries and runs over cleartext and over TLS.

mod answers;
mod blocks;
mod compression;
mod concurrency;
mod fields;
mod floods;
mod frame;
mod frames;
mod hpack;
mod huffman;
mod life;
mod limits;
mod messages;
mod peer;
mod plain;
mod proxying;
mod seen;
mod settings;
mod site;
mod start;
mod streams;
mod suite;
mod windows;
