//! Holds the message types that a serde codec has to carry, and samples of them.
//!
//! Each type exercises one corner of serde's data model. All of them are composite, so that neither
//! a shorter nor a longer input can be a message of the same type in any framed format.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::odd::{
    Claim, NestedFields, NestedLists, NestedMaps, NestedOptions, NestedVariants, Panics, Refuses,
};
use crate::codec::Codec;

/// Declares [`SerdeCodec`] for everything that carries all the listed types.
macro_rules! serde_codec {
    ($($message:ty),* $(,)?) => {
        /// Marks a codec that carries every type of the zoo; implemented for each that does.
        pub trait SerdeCodec: $(Codec<$message> +)* Codec<Panics<Self>> + Sized {}

        impl<C> SerdeCodec for C where C: $(Codec<$message> +)* Codec<Panics<C>> {}
    };
}

serde_codec! {
    Numbers, Floats, Texts, Blob, Choices, NestedChoices, Shapes, Maps, StructuredKeys, SelfDescribed,
    More, Less, Claim, Refuses, Vec<()>, Vec<u8>, Vec<u64>, Vec<u128>, Vec<String>, String,
    HashMap<(), ()>, HashMap<u64, u64>, NestedVariants, NestedOptions, NestedLists, NestedMaps, NestedFields,
}

/// Holds every width of integer at its limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    truth: [bool; 2],
    unsigned: (u8, u16, u32, u64, u128),
    least: (i8, i16, i32, i64, i128),
    most: (i8, i16, i32, i64, i128),
    steps: Vec<u64>,
    falls: Vec<i64>,
}

impl Numbers {
    pub(super) fn limits() -> Self {
        let steps = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit]).collect();
        Self {
            truth: [false, true],
            unsigned: (u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX),
            least: (i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN),
            most: (i8::MAX, i16::MAX, i32::MAX, i64::MAX, i128::MAX),
            steps,
            falls: (0..63).flat_map(|bit| [-(1_i64 << bit), -(1 << bit) - 1]).collect(),
        }
    }
}

/// Holds floating-point numbers, compared bit by bit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Floats {
    singles: Vec<f32>,
    doubles: Vec<f64>,
}

impl PartialEq for Floats {
    fn eq(&self, other: &Self) -> bool {
        let singles =
            |floats: &Self| floats.singles.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let doubles =
            |floats: &Self| floats.doubles.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        singles(self) == singles(other) && doubles(self) == doubles(other)
    }
}

impl Floats {
    pub(super) fn finite() -> Self {
        let smallest = (f32::from_bits(1), f64::from_bits(1));
        Self {
            singles: vec![0.0, -0.0, 0.1, 1e10, f32::MIN, f32::MAX, f32::MIN_POSITIVE, smallest.0],
            doubles: vec![0.0, -0.0, 0.1, 1e300, f64::MIN, f64::MAX, f64::EPSILON, smallest.1],
        }
    }

    pub(super) fn non_finite() -> Self {
        Self {
            singles: vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY],
            doubles: vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY],
        }
    }
}

/// Holds text and single characters of many scripts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Texts {
    texts: Vec<String>,
    chars: Vec<char>,
}

impl Texts {
    pub(super) fn many() -> Self {
        let texts = [
            "",
            "tea",
            "\0\u{1}\u{7f}\r\n\t\"\\/",
            "té ß Ω ж 茶 ชา",
            "👩‍🚀🏳️‍🌈",
            "\u{feff}\u{202e}\u{10ffff}",
        ];
        let lengths = [23, 24, 31, 32, 127, 128, 255, 256, 1000];
        let chars = vec!['\0', 'a', '"', 'é', '茶', '👩', '\u{d7ff}', '\u{e000}', char::MAX];
        let repeated = lengths.iter().map(|length| "ü".repeat(*length));
        Self { texts: texts.into_iter().map(String::from).chain(repeated).collect(), chars }
    }

    pub(super) fn none() -> Self {
        Self { texts: Vec::new(), chars: Vec::new() }
    }
}

/// Holds raw bytes, given to the format as such.
#[derive(Debug, Clone, PartialEq)]
pub struct Blob(pub(super) Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(BlobVisitor)
    }
}

struct BlobVisitor;

impl<'de> Visitor<'de> for BlobVisitor {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
        Ok(Blob(bytes.to_vec()))
    }

    // Formats without raw bytes write a list.
    fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<Blob, A::Error> {
        let mut blob = Vec::new();
        while let Some(byte) = bytes.next_element()? {
            blob.push(byte);
        }
        Ok(Blob(blob))
    }
}

/// Holds optional values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Choices {
    absent: Option<u8>,
    number: Option<u8>,
    text: Option<String>,
    list: Option<Vec<Option<i64>>>,
    next: Option<Box<Choices>>,
    result: Vec<Result<u8, String>>,
}

impl Choices {
    pub(super) fn some() -> Self {
        Self {
            absent: None,
            number: Some(0),
            text: Some(String::new()),
            list: Some(vec![Some(-1), None, Some(i64::MAX)]),
            next: Some(Box::default()),
            result: vec![Ok(1), Err("no".to_owned())],
        }
    }
}

