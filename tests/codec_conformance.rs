//! Holds the built-in codec to the conformance suite, and the suite to finding what is wrong.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tellwire::codec::{Bincode, Codec, CodecFault};
use tellwire::testkit::codec::{Gap, conforms, message_conforms};
use tellwire_json::Json;

#[test]
fn bincode_conforms() {
    conforms::<Bincode>(&[Gap::SelfDescription]);
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
