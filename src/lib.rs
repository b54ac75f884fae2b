//! Remoting and clustering for Rust actors.
#![forbid(unsafe_code)]

pub mod address;
mod association;
pub mod codec;
pub mod event;
pub mod lane;
pub mod path;
pub mod settings;
pub mod transport;
pub mod wire;

#[doc(hidden)]
pub use codec::macros::private as __private;
