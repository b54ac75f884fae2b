//! Shows that messages travel as JSON unchanged, and that hostile text is refused.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tellwire::codec::{self, Codec, CodecFault, CodecRegistry};
use tellwire_json::Json;

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
struct Order {
    id: u64,
    note: Option<String>,
    lines: Vec<Line>,
    labels: BTreeMap<String, i32>,
    discount: f64,
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(tag = "kind")]
enum Line {
    Gift,
    Item { sku: String, pieces: u16 },
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(untagged)]
enum Reply {
    Number(i64),
    Text(String),
    Both { number: i64, text: String },
    Many(Vec<Reply>),
}

tellwire::remote_messages! {
    pub table ORDERS, codec = Json;
    "orders.v1.Order" => Order,
    "orders.v1.Reply" => Reply,
}

fn order() -> Order {
    Order {
        id: u64::MAX,
        note: Some("tea \"green\"\n".to_owned()),
        lines: vec![Line::Gift, Line::Item { sku: "té".to_owned(), pieces: 2 }],
        labels: BTreeMap::from([("rush".to_owned(), -1)]),
        discount: 0.1,
    }
}

fn encoded<M: tellwire::codec::RemoteMessage>(message: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(message, &mut bytes).expect("the message is encodable");
    bytes
}

fn refusal<M: DeserializeOwned + Serialize>(bytes: &[u8]) -> CodecFault {
    match <Json as Codec<M>>::decode(bytes) {
        Ok(_) => panic!("hostile bytes were accepted"),
        Err(fault) => fault,
    }
}

#[test]
fn json_bytes_are_frozen() {
    let expected = r#"{"id":18446744073709551615,"note":"tea \"green\"\n","lines":[{"kind":"Gift"},{"kind":"Item","sku":"té","pieces":2}],"labels":{"rush":-1},"discount":0.1}"#;
    assert_eq!(String::from_utf8(encoded(&order())).unwrap(), expected);
}

#[test]
fn messages_come_back_unchanged() {
    let registry = CodecRegistry::linked().unwrap();
    registry.require(ORDERS).unwrap();
    assert_eq!(registry.decode::<Order>("json:orders.v1.Order", &encoded(&order())), Ok(order()));
}

#[test]
fn untagged_types_come_back_unchanged() {
    let replies = Reply::Many(vec![
        Reply::Number(-3),
        Reply::Text("x".to_owned()),
        Reply::Both { number: 1, text: String::new() },
        Reply::Many(vec![]),
    ]);
    assert_eq!(<Json as Codec<Reply>>::decode(&encoded(&replies)), Ok(replies));
}

#[test]
fn generated_messages_come_back_unchanged() {
    // A linear congruential generator is enough to vary lengths, signs and characters.
    let mut state = 1_u64;
    let mut draw = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    for _ in 0..300 {
        let text = |length: u64, draw: &mut dyn FnMut() -> u64| -> String {
            (0..length)
                .filter_map(|_| char::from_u32(u32::try_from(draw() % 0x11_0000).ok()?))
                .collect()
        };
        let note = (draw() % 2 == 0).then(|| text(12, &mut draw));
        let lines = (0..draw() % 6)
            .map(|_| Line::Item {
                sku: text(4, &mut draw),
                pieces: u16::try_from(draw() % 65_536).unwrap(),
            })
            .collect();
        let labels = (0..draw() % 6)
            .map(|_| (text(5, &mut draw), i32::try_from(draw()).unwrap() - (1 << 30)))
            .collect();
        let discount = f64::from(u32::try_from(draw()).unwrap()) / 8.0;
        let order = Order { id: draw() << 31 | draw(), note, lines, labels, discount };
        assert_eq!(<Json as Codec<Order>>::decode(&encoded(&order)), Ok(order));
    }
}

#[test]
fn unknown_fields_are_ignored_within_the_budget() {
    let text =
        br#"{"id":1,"note":null,"lines":[],"labels":{},"discount":0,"more":[[1,2],{"a":null}]}"#;
    assert_eq!(<Json as Codec<Order>>::decode(text).map(|order| order.id), Ok(1));
}

#[derive(Serialize, Deserialize)]
struct Tree(Vec<Tree>);

#[derive(Serialize, Deserialize)]
enum Variants {
    Leaf,
    Deep(Box<Variants>),
}

