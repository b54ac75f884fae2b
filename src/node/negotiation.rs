//! Knows what a peer's codec registry accepts, and picks how each message type is sent to it.
//!
//! ```text
//!                equal fingerprints
//!   Unknown ──────────────────────────▶ Same
//!    ▲   │        list complete
//!    │   └────────────────────────────▶ Known ◀── a later link's list
//!    └── new incarnation ─── Same, Known
//! ```
//! While it is unknown, the oldest version goes out in its first format: what every build accepts that was ever
//! meant to be talked to. To the same registry goes the first of all, for which nothing is looked up. A known list
//! is looked up once for each message type; the choice is kept until the peer restarts.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::association::control::Rest;
use crate::codec::{Accepted, CodecEntry, CodecRegistry, Encoding, Mismatch, RemoteMessage};
use crate::event::{RegistryDifference, SchemaMismatch};
use crate::frame::FrameFault;
use crate::node::outbox::WireName;
use crate::node::remote_ref::{TellError, Unsent};

/// Knows what one peer accepts.
#[derive(Debug, Default)]
pub(crate) struct Negotiation {
    is_same: AtomicBool,
    has_mismatches: AtomicBool,
    known: RwLock<Option<Known>>,
}

#[derive(Debug)]
struct Known {
    accepted: Accepted,
    takes_unlisted: bool,
    mismatches: Vec<Mismatch>,
    /// As many as this program has types that it sends.
    choices: HashMap<TypeId, Choice>,
}

#[derive(Debug, Clone, Copy)]
enum Choice {
    /// The encoding at this place among all of the type.
    Send(u8),
    Unknown,
    Differs {
        manifest: &'static str,
        here: u64,
        there: u64,
    },
}

/// Gathers the list of what a peer accepts, which comes in parts; a link carries it once.
#[derive(Debug)]
pub(crate) struct Listing(Option<Accepted>);

/// How a message of type `M` is to be sent.
#[derive(Debug)]
pub(crate) struct Chosen<M: 'static> {
    pub(crate) encoding: &'static Encoding<M>,
    form: u8,
}

impl Negotiation {
    /// Begins with the registry of the node itself.
    pub(crate) fn with_itself() -> Self {
        Self { is_same: AtomicBool::new(true), ..Self::default() }
    }

    /// Takes the fingerprints of a handshake; tells whether the two sides are to exchange their lists.
    pub(crate) fn meet(&self, own: u64, theirs: u64) -> bool {
        self.is_same.store(own == theirs, Ordering::Release);
        own != theirs && own != SILENT && theirs != SILENT
    }

    /// Forgets the peer's former incarnation.
    pub(crate) fn forget(&self) {
        self.is_same.store(false, Ordering::Release);
        self.has_mismatches.store(false, Ordering::Release);
        *self.write() = None;
    }

    /// Takes the peer's whole list; gives how it differs from `registry`, unless that was known.
    pub(crate) fn learn(
        &self,
        registry: &CodecRegistry,
        accepted: Accepted,
        takes_unlisted: bool,
    ) -> Option<RegistryDifference> {
        let mut known = self.write();
        if known.as_ref().is_some_and(|known| known.accepted == accepted) {
            return None;
        }
        let mismatches: Vec<_> = registry.mismatches(&accepted).collect();
        let difference = difference(registry, &accepted, takes_unlisted, &mismatches);
        self.has_mismatches.store(!mismatches.is_empty(), Ordering::Release);
        let choices = HashMap::new();
        *known = Some(Known { accepted, takes_unlisted, mismatches, choices });
        Some(difference)
    }

    /// Picks the encoding for a message type.
    #[inline]
    pub(crate) fn choose<M: RemoteMessage>(&self) -> Result<Chosen<M>, Unsent> {
        if self.is_same.load(Ordering::Acquire) {
            if let Some(encoding) = encodings::<M>().next() {
                return Ok(Chosen { encoding, form: 0 });
            }
        }
        self.choose_among::<M>()
    }

    /// Picks the encoding for a peer with another registry.
    #[inline(never)]
    fn choose_among<M: RemoteMessage>(&self) -> Result<Chosen<M>, Unsent> {
        let unknown = || Unsent::because(TellError::UnknownToPeer { manifest: M::MANIFEST });
        match self.choice::<M>().unwrap_or(Choice::Send(cautious::<M>())) {
            Choice::Send(form) => {
                let encoding = encodings::<M>().nth(usize::from(form)).ok_or_else(unknown)?;
                Ok(Chosen { encoding, form })
            }
            Choice::Unknown => Err(unknown()),
            Choice::Differs { manifest, here, there } => {
                Err(Unsent::because(TellError::SchemaMismatch { manifest, here, there }))
            }
        }
    }

