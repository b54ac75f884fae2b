//! Remoting and clustering for Rust actors: typed tells by actor path over one association per peer.
//!
//! tellwire carries messages between actors that already exist (tokio tasks, or the actors of any framework), and knows
//! which nodes are there. Three acts are all of it: register codecs, tell an actor by its path, join a cluster through
//! seed addresses.
//!
//! ```standalone_crate
//! use std::time::Duration;
//!
//! use tellwire::Node;
//! use tellwire::codec::Bincode;
//! use tellwire::node::Context;
//!
//! #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
//! struct Text(String);
//!
//! tellwire::remote_messages! {
//!     pub table ECHO, codec = Bincode;
//!     "echo.v1.Text" => Text,
//! }
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ada = Node::builder("Echo").listen("tcp://127.0.0.1:0").start().await?;
//! ada.spawn("/user/echo", async |text: Text, cx: &mut Context| cx.reply(&text))?;
//!
//! let bob = Node::builder("Echo").listen("tcp://127.0.0.1:0").seeds([ada.address()]).start().await?;
//! let echo = bob.resolve(ada.path("/user/echo"))?;
//! let reply: Text = echo.ask(&Text("hello".into()), Duration::from_secs(5)).await?;
//! assert_eq!(reply, Text("hello".into()));
//! # Ok(()) }
//! ```
//!
//! # A map
//!
//! | to | look at |
//! |---|---|
//! | start a node, register actors, resolve paths | [`Node`], [`node`] |
//! | tell, send, ask | [`RemoteRef`] |
//! | join a cluster, see who is there, leave | [`node::NodeBuilder::seeds`], [`node::cluster`] |
//! | name message types on the wire | [`remote_messages!`], [`codec`] |
//! | plug in your own actors | [`node::Mailbox`], [`node::RemoteMessageSink`] |
//! | see what was lost and why | [`Node::dead_letters`], [`Node::events`], [`Node::stats`], [`event`] |
//! | set bounds and time-outs | [`Settings`], [`settings`] |
//! | name nodes and actors | [`Address`], [`ActorPath`] |
//! | bring a transport | [`transport`] |
//! | read the wire format | [`wire`] |
//! | read the rules of the cluster, bring a downing strategy | [`membership`], [`membership::downing`] |
//!
//! # Floors
//!
//! A module imports only from lower floors. Words (`address`, `path`, `lane`, `settings`, `event`) lie below bytes (`wire`,
//! `codec`), those below the machines of an association and of membership, which have no IO and no clock; above them the multiplexer's table
//! and the transports, and on top the node with its tasks.
//!
//! # Features
//!
//! `tcp` (default) brings TCP links; in-process links are always there. `derive` brings
//! `#[derive(RemoteMessage)]`. `testkit` brings what your own tests need.
#![forbid(unsafe_code)]

pub mod address;
mod association;
pub mod codec;
pub mod event;
mod frame;
#[cfg(feature = "testkit")]
#[doc(hidden)]
pub mod fuzzing;
pub mod lane;
pub mod membership;
pub mod node;
pub mod path;
pub mod prelude;
pub mod settings;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod transport;
pub mod wire;

pub use address::{Address, Endpoint, Uid, UniqueAddress};
pub use association::AssociationState;
pub use codec::RemoteMessage;
pub use node::{Node, RemoteRef};
pub use path::ActorPath;
pub use settings::Settings;
#[cfg(feature = "derive")]
pub use tellwire_derive::RemoteMessage;

#[doc(hidden)]
pub use codec::macros::private as __private;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
