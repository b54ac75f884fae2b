//! Remoting and clustering for Rust actors.
#![forbid(unsafe_code)]

pub mod address;
pub mod path;
pub mod wire;
