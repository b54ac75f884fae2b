//! Decodes hostile bytes through serde with bounded stack, work and memory.
//!
//! A [`Guard`] stands between a format and a type's `Deserialize`. It counts what happens while the
//! format visits the type, and ends the decoding when a [`Budget`] is used up:
//!
//! * **depth**, since formats recurse once per nested value and a stack overflow cannot be caught;
//! * **elements** of sequences and maps, since those without bytes make any claimed length free;
//! * **memory** of those elements, since one that takes a byte on the wire may be of any size here;
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
#[inline]
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
#[inline]
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
    /// Bounds the elements of all sequences and maps together, the end of each counted as one more; fields of fixed
    /// shapes do not count.
    ///
    /// Default 1024 plus 4 per input byte. A sequence takes at least one byte, and so does an element with content, so
    /// only elements without content can use it up.
    pub elements: usize,
    /// Bounds the memory of those elements in bytes, each taken as the size of its Rust type.
    ///
    /// Default 4 MiB plus 64 per input byte: what takes a byte on the wire seldom takes more here, a `Vec` 24 and a
    /// `HashMap` 48. What does is the absent or small variant of a large type, such as the `None` of an `Option` of a
    /// large struct, of which a list may be refused when it is long and has little else. `Box` what is large there.
    ///
    /// A list that grows holds the old and the new room for a moment, so decoding may hold three times as much.
    pub memory: usize,
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
            memory: input_len.saturating_mul(64).saturating_add(4 << 20),
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
    /// Counts the elements that may still come.
    elements: Cell<usize>,
    /// Counts the bytes that they may still take.
    memory: Cell<usize>,
    reserved: Cell<usize>,
    exceeded: Cell<Option<Limit>>,
}

/// Names the limit that ended a decoding.
#[derive(Debug, Clone, Copy)]
enum Limit {
    Depth,
    Elements,
    Memory,
}

impl Guard {
    /// Creates an account with nothing used.
    #[must_use]
    #[inline]
    pub fn new(budget: Budget) -> Self {
        Self {
            budget,
            elements: Cell::new(budget.elements),
            memory: Cell::new(budget.memory),
            reserved: Cell::new(0),
            exceeded: Cell::new(None),
        }
    }

    /// Returns a seed that decodes a `T` on this account.
    #[inline]
    pub fn seed<'de, T: Deserialize<'de>>(&self) -> impl DeserializeSeed<'de, Value = T> {
        let level = Level { guard: self, left: self.budget.depth };
        Guarded { inner: PhantomData::<T>, level }
    }

    /// Turns a format's outcome into a fault that names the exceeded limit, if there is one.
    ///
    /// # Errors
    /// Fails as `outcome` does, and also if a type swallowed the error of an exceeded budget.
    #[inline]
    pub fn finish<T>(self, outcome: Result<T, impl fmt::Display>) -> Result<T, CodecFault> {
        match outcome {
            Ok(value) if self.exceeded.get().is_none() => Ok(value),
            Ok(_) => Err(self.refusal("")),
            Err(error) => Err(self.refusal(error)),
        }
    }

    #[cold]
    #[inline(never)]
    fn refusal(&self, error: impl fmt::Display) -> CodecFault {
        match self.exceeded.get() {
            Some(limit) => self.fault(limit),
            None => CodecFault::decode(error),
        }
    }

    /// Counts one element more.
    #[inline]
    fn count<E: Error>(&self) -> Result<(), E> {
        let Some(left) = self.elements.get().checked_sub(1) else {
            return Err(self.exceed(Limit::Elements));
        };
        self.elements.set(left);
        Ok(())
    }

    /// Counts the memory of a `T`.
    #[inline]
    fn hold<T, E: Error>(&self) -> Result<(), E> {
        let Some(left) = self.memory.get().checked_sub(size_of::<T>()) else {
            return Err(self.exceed(Limit::Memory));
        };
        self.memory.set(left);
        Ok(())
    }

    #[inline]
    fn reserve(&self, claimed: usize) -> usize {
        let left = self.budget.reserved.saturating_sub(self.reserved.get());
        let granted = claimed.min(left).min(self.budget.reserved_each);
        self.reserved.set(self.reserved.get() + granted);
        granted
    }

    /// Keeps the first limit aside, for serde's errors cannot carry it.
    #[cold]
    fn exceed<E: Error>(&self, limit: Limit) -> E {
        let first = self.exceeded.get().unwrap_or(limit);
        self.exceeded.set(Some(first));
        E::custom(self.fault(first))
    }

    #[cold]
    fn fault(&self, limit: Limit) -> CodecFault {
        match limit {
            Limit::Depth => CodecFault::TooDeep { limit: self.budget.depth },
            Limit::Elements => CodecFault::TooManyElements { limit: self.budget.elements },
            Limit::Memory => CodecFault::TooMuchMemory { limit: self.budget.memory },
        }
    }
}

/// Is where in the nest of values the decoding is. It travels by value, which a compiler that inlines a type's
/// decoding turns into no code at all.
#[derive(Clone, Copy)]
struct Level<'g> {
    guard: &'g Guard,
    /// Counts the levels that may still be below this one.
    left: usize,
}

