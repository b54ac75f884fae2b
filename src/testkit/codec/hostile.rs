//! Feeds a codec with bytes that no honest peer sends.
//!
//! The bytes are derived from what the codec itself writes, so that one battery fits every format:
//! a nest is continued by repeating what one level adds, a claim is written by a type that lies
//! about its length.

use std::any::type_name;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::odd::{
    Claim, Nested, NestedFields, NestedLists, NestedMaps, NestedOptions, NestedVariants,
};
use super::zoo::{Less, More};
use super::{Meter, SerdeCodec};
use crate::codec::{Codec, CodecFault};

/// Holds one encoded message, and how to decode it.
#[derive(Clone)]
pub(super) struct Sample {
    pub(super) name: &'static str,
    pub(super) bytes: Vec<u8>,
    decode: fn(&[u8]) -> Result<(), CodecFault>,
}

impl Sample {
    pub(super) fn new<C: Codec<M>, M>(bytes: Vec<u8>) -> Self {
        let decode = |bytes: &[u8]| C::decode(bytes).map(drop);
        Self { name: type_name::<M>(), bytes, decode }
    }

    pub(super) fn decode_prefix(&self, length: usize) -> Result<(), CodecFault> {
        (self.decode)(self.bytes.get(..length).unwrap_or_default())
    }

    pub(super) fn decode_with(&self, tail: &[u8]) -> Result<(), CodecFault> {
        (self.decode)(&[&self.bytes[..], tail].concat())
    }

    /// Tells whether a shorter message, or this one twice, is a message as well.
    pub(super) fn has_other_end(&self) -> bool {
        let is_shorter = (0..self.bytes.len()).any(|length| self.decode_prefix(length).is_ok());
        is_shorter || self.decode_with(&self.bytes).is_ok()
    }
}

/// Decodes everything derived from the samples, as their own type and as every other.
pub(super) fn survives(samples: Vec<Sample>, meter: Meter) {
    watched(meter, move |watch| {
        for sample in &samples {
            for (at, bytes) in mutations(&sample.bytes).enumerate() {
                watch.decode(sample, &bytes);
                // One other type each, in turn, keeps the run short.
                if let Some(other) = samples.get(at % samples.len()) {
                    watch.decode(other, &bytes);
                }
            }
            for other in &samples {
                watch.decode(other, &sample.bytes);
            }
            foreign().for_each(|bytes| watch.decode(sample, &bytes));
        }
    });
}

/// Decodes each sample by itself.
pub(super) fn costs_little(samples: Vec<Sample>, meter: Meter) {
    watched(meter, move |watch| {
        samples.iter().for_each(|sample| watch.decode(sample, &sample.bytes));
    });
}

/// Refuses nests that are deeper than any honest message, and carries those that are not.
pub(super) fn nests<C: SerdeCodec>(meter: Meter) {
    nest::<C, NestedVariants>(meter);
    nest::<C, NestedOptions>(meter);
    nest::<C, NestedLists>(meter);
    nest::<C, NestedMaps>(meter);
    nest::<C, NestedFields>(meter);
}

/// Survives a nest in a field that the type does not know.
pub(super) fn unknown_fields<C: SerdeCodec>(meter: Meter) {
    let inner = NestedLists::levels(4);
    let (inner, outer) = (encoded::<C, _>(&inner), encoded::<C, _>(&More { kept: 7, more: inner }));
    let Some(at) = outer.windows(inner.len()).rposition(|window| window == inner) else { return };
    let Some(wrap) = Wrap::of::<C, NestedLists>() else { return };
    let (head, tail) =
        (outer.get(..at).unwrap_or_default(), outer.get(at + inner.len()..).unwrap_or_default());
    let attacks = [wrap.repeated(), wrap.unfinished()].map(|deep| [head, &deep, tail].concat());
    watched(meter, move |watch| {
        for bytes in attacks {
            watch.decode(&Sample::new::<C, Less>(Vec::new()), &bytes);
            watch.decode(&Sample::new::<C, More>(Vec::new()), &bytes);
        }
    });
}

