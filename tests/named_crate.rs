//! Shows that a crate is linked, and registers its messages, once it is named.

use tellwire::Node;
use tellwire::codec::CodecRegistry;
use tellwire_shop as _;

#[test]
fn it_registers_its_messages() {
    let registry = CodecRegistry::linked().unwrap();
    let names: Vec<_> = registry.iter().map(|entry| entry.wire_name()).collect();
    assert_eq!(names, ["bincode:shop.v1.Order"]);
    registry.require(tellwire_shop::SHOP).unwrap();
}

#[tokio::test]
async fn a_node_that_requires_it_starts() {
    let builder = Node::builder("Shop").listen("tcp://127.0.0.1:0").require(tellwire_shop::SHOP);
    assert!(builder.start().await.is_ok());
}
