//! Shows that messages travel as CBOR unchanged, and that hostile bytes are refused.

use serde::{Deserialize, Serialize};
use tellwire::codec::{Codec, CodecFault};
use tellwire::testkit::codec::{Gap, conforms};
use tellwire_cbor::Cbor;

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
fn cbor_conforms() {
    conforms::<Cbor>(&[Gap::NestedOptions]);
}

#[test]
fn cbor_bytes_are_frozen() {
    let order = Order {
        id: 300,
        note: Some("té".to_owned()),
        lines: vec![Line::Gift, Line::Item { sku: "tea".to_owned(), pieces: 2 }],
        discount: 1.5,
        balance: -3,
    };
    let golden = b"\xa5\x62id\x19\x01\x2c\x64note\x63t\xc3\xa9\x65lines\x82\x64Gift\
        \xa1\x64Item\xa2\x63sku\x63tea\x66pieces\x02\
        \x68discount\xfb\x3f\xf8\0\0\0\0\0\0\x67balance\x22";
    let mut bytes = Vec::new();
    Cbor::encode(&order, &mut bytes).unwrap();
    assert_eq!(bytes, golden);
    assert_eq!(Cbor::decode(golden), Ok(order));
}

#[test]
fn numbers_of_any_width_are_read() {
    let wide = b"\x82\x1b\0\0\0\0\0\0\0\x07\x3b\0\0\0\0\0\0\0\x07";
    assert_eq!(<Cbor as Codec<(u8, i8)>>::decode(wide), Ok((7, -8)));
    assert_eq!(
        <Cbor as Codec<(f64, f64)>>::decode(b"\x82\xf9\x3e\0\xfa\x3f\xc0\0\0"),
        Ok((1.5, 1.5))
    );
}

#[test]
fn lists_and_maps_of_indefinite_length_are_read() {
    assert_eq!(<Cbor as Codec<Vec<u8>>>::decode(b"\x9f\x01\x02\xff"), Ok(vec![1, 2]));
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Point {
        x: u8,
    }
    assert_eq!(<Cbor as Codec<Point>>::decode(b"\xbf\x61x\x01\xff"), Ok(Point { x: 1 }));
}

#[test]
fn nested_tags_and_open_lists_are_refused_before_the_stack_ends() {
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    #[serde(untagged)]
    enum Loose {
        Number(u8),
        Many(Vec<Loose>),
    }
    let nested = |marker| [vec![marker; 60_000], vec![0; 1]].concat();
    let tags = <Cbor as Codec<Loose>>::decode(&nested(0xc1));
    assert!(matches!(tags, Err(CodecFault::Decode(_))), "{tags:?}");
    let lists = <Cbor as Codec<Loose>>::decode(&nested(0x9f));
    assert_eq!(lists, Err(CodecFault::TooDeep { limit: 128 }));
    // An unknown field is skipped without recursion.
    let field = [&b"\xa2\x61x\x01\x61y"[..], &nested(0xc1)].concat();
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Point {
        x: u8,
    }
    assert_eq!(<Cbor as Codec<Point>>::decode(&field), Ok(Point { x: 1 }));
}
