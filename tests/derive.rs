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

#[derive(Serialize, Deserialize, RemoteMessage, Debug, PartialEq)]
#[remote(
    manifest = "derive.v2.Price",
    codecs(Bincode, Json),
    until_understood("derive.v1.Price" => OldPrice),
)]
struct Price {
    cents: u64,
}

#[derive(Serialize, Deserialize, RemoteMessage)]
#[remote(manifest = "derive.v1.Price", codec = Bincode, into = Price, schema = 0x11)]
struct OldPrice(u8);

impl From<OldPrice> for Price {
    fn from(old: OldPrice) -> Self {
        Self { cents: u64::from(old.0) }
    }
}

impl From<&Price> for OldPrice {
    fn from(new: &Price) -> Self {
        Self(u8::try_from(new.cents).unwrap_or(u8::MAX))
    }
}

#[derive(Serialize, Deserialize, RemoteMessage)]
#[remote(manifest = "derive.v1.Growing", codec = Json, schema = none)]
struct Growing {
    #[serde(default)]
    added: u8,
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
    let expected = [
        "bincode:derive.v1.Listed",
        "bincode:derive.v1.Price",
        "bincode:derive.v2.Checkout",
        "bincode:derive.v2.Price",
        "json:derive.v1.AddItem",
        "json:derive.v1.Growing",
        "json:derive.v2.Price",
    ];
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

#[test]
fn derived_versions_convert_both_ways() {
    let registry = CodecRegistry::linked().unwrap();
    assert_eq!(registry.decode("bincode:derive.v1.Price", &[7]), Ok(Price { cents: 7 }));
    assert_eq!(registry.decode("json:derive.v2.Price", br#"{"cents":9}"#), Ok(Price { cents: 9 }));
    let names: Vec<_> = Price::ENCODINGS.iter().map(|formats| formats.len()).collect();
    assert_eq!(names, [2, 2]);
    let mut bytes = Vec::new();
    Price::ENCODINGS[1][0].encode(&Price { cents: 300 }, &mut bytes).unwrap();
    assert_eq!(bytes, [255]);
}

/// The hash is part of what nodes tell each other: a release of this crate that changes it splits clusters.
#[test]
fn schema_hashes_are_frozen() {
    let fnv1a = |text: &str| {
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    };
    assert_eq!(AddItem::SCHEMA, Some(fnv1a("{ sku : String , } ")));
    assert_eq!(Checkout::SCHEMA, Some(fnv1a("| Now ; ")));
    assert_eq!(Growing::SCHEMA, None);
    let registry = CodecRegistry::linked().unwrap();
    assert_eq!(registry.find("bincode:derive.v1.Price").unwrap().schema(), Some(0x11));
    assert_eq!(Growing { added: 1 }.added, 1);
}
