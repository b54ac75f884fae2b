//! Shows that messages travel as postcard unchanged, and that hostile bytes are refused.

use serde::{Deserialize, Serialize};
use tellwire::codec::Codec;
use tellwire::testkit::codec::{Gap, conforms};
use tellwire_postcard::Postcard;

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Order {
    id: u64,
    note: Option<String>,
    lines: Vec<Line>,
    discount: f64,
    balance: i32,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
enum Line {
    Gift,
    Item { sku: String, pieces: u16 },
}

#[test]
fn postcard_conforms() {
    conforms::<Postcard>(&[Gap::SelfDescription]);
}

#[test]
fn postcard_bytes_are_frozen() {
    let order = Order {
        id: 300,
        note: Some("té".to_owned()),
        lines: vec![Line::Gift, Line::Item { sku: "tea".to_owned(), pieces: 2 }],
        discount: 1.5,
        balance: -3,
    };
    let golden = b"\xac\x02\x01\x03t\xc3\xa9\x02\x00\x01\x03tea\x02\0\0\0\0\0\0\xf8\x3f\x05";
    let mut bytes = Vec::new();
    Postcard::encode(&order, &mut bytes).unwrap();
    assert_eq!(bytes, golden);
    assert_eq!(Postcard::decode(golden), Ok(order));
}
