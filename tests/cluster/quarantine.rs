//! Who was removed is not talked to again, and learns it.

use tellwire::node::EventStream;

use super::common::{Net, Text, collector, event, letter};
use super::*;
use tellwire::event::Reason;

pub(crate) async fn a_removed_incarnation_delivers_nothing_any_more(net: Net) {
    let mut settings = Settings::local();
    settings.cluster.when_downed = WhenDowned::GoOn;
    let ada = quick(&net).start().await.unwrap();
    let bob = quick(&net).settings(settings).seeds([ada.address()]).start().await.unwrap();
    all_up(&[&ada, &bob]).await;
    let (ear, mut heard) = collector::<Text>();
    ada.register("/user/ear", ear).unwrap();
    let (mut at_ada, mut at_bob, mut letters) = (ada.events(), bob.events(), bob.dead_letters());
    ada.cluster().down(&bob.address()).await.unwrap();
    is_quarantined(&mut at_ada, &bob).await;
    let is_down = |event| matches!(event, NodeEvent::AssociationDown { .. }).then_some(());
    event(&mut at_bob, is_down).await;
    bob.resolve(ada.path("/user/ear")).unwrap().tell(&Text("late".into())).unwrap();
    assert_eq!(letter(&mut letters).await.reason, Reason::HandshakeRefused);
    assert_eq!(quarantined_by(&mut at_bob).await, ada.address());
    assert_eq!(heard.try_next(), None);
}

pub(crate) async fn a_member_that_another_has_quarantined_gives_itself_up(net: Net) {
    let nodes = cluster(&net, 3).await;
    let mut events = nodes[2].events();
    nodes[0].quarantine(&nodes[2].unique_address()).await.unwrap();
    assert_eq!(quarantined_by(&mut events).await, nodes[0].address());
    assert_eq!(nodes[2].cluster().when_stopped().await, Ok(StopCause::Downed));
    let ended = |event| matches!(event, NodeEvent::MembershipEnded { .. }).then_some(());
    event(&mut events, ended).await;
    all_up(&[&nodes[0], &nodes[1]]).await;
}

pub(crate) async fn who_has_left_is_quarantined_after_a_grace(net: Net) {
    let mut settings = Settings::local();
    settings.cluster.quarantine_left_after = Duration::from_millis(200);
    let ada = quick(&net).settings(settings).start().await.unwrap();
    let bob = quick(&net).seeds([ada.address()]).start().await.unwrap();
    all_up(&[&ada, &bob]).await;
    let mut events = ada.events();
    assert_eq!(bob.cluster().leave().await, Ok(StopCause::Left));
    is_quarantined(&mut events, &bob).await;
    // The next incarnation is welcome.
    let address = bob.address();
    drop(bob);
    let bob = restart(&net, &address, &[ada.address()]).await;
    bob.cluster().when_up().await.unwrap();
    all_up(&[&ada, &bob]).await;
}

/// Waits until a node is quarantined.
async fn is_quarantined(events: &mut EventStream, node: &Node) {
    let quarantined = |event| match event {
        NodeEvent::Quarantined { peer } => Some(peer),
        _ => None,
    };
    assert_eq!(event(events, quarantined).await, node.unique_address());
}

/// Waits until somebody says that it has quarantined the node.
async fn quarantined_by(events: &mut EventStream) -> Address {
    let by = |event| match event {
        NodeEvent::QuarantinedBy { peer } => Some(peer),
        _ => None,
    };
    event(events, by).await
}
