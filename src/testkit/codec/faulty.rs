//! Checks that what a type's conversion code does wrong stays with that type.

use std::marker::PhantomData;

use super::SerdeCodec;
use super::odd::{Panics, Refuses};
use crate::codec::{self, Codec, CodecEntry, CodecFault, Origin};

/// Checks that refusals and panics of a type become faults, and leave the buffer as it was.
pub(super) fn are_contained<C: SerdeCodec + 'static>() {
    refusals_are_faults::<C>();
    panics_are_faults::<C>();
}

fn refusals_are_faults<C: SerdeCodec>() {
    let mut out = Vec::new();
    let encoded = <C as Codec<Refuses>>::encode(&Refuses, &mut out);
    assert!(matches!(encoded, Err(CodecFault::Encode(_))), "a refused message gave {encoded:?}");
    let decoded = <C as Codec<Refuses>>::decode(b"0");
    assert!(matches!(decoded, Err(CodecFault::Decode(_))), "a refused message gave {decoded:?}");
}

fn panics_are_faults<C: SerdeCodec + 'static>() {
    let mut out = b"before".to_vec();
    let encoded = codec::encode(&Panics::<C>(PhantomData), &mut out);
    let fault = encoded.err().map(|error| error.fault().clone());
    assert_eq!(fault, Some(CodecFault::Panicked), "a panic while encoding");
    assert_eq!(out, b"before", "a panic left half a message behind");

    let origin = Origin::new(file!(), line!(), module_path!());
    let decoded = CodecEntry::new::<Panics<C>>(origin).decode::<Panics<C>>(b"0");
    let fault = decoded.err().map(|error| error.fault().clone());
    assert_eq!(fault, Some(CodecFault::Panicked), "a panic while decoding");
}
