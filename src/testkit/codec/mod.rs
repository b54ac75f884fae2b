//! Holds a codec to what tellwire expects of every wire format.
//!
//! [`conforms`] is for codecs on serde: it carries a zoo of message types back and forth, then feeds
//! the codec with truncated, extended, flipped, foreign and exaggerated bytes. [`message_conforms`]
//! does the same with the messages of a codec that brings its own types.
//!
//! Everything must end as a value or as a [`CodecFault`]: a panic, an input that takes longer than
//! 50 ms (2 s in an unoptimised build), or a value that comes back different fails the run, and so does memory out
//! of proportion where [`conforms_within`] measures it. An overflowing stack or an allocation of a
//! claimed length aborts the whole test program, which is the finding.
//!
//! ```
//! use tellwire::codec::Bincode;
//! use tellwire::testkit::codec::{Gap, conforms};
//!
//! conforms::<Bincode>(&[Gap::SelfDescription]);
//! ```

use std::any::type_name;
use std::fmt::Debug;

use self::hostile::{Sample, claims, costs_little, nests, survives, unknown_fields};
use self::odd::{Nested, NestedLists};
use self::zoo::{
    Blob, Choices, Floats, Less, Maps, More, NestedChoices, Numbers, SelfDescribed, Shapes,
    StructuredKeys, Texts,
};
use crate::codec::{Codec, CodecFault};

pub use self::zoo::SerdeCodec;

mod faulty;
mod hostile;
pub mod odd;
pub mod zoo;

/// Names a promise that a format cannot keep.
///
/// A gap that is claimed has to show: a codec that keeps the promise all the same fails the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gap {
    /// NaN and the infinities do not come back.
    NonFinite,
    /// `Some(None)` and `Some(())` may come back as `None`.
    NestedOptions,
    /// Keys of maps must be text or numbers.
    StructuredKeys,
    /// The input does not tell its own shape, so untagged and flattened types, and types that lost
    /// a field, cannot be decoded.
    SelfDescription,
    /// Messages do not know their end, so a shorter or a longer input may be a message as well.
    Framing,
}

/// Runs what it is given, once, and gives the most bytes of heap that the running thread held meanwhile.
///
/// Only a program can choose its allocator, so the one that counts is the caller's: the crate `allocation-counter`
/// brings one that counts thread by thread.
///
/// ```no_run
/// use tellwire::codec::Bincode;
/// use tellwire::testkit::codec::{Gap, conforms_within};
///
/// fn heap(run: &mut dyn FnMut()) -> usize {
///     usize::try_from(allocation_counter::measure(run).bytes_max).unwrap_or(usize::MAX)
/// }
///
/// conforms_within::<Bincode>(&[Gap::SelfDescription], heap);
/// ```
pub type Meter = fn(run: &mut dyn FnMut()) -> usize;

/// Runs every check on a codec built on serde, except for its gaps; memory is not measured.
///
/// # Panics
/// Fails by panicking, naming the message type and what went wrong.
pub fn conforms<C: SerdeCodec + 'static>(gaps: &[Gap]) {
    conforms_within::<C>(gaps, unmeasured);
}

/// Runs every check on a codec built on serde, except for its gaps, and measures each decoding.
///
/// The peak may be 4 times the input plus 4 MiB, whatever the input is.
///
/// # Panics
/// Fails by panicking, naming the message type and what went wrong.
pub fn conforms_within<C: SerdeCodec + 'static>(gaps: &[Gap], meter: Meter) {
    let mut samples = plain_samples::<C>();
    let mut keep = |gap, sample: Result<Sample, String>| match (gaps.contains(&gap), sample) {
        (false, Ok(sample)) => samples.push(sample),
        (false, Err(reason)) => panic!("{reason}; is it a gap, {gap:?}?"),
        (true, Err(_)) => {}
        (true, Ok(sample)) => panic!("{gap:?} is no gap: {} came back unchanged", sample.name),
    };
    keep(Gap::NonFinite, round_trip::<C, _>(&Floats::non_finite()));
    keep(Gap::NestedOptions, round_trip::<C, _>(&NestedChoices::some()));
    keep(Gap::StructuredKeys, round_trip::<C, _>(&StructuredKeys::one()));
    keep(Gap::SelfDescription, round_trip::<C, _>(&SelfDescribed::some()));
    keep(Gap::SelfDescription, dropped_field::<C>());
    costs_little(large_samples::<C>(), meter);
    for sample in &samples {
        is_framed(sample);
    }
    invalid_text_is_refused::<C>();
    faulty::are_contained::<C>();
    nests::<C>(meter);
    claims::<C>(meter);
    unknown_fields::<C>(meter);
    survives(samples, meter);
}

/// Runs the checks that need no types of their own, on messages that the codec carries; memory is not measured.
///
/// # Panics
/// Fails by panicking, naming the message and what went wrong.
pub fn message_conforms<C: Codec<M>, M: PartialEq + Debug>(messages: &[M], gaps: &[Gap]) {
    message_conforms_within::<C, M>(messages, gaps, unmeasured);
}

