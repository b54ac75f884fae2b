//! Holds message types that misbehave: claims, refusals, panics, and nests of any depth.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::Error as _;
use serde::ser::{Error as _, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec::{Codec, RemoteMessage};

/// Claims to be a list of that many elements, and writes none.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim(pub(super) usize);

impl Serialize for Claim {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_seq(Some(self.0))?.end()
    }
}

impl<'de> Deserialize<'de> for Claim {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("a claim is only ever written"))
    }
}

/// Refuses to be converted, after writing a part of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Refuses;

impl Serialize for Refuses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut parts = serializer.serialize_seq(Some(2))?;
        parts.serialize_element(&1_u8)?;
        Err(S::Error::custom("refused by the type"))
    }
}

impl<'de> Deserialize<'de> for Refuses {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("refused by the type"))
    }
}

/// Panics in both directions, after writing a part of itself.
pub struct Panics<C>(pub(super) PhantomData<fn() -> C>);

impl<C> fmt::Debug for Panics<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Panics")
    }
}

impl<C: Codec<Self>> RemoteMessage for Panics<C> {
    const MANIFEST: &'static str = "testkit.v1.Panics";
    type Codec = C;
}

impl<C> Serialize for Panics<C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut parts = serializer.serialize_seq(Some(2))?;
        parts.serialize_element(&1_u8)?;
        panic!("this type panics while it is encoded, as the test intends")
    }
}

impl<'de, C> Deserialize<'de> for Panics<C> {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        panic!("this type panics while it is decoded, as the test intends")
    }
}

/// Builds a value that holds itself that many times.
pub(super) trait Nested: Sized {
    fn innermost() -> Self;
    fn around(inner: Self) -> Self;

    fn levels(count: usize) -> Self {
        (0..count).fold(Self::innermost(), |inner, _| Self::around(inner))
    }
}

/// Nests through newtype variants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum NestedVariants {
    /// Ends the nest.
    Leaf,
    /// Goes one level deeper.
    Deep(Box<NestedVariants>),
}

/// Nests through options alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NestedOptions(Option<Box<NestedOptions>>);

/// Nests through lists alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NestedLists(Vec<NestedLists>);

/// Nests through maps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NestedMaps(BTreeMap<u8, NestedMaps>);

/// Nests through optional fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NestedFields {
    next: Option<Box<NestedFields>>,
}

/// Implements [`Nested`] with two expressions for each type.
macro_rules! nested {
    ($($nested:ident: $innermost:expr, |$inner:ident| $around:expr;)*) => {$(
        impl Nested for $nested {
            fn innermost() -> Self {
                $innermost
            }

            fn around($inner: Self) -> Self {
                $around
            }
        }
    )*};
}

nested! {
    NestedVariants: Self::Leaf, |inner| Self::Deep(Box::new(inner));
    NestedOptions: Self(None), |inner| Self(Some(Box::new(inner)));
    NestedLists: Self(Vec::new()), |inner| Self(vec![inner]);
    NestedMaps: Self(BTreeMap::new()), |inner| Self(BTreeMap::from([(0, inner)]));
    NestedFields: Self { next: None }, |inner| Self { next: Some(Box::new(inner)) };
}