/// Refuses lists that claim more elements than their bytes can hold.
pub(super) fn claims<C: SerdeCodec>(meter: Meter) {
    for claimed in [1 << 20, u32::MAX as usize, 1 << 36, 1 << 48, usize::MAX] {
        let mut bytes = Vec::new();
        // A format may refuse to write what it could not read.
        if <C as Codec<Claim>>::encode(&Claim(claimed), &mut bytes).is_err() {
            continue;
        }
        for tail in [&[][..], &[1], &[1; 100]] {
            let bytes = [&bytes[..], tail].concat();
            watched(meter, move |watch| {
                watch.decode(&Sample::new::<C, Vec<u64>>(Vec::new()), &bytes);
                watch.decode(&Sample::new::<C, Vec<String>>(Vec::new()), &bytes);
                watch.decode(&Sample::new::<C, HashMap<u64, u64>>(Vec::new()), &bytes);
                watch.decode(&Sample::new::<C, String>(Vec::new()), &bytes);
                watch.decode(&Sample::new::<C, Vec<()>>(Vec::new()), &bytes);
                watch.decode(&Sample::new::<C, HashMap<(), ()>>(Vec::new()), &bytes);
                let count = <C as Codec<Vec<()>>>::decode(&bytes).map_or(0, |units| units.len());
                assert!(count <= 1024 + 4 * bytes.len(), "{count} elements from {bytes:x?}");
            });
        }
    }
}

fn nest<C: SerdeCodec + Codec<N>, N: Nested>(meter: Meter) {
    let name = type_name::<N>();
    let shallow = <C as Codec<N>>::decode(&encoded::<C, N>(&N::levels(SHALLOW)));
    assert!(shallow.is_ok(), "{SHALLOW} levels of {name} were refused: {:?}", shallow.err());
    let Some(wrap) = Wrap::of::<C, N>() else { return };
    for bytes in [wrap.repeated(), wrap.unfinished()] {
        let decode = move || {
            let mut fault = None;
            let decode = || fault = <C as Codec<N>>::decode(&bytes).err();
            is_small(name, &bytes, measured(meter, decode));
            fault
        };
        let fault = thread::Builder::new().stack_size(STACK).spawn(decode).map(|run| run.join());
        assert!(
            matches!(fault, Ok(Ok(Some(CodecFault::TooDeep { .. })))),
            "a nest of {name} gave {fault:?}"
        );
    }
}

/// Holds what one level of nesting writes around the next.
struct Wrap {
    before: Vec<u8>,
    innermost: Vec<u8>,
    behind: Vec<u8>,
}

impl Wrap {
    /// Finds it by comparing messages of neighbouring depths; none if levels leave no trace, or
    /// not always the same.
    fn of<C: Codec<N>, N: Nested>() -> Option<Self> {
        let [four, five, six] = [4, 5, 6].map(|count| encoded::<C, N>(&N::levels(count)));
        let added = five.len().checked_sub(four.len()).filter(|added| *added > 0)?;
        (0..=added).find_map(|before| {
            let (head, rest) = five.split_at_checked(before)?;
            let behind = rest.strip_prefix(&four[..])?;
            let is_regular = six == [head, &five, behind].concat();
            let wrap =
                Self { before: head.to_vec(), innermost: four.clone(), behind: behind.to_vec() };
            is_regular.then_some(wrap)
        })
    }

    fn repeated(&self) -> Vec<u8> {
        let levels = self.levels();
        [self.before.repeat(levels), self.innermost.clone(), self.behind.repeat(levels)].concat()
    }

    fn unfinished(&self) -> Vec<u8> {
        self.before.repeat(self.levels())
    }

    fn levels(&self) -> usize {
        NEST_BYTES / (self.before.len() + self.behind.len()).max(1)
    }
}

fn encoded<C: Codec<M>, M>(message: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Err(fault) = C::encode(message, &mut bytes) {
        panic!("{} was not encoded: {fault}", type_name::<M>());
    }
    bytes
}

/// Gives bytes other values, cuts tails, and scatters noise; a long message gets samples of each.
fn mutations(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let places = (0..bytes.len()).step_by(1 + bytes.len() / PLACES);
    let flips = places.clone().flat_map(move |at| {
        [0x00, 0x01, 0x7f, 0x80, 0xff].map(move |value| {
            let mut flipped = bytes.to_vec();
            flipped[at] = if flipped[at] == value { !value } else { value };
            flipped
        })
    });
    let cuts = places.map(|length| bytes[..length].to_vec());
    let mut noise = Noise(bytes.len() as u64);
    let scattered = (0..200).map(move |_| noise.scattered_over(bytes));
    flips.chain(cuts).chain(scattered)
}