impl Level<'_> {
    #[inline]
    fn below<E: Error>(self) -> Result<Self, E> {
        match self.left.checked_sub(1) {
            Some(left) => Ok(Self { left, ..self }),
            None => Err(self.guard.exceed(Limit::Depth)),
        }
    }
}

/// Puts a seed, a deserializer or an accessor of a format under a guard.
struct Guarded<'g, T> {
    inner: T,
    level: Level<'g>,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Guarded<'_, S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Guarded { inner: deserializer, level: self.level })
    }
}

/// Forwards `Deserializer` methods to the format with a guarded visitor.
macro_rules! forward_deserialize {
    ($shape:ident: $($method:ident($($name:ident: $type:ty),*))*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(
            self, $($name: $type,)* visitor: V
        ) -> Result<V::Value, D::Error> {
            let Self { inner, level } = self;
            inner.$method($($name,)* Watch::<V, $shape> { visitor, level })
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Guarded<'_, D> {
    type Error = D::Error;

    forward_deserialize! { OPEN:
        deserialize_any() deserialize_ignored_any() deserialize_identifier()
        deserialize_bool() deserialize_char() deserialize_f32() deserialize_f64()
        deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64() deserialize_i128()
        deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_u128()
        deserialize_str() deserialize_bytes() deserialize_option() deserialize_unit()
        deserialize_unit_struct(name: &'static str) deserialize_newtype_struct(name: &'static str)
        deserialize_seq() deserialize_map()
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }

    forward_deserialize! { FIXED:
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

/// Visits on behalf of a type's visitor, with everything nested put under the guard.
///
/// The shape is a part of the type, since a compiler then leaves out what a fixed one does not need.
struct Watch<'g, V, const SHAPE: bool> {
    visitor: V,
    level: Level<'g>,
}

/// Marks a value whose number of elements the input decides, so that every element counts.
const OPEN: bool = true;

/// Marks a value whose number of elements the Rust type decides, so that none needs to count.
const FIXED: bool = false;

/// Forwards `Visitor` methods for values that contain no others.
macro_rules! forward_visit {
    ($($method:ident($type:ty))*) => {$(
        #[inline]
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.visitor.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>, const SHAPE: bool> Visitor<'de> for Watch<'_, V, SHAPE> {
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
        let level = self.level.below()?;
        self.visitor.visit_some(Guarded { inner, level })
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let level = self.level.below()?;
        self.visitor.visit_newtype_struct(Guarded { inner, level })
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let level = self.level.below()?;
        match SHAPE {
            OPEN => self.visitor.visit_seq(Elements::new(access, level)),
            FIXED => self.visitor.visit_seq(Guarded { inner: access, level }),
        }
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let level = self.level.below()?;
        match SHAPE {
            OPEN => self.visitor.visit_map(Elements::new(access, level)),
            FIXED => self.visitor.visit_map(Guarded { inner: access, level }),
        }
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(Guarded { inner, level: self.level })
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
        let level = self.level;
        let (name, inner) = self.inner.variant_seed(Guarded { inner: seed, level })?;
        Ok((name, Guarded { inner, level }))
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
        let level = self.level.below()?;
        self.inner.newtype_variant_seed(Guarded { inner: seed, level })
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let Self { inner, level } = self;
        inner.tuple_variant(len, Watch::<V, FIXED> { visitor, level })
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let Self { inner, level } = self;
        inner.struct_variant(fields, Watch::<V, FIXED> { visitor, level })
    }
}

/// Hands out the fields of a fixed shape. How many there are need not be said, the type knows.
impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Guarded<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_element_seed(Guarded { inner: seed, level: self.level })
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Guarded<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_key_seed(Guarded { inner: seed, level: self.level })
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(Guarded { inner: seed, level: self.level })
    }
}

/// Counts the elements that a sequence or map delivers, and tempers the length that it claims.
struct Elements<'g, A> {
    fields: Guarded<'g, A>,
    /// What was granted in advance, given back once real elements have taken its place.
    granted: OnceCell<usize>,
}

impl<'g, A> Elements<'g, A> {
    #[inline]
    fn new(inner: A, level: Level<'g>) -> Self {
        Self { fields: Guarded { inner, level }, granted: OnceCell::new() }
    }

    /// Pays for the element that is asked for next. Afterwards would be exact, but to hold an element between the format and the
    /// type moves it once more, which would be most of a guard's cost.
    #[inline]
    fn pay<T, E: Error>(&self) -> Result<(), E> {
        self.fields.level.guard.count()?;
        self.fields.level.guard.hold::<T, E>()
    }

    #[inline]
    fn grant(&self, claimed: Option<usize>) -> Option<usize> {
        claimed
            .map(|claimed| *self.granted.get_or_init(|| self.fields.level.guard.reserve(claimed)))
    }
}

impl<A> Drop for Elements<'_, A> {
    #[inline]
    fn drop(&mut self) {
        let granted = self.granted.get().copied().unwrap_or(0);
        let reserved = &self.fields.level.guard.reserved;
        reserved.set(reserved.get().saturating_sub(granted));
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.pay::<S::Value, _>()?;
        self.fields.next_element_seed(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.grant(self.fields.inner.size_hint())
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.pay::<S::Value, _>()?;
        self.fields.next_key_seed(seed)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.fields.level.guard.hold::<S::Value, _>()?;
        self.fields.next_value_seed(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.grant(self.fields.inner.size_hint())
    }
}
