//! Remoting and clustering for Rust actors.
#![forbid(unsafe_code)]
#![warn(clippy::print_stdout)]

pub mod address;
mod association;
pub mod codec;
pub mod event;
mod frame;
pub mod lane;
pub mod node;
pub mod path;
pub mod prelude;
pub mod settings;
pub mod transport;
pub mod wire;

pub use address::{Address, Endpoint, Uid, UniqueAddress};
pub use codec::RemoteMessage;
pub use node::{Node, RemoteRef};
pub use path::ActorPath;
pub use settings::Settings;

#[doc(hidden)]
pub use codec::macros::private as __private;
