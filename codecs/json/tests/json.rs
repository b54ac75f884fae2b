//! Shows that messages travel as JSON unchanged, and that hostile text is refused.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tellwire::codec::{self, Codec, CodecFault, CodecRegistry};
use tellwire::testkit::codec::{Gap, conforms};
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

tellwire::remote_messages! {
    pub table ORDERS, codec = Json;
    "orders.v1.Order" => Order,
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
fn json_conforms() {
    conforms::<Json>(&[Gap::NonFinite, Gap::NestedOptions, Gap::StructuredKeys]);
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

#[derive(Serialize, Deserialize)]
struct Tree(Vec<Tree>);

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
fn half_a_surrogate_pair_is_refused() {
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
