//! Shows that a crate which is a dependency and named nowhere in code registers nothing.
//!
//! `tellwire-shop` is such a crate here; `tests/named_crate.rs` names it.

use serde::{Deserialize, Serialize};
use tellwire::Node;
use tellwire::codec::{Bincode, CodecEntry, CodecRegistry, Origin, RemoteMessage};

#[derive(Serialize, Deserialize)]
struct Order {
    count: u32,
}

impl RemoteMessage for Order {
    const MANIFEST: &'static str = "shop.v1.Order";
    type Codec = Bincode;
}

/// Stands in for the table of the crate: to name that table would be to link it.
static SHOP: &[CodecEntry] =
    &[CodecEntry::new::<Order>(Origin::new("tests/shop/src/lib.rs", 15, "tellwire_shop"))];

#[test]
fn it_registers_nothing() {
    assert!(CodecRegistry::linked().unwrap().is_empty());
}

#[tokio::test]
async fn a_node_that_requires_it_does_not_start_and_says_what_to_write() {
    let builder = Node::builder("Shop").listen("tcp://127.0.0.1:0").require(SHOP);
    let text = builder.start().await.unwrap_err().to_string();
    for part in ["`bincode:shop.v1.Order`", "tests/shop/src/lib.rs:15", "`use tellwire_shop as _;`"]
    {
        assert!(text.contains(part), "{text}");
    }
}