    /// Finds what is wrong with decoding this peer's messages of that name.
    pub(crate) fn mismatch(&self, wire_name: &str) -> Option<SchemaMismatch> {
        if !self.has_mismatches.load(Ordering::Acquire) {
            return None;
        }
        let (codec, manifest) = wire_name.split_once(':')?;
        let known = self.read();
        let found = known.as_ref()?.mismatch(codec, manifest)?;
        Some(SchemaMismatch::new(wire_name.to_owned(), found.here, found.there))
    }

    fn choice<M: RemoteMessage>(&self) -> Option<Choice> {
        let type_id = TypeId::of::<M>();
        if let Some(choice) = self.read().as_ref()?.choices.get(&type_id) {
            return Some(*choice);
        }
        let mut known = self.write();
        let known = known.as_mut()?;
        let choice = known.weigh::<M>();
        known.choices.insert(type_id, choice);
        Some(choice)
    }

    fn read(&self) -> RwLockReadGuard<'_, Option<Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Option<Known>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Finds the first encoding that the peer accepts.
    fn weigh<M: RemoteMessage>(&self) -> Choice {
        let mut refusal = Choice::Unknown;
        for (form, encoding) in (0..=u8::MAX).zip(encodings::<M>()) {
            let (codec, manifest) = (encoding.codec(), encoding.manifest());
            let Some(theirs) = self.accepted.find(codec, manifest) else { continue };
            // The type's own hash, or what the registry has for the name.
            let own = encoding.schema().zip(theirs).filter(|(here, there)| here != there);
            let registered = || self.mismatch(codec, manifest).map(|m| (m.here, m.there));
            match own.or_else(registered) {
                None => return Choice::Send(form),
                Some((here, there)) => refusal = Choice::Differs { manifest, here, there },
            }
        }
        match refusal {
            Choice::Unknown if self.takes_unlisted => Choice::Send(cautious::<M>()),
            Choice::Send(_) | Choice::Unknown | Choice::Differs { .. } => refusal,
        }
    }

    fn mismatch(&self, codec: &str, manifest: &str) -> Option<&Mismatch> {
        self.mismatches.iter().find(|found| found.codec == codec && found.manifest == manifest)
    }
}

impl Listing {
    pub(crate) fn new() -> Self {
        Self(Some(Accepted::default()))
    }

    /// Takes a part; gives the list once it is whole, and whether the peer takes what is not listed too.
    pub(crate) fn add(
        &mut self,
        lines: &str,
        rest: Rest,
    ) -> Result<Option<(Accepted, bool)>, FrameFault> {
        let mut listed = self.0.take().ok_or(FrameFault::OutOfTurn)?;
        listed.add(lines)?;
        match rest {
            Rest::Nothing => Ok(Some((listed, false))),
            Rest::Unlisted => Ok(Some((listed, true))),
            Rest::More => {
                self.0 = Some(listed);
                Ok(None)
            }
        }
    }
}

impl<M: 'static> Chosen<M> {
    /// Names what is sent, for the dictionary.
    pub(crate) fn wire_name(&self) -> WireName {
        WireName {
            type_id: TypeId::of::<M>(),
            form: self.form,
            codec: self.encoding.codec(),
            manifest: self.encoding.manifest(),
        }
    }
}

fn encodings<M: RemoteMessage>() -> impl Iterator<Item = &'static Encoding<M>> {
    M::ENCODINGS.iter().copied().flatten()
}

/// Gives the place of the oldest version's first format.
fn cautious<M: RemoteMessage>() -> u8 {
    let newer = M::ENCODINGS.split_last().map_or(&[][..], |(_, newer)| newer);
    let before: usize = newer.iter().map(|version| version.len()).sum();
    u8::try_from(before).unwrap_or(u8::MAX)
}

fn difference(
    registry: &CodecRegistry,
    accepted: &Accepted,
    takes_unlisted: bool,
    mismatches: &[Mismatch],
) -> RegistryDifference {
    let mut difference = RegistryDifference::default();
    let more = &mut difference.more;
    for (codec, manifest, _) in accepted.iter() {
        if registry.find_parts(codec, manifest).is_none() {
            list(&mut difference.unknown_here, more, || format!("{codec}:{manifest}"));
        }
    }
    let is_lacking = |entry: &&CodecEntry| {
        !takes_unlisted && accepted.find(entry.codec(), entry.manifest()).is_none()
    };
    for entry in registry.iter().filter(is_lacking) {
        list(&mut difference.unknown_there, more, || entry.wire_name());
    }
    for Mismatch { codec, manifest, here, there } in mismatches {
        let name = || SchemaMismatch::new(format!("{codec}:{manifest}"), *here, *there);
        list(&mut difference.mismatches, more, name);
    }
    difference
}