#[test]
fn deep_nesting_is_refused_before_the_stack_ends() {
    let deep = || {
        let too_deep = CodecFault::TooDeep { limit: 120 };
        let arrays = "[".repeat(60_000);
        assert_eq!(refusal::<Tree>(arrays.as_bytes()), too_deep);
        assert_eq!(refusal::<Reply>(arrays.as_bytes()), too_deep);
        let objects = r#"{"Deep":"#.repeat(7_500);
        assert_eq!(refusal::<Variants>(objects.as_bytes()), too_deep);
        let unknown = format!(r#"{{"more":{arrays}"#);
        assert!(matches!(refusal::<Order>(unknown.as_bytes()), CodecFault::Decode(_)));
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(deep).unwrap().join().unwrap();
}

#[test]
fn nesting_within_the_budget_is_accepted() {
    let arrays = |depth| [vec![b'['; depth], vec![b']'; depth]].concat();
    // A newtype and its sequence are two levels.
    assert!(<Json as Codec<Tree>>::decode(&arrays(60)).is_ok());
    assert_eq!(refusal::<Tree>(&arrays(61)), CodecFault::TooDeep { limit: 120 });
}

#[test]
fn trailing_bytes_are_counted_and_refused() {
    for (text, extra) in [("1 2", 1), ("1x", 1), ("\n\n1\n\n  {}\n", 3), ("\"ü\" \0\0", 2)] {
        let fault = if text.contains('ü') {
            refusal::<String>(text.as_bytes())
        } else {
            refusal::<u8>(text.as_bytes())
        };
        assert_eq!(fault, CodecFault::Trailing { extra }, "{text:?}");
    }
    assert_eq!(<Json as Codec<u8>>::decode(b" 1 \n"), Ok(1));
}

#[test]
fn truncation_at_every_length_is_refused() {
    let bytes = encoded(&order());
    for length in 0..bytes.len() {
        assert!(matches!(refusal::<Order>(&bytes[..length]), CodecFault::Decode(_)), "{length}");
    }
}

#[test]
fn invalid_text_is_refused() {
    assert!(matches!(refusal::<String>(b"\"\xff\xfe\""), CodecFault::Decode(_)));
    assert!(matches!(refusal::<String>(br#""\ud800""#), CodecFault::Decode(_)));
}

#[test]
fn quoted_input_does_not_swell_the_error() {
    let text = format!(r#"{{"kind":"{}"}}"#, "x".repeat(100_000));
    let CodecFault::Decode(reason) = refusal::<Line>(text.as_bytes()) else {
        panic!("not refused")
    };
    assert!(reason.len() < 300, "{} bytes", reason.len());
}

#[test]
fn many_elements_with_content_fit_the_budget() {
    let numbers = vec![1_u8; 200_000];
    let mut bytes = Vec::new();
    <Json as Codec<_>>::encode(&numbers, &mut bytes).unwrap();
    assert_eq!(<Json as Codec<_>>::decode(&bytes), Ok(numbers));
}

/// Panics in both directions.
struct Panics;

impl Serialize for Panics {
    fn serialize<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        panic!("this type panics while it is encoded")
    }
}

impl<'de> Deserialize<'de> for Panics {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        panic!("this type panics while it is decoded")
    }
}

#[derive(Serialize, Deserialize)]
struct Pairs(BTreeMap<(u8, u8), u8>);

#[derive(Serialize, Deserialize)]
struct Half(u8, Panics);

tellwire::remote_messages! {
    table FAULTY, codec = Json;
    "faulty.v1.Panics" => Panics,
    "faulty.v1.Pairs" => Pairs,
    "faulty.v1.Half" => Half,
}

#[test]
fn faulty_types_leave_the_buffer_and_the_caller_unharmed() {
    let mut out = b"before".to_vec();
    let panicked = codec::encode(&Half(1, Panics), &mut out).unwrap_err();
    assert_eq!(*panicked.fault(), CodecFault::Panicked);
    let pairs = Pairs(BTreeMap::from([((1, 2), 3)]));
    let refused = codec::encode(&pairs, &mut out).unwrap_err();
    assert_eq!(*refused.fault(), CodecFault::Encode("key must be a string".to_owned()));
    assert_eq!(out, b"before");
    let registry = CodecRegistry::from_tables(&[FAULTY]).unwrap();
    let entry = registry.find("json:faulty.v1.Panics").unwrap();
    let error = entry.decode::<Panics>(b"0").map(drop).unwrap_err();
    assert_eq!(*error.fault(), CodecFault::Panicked);
}
