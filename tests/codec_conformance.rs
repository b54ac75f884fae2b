//! Holds the built-in codec to the conformance suite, and the suite to finding what is wrong.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tellwire::codec::{Bincode, Codec, CodecFault};
use tellwire::testkit::codec::{
    Gap, conforms, conforms_within, message_conforms, message_conforms_within,
};
use tellwire_cbor::Cbor;
use tellwire_json::Json;
use tellwire_messagepack::MessagePack;
use tellwire_postcard::Postcard;
use tellwire_protobuf::Protobuf;

/// Counts the heap of this thread.
fn heap(run: &mut dyn FnMut()) -> usize {
    usize::try_from(allocation_counter::measure(run).bytes_max).unwrap_or(usize::MAX)
}

#[test]
fn bincode_conforms_and_holds_little() {
    conforms_within::<Bincode>(&[Gap::SelfDescription], heap);
}

#[test]
fn json_holds_little() {
    conforms_within::<Json>(&[Gap::NonFinite, Gap::NestedOptions, Gap::StructuredKeys], heap);
}

#[test]
fn postcard_holds_little() {
    conforms_within::<Postcard>(&[Gap::SelfDescription], heap);
}

#[test]
fn messagepack_holds_little() {
    conforms_within::<MessagePack>(&[Gap::NestedOptions], heap);
}

#[test]
fn cbor_holds_little() {
    conforms_within::<Cbor>(&[Gap::NestedOptions], heap);
}

#[test]
fn protobuf_holds_little() {
    let tree =
        |inner| Tree { name: "té".to_owned(), bytes: vec![7; 300], numbers: vec![1], inner };
    let messages = [tree(vec![tree(Vec::new()), Tree::default()])];
    message_conforms_within::<Protobuf, _>(&messages, &[Gap::Framing], heap);
}

/// Is a message of Protocol Buffers that holds others like it.
#[derive(Clone, PartialEq, prost::Message)]
struct Tree {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "vec", tag = "2")]
    bytes: Vec<u8>,
    #[prost(uint64, repeated, tag = "3")]
    numbers: Vec<u64>,
    #[prost(message, repeated, tag = "4")]
    inner: Vec<Tree>,
}

#[test]
fn a_long_list_of_large_absent_things_is_refused_before_it_fills_the_memory() {
    sparse_lists_are_bounded::<Bincode>();
    sparse_lists_are_bounded::<Postcard>();
    sparse_lists_are_bounded::<MessagePack>();
    sparse_lists_are_bounded::<Cbor>();
}

/// Takes one byte on the wire and 264 in memory when it is absent.
type Sparse = Option<[u64; 32]>;

type SparseMaps = Vec<BTreeMap<u8, Sparse>>;

fn sparse_lists_are_bounded<C: Codec<Vec<Sparse>> + Codec<SparseMaps>>() {
    let list = |length| -> Vec<Sparse> { vec![None; length] };
    let mut few = Vec::new();
    <C as Codec<Vec<Sparse>>>::encode(&list(15_000), &mut few).expect("a list");
    assert!(<C as Codec<Vec<Sparse>>>::decode(&few) == Ok(list(15_000)), "an honest list");

    let mut many = Vec::new();
    <C as Codec<Vec<Sparse>>>::encode(&list(200_000), &mut many).expect("a list");
    let limit = 64 * many.len() + (4 << 20);
    let mut fault = None;
    let peak = heap(&mut || fault = <C as Codec<Vec<Sparse>>>::decode(&many).err());
    assert_eq!(fault, Some(CodecFault::TooMuchMemory { limit }));
    assert!(peak <= 3 * limit, "{peak} bytes held, not three times {limit}");

    let mut maps = Vec::new();
    let pairs = vec![BTreeMap::from([(7, None)]); 100_000];
    <C as Codec<SparseMaps>>::encode(&pairs, &mut maps).expect("a list");
    let outcome = <C as Codec<SparseMaps>>::decode(&maps);
    let limit = 64 * maps.len() + (4 << 20);
    assert_eq!(outcome.err(), Some(CodecFault::TooMuchMemory { limit }), "the values of maps");
}

#[test]
#[should_panic(expected = "is it a gap, NonFinite?")]
fn a_gap_has_to_be_named() {
    conforms::<Json>(&[Gap::NestedOptions, Gap::StructuredKeys]);
}

