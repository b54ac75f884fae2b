//! Shows that builds with other formats, versions and schemas talk to each other, or refuse with a reason.
//!
//! Each module is a build of one application with a table of its own; two of them run as two nodes side by side.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Net, collector, event, letter, on_both, until, within};
use serde::{Deserialize, Serialize};
use tellwire::address::Address;
use tellwire::codec::{Bincode, CodecEntry, CodecRegistry, RemoteMessage};
use tellwire::event::{NodeEvent, Reason, RegistryDifference};
use tellwire::node::{
    AskError, Context, DeliverError, EventStream, InboundTell, RemoteMessageSink, TellError,
};
use tellwire::{Node, RemoteRef};
use tellwire_json::Json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Knows the first version.
mod old {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Item {
        pub(super) seq: u64,
    }

    tellwire::remote_messages! {
        pub(super) table SHOP, codec = Bincode;
        "shop.v1.Item" => Item { schema = 0x01 },
    }
}

/// Knows the third version, and what it makes of the first two.
mod new {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Item {
        pub(super) seq: u64,
        pub(super) count: u32,
        pub(super) note: String,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct ItemV2 {
        seq: u64,
        count: u32,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct ItemV1 {
        pub(super) seq: u64,
    }

    impl From<ItemV1> for ItemV2 {
        fn from(old: ItemV1) -> Self {
            assert_ne!(old.seq, POISON, "this one panics while it is converted");
            Self { seq: old.seq, count: 1 }
        }
    }

    impl From<ItemV2> for Item {
        fn from(old: ItemV2) -> Self {
            Self { seq: old.seq, count: old.count, note: "old".to_owned() }
        }
    }

    impl From<&Item> for ItemV1 {
        fn from(new: &Item) -> Self {
            assert_ne!(new.seq, POISON, "this one panics while it is converted");
            Self { seq: new.seq }
        }
    }

    tellwire::remote_messages! {
        pub(super) table SHOP, codec = Bincode;
        "shop.v3.Item" => Item { schema = 0x03, until understood "shop.v1.Item" => ItemV1 },
        "shop.v2.Item" => ItemV2 as Item,
        "shop.v1.Item" => ItemV1 as ItemV2 as Item { schema = 0x01 },
    }

    pub(super) const POISON: u64 = 666;
}

/// Writes the first version as JSON, and reads nothing else.
mod scripted {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Item {
        pub(super) seq: u64,
    }

    tellwire::remote_messages! {
        pub(super) table SHOP, codec = Json;
        "shop.v1.Item" => Item { schema = 0x01 },
    }
}

/// Prefers bincode, and reads JSON.
mod bilingual {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Item {
        pub(super) seq: u64,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Receipt;

    tellwire::remote_messages! {
        pub(super) table SHOP, codecs = [Bincode, Json];
        "shop.v1.Item" => Item { schema = 0x01 },
        "shop.v1.Receipt" => Receipt { codec = Json },
    }
}

/// Has changed the first version without a new manifest.
mod careless {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Item {
        pub(super) seq: String,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Ping;

