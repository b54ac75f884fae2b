//! Feeds each codec under its guard.

use tellwire::codec::{
    self, Bincode, Codec, CodecEntry, CodecError, CodecFault, Origin, RemoteMessage,
};
use tellwire_cbor::Cbor;
use tellwire_json::Json;
use tellwire_messagepack::MessagePack;
use tellwire_postcard::Postcard;

use super::parcel::{Crate, In};
use super::{Verdict, shown};

pub fn bincode(bytes: &[u8]) -> Verdict {
    reads::<In<Bincode>>(bytes)
}

pub fn json(bytes: &[u8]) -> Verdict {
    reads::<In<Json>>(bytes)
}

pub fn postcard(bytes: &[u8]) -> Verdict {
    reads::<In<Postcard>>(bytes)
}

pub fn messagepack(bytes: &[u8]) -> Verdict {
    reads::<In<MessagePack>>(bytes)
}

pub fn cbor(bytes: &[u8]) -> Verdict {
    reads::<In<Cbor>>(bytes)
}

pub fn protobuf(bytes: &[u8]) -> Verdict {
    reads::<Crate>(bytes)
}

/// Reads a message as a registry does; one that was accepted is written and read again.
fn reads<M: RemoteMessage>(bytes: &[u8]) -> Verdict {
    let entry = CodecEntry::new::<M>(Origin::new(file!(), line!(), module_path!()));
    let message: M = match entry.decode(bytes) {
        Ok(message) => message,
        Err(error) => {
            names_its_cause(&error, <M::Codec as Codec<M>>::NAME, M::MANIFEST);
            return Verdict::Refused;
        }
    };
    let spelt = spell(&message);
    match entry.decode::<M>(&spelt) {
        Ok(again) => assert_eq!(spell(&again), spelt, "a message that came back different"),
        // Written shortly, it may have fewer bytes than its elements without content call for.
        Err(error) => assert!(
            matches!(error.fault(), CodecFault::TooManyElements { .. }),
            "{error}: {spelt:x?}"
        ),
    }
    Verdict::Accepted
}

fn spell<M: RemoteMessage>(message: &M) -> Vec<u8> {
    let mut out = Vec::new();
    codec::encode(message, &mut out).expect("what was read can be written");
    out
}

/// Checks that an error says of which message it is, and where or by which budget it ended.
fn names_its_cause(error: &CodecError, codec: &str, manifest: &str) {
    assert_eq!((error.codec(), error.manifest()), (codec, manifest));
    shown(error);
    match error.fault() {
        CodecFault::Decode(reason) => assert!(reason.starts_with("at byte "), "{reason}"),
        CodecFault::Trailing { extra } => assert_ne!(*extra, 0),
        CodecFault::TooDeep { limit }
        | CodecFault::TooManyElements { limit }
        | CodecFault::TooMuchMemory { limit }
        | CodecFault::TooLarge { limit } => assert_ne!(*limit, 0),
        other => panic!("{other:?} while decoding"),
    }
}
