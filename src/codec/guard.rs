//! Decodes hostile bytes through serde with bounded stack, work and memory.
//!
//! A [`Guard`] stands between a format and a type's `Deserialize`. It counts what happens while the
//! format visits the type, and ends the decoding when a [`Budget`] is used up:
//!
//! * **depth**, since formats recurse once per nested value and a stack overflow cannot be caught;
//! * **elements** of sequences and maps, since those without bytes make any claimed length free;
//! * **reservations**, since collections reserve by the length that the input claims.
//!
//! Text and bytes are requested in borrowed form, so that a format compares their length with its
//! input before it allocates. Trailing bytes are the codec's to check, panics its caller's. A guard
//! knows no format and no message type, and may not change what a valid message means.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::CodecFault;

/// Decodes one value within the default [`Budget`] for `input_len` bytes.
///
/// # Errors
/// Fails if the format or the type refuses the input, or if the budget is used up.
pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
    input_len: usize,
) -> Result<T, CodecFault> {
    deserialize_within(deserializer, Budget::for_input(input_len))
}

/// Decodes one value within `budget`.
///
/// # Errors
/// Fails if the format or the type refuses the input, or if the budget is used up.
pub fn deserialize_within<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
    budget: Budget,
) -> Result<T, CodecFault> {
    let guard = Guard::new(budget);
    let outcome = guard.seed().deserialize(deserializer);
    guard.finish(outcome)
}

/// Bounds what decoding one message may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Budget {
    /// Bounds nested values; struct, tuple, sequence, map, `Some`, newtype and variant all count.
    ///
    /// Default 128, where formats overflow a stack of 2 MiB at some 10 000.
    pub depth: usize,
    /// Bounds the elements of all sequences and maps together; fields of fixed shapes do not count.
    ///
    /// Default 1024 plus 4 per input byte. An element with content takes at least one byte, so only
    /// elements without content can use it up.
    pub elements: usize,
    /// Bounds the elements for which room is reserved at one time, before they have arrived.
    ///
    /// Default 1024 plus 1 per 8 input bytes. At 32 bytes an element, a chain of claimed lengths
    /// then reserves at most 4 times its input plus 32 KiB; longer collections grow as they arrive.
    pub reserved: usize,
    /// Bounds the same for one collection. Default 1024, or the length of a shorter input.
    pub reserved_each: usize,
}

impl Budget {
    /// Returns the default budget for an input of `input_len` bytes.
    #[must_use]
    pub const fn for_input(input_len: usize) -> Self {
        Self {
            depth: 128,
            elements: input_len.saturating_mul(4).saturating_add(1024),
            reserved: 1024 + input_len / 8,
            reserved_each: if input_len < 1024 { input_len } else { 1024 },
        }
    }
}

/// Keeps account of one decoding.
///
/// Formats that hand out a `Deserializer` need only [`deserialize`]; others may take a [`Guard::seed`].
#[derive(Debug)]
pub struct Guard {
    budget: Budget,
    depth: Cell<usize>,
    elements: Cell<usize>,
    reserved: Cell<usize>,
    exceeded: OnceCell<CodecFault>,
}

impl Guard {
    /// Creates an account with nothing used.
    #[must_use]
    #[inline]
    pub fn new(budget: Budget) -> Self {
        Self {
            budget,
            depth: Cell::new(0),
            elements: Cell::new(0),
            reserved: Cell::new(0),
            exceeded: OnceCell::new(),
        }
    }

    /// Returns a seed that decodes a `T` on this account.
    #[inline]
    pub fn seed<'de, T: Deserialize<'de>>(&self) -> impl DeserializeSeed<'de, Value = T> {
        Guarded { inner: PhantomData::<T>, guard: self }
    }

    /// Turns a format's outcome into a fault that names the exceeded limit, if there is one.
    ///
    /// # Errors
    /// Fails as `outcome` does, and also if a type swallowed the error of an exceeded budget.
    #[inline]
    pub fn finish<T>(self, outcome: Result<T, impl fmt::Display>) -> Result<T, CodecFault> {
        match self.exceeded.into_inner() {
            Some(fault) => Err(fault),
            None => outcome.map_err(CodecFault::decode),
        }
    }

    #[inline]
    fn nested<T, E: Error>(&self, visit: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let depth = self.depth.get();
        if depth >= self.budget.depth {
            return Err(self.exceed(CodecFault::TooDeep { limit: self.budget.depth }));
        }
        self.depth.set(depth + 1);
        let outcome = visit();
        self.depth.set(depth);
        outcome
    }

    #[inline]
    fn count_element<E: Error>(&self) -> Result<(), E> {
        let elements = self.elements.get();
        if elements >= self.budget.elements {
            return Err(self.exceed(CodecFault::TooManyElements { limit: self.budget.elements }));
        }
        self.elements.set(elements + 1);
        Ok(())
    }

    #[inline]
    fn reserve(&self, claimed: usize) -> usize {
        let left = self.budget.reserved.saturating_sub(self.reserved.get());
        let granted = claimed.min(left).min(self.budget.reserved_each);
        self.reserved.set(self.reserved.get() + granted);
        granted
    }

    /// Keeps the first fault aside, for serde's errors cannot carry it.
    #[inline]
    fn exceed<E: Error>(&self, fault: CodecFault) -> E {
        E::custom(self.exceeded.get_or_init(|| fault))
    }
}

/// Puts a seed, a deserializer or an accessor of a format under a guard.
struct Guarded<'g, T> {
    inner: T,
    guard: &'g Guard,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Guarded<'_, S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Guarded { inner: deserializer, guard: self.guard })
    }
}