    tellwire::remote_messages! {
        pub(super) table SHOP, codec = Bincode;
        "shop.v1.Item" => Item { schema = 0xbad },
        "shop.v1.Ping" => Ping,
    }
}

async fn node(net: &Net, table: &'static [CodecEntry]) -> Node {
    net.builder().codecs(table).start().await.unwrap()
}

/// Waits until a node knows the other's registry.
async fn difference(events: &mut EventStream) -> RegistryDifference {
    event(events, |event| match event {
        NodeEvent::RegistryDiffers { difference, .. } => Some(difference),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_peer_that_has_only_json_tells_and_is_told_in_json() {
    on_both(async |net| {
        let ada = node(&net, bilingual::SHOP).await;
        let bob = node(&net, scripted::SHOP).await;
        let (mut at_ada, mut at_bob) = (ada.events(), bob.events());
        let (take, mut taken) = collector::<bilingual::Item>();
        let (take_back, mut taken_back) = collector::<scripted::Item>();
        let to_ada = bob.resolve(ada.register("/user/shop", take).unwrap()).unwrap();
        let to_bob = ada.resolve(bob.register("/user/shop", take_back).unwrap()).unwrap();

        to_ada.tell(&scripted::Item { seq: 1 }).unwrap();
        assert_eq!(taken.next().await, bilingual::Item { seq: 1 });
        let at_ada = difference(&mut at_ada).await;
        assert_eq!(at_ada.unknown_there, ["bincode:shop.v1.Item", "json:shop.v1.Receipt"]);
        assert_eq!((at_ada.unknown_here.len(), at_ada.mismatches.len()), (0, 0));
        let at_bob = difference(&mut at_bob).await;
        assert_eq!(at_bob.unknown_here, ["bincode:shop.v1.Item", "json:shop.v1.Receipt"]);

        to_bob.tell(&bilingual::Item { seq: 2 }).unwrap();
        assert_eq!(taken_back.next().await, scripted::Item { seq: 2 });
        to_ada.tell(&scripted::Item { seq: 3 }).unwrap();
        assert_eq!(taken.next().await, bilingual::Item { seq: 3 });
        assert_eq!(ada.stats().dead_letters_total() + bob.stats().dead_letters_total(), 0);
    })
    .await;
}

#[tokio::test]
async fn replies_are_sent_in_the_askers_format() {
    on_both(async |net| {
        let ada = node(&net, bilingual::SHOP).await;
        let bob = node(&net, scripted::SHOP).await;
        let echo = async |item: bilingual::Item, cx: &mut Context| cx.reply(&item);
        let shop = ada.spawn("/user/shop", echo).unwrap();
        let shop = bob.resolve(shop.path().clone()).unwrap();
        let answer = shop.ask(&scripted::Item { seq: 4 }, common::LONG).await;
        assert_eq!(answer, Ok(scripted::Item { seq: 4 }));
    })
    .await;
}

#[tokio::test]
async fn a_type_that_the_peer_does_not_know_is_refused_where_it_is_told() {
    on_both(async |net| {
        let ada = node(&net, bilingual::SHOP).await;
        let bob = node(&net, scripted::SHOP).await;
        let (mut events, (take, mut taken)) = (ada.events(), collector::<scripted::Item>());
        let to_bob = ada.resolve(bob.register("/user/shop", take).unwrap()).unwrap();

        // Before the peer has said what it accepts, the first format is a guess.
        let mut letters = bob.dead_letters();
        to_bob.tell(&bilingual::Item { seq: 0 }).unwrap();
        assert_eq!(letter(&mut letters).await.reason, Reason::UnknownManifest);
        difference(&mut events).await;

        let unknown = TellError::UnknownToPeer { manifest: "shop.v1.Receipt" };
        assert_eq!(to_bob.tell(&bilingual::Receipt), Err(unknown.clone()));
        assert!(unknown.to_string().contains("shop.v1.Receipt"), "{unknown}");
        let asked = to_bob.ask::<_, bilingual::Item>(&bilingual::Receipt, common::LONG).await;
        assert_eq!(asked, Err(AskError::Tell(unknown)));
        to_bob.tell(&bilingual::Item { seq: 1 }).unwrap();
        assert_eq!(taken.next().await, scripted::Item { seq: 1 });
        assert_eq!(bob.stats().dead_letters, [(Reason::UnknownManifest, 1)]);
    })
    .await;
}

#[tokio::test]
async fn schemas_that_differ_are_refused_by_both_sides_and_told_once() {
    on_both(async |net| {
        let ada = node(&net, old::SHOP).await;
        let bob = node(&net, careless::SHOP).await;
        let (mut at_ada, mut at_bob, mut letters) =
            (ada.events(), bob.events(), ada.dead_letters());
        let to_ada = bob.resolve(ada.register("/user/shop", |_: old::Item| {}).unwrap()).unwrap();
        let to_bob =
            ada.resolve(bob.register("/user/shop", |_: careless::Item| {}).unwrap()).unwrap();

        // Told before the schemas are known: the receiver refuses to decode it.
        to_ada.tell(&careless::Item { seq: "x".to_owned() }).unwrap();
        let refused = letter(&mut letters).await;
        assert_eq!(refused.reason, Reason::SchemaMismatch);
        let detail = refused.detail.unwrap();
        for part in ["bincode:shop.v1.Item", "0000000000000001 here", "0000000000000bad at"] {
            assert!(detail.contains(part), "{detail}");
        }
        let told = difference(&mut at_ada).await;
        let [mismatch] = &told.mismatches[..] else { panic!("{told:?}") };
        assert_eq!((mismatch.here, mismatch.there), (0x01, 0xbad));
        assert_eq!(told.unknown_here, ["bincode:shop.v1.Ping"]);
        let told = difference(&mut at_bob).await;
        assert_eq!((told.mismatches[0].here, told.mismatches[0].there), (0xbad, 0x01));

        // Told later: refused where it is told.
        let manifest = "shop.v1.Item";
        let (one, other) = (0x01, 0xbad);
        let expected = TellError::SchemaMismatch { manifest, here: one, there: other };
        assert_eq!(to_bob.tell(&old::Item { seq: 1 }), Err(expected));
        let expected = TellError::SchemaMismatch { manifest, here: other, there: one };
        assert_eq!(to_ada.tell(&careless::Item { seq: String::new() }), Err(expected));
        assert_eq!(ada.stats().dead_letters, [(Reason::SchemaMismatch, 1)]);
        until("the refusal at the sender's node", || !bob.stats().refused_by_peers.is_empty())
            .await;
        assert_eq!(bob.stats().refused_by_peers, [(Reason::SchemaMismatch, 1)]);
    })
    .await;
}

#[tokio::test]
async fn an_actor_takes_old_versions_as_the_newest() {
    on_both(async |net| {
        let (ada, bob) = (node(&net, new::SHOP).await, node(&net, old::SHOP).await);
        let (take, mut taken) = collector::<new::Item>();
        let to_ada = bob.resolve(ada.register("/user/shop", take).unwrap()).unwrap();
        let mut letters = ada.dead_letters();
        for seq in [1, new::POISON, 2] {
            to_ada.tell(&old::Item { seq }).unwrap();
        }
        let item = |seq| new::Item { seq, count: 1, note: "old".to_owned() };
        assert_eq!(taken.take(2).await, [item(1), item(2)]);
        assert_eq!(letter(&mut letters).await.reason, Reason::Panicked);
    })
    .await;
}

#[tokio::test]
async fn a_conversion_that_panics_at_the_sender_costs_the_one_tell() {
    let net = Net::Tcp;
    let (ada, bob) = (node(&net, new::SHOP).await, node(&net, old::SHOP).await);
    let (take, mut taken) = collector::<old::Item>();
    let to_bob = ada.resolve(bob.register("/user/shop", take).unwrap()).unwrap();
    let item = |seq| new::Item { seq, count: 7, note: String::new() };
    to_bob.tell(&item(1)).unwrap();
    let refused = to_bob.tell(&item(new::POISON)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "bincode:shop.v1.Item: the conversion code of the type panicked"
    );
    to_bob.tell(&item(2)).unwrap();
    assert_eq!(taken.take(2).await, [old::Item { seq: 1 }, old::Item { seq: 2 }]);
}

/// Both directions are numbered through, whichever build of a node tells; each number is taken once and in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_upgrade_loses_nothing_and_switches_to_the_new_version_by_itself() {
    on_both(async |net| {
        let (at_ada, at_bob) = (Shelf::default(), Shelf::default());
        let ada = at_ada.open(&net.builder_for(old::SHOP), old_seq).await;
        let bob = at_bob.open(&net.builder_for(old::SHOP), old_seq).await;
        let (ada_at, bob_at) = (ada.address(), bob.address());
        let mut to_bob = Pump::start(&ada, &bob_at, 0, old_item);
        let mut to_ada = Pump::start(&bob, &ada_at, 0, old_item);
        at_ada.until_more().await;
        at_bob.until_more().await;

        // Ada goes first. Her peer's tells must have arrived before she says goodbye; later ones wait for her.
        let next_to_ada = to_ada.stop().await;
        at_ada.until_all(next_to_ada).await;
        let next_to_bob = to_bob.stop().await;
        assert_eq!(within("the end", ada.shutdown(common::LONG)).await.unflushed, 0);
        to_ada = Pump::start(&bob, &ada_at, next_to_ada, old_item);
        let ada = at_ada.open(&net.builder_again(new::SHOP, &ada_at), new_seq).await;
        to_bob = Pump::start(&ada, &bob_at, next_to_bob, new_item);
        at_ada.until_more().await;
        at_bob.until_more().await;
        assert_eq!(at_ada.names() + &at_bob.names(), "bincode:shop.v1.Item".repeat(2));

        // Then Bob.
        let next_to_bob = to_bob.stop().await;
        at_bob.until_all(next_to_bob).await;
        let next_to_ada = to_ada.stop().await;
        assert_eq!(within("the end", bob.shutdown(common::LONG)).await.unflushed, 0);
        to_bob = Pump::start(&ada, &bob_at, next_to_bob, new_item);
        let bob = at_bob.open(&net.builder_again(new::SHOP, &bob_at), new_seq).await;
        to_ada = Pump::start(&bob, &ada_at, next_to_ada, new_item);
        let switched = "bincode:shop.v1.Itembincode:shop.v3.Item";
        until("both to have switched", || at_ada.names() == switched && at_bob.names() == switched)
            .await;

        at_ada.until_all(to_ada.stop().await).await;
        at_bob.until_all(to_bob.stop().await).await;
        for node in [&ada, &bob] {
            let stats = node.stats();
            assert_eq!((stats.dead_letters_total(), stats.possibly_lost), (0, 0), "{stats:?}");
            assert_eq!(stats.refused_by_peers, []);
        }
    })
    .await;
}

fn old_item(seq: u64) -> old::Item {
    old::Item { seq }
}

fn old_seq(registry: &CodecRegistry, tell: &InboundTell<'_>) -> Result<u64, DeliverError> {
    Ok(registry.decode::<old::Item>(tell.wire_name, tell.payload)?.seq)
}

fn new_item(seq: u64) -> new::Item {
    new::Item { seq, count: 2, note: "new".to_owned() }
}

fn new_seq(registry: &CodecRegistry, tell: &InboundTell<'_>) -> Result<u64, DeliverError> {
    Ok(registry.decode::<new::Item>(tell.wire_name, tell.payload)?.seq)
}

/// Where to open a shelf, and with which build.
struct Build {
    net: Net,
    table: &'static [CodecEntry],
    at: Option<Address>,
}

impl Net {
    fn builder_for(&self, table: &'static [CodecEntry]) -> Build {
        Build { net: self.clone(), table, at: None }
    }

    fn builder_again(&self, table: &'static [CodecEntry], at: &Address) -> Build {
        Build { net: self.clone(), table, at: Some(at.clone()) }
    }
}

/// Keeps what a node was told over its incarnations: a sink, so that nothing comes too early for a registration.
#[derive(Clone, Default)]
struct Shelf {
    seen: Arc<Mutex<Vec<u64>>>,
    names: Arc<Mutex<BTreeSet<String>>>,
}

type ReadSeq = fn(&CodecRegistry, &InboundTell<'_>) -> Result<u64, DeliverError>;

struct Filling {
    shelf: Shelf,
    registry: CodecRegistry,
    read: ReadSeq,
}

impl RemoteMessageSink for Filling {
    fn deliver(&self, tell: InboundTell<'_>) -> Result<(), DeliverError> {
        let seq = (self.read)(&self.registry, &tell)?;
        self.shelf.seen.lock().unwrap().push(seq);
        self.shelf.names.lock().unwrap().insert(tell.wire_name.to_owned());
        Ok(())
    }
}

impl Shelf {
    async fn open(&self, build: &Build, read: ReadSeq) -> Node {
        let registry = || CodecRegistry::from_tables(&[build.table]).unwrap();
        let filling = || Filling { shelf: self.clone(), registry: registry(), read };
        match &build.at {
            None => build.net.builder().codecs(build.table).sink(filling()).start().await.unwrap(),
            Some(at) => {
                let with = |builder: tellwire::node::NodeBuilder| {
                    builder.codecs(build.table).sink(filling())
                };
                build.net.restart_with(at, with).await
            }
        }
    }

    fn names(&self) -> String {
        self.names.lock().unwrap().iter().cloned().collect()
    }

    async fn until_more(&self) {
        let before = self.seen.lock().unwrap().len();
        until("more to come", || self.seen.lock().unwrap().len() > before + 50).await;
    }

    /// Waits until every number below `next` has come, each once and in order.
    async fn until_all(&self, next: u64) {
        until("all to come", || self.seen.lock().unwrap().len() as u64 >= next).await;
        let seen = self.seen.lock().unwrap();
        assert!(seen.iter().copied().eq(0..next), "{next} were told, {} came", seen.len());
    }
}

/// Tells one number after the other until it is stopped.
struct Pump {
    stop: CancellationToken,
    task: JoinHandle<u64>,
}

impl Pump {
    fn start<M>(from: &Node, to: &Address, next: u64, make: fn(u64) -> M) -> Self
    where
        M: RemoteMessage + Sync,
    {
        let target = from.resolve(format!("{to}/user/shop")).unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(pump(target, stop.clone(), next, make));
        Self { stop, task }
    }

    /// Ends it, and gives the number that would have been next.
    async fn stop(self) -> u64 {
        self.stop.cancel();
        within("the pump to stop", self.task).await.unwrap()
    }
}

async fn pump<M: RemoteMessage + Sync>(
    target: RemoteRef,
    stop: CancellationToken,
    mut next: u64,
    make: fn(u64) -> M,
) -> u64 {
    while !stop.is_cancelled() {
        let message = make(next);
        // Sending is cancel safe: what is dropped half way was not told.
        match stop.run_until_cancelled(target.send(&message)).await {
            None => break,
            Some(sent) => sent.unwrap(),
        }
        next += 1;
        // Sets the pace, no more.
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    next
}
