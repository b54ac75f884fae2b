//! Says all kinds of nonsense to the membership of a node, as a stranger and as a flood.

use tellwire::membership::pdu::{MembershipPdu, encode};
use tellwire::membership::profile::Profile;
use tellwire::membership::settings::ClusterSettings;
use tellwire::wire::FrameKind;
use tellwire::{Address, Node, Settings, Uid, UniqueAddress};

use crate::raw::{Raw, SYSTEM, follower, frame, soon};

#[tokio::test]
async fn gossip_that_is_none_stops_no_cluster() {
    let (ada, bob) = pair().await;
    let mut stranger = Raw::join(&ada, follower(7)).await;
    let before = ada.stats().gossip_received;
    let rests = [&[][..], &[0], &[0xff; 9], &[0xfd; 300], &[0xfc, 0xff, 0xff, 0xff, 0xff]];
    for kind in 0..12 {
        for rest in rests {
            stranger.send(&frame(FrameKind::GOSSIP, &[&[kind], rest].concat())).await;
        }
    }
    // More than a PDU may have, and a frame may carry.
    stranger.send(&frame(FrameKind::GOSSIP, &vec![4; 10 << 20])).await;
    received(&ada, before + 61).await;
    a_third_joins(&[&ada, &bob]).await;
    stranger.send(&frame(FrameKind::GOSSIP, &[])).await;
    assert_eq!(ada.stats().handshakes_refused, 0, "bad gossip costs nobody a link");
}

#[tokio::test]
async fn a_flood_of_gossip_is_dropped_and_counted_and_keeps_no_one_out() {
    let (ada, bob) = pair().await;
    let mut stranger = Raw::join(&ada, follower(7)).await;
    let before = ada.stats().gossip_received;
    let pdus = [frame(FrameKind::GOSSIP, &[9; 20]).as_slice(); 100].concat();
    for _ in 0..500 {
        stranger.send(&pdus).await;
    }
    received(&ada, before + 50_000).await;
    a_third_joins(&[&ada, &bob]).await;
    assert!(ada.stats().gossip_dropped > 0, "one peer has a share of the room, not all of it");
}

#[tokio::test]
async fn a_peer_that_speaks_for_another_is_not_believed() {
    let (ada, bob) = pair().await;
    let mut liar = Raw::join(&ada, follower(7)).await;
    let before = ada.stats().gossip_received;
    let other = UniqueAddress::new(
        format!("tcp://{SYSTEM}@127.0.0.1:9").parse().expect("an address"),
        Uid::new(9),
    );
    let node = bob.unique_address();
    let cluster = ada.cluster().state().cluster().expect("a member");
    for pdu in [
        MembershipPdu::Join { from: other.clone(), cluster, profile: Profile::default() },
        MembershipPdu::Leave { node: node.clone() },
        MembershipPdu::ExitingConfirmed { node },
    ] {
        let mut bytes = Vec::new();
        encode(&pdu, &mut bytes).expect("a short PDU");
        liar.send(&frame(FrameKind::GOSSIP, &bytes)).await;
    }
    received(&ada, before + 3).await;
    a_third_joins(&[&ada, &bob]).await;
    let members = ada.cluster().members();
    assert!(members.iter().all(|member| *member.node() != other), "{members:?}");
}

/// Starts two nodes, and waits until both are Up.
async fn pair() -> (Node, Node) {
    let ada = start(&[]).await;
    let bob = start(&[ada.address()]).await;
    soon(bob.cluster().when_up()).await.expect("bob comes up");
    soon(ada.cluster().when_up()).await.expect("ada comes up");
    (ada, bob)
}

/// Lets one more node join, and holds everybody to three members.
async fn a_third_joins(members: &[&Node]) {
    let cleo = start(&[members[0].address()]).await;
    soon(cleo.cluster().when_up()).await.expect("cleo comes up");
    for node in members {
        assert_eq!(node.cluster().members().len(), 3, "as {node:?} sees it");
    }
}

async fn start(seeds: &[Address]) -> Node {
    let node = Node::builder(SYSTEM).listen("tcp://127.0.0.1:0").settings(Settings::local());
    let node = node.cluster_settings(ClusterSettings::local());
    let node = if seeds.is_empty() { node } else { node.seeds(seeds) };
    node.start().await.expect("a free port")
}

/// Waits until the node has read so many PDUs.
async fn received(node: &Node, count: u64) {
    soon(async {
        while node.stats().gossip_received < count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
