//! Holds the message types that the codecs are fed with.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use tellwire::codec::{Codec, RemoteMessage};

/// Holds something of each kind that serde knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Parcel {
    Nothing,
    Numbers(i8, u16, i32, u64, i128),
    Fractions(Vec<f64>),
    Texts { text: String, letters: Vec<char> },
    Bytes(#[serde(with = "bytes")] Vec<u8>),
    Units(Vec<()>),
    Small(Vec<u8>),
    Wide(Vec<u64>),
    Maybe(Option<Box<Parcel>>, Option<u16>),
    Many(Vec<Parcel>),
    Named(BTreeMap<String, Parcel>),
    Keyed { numbers: BTreeMap<u32, bool>, set: BTreeSet<String>, pair: (u8, [u16; 2]) },
    Outcome(Result<u8, String>),
}

/// Is a parcel that travels in one format.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub(super) struct In<C> {
    pub(super) parcel: Parcel,
    #[serde(skip)]
    pub(super) format: PhantomData<fn() -> C>,
}

impl<C: Codec<Self>> RemoteMessage for In<C> {
    const MANIFEST: &'static str = "fuzz.v1.Parcel";
    type Codec = C;
}

impl<C> In<C> {
    pub(super) fn new(parcel: Parcel) -> Self {
        Self { parcel, format: PhantomData }
    }
}

/// Is a message of Protocol Buffers with a field of each kind.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Crate {
    #[prost(sint64, tag = "1")]
    pub(super) number: i64,
    #[prost(string, optional, tag = "2")]
    pub(super) text: Option<String>,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) bytes: Vec<u8>,
    #[prost(uint32, repeated, tag = "4")]
    pub(super) numbers: Vec<u32>,
    #[prost(message, repeated, tag = "5")]
    pub(super) inner: Vec<Crate>,
    #[prost(btree_map = "string, message", tag = "6")]
    pub(super) named: BTreeMap<String, Crate>,
    #[prost(message, repeated, tag = "7")]
    pub(super) empty: Vec<Empty>,
    #[prost(oneof = "Choice", tags = "8, 9")]
    pub(super) choice: Option<Choice>,
    #[prost(double, repeated, packed = "false", tag = "10")]
    pub(super) fractions: Vec<f64>,
}

/// Is a message without content.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Empty {}

/// Is one of two.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Choice {
    #[prost(bool, tag = "8")]
    Truth(bool),
    #[prost(message, tag = "9")]
    Deeper(Box<Crate>),
}

impl RemoteMessage for Crate {
    const MANIFEST: &'static str = "fuzz.v1.Crate";
    type Codec = tellwire_protobuf::Protobuf;
}

/// Carries bytes as such, where a list of numbers is what serde makes of them.
mod bytes {
    use std::fmt;

    use serde::de::{SeqAccess, Visitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_byte_buf(Bytes)
    }

    struct Bytes;

    impl<'de> Visitor<'de> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        // Formats without raw bytes write a list.
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u8>, A::Error> {
            let mut bytes = Vec::new();
            while let Some(byte) = list.next_element()? {
                bytes.push(byte);
            }
            Ok(bytes)
        }
    }
}
