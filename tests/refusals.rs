//! Shows that a sender learns what the receiving node could not deliver.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod common;

use common::{LONG, Text, association, letter, on_both, until};
use tellwire::event::Reason;

#[tokio::test]
async fn the_sender_sees_what_the_peer_refused_with_its_reason() {
    on_both(async |net| {
        let (ada, bob) = (net.node().await, net.node().await);
        let mut letters = bob.dead_letters();
        let nobody = bob.resolve(ada.path("/user/nobody")).unwrap();
        nobody.tell(&Text("lost".into())).unwrap();
        let letter = letter(&mut letters).await;
        assert_eq!(letter.reason, Reason::UnknownPath);
        assert_eq!(letter.refused_by, Some(ada.address()));
        assert_eq!(letter.target, Some(ada.path("/user/nobody").unwrap()));
        assert!(letter.manifest.is_some_and(|name| name.starts_with("bincode:")));
        assert_eq!(bob.stats().dead_letters, [], "it is a dead letter there, not here");
    })
    .await;
}

#[tokio::test]
async fn many_refusals_are_summed_and_the_link_stays() {
    on_both(async |net| {
        let (ada, bob) = (net.node().await, net.node().await);
        let nobody = bob.resolve(ada.path("/user/nobody")).unwrap();
        for _ in 0..1000 {
            nobody.send(&Text("lost".into())).await.unwrap();
        }
        let refused = || bob.stats().refused_by_peers.first().map_or(0, |(_, count)| *count);
        until("the peer's sums", || refused() == 1000).await;
        assert_eq!(ada.stats().dead_letters, [(Reason::UnknownPath, 1000)]);
        assert_eq!(association(&bob, &ada.address()).activations, 1);
    })
    .await;
}

#[tokio::test]
async fn a_refused_ask_is_answered_and_not_told_twice() {
    on_both(async |net| {
        let (ada, bob) = (net.node().await, net.node().await);
        let nobody = bob.resolve(ada.path("/user/nobody")).unwrap();
        let answer = nobody.ask::<_, Text>(&Text("?".into()), LONG).await;
        assert!(answer.is_err());
        nobody.tell(&Text("!".into())).unwrap();
        until("the tell's refusal", || !bob.stats().refused_by_peers.is_empty()).await;
        assert_eq!(bob.stats().refused_by_peers, [(Reason::UnknownPath, 1)]);
        let snapshot = association(&bob, &ada.address());
        assert_eq!((snapshot.sent, snapshot.refused, snapshot.lost), (2, 1, 0));
        assert_eq!(association(&ada, &bob.address()).received, 2);
    })
    .await;
}
