//! Remoting and clustering for Rust actors.
#![forbid(unsafe_code)]

pub mod address;
pub mod codec;
pub mod path;
pub mod transport;
pub mod wire;

#[doc(hidden)]
pub use codec::macros::private as __private;
