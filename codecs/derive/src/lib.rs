//! Derives `RemoteMessage` for tellwire messages.
//!
//! Use it through tellwire's feature `derive`, as `tellwire::RemoteMessage`. It registers one type
//! where it is defined, exactly as a line of `tellwire::remote_messages!` does:
//!
//! ```ignore
//! #[derive(serde::Serialize, serde::Deserialize, tellwire::RemoteMessage)]
//! #[remote(manifest = "shop.v1.AddItem", codec = tellwire::codec::Bincode)]
//! struct AddItem {
//!     sku: String,
//! }
//! ```
//!
//! Both keys are required, for neither has a default that may change later. The type is registered
//! at link time; a table for explicit registration, and the concrete types of a generic one, take
//! `remote_messages!`.
#![forbid(unsafe_code)]

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

mod expand;
mod manifest;

/// Names a message type on the wire, says in which format it travels, and registers it.
///
/// `#[remote(manifest = "shop.v1.AddItem", codec = Json)]` is required. The manifest is 1 to 200
/// bytes of `[A-Za-z0-9._-]` with a version segment; the codec is a type.
#[proc_macro_derive(RemoteMessage, attributes(remote))]
pub fn derive_remote_message(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::remote_message(&input).unwrap_or_else(|error| error.into_compile_error()).into()
}