/// Gives headers that claim much in one format or another, and plain noise.
fn foreign() -> impl Iterator<Item = Vec<u8>> {
    let headers = HEADERS.iter().flat_map(|header| {
        [0, 1, 200]
            .map(|tail| [header, &vec![header.first().copied().unwrap_or(0); tail][..]].concat())
    });
    let mut noise = Noise(1);
    headers.chain((0..300).map(move |_| noise.bytes()))
}

/// Draws numbers from a linear congruential generator, the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> usize {
        let state = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = state.wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 40).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..self.next() % 64).map(|_| self.byte()).collect()
    }

    fn scattered_over(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..self.next() % 4 {
            let at = self.next() % bytes.len().max(1);
            let value = self.byte();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes
    }
}

/// Runs decodings aside, so that one that hangs can be named.
fn watched(meter: Meter, run: impl FnOnce(&Watch) + Send + 'static) {
    let (progress, current) = channel();
    let watch = Watch { progress, meter };
    let worker = thread::Builder::new().stack_size(STACK).spawn(move || run(&watch));
    let worker = worker.unwrap_or_else(|error| panic!("no thread for the run: {error}"));
    let mut last = None;
    loop {
        match current.recv_timeout(HANG) {
            Ok(input) => last = Some(input),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("{last:x?} was not decoded within {HANG:?}"),
        }
    }
    if let Err(panic) = worker.join() {
        resume_unwind(panic);
    }
}

/// Names what is about to be decoded, and measures it.
struct Watch {
    progress: Sender<(&'static str, Vec<u8>)>,
    meter: Meter,
}

impl Watch {
    fn decode(&self, target: &Sample, bytes: &[u8]) {
        if self.progress.send((target.name, bytes.to_vec())).is_err() {
            return;
        }
        // A machine that is busy elsewhere makes one run slow, not three.
        let is_fast = (0..3).any(|_| {
            let begun = Instant::now();
            let decode = || drop((target.decode)(bytes));
            let peak = catch_unwind(AssertUnwindSafe(|| measured(self.meter, decode)));
            let took = begun.elapsed();
            match peak {
                Ok(peak) => is_small(target.name, bytes, peak),
                Err(_) => panic!("{} panicked on {:x?}", target.name, brief(bytes)),
            }
            took <= PATIENCE
        });
        assert!(is_fast, "{} took more than {PATIENCE:?} for {:x?}", target.name, brief(bytes));
    }
}

/// Gives the most heap that a run held at one time.
fn measured(meter: Meter, run: impl FnOnce()) -> usize {
    let mut run = Some(run);
    meter(&mut || {
        if let Some(run) = run.take() {
            run();
        }
    })
}

/// Checks what decoding may hold, however much the input claims.
fn is_small(name: &str, bytes: &[u8], peak: usize) {
    let limit = 4 * bytes.len() + HEAP_BYTES;
    assert!(peak <= limit, "{name} held {peak} bytes, not {limit}, for {:x?}", brief(bytes));
}

fn brief(bytes: &[u8]) -> &[u8] {
    bytes.get(..400).unwrap_or(bytes)
}

/// Counts the levels that every codec carries, far from the default depth of 128.
const SHALLOW: usize = 25;

/// Bounds a nest, in bytes; formats overflow [`STACK`] at some 10 000 levels.
const NEST_BYTES: usize = 60_000;

/// The stack of a thread as the standard library starts it, in bytes.
const STACK: usize = 2 << 20;

/// What decoding may hold beside 4 times its input, in bytes.
const HEAP_BYTES: usize = 4 << 20;

/// Bounds the places at which one message is altered.
const PLACES: usize = 256;

/// Bounds the decoding of one small input; without optimisation anything may be slow.
const PATIENCE: Duration =
    if cfg!(debug_assertions) { Duration::from_secs(2) } else { Duration::from_millis(50) };

/// Tells an endless decoding from a slow one.
const HANG: Duration = Duration::from_secs(60);

/// Lengths of 2^31 and more, as the formats that exist write them.
const HEADERS: &[&[u8]] = &[
    b"\xfc\xff\xff\xff\xff",
    b"\xfd\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xfd\x00\x00\x00\x00\x10\x00\x00\x00",
    b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x05",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x7b\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x9f",
    b"\xbf",
    b"\x5f",
    b"\x7f",
    b"\xc1",
    b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x0b",
];
