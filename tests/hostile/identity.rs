//! Nodes that are not who they say, and nodes that are not wanted.

use tellwire::event::{NodeEvent, Reason};
use tellwire::{AssociationState, Uid, UniqueAddress};

use crate::raw::{self, Control, Raw, Refusal, Unique, chooser, follower};
use crate::{Note, Target, note};

fn unique(claims: &Unique) -> UniqueAddress {
    UniqueAddress::new(claims.address.parse().expect("an address"), Uid::new(claims.uid))
}

#[tokio::test]
async fn the_uid_of_a_live_peer_is_refused_to_a_second_address() {
    let mut target = Target::start().await;
    let mut honest = Raw::join(&target.node, chooser(7)).await;
    let mut thief = Raw::connect(&target.node, follower(7)).await;
    thief.send(&thief.hello().frame()).await;
    assert_eq!(thief.refused().await, Refusal::UidTaken);
    let event = target.event(|event| matches!(event, NodeEvent::HandshakeRefused { .. })).await;
    assert!(matches!(event, NodeEvent::HandshakeRefused { why, .. } if why.contains("same uid")));
    honest.send(&note("still here")).await;
    target.hears("still here").await;
}

#[tokio::test]
async fn the_uid_of_a_peer_that_is_gone_is_free_again() {
    let target = Target::start().await;
    let honest = Raw::join(&target.node, chooser(7)).await;
    drop(honest);
    let is_up = || target.node.associations().iter().any(|a| a.state == AssociationState::Up);
    raw::soon(async {
        while is_up() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    Raw::join(&target.node, follower(7)).await;
}

#[tokio::test]
async fn a_node_does_not_talk_to_its_own_uid() {
    let target = Target::start().await;
    let uid = target.node.unique_address().uid().get();
    let mut twin = Raw::connect(&target.node, chooser(uid)).await;
    twin.send(&twin.hello().frame()).await;
    assert_eq!(twin.refused().await, Refusal::UidTaken);
}

#[tokio::test]
async fn a_dialled_node_with_the_uid_of_a_live_peer_is_not_talked_to() {
    let mut target = Target::start().await;
    let _honest = Raw::join(&target.node, chooser(7)).await;
    let listener = raw::listener().await;
    let path = format!("{}/user/x", raw::address_of(&listener));
    let there = target.node.resolve(path).expect("a path");
    there.tell(&Note { text: "lost".to_owned() }).expect("room");
    let mut thief = Raw::accept(&listener, &target.node, 7).await;
    thief.greeted().await;
    thief.send(&Control::Welcome(thief.welcome()).frame()).await;
    thief.ended().await;
    assert_eq!(target.dead_letter().await.reason, Reason::HandshakeRefused);
}

#[tokio::test]
async fn a_quarantined_incarnation_delivers_no_more_and_a_later_one_does() {
    let mut target = Target::start().await;
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    let unwanted = unique(&raw.claims);
    target.node.quarantine(&unwanted).await.expect("a peer");
    assert!(!raw.try_send(&note("too late")).await || raw.control().await.is_none());
    target.event(|event| *event == NodeEvent::Quarantined { peer: unwanted.clone() }).await;
    let state = target.node.associations().first().map(|association| association.state);
    assert_eq!(state, Some(AssociationState::Quarantined));

    let mut again = Raw::connect(&target.node, chooser(1)).await;
    again.send(&again.hello().frame()).await;
    assert_eq!(again.refused().await, Refusal::Quarantined);

    let mut later = Raw::connect(&target.node, chooser(2)).await;
    later.send(&later.hello().frame()).await;
    later.welcomed().await;
    later.activate(1).await;
    later.send(&note("of another kind")).await;
    target.hears("of another kind").await;
}

#[tokio::test]
async fn what_waits_for_a_quarantined_node_is_a_dead_letter_with_that_reason() {
    let mut target = Target::start().await;
    let listener = raw::listener().await;
    let peer = raw::address_of(&listener);
    let there = target.node.resolve(format!("{peer}/user/x")).expect("a path");
    let claims = Unique { address: peer, uid: 5 };
    target.node.quarantine(&unique(&claims)).await.expect("a peer");
    there.tell(&Note { text: "unwanted".to_owned() }).expect("room");
    let mut raw = Raw::accept(&listener, &target.node, 5).await;
    raw.greeted().await;
    raw.send(&Control::Welcome(raw.welcome()).frame()).await;
    raw.ended().await;
    assert_eq!(target.dead_letter().await.reason, Reason::Quarantined);
}
