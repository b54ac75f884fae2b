//! Lets fuzz targets reach the readers of the wire that are not public.
//!
//! Floor 5, hidden, behind the feature `testkit`: `tests/fuzz` and `tests/corpora.rs` call it, nobody else should. It
//! reads as a link does and adds only the checks that no input may fail.

use std::error::Error;
use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};

use crate::association::control::{Hello, decode_pdu, encode_pdu};
use crate::frame::{ClusterFrame, FrameFault};
use crate::wire::RawFrame;

/// Reads a frame as far as its meaning goes: a Hello and a control PDU whole, the others up to their payload.
///
/// # Errors
/// Fails if the frame breaks the rules of the wire.
///
/// # Panics
/// Fails by panicking if a PDU that was read is written as another one.
pub fn read(raw: RawFrame<'_>) -> Result<(), impl Error + use<>> {
    match ClusterFrame::parse(raw)? {
        ClusterFrame::Hello(_, body) => returns(&decode_pdu::<Hello>(body)?)?,
        ClusterFrame::Control(pdu) => returns(&pdu)?,
        ClusterFrame::Gossip(_)
        | ClusterFrame::Tell(..)
        | ClusterFrame::Reply(..)
        | ClusterFrame::Define(_)
        | ClusterFrame::Chunk(..)
        | ClusterFrame::Unknown => {}
    }
    Ok::<_, FrameFault>(())
}

/// Checks that a PDU survives its spelling.
fn returns<T: Serialize + DeserializeOwned + PartialEq + Debug>(pdu: &T) -> Result<(), FrameFault> {
    let mut bytes = Vec::new();
    encode_pdu(pdu, &mut bytes)?;
    assert_eq!(decode_pdu::<T>(&bytes).as_ref(), Ok(pdu), "spelt as {bytes:x?}");
    Ok(())
}