#[test]
#[should_panic(expected = "StructuredKeys is no gap")]
fn a_named_gap_has_to_show() {
    conforms::<Bincode>(&[Gap::SelfDescription, Gap::StructuredKeys]);
}

#[test]
#[should_panic(expected = "Framing is no gap")]
fn framing_that_works_is_no_gap() {
    message_conforms::<Bincode, _>(&["tea".to_owned()], &[Gap::Framing]);
}

/// Declares a codec that is right in everything but one thing.
macro_rules! flawed {
    ($name:ident, |$message:ident, $out:ident| $encode:expr, |$bytes:ident| $decode:expr) => {
        struct $name;

        impl<M: Serialize + DeserializeOwned> Codec<M> for $name {
            const NAME: &'static str = "flawed";

            fn encode($message: &M, $out: &mut Vec<u8>) -> Result<(), CodecFault> {
                $encode
            }

            fn decode($bytes: &[u8]) -> Result<M, CodecFault> {
                $decode
            }
        }
    };
}

flawed!(
    Overwriting,
    |message, out| {
        out.clear();
        Bincode::encode(message, out)
    },
    |bytes| Bincode::decode(bytes)
);

flawed!(Lenient, |message, out| Bincode::encode(message, out), |bytes| {
    match Bincode::decode(bytes) {
        Err(CodecFault::Trailing { extra }) => Bincode::decode(&bytes[..bytes.len() - extra]),
        outcome => outcome,
    }
});

flawed!(Padding, |message, out| Bincode::encode(message, out), |bytes| {
    match Bincode::decode(bytes) {
        Err(CodecFault::Decode(_)) => Bincode::decode(&[bytes, &[0]].concat()),
        outcome => outcome,
    }
});

flawed!(Touchy, |message, out| Bincode::encode(message, out), |bytes| {
    assert!(!bytes.ends_with(b"\x80"), "a byte that no message ends with");
    Bincode::decode(bytes)
});

flawed!(Vague, |message, out| Bincode::encode(message, out), |bytes| {
    match Bincode::decode(bytes) {
        Err(CodecFault::TooDeep { .. }) => Err(CodecFault::decode("too deep")),
        outcome => outcome,
    }
});

flawed!(Latin, |message, out| Bincode::encode(message, out), |bytes| {
    match Bincode::decode(bytes) {
        Err(CodecFault::Decode(_)) if bytes.len() == 9 => {
            Bincode::decode(&bytes.iter().map(|byte| byte & 0x7f).collect::<Vec<_>>())
        }
        outcome => outcome,
    }
});

flawed!(Wasteful, |message, out| Bincode::encode(message, out), |bytes| {
    drop(std::hint::black_box(vec![0_u8; 5 << 20]));
    Bincode::decode(bytes)
});

#[test]
#[should_panic(expected = "held 52")]
fn a_codec_that_wastes_memory_is_found() {
    message_conforms_within::<Wasteful, _>(&["tea".to_owned()], &[], heap);
}

#[test]
#[should_panic(expected = "overwrote what was there")]
fn a_codec_that_overwrites_is_found() {
    conforms::<Overwriting>(&[Gap::SelfDescription]);
}

#[test]
#[should_panic(expected = "followed by [0]")]
fn a_codec_that_ignores_trailing_bytes_is_found() {
    message_conforms::<Lenient, _>(&["tea".to_owned()], &[]);
}

#[test]
#[should_panic(expected = "was accepted after 0 bytes")]
fn a_codec_that_accepts_half_a_message_is_found() {
    message_conforms::<Padding, _>(&["tea".to_owned()], &[]);
}

#[test]
#[should_panic(expected = "panicked on")]
fn a_codec_that_panics_is_found() {
    message_conforms::<Touchy, _>(&["tea".to_owned()], &[]);
}

#[test]
#[should_panic(expected = "a nest of")]
fn a_codec_that_hides_what_was_too_deep_is_found() {
    conforms::<Vague>(&[Gap::SelfDescription]);
}

#[test]
#[should_panic(expected = "[ff] gave Ok")]
fn a_codec_that_mends_text_is_found() {
    conforms::<Latin>(&[Gap::SelfDescription]);
}
