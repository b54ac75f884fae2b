//! Shows that a derived message is registered exactly as a listed one is.

use serde::{Deserialize, Serialize};
use tellwire::codec::{self, Bincode, CodecRegistry};
use tellwire::{RemoteMessage, remote_messages};
use tellwire_json::Json;

#[derive(Serialize, Deserialize, RemoteMessage, Debug, PartialEq)]
#[remote(manifest = "derive.v1.AddItem", codec = Json)]
struct AddItem {
    sku: String,
}

#[derive(Serialize, Deserialize, RemoteMessage, Debug, PartialEq)]
#[remote(manifest = "derive.v2.Checkout")]
#[remote(codec = tellwire::codec::Bincode)]
enum Checkout {
    Now,
}

#[derive(Serialize, Deserialize)]
struct Listed;

remote_messages! {
    table LISTED, codec = Bincode;
    "derive.v1.Listed" => Listed,
}

#[test]
fn derived_messages_travel_under_their_manifest() {
    let registry = CodecRegistry::linked().unwrap();
    let item = AddItem { sku: "tea".to_owned() };
    let mut bytes = Vec::new();
    codec::encode(&item, &mut bytes).unwrap();
    assert_eq!(bytes, br#"{"sku":"tea"}"#);
    assert_eq!(registry.decode("json:derive.v1.AddItem", &bytes), Ok(item));
    assert_eq!(registry.decode("bincode:derive.v2.Checkout", &[0]), Ok(Checkout::Now));
    assert_eq!(Checkout::MANIFEST, "derive.v2.Checkout");
}

#[test]
fn derived_messages_are_linked_beside_listed_ones() {
    let registry = CodecRegistry::linked().unwrap();
    let names: Vec<_> = registry.iter().map(|entry| entry.wire_name()).collect();
    let expected =
        ["bincode:derive.v1.Listed", "bincode:derive.v2.Checkout", "json:derive.v1.AddItem"];
    assert_eq!(names, expected);
    registry.require(LISTED).unwrap();
}

#[test]
fn origin_is_the_place_of_the_derive() {
    let registry = CodecRegistry::linked().unwrap();
    let origin = registry.find("json:derive.v1.AddItem").unwrap().origin();
    let line =
        include_str!("derive.rs").lines().position(|line| line.contains("RemoteMessage, Debug"));
    assert!(origin.file().ends_with("derive.rs"), "{origin}");
    assert_eq!(usize::try_from(origin.line()).ok(), line.map(|at| at + 1));
    assert_eq!(origin.module(), module_path!());
}