/// Forwards `Deserializer` methods to the format with a guarded visitor.
macro_rules! forward_deserialize {
    ($shape:ident: $($method:ident($($name:ident: $type:ty),*))*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(
            self, $($name: $type,)* visitor: V
        ) -> Result<V::Value, D::Error> {
            let Self { inner, guard } = self;
            inner.$method($($name,)* Watch { visitor, guard, shape: Shape::$shape })
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Guarded<'_, D> {
    type Error = D::Error;

    forward_deserialize! { Open:
        deserialize_any() deserialize_ignored_any() deserialize_identifier()
        deserialize_bool() deserialize_char() deserialize_f32() deserialize_f64()
        deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64() deserialize_i128()
        deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_u128()
        deserialize_str() deserialize_bytes() deserialize_option() deserialize_unit()
        deserialize_unit_struct(name: &'static str) deserialize_newtype_struct(name: &'static str)
        deserialize_seq() deserialize_map()
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }

    forward_deserialize! { Fixed:
        deserialize_tuple(len: usize)
        deserialize_tuple_struct(name: &'static str, len: usize)
        deserialize_struct(name: &'static str, fields: &'static [&'static str])
    }

    // Formats allocate owned text by the claimed length, before they look whether it is there.
    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// Says who decides how many elements a value has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// The input does, so every element counts.
    Open,
    /// The Rust type does, so none needs to.
    Fixed,
}

/// Visits on behalf of a type's visitor, with everything nested put under the guard.
struct Watch<'g, V> {
    visitor: V,
    guard: &'g Guard,
    shape: Shape,
}

/// Forwards `Visitor` methods for values that contain no others.
macro_rules! forward_visit {
    ($($method:ident($type:ty))*) => {$(
        #[inline]
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.visitor.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Watch<'_, V> {
    type Value = V::Value;

    forward_visit! {
        visit_bool(bool) visit_char(char) visit_f32(f32) visit_f64(f64)
        visit_i8(i8) visit_i16(i16) visit_i32(i32) visit_i64(i64) visit_i128(i128)
        visit_u8(u8) visit_u16(u16) visit_u32(u32) visit_u64(u64) visit_u128(u128)
        visit_str(&str) visit_borrowed_str(&'de str) visit_string(String)
        visit_bytes(&[u8]) visit_borrowed_bytes(&'de [u8]) visit_byte_buf(Vec<u8>)
    }

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    #[inline]
    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    #[inline]
    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let Self { visitor, guard, .. } = self;
        guard.nested(|| visitor.visit_some(Guarded { inner, guard }))
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let Self { visitor, guard, .. } = self;
        guard.nested(|| visitor.visit_newtype_struct(Guarded { inner, guard }))
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let Self { visitor, guard, shape } = self;
        guard.nested(|| visitor.visit_seq(Elements::new(access, guard, shape)))
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let Self { visitor, guard, shape } = self;
        guard.nested(|| visitor.visit_map(Elements::new(access, guard, shape)))
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(Guarded { inner, guard: self.guard })
    }
}

impl<'de, 'g, A: EnumAccess<'de>> EnumAccess<'de> for Guarded<'g, A> {
    type Error = A::Error;
    type Variant = Guarded<'g, A::Variant>;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        let guard = self.guard;
        let (name, inner) = self.inner.variant_seed(Guarded { inner: seed, guard })?;
        Ok((name, Guarded { inner, guard }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Guarded<'_, A> {
    type Error = A::Error;

    #[inline]
    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let Self { inner, guard } = self;
        guard.nested(|| inner.newtype_variant_seed(Guarded { inner: seed, guard }))
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let Self { inner, guard } = self;
        inner.tuple_variant(len, Watch { visitor, guard, shape: Shape::Fixed })
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let Self { inner, guard } = self;
        inner.struct_variant(fields, Watch { visitor, guard, shape: Shape::Fixed })
    }
}

/// Counts the elements that a sequence or map delivers, and tempers the length that it claims.
struct Elements<'g, A> {
    access: A,
    guard: &'g Guard,
    shape: Shape,
    /// What was granted in advance, given back once real elements have taken its place.
    granted: OnceCell<usize>,
}

impl<'g, A> Elements<'g, A> {
    #[inline]
    fn new(access: A, guard: &'g Guard, shape: Shape) -> Self {
        Self { access, guard, shape, granted: OnceCell::new() }
    }

    #[inline]
    fn counted<T, E: Error>(&self, element: Option<T>) -> Result<Option<T>, E> {
        if element.is_some() && self.shape == Shape::Open {
            self.guard.count_element()?;
        }
        Ok(element)
    }

    #[inline]
    fn grant(&self, claimed: Option<usize>) -> Option<usize> {
        claimed.map(|claimed| *self.granted.get_or_init(|| self.guard.reserve(claimed)))
    }
}

impl<A> Drop for Elements<'_, A> {
    #[inline]
    fn drop(&mut self) {
        let granted = self.granted.get().copied().unwrap_or(0);
        self.guard.reserved.set(self.guard.reserved.get().saturating_sub(granted));
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let element = self.access.next_element_seed(Guarded { inner: seed, guard: self.guard })?;
        self.counted(element)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.grant(self.access.size_hint())
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let key = self.access.next_key_seed(Guarded { inner: seed, guard: self.guard })?;
        self.counted(key)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.access.next_value_seed(Guarded { inner: seed, guard: self.guard })
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.grant(self.access.size_hint())
    }
}