/// Runs the checks that need no types of their own, and measures each decoding as [`conforms_within`] does.
///
/// # Panics
/// Fails by panicking, naming the message and what went wrong.
pub fn message_conforms_within<C: Codec<M>, M: PartialEq + Debug>(
    messages: &[M],
    gaps: &[Gap],
    meter: Meter,
) {
    let samples: Vec<_> = messages.iter().map(kept::<C, M>).collect();
    if gaps.contains(&Gap::Framing) {
        let is_gap = samples.iter().any(Sample::has_other_end);
        assert!(is_gap, "{:?} is no gap: only whole messages were accepted", Gap::Framing);
    } else {
        samples.iter().for_each(is_framed);
    }
    survives(samples, meter);
}

/// Runs without looking.
fn unmeasured(run: &mut dyn FnMut()) -> usize {
    run();
    0
}

fn plain_samples<C: SerdeCodec>() -> Vec<Sample> {
    vec![
        kept::<C, _>(&Numbers::limits()),
        kept::<C, _>(&Floats::finite()),
        kept::<C, _>(&Texts::many()),
        kept::<C, _>(&Texts::none()),
        kept::<C, _>(&Blob((0..=255).collect())),
        kept::<C, _>(&Blob(Vec::new())),
        kept::<C, _>(&Choices::some()),
        kept::<C, _>(&Choices::default()),
        kept::<C, _>(&Shapes::nested()),
        kept::<C, _>(&Maps::many()),
        kept::<C, _>(&Maps::default()),
        kept::<C, _>(&vec![(); 200]),
        kept::<C, _>(&More { kept: 7, more: NestedLists::levels(3) }),
    ]
}

/// Carries a message there and back, behind bytes that are there already.
fn round_trip<C: Codec<M>, M: PartialEq + Debug>(message: &M) -> Result<Sample, String> {
    let name = type_name::<M>();
    let mut out = b"before".to_vec();
    C::encode(message, &mut out).map_err(|fault| format!("{name} was not encoded: {fault}"))?;
    let bytes = out.strip_prefix(b"before").ok_or(format!("{name} overwrote what was there"))?;
    match C::decode(bytes) {
        Err(fault) => Err(format!("{name} was not decoded: {fault}")),
        Ok(back) if back != *message => Err(format!("{name} came back different")),
        Ok(_) => Ok(Sample::new::<C, M>(bytes.to_vec())),
    }
}

fn kept<C: Codec<M>, M: PartialEq + Debug>(message: &M) -> Sample {
    round_trip::<C, M>(message).unwrap_or_else(|reason| panic!("{reason}"))
}

/// Decodes a type that lost a field from the bytes of one that has it.
fn dropped_field<C: SerdeCodec>() -> Result<Sample, String> {
    let bytes = kept::<C, _>(&More { kept: 7, more: NestedLists::levels(3) }).bytes;
    match <C as Codec<Less>>::decode(&bytes) {
        Ok(less) if less.kept == 7 => Ok(Sample::new::<C, Less>(bytes)),
        Ok(_) => panic!("a missing field changed the value of another"),
        Err(fault) => Err(format!("an unknown field was not ignored: {fault}")),
    }
}

/// Carries messages that are long, or have many elements, and cost no more than that.
fn large_samples<C: SerdeCodec>() -> Vec<Sample> {
    vec![
        kept::<C, String>(&"ü".repeat(1 << 19)),
        kept::<C, Blob>(&Blob(vec![0xa5; 1 << 20])),
        kept::<C, Vec<u8>>(&vec![1; 200_000]),
        kept::<C, Vec<u128>>(&vec![1; 50_000]),
        kept::<C, Vec<String>>(&vec![String::new(); 50_000]),
    ]
}

/// Refuses every beginning of a message, and everything that goes on behind one.
fn is_framed(sample: &Sample) {
    for length in 0..sample.bytes.len() {
        let outcome = sample.decode_prefix(length);
        assert!(outcome.is_err(), "{} was accepted after {length} bytes", sample.name);
    }
    for tail in [&[0_u8][..], &[0xff], &[0x7f, 0, 0]] {
        let outcome = sample.decode_with(tail);
        let expected = CodecFault::Trailing { extra: tail.len() };
        assert_eq!(outcome, Err(expected), "{} followed by {tail:x?}", sample.name);
    }
    assert!(sample.decode_with(&sample.bytes).is_err(), "{} was accepted twice", sample.name);
}

fn invalid_text_is_refused<C: SerdeCodec>() {
    let text = kept::<C, String>(&"a".repeat(8)).bytes;
    let start = text.windows(8).position(|window| window == b"aaaaaaaa");
    let start = start.unwrap_or_else(|| panic!("text is not written as UTF-8"));
    for wrong in [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3"] {
        let mut bytes = text.clone();
        bytes.splice(start..start + wrong.len(), wrong.iter().copied());
        let outcome = <C as Codec<String>>::decode(&bytes);
        assert!(matches!(outcome, Err(CodecFault::Decode(_))), "{wrong:x?} gave {outcome:?}");
    }
}