/// Holds options whose present value looks like an absent one in some formats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NestedChoices {
    unit: Option<()>,
    option: Option<Option<u8>>,
}

impl NestedChoices {
    pub(super) fn some() -> Self {
        Self { unit: Some(()), option: Some(None) }
    }
}

/// Holds every kind of enum variant, nested in each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Shape {
    /// Holds nothing.
    Unit,
    /// Holds one value.
    Newtype(u8),
    /// Holds several values.
    Tuple(i16, String),
    /// Holds named values.
    Struct {
        /// Holds a text.
        name: String,
        /// Holds a list.
        inner: Vec<Shape>,
    },
    /// Holds another shape.
    Boxed(Box<Shape>),
    /// Holds shapes by name.
    Named(BTreeMap<String, Shape>),
    /// Holds a value without content.
    Empty(()),
}

/// Holds every kind of struct, and shapes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shapes {
    unit: (),
    marker: Marker,
    wrapped: Wrapped,
    pair: Pair,
    tuple: (u8, (i8, char), [u16; 3]),
    shapes: Vec<Shape>,
}

/// Holds nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Marker;

/// Holds one value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wrapped(Vec<Marker>);

/// Holds two values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair(u64, String);

impl Shapes {
    pub(super) fn nested() -> Self {
        let simple = || {
            vec![
                Shape::Unit,
                Shape::Newtype(255),
                Shape::Tuple(-2, "x".to_owned()),
                Shape::Empty(()),
            ]
        };
        let structured = Shape::Struct { name: "outer".to_owned(), inner: simple() };
        let named =
            simple().into_iter().zip(["a", "b", ""]).map(|(shape, name)| (name.to_owned(), shape));
        let boxed = Shape::Boxed(Box::new(Shape::Boxed(Box::new(structured.clone()))));
        Self {
            unit: (),
            marker: Marker,
            wrapped: Wrapped(vec![Marker, Marker]),
            pair: Pair(1 << 40, "pair".to_owned()),
            tuple: (1, (-1, 'x'), [1, 300, u16::MAX]),
            shapes: simple()
                .into_iter()
                .chain([structured, Shape::Named(named.collect()), boxed])
                .collect(),
        }
    }
}

/// Holds maps with plain keys, and sets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Maps {
    texts: BTreeMap<String, u32>,
    numbers: BTreeMap<i64, String>,
    hashed: HashMap<u32, Vec<u8>>,
    chars: BTreeMap<char, ()>,
    set: BTreeSet<String>,
    nested: BTreeMap<String, BTreeMap<u8, bool>>,
}

impl Maps {
    pub(super) fn many() -> Self {
        Self {
            texts: [("", 0), ("té", u32::MAX)].map(|(key, value)| (key.to_owned(), value)).into(),
            numbers: [i64::MIN, 0, i64::MAX].map(|key| (key, key.to_string())).into(),
            hashed: (0..300).map(|key| (key, vec![7; 3])).collect(),
            chars: ['a', '茶'].map(|key| (key, ())).into(),
            set: ["", "x", "y"].map(String::from).into(),
            nested: [("in".to_owned(), BTreeMap::from([(0, false), (255, true)]))].into(),
        }
    }
}

/// Holds a map whose keys are neither text nor numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StructuredKeys {
    map: BTreeMap<(u8, String), u8>,
}

impl StructuredKeys {
    pub(super) fn one() -> Self {
        Self { map: BTreeMap::from([((1, "a".to_owned()), 2)]) }
    }
}

/// Holds types whose shape only the input can tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SelfDescribed {
    loose: Vec<Loose>,
    tagged: Vec<Tagged>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<u8>,
    #[serde(flatten)]
    rest: BTreeMap<String, Loose>,
}

/// Holds any of its variants, without saying which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Loose {
    /// Holds a number.
    Number(i64),
    /// Holds a text.
    Text(String),
    /// Holds a list.
    Many(Vec<Loose>),
    /// Holds named values.
    Named {
        /// Holds a number.
        number: u64,
        /// Holds a fraction.
        fraction: f64,
    },
}

/// Holds its variant's name among its fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum Tagged {
    /// Holds nothing.
    Gift,
    /// Holds named values.
    Item {
        /// Holds a text.
        sku: String,
        /// Holds a number.
        pieces: u16,
    },
}

impl SelfDescribed {
    pub(super) fn some() -> Self {
        let named = Loose::Named { number: u64::MAX, fraction: 0.5 };
        let text = Loose::Text("x".to_owned());
        let many = Loose::Many(vec![Loose::Number(-3), Loose::Many(Vec::new())]);
        Self {
            loose: vec![Loose::Number(i64::MIN), text.clone(), many.clone(), named],
            tagged: vec![Tagged::Gift, Tagged::Item { sku: "té".to_owned(), pieces: 2 }],
            skipped: None,
            rest: BTreeMap::from([("more".to_owned(), many), ("text".to_owned(), text)]),
        }
    }
}

/// Holds a field more than [`Less`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct More {
    pub(super) kept: u8,
    pub(super) more: NestedLists,
}

/// Holds a field less than [`More`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Less {
    pub(super) kept: u8,
}