fn list<T>(list: &mut Vec<T>, more: &mut usize, item: impl FnOnce() -> T) {
    if list.len() < RegistryDifference::MAX_LISTED {
        list.push(item());
    } else {
        *more += 1;
    }
}

/// The fingerprint of a peer that says nothing of its registry.
const SILENT: u64 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Bincode, CodecFault};

    /// Another format by name alone.
    struct Other;

    impl crate::codec::Codec<u8> for Other {
        const NAME: &'static str = "other";

        fn encode(message: &u8, out: &mut Vec<u8>) -> Result<(), CodecFault> {
            out.push(*message);
            Ok(())
        }

        fn decode(_: &[u8]) -> Result<u8, CodecFault> {
            Err(CodecFault::decode("never read"))
        }
    }

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Item(u8);

    impl From<&Item> for u8 {
        fn from(item: &Item) -> Self {
            item.0
        }
    }

    impl RemoteMessage for Item {
        const MANIFEST: &'static str = "x.v2.Item";
        type Codec = Bincode;
        const SCHEMA: Option<u64> = Some(2);
        const ENCODINGS: &'static [&'static [Encoding<Self>]] = &[
            &[Encoding::new::<Bincode>("x.v2.Item", Self::SCHEMA)],
            &[
                Encoding::older::<u8, Bincode>("x.v1.Item"),
                Encoding::older::<u8, Other>("x.v1.Item"),
            ],
        ];
    }

    fn known(lines: &str, takes_unlisted: bool) -> Negotiation {
        let registry = CodecRegistry::from_tables(&[]).unwrap();
        let (negotiation, mut accepted) = (Negotiation::default(), Accepted::default());
        accepted.add(lines).unwrap();
        assert!(negotiation.learn(&registry, accepted.clone(), takes_unlisted).is_some());
        assert_eq!(negotiation.learn(&registry, accepted, takes_unlisted), None);
        negotiation
    }

    fn chosen(negotiation: &Negotiation) -> Result<String, TellError> {
        // Twice, since the second one is remembered.
        let name = |chosen: Chosen<Item>| {
            let WireName { codec, manifest, .. } = chosen.wire_name();
            format!("{codec}:{manifest}")
        };
        let choose = || negotiation.choose().map(name).map_err(TellError::from);
        let first = choose();
        assert_eq!(choose(), first);
        first
    }

    #[test]
    fn a_peer_is_sent_the_first_encoding_that_it_accepts() {
        for (lines, expected) in [
            ("bincode:x.v1.Item\nbincode:x.v2.Item\n", "bincode:x.v2.Item"),
            ("bincode:x.v2.Item 0000000000000002\n", "bincode:x.v2.Item"),
            ("bincode:x.v1.Item\nother:x.v1.Item\n", "bincode:x.v1.Item"),
            ("other:x.v1.Item\n", "other:x.v1.Item"),
            ("bincode:x.v2.Item 0000000000000003\nother:x.v1.Item\n", "other:x.v1.Item"),
        ] {
            assert_eq!(chosen(&known(lines, false)).as_deref(), Ok(expected), "{lines}");
        }
    }

    #[test]
    fn a_type_that_the_peer_does_not_accept_is_refused_by_name() {
        let unknown = TellError::UnknownToPeer { manifest: "x.v2.Item" };
        assert_eq!(chosen(&known("other:x.v2.Item\n", false)), Err(unknown));
        let mismatch = TellError::SchemaMismatch { manifest: "x.v2.Item", here: 2, there: 3 };
        for takes_unlisted in [false, true] {
            let negotiation = known("bincode:x.v2.Item 0000000000000003\n", takes_unlisted);
            assert_eq!(chosen(&negotiation), Err(mismatch.clone()));
        }
    }

    #[test]
    fn while_nothing_is_known_the_oldest_version_is_sent() {
        let negotiation = known("bincode:x.v2.Item\n", false);
        negotiation.forget();
        assert_eq!(chosen(&negotiation).as_deref(), Ok("bincode:x.v1.Item"));
        assert_eq!(chosen(&known("", true)).as_deref(), Ok("bincode:x.v1.Item"));
    }

    #[test]
    fn equal_fingerprints_need_no_list_and_silent_peers_have_none() {
        let negotiation = Negotiation::default();
        assert!(!negotiation.meet(7, 7));
        assert_eq!(chosen(&negotiation).as_deref(), Ok("bincode:x.v2.Item"));
        assert!(negotiation.meet(7, 8));
        assert_eq!(chosen(&negotiation).as_deref(), Ok("bincode:x.v1.Item"));
        assert!(!negotiation.meet(7, SILENT));
    }
}
