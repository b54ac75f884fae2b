//! Shows that messages travel as Protocol Buffers unchanged, and what of hostile bytes is refused.

use std::collections::HashMap;

use tellwire::codec::{self, Codec, CodecFault, CodecRegistry};
use tellwire::testkit::codec::{Gap, message_conforms};
use tellwire_protobuf::Protobuf;

#[derive(Clone, PartialEq, prost::Message)]
struct Order {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, optional, tag = "2")]
    note: Option<String>,
    #[prost(message, repeated, tag = "3")]
    lines: Vec<Line>,
    #[prost(double, tag = "4")]
    discount: f64,
    #[prost(sint32, tag = "5")]
    balance: i32,
    #[prost(map = "string, bytes", tag = "6")]
    labels: HashMap<String, Vec<u8>>,
    #[prost(fixed32, repeated, tag = "7")]
    codes: Vec<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Line {
    #[prost(oneof = "Kind", tags = "1, 2")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(bool, tag = "1")]
    Gift(bool),
    #[prost(message, tag = "2")]
    Item(Item),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Item {
    #[prost(string, tag = "1")]
    sku: String,
    #[prost(uint32, tag = "2")]
    pieces: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Nest {
    #[prost(message, optional, boxed, tag = "1")]
    next: Option<Box<Nest>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Units {
    #[prost(message, repeated, tag = "1")]
    units: Vec<()>,
}

tellwire::remote_messages! {
    table ORDERS, codec = Protobuf;
    "orders.v1.Order" => Order,
}

fn order() -> Order {
    let item = Item { sku: "tea".to_owned(), pieces: 2 };
    Order {
        id: 300,
        note: Some("té".to_owned()),
        lines: vec![Line { kind: Some(Kind::Gift(true)) }, Line { kind: Some(Kind::Item(item)) }],
        discount: 1.5,
        balance: -3,
        labels: HashMap::from([("a".to_owned(), vec![0, 255])]),
        codes: vec![7],
    }
}

fn extreme() -> Order {
    Order {
        id: u64::MAX,
        note: Some(String::new()),
        lines: vec![Line::default(); 3],
        discount: f64::NEG_INFINITY,
        balance: i32::MIN,
        labels: HashMap::new(),
        codes: vec![u32::MAX; 100],
    }
}

/// Wraps the bytes of a message as its own field 1, so many times.
fn nested(levels: usize) -> Vec<u8> {
    let mut headers: Vec<Vec<u8>> = Vec::new();
    let mut length = 0;
    for _ in 0..levels {
        let mut header = vec![0x0a];
        prost::encode_length_delimiter(length, &mut header).expect("a buffer grows");
        length += header.len();
        headers.push(header);
    }
    headers.into_iter().rev().flatten().collect()
}

fn refusal<M: prost::Message + Default>(bytes: &[u8]) -> CodecFault {
    match <Protobuf as Codec<M>>::decode(bytes) {
        Ok(_) => panic!("hostile bytes were accepted"),
        Err(fault) => fault,
    }
}

#[test]
fn protobuf_conforms() {
    message_conforms::<Protobuf, _>(&[order(), extreme()], &[Gap::Framing]);
    message_conforms::<Protobuf, _>(&[order().lines[1].clone()], &[Gap::Framing]);
}

#[test]
fn protobuf_bytes_are_frozen() {
    let golden =
        b"\x08\xac\x02\x12\x03t\xc3\xa9\x1a\x02\x08\x01\x1a\x09\x12\x07\x0a\x03tea\x10\x02\
        \x21\0\0\0\0\0\0\xf8\x3f\x28\x05\x32\x07\x0a\x01a\x12\x02\0\xff\x3a\x04\x07\0\0\0";
    let mut bytes = Vec::new();
    codec::encode(&order(), &mut bytes).unwrap();
    assert_eq!(bytes, golden);
    let registry = CodecRegistry::from_tables(&[ORDERS]).unwrap();
    assert_eq!(registry.decode("protobuf:orders.v1.Order", golden), Ok(order()));
}

#[test]
fn large_messages_come_back_unchanged() {
    let line = order().lines[1].clone();
    let large = Order { note: Some("ü".repeat(1 << 19)), lines: vec![line; 20_000], ..order() };
    let mut bytes = Vec::new();
    codec::encode(&large, &mut bytes).unwrap();
    assert_eq!(<Protobuf as Codec<Order>>::decode(&bytes), Ok(large));
}

#[test]
fn deep_nesting_is_refused_before_the_stack_ends() {
    let too_deep = CodecFault::TooDeep { limit: Protobuf::MAX_DEPTH };
    let deep = move || {
        assert_eq!(refusal::<Nest>(&nested(15_000)), too_deep);
        // Groups of a field that the type does not know.
        assert_eq!(refusal::<Nest>(&[0x13; 60_000]), too_deep);
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(deep).unwrap().join().unwrap();
}

#[test]
fn nesting_ends_exactly_at_the_limit() {
    assert!(<Protobuf as Codec<Nest>>::decode(&nested(Protobuf::MAX_DEPTH)).is_ok());
    let one_more = nested(Protobuf::MAX_DEPTH + 1);
    assert_eq!(refusal::<Nest>(&one_more), CodecFault::TooDeep { limit: Protobuf::MAX_DEPTH });
}

#[test]
fn claimed_lengths_beyond_the_input_are_refused() {
    for field in [0x12, 0x1a, 0x32, 0x3a] {
        for claim in [1_usize << 20, 1 << 31, 1 << 40, usize::MAX] {
            let mut bytes = vec![field];
            prost::encode_length_delimiter(claim, &mut bytes).unwrap();
            bytes.push(1);
            assert!(matches!(refusal::<Order>(&bytes), CodecFault::Decode(_)), "{bytes:x?}");
        }
    }
}

#[test]
fn elements_take_two_bytes_even_without_content() {
    let bytes = [0x0a, 0].repeat(30_000);
    let units: Units = Protobuf::decode(&bytes).unwrap();
    assert_eq!(units.units.len(), bytes.len() / 2);
}

#[test]
fn invalid_text_is_refused() {
    assert!(matches!(refusal::<Order>(b"\x12\x02\xff\xfe"), CodecFault::Decode(_)));
}

#[test]
fn cuts_inside_a_field_are_refused() {
    let mut bytes = Vec::new();
    codec::encode(&order().lines[1].clone(), &mut bytes).unwrap();
    for length in 1..bytes.len() {
        assert!(matches!(refusal::<Line>(&bytes[..length]), CodecFault::Decode(_)), "{length}");
    }
}

tellwire::remote_messages! {
    table LINES, codec = Protobuf;
    "orders.v1.Line" => Line,
}

#[test]
fn bytes_behind_a_message_are_more_fields() {
    let mut bytes = Vec::new();
    codec::encode(&order().lines[1].clone(), &mut bytes).unwrap();
    let [_] = LINES else { panic!("one entry was declared") };
    // Field 1 replaces the variant, field 15 is unknown, field 0 does not exist.
    let gift = <Protobuf as Codec<Line>>::decode(&[&bytes[..], b"\x08\x01"].concat());
    assert_eq!(gift, Ok(Line { kind: Some(Kind::Gift(true)) }));
    let unknown = <Protobuf as Codec<Line>>::decode(&[&bytes[..], b"\x78\x01"].concat());
    assert_eq!(unknown.as_ref(), Ok(&order().lines[1]));
    assert!(matches!(refusal::<Line>(&[&bytes[..], b"\0"].concat()), CodecFault::Decode(_)));
}
