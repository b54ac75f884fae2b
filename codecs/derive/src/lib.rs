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
//!
//! | key | means |
//! |---|---|
//! | `manifest = "shop.v1.AddItem"` | names the type on the wire; required |
//! | `codec = Json` or `codecs(Json, Bincode)` | names the formats: the first sends, all are accepted; required |
//! | `into = AddItem` | makes this an old version: it is decoded, and converted with `From` |
//! | `until_understood("shop.v1.AddItem" => AddItemV1)` | sends the older version to peers that are not known to accept this one |
//! | `schema = 0x1f3a` or `schema = none` | takes the place of the hash of the type's shape |
//!
//! The hash covers the names of fields and variants, their order, their types as written, and the attributes
//! of serde and prost; not what the types of the fields consist of. Two nodes with different hashes refuse the
//! manifest to each other. For a format in which a type may gain fields, such as JSON, say `schema = none`.
#![forbid(unsafe_code)]

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

mod expand;
mod manifest;
mod shape;

/// Names a message type on the wire, says in which format it travels, and registers it.
///
/// `#[remote(manifest = "shop.v1.AddItem", codec = Json)]` is required. The manifest is 1 to 200
/// bytes of `[A-Za-z0-9._-]` with a version segment; the codec is a type. The crate's page lists all
/// keys.
#[proc_macro_derive(RemoteMessage, attributes(remote))]
pub fn derive_remote_message(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::remote_message(&input).unwrap_or_else(|error| error.into_compile_error()).into()
}
