//! Shows that messages travel as MessagePack unchanged, and that hostile bytes are refused.

use serde::{Deserialize, Serialize};
use tellwire::codec::{Codec, CodecFault};
use tellwire::testkit::codec::{Gap, conforms};
use tellwire_messagepack::MessagePack;

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
fn messagepack_conforms() {
    conforms::<MessagePack>(&[Gap::NestedOptions]);
}

#[test]
fn messagepack_bytes_are_frozen() {
    let order = Order {
        id: 300,
        note: Some("té".to_owned()),
        lines: vec![Line::Gift, Line::Item { sku: "tea".to_owned(), pieces: 2 }],
        discount: 1.5,
        balance: -3,
    };
    let golden = b"\x85\xa2id\xcd\x01\x2c\xa4note\xa3t\xc3\xa9\xa5lines\x92\xa4Gift\
        \x81\xa4Item\x82\xa3sku\xa3tea\xa6pieces\x02\
        \xa8discount\xcb\x3f\xf8\0\0\0\0\0\0\xa7balance\xfd";
    let mut bytes = Vec::new();
    MessagePack::encode(&order, &mut bytes).unwrap();
    assert_eq!(bytes, golden);
    assert_eq!(MessagePack::decode(golden), Ok(order));
}

#[test]
fn every_byte_behind_a_message_is_counted() {
    // Each is a marker that ends, asks for more, or is reserved.
    for tail in [&b"\xc0"[..], b"\xc3", b"\x91", b"\xcd", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xa1"]
    {
        let bytes = [&b"\x92\x01\x02"[..], tail].concat();
        let refused = <MessagePack as Codec<(u8, u8)>>::decode(&bytes);
        assert_eq!(refused, Err(CodecFault::Trailing { extra: tail.len() }), "{tail:x?}");
    }
}

#[test]
fn numbers_of_any_width_are_read() {
    let wide = b"\x92\xcf\0\0\0\0\0\0\0\x07\xd3\0\0\0\0\0\0\0\x08";
    assert_eq!(<MessagePack as Codec<(u8, i16)>>::decode(wide), Ok((7, 8)));
    assert_eq!(<MessagePack as Codec<(f64,)>>::decode(b"\x91\xca\x3f\xc0\0\0"), Ok((1.5,)));
}
