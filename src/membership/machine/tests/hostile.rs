//! Holds a machine to its bounds, and clusters to their borders.

use super::{
    JoinError, KeepMajority, MemberStatus, Membership, MembershipPdu, Profile, RefusedPdu,
    RemovalTime, SECOND, Setup, Uid, UniqueAddress, World, address, settings, unique,
};

#[test]
fn quarantine_by_a_stranger_is_ignored() {
    let mut world = World::formed(&[1, 2]);
    world.with(2, |node, now| node.handle_quarantined_by(now, &unique(9)));
    world.run(3);
    world.assert_agreed(&[1, 2]);
}

#[test]
fn a_node_let_in_here_that_has_formed_a_cluster_elsewhere_is_removed() {
    let mut world = World::formed(&[1, 2]);
    world.drop_next = Some(|pdu| matches!(pdu, MembershipPdu::Welcome { .. }));
    world.start(3, &[2]);
    assert_eq!(world.status(3, 2), Some(MemberStatus::Joining));
    // The same incarnation, as if it had found no cluster.
    let own = world.nodes[&3].own().clone();
    let started = (world.start, RemovalTime::since_1970(SECOND));
    let (profile, settings) = (Profile::default(), settings());
    let strategy = Box::new(KeepMajority::default());
    let setup = Setup { own, profile, settings, strategy, seed: 3, started };
    world.nodes.insert(3, Membership::new(setup).unwrap());
    world.join(3, &[3]).unwrap();
    for _ in 0..20 {
        world.chatter(3, 1);
        world.chatter(3, 2);
        world.run(1);
    }
    world.assert_agreed(&[1, 2]);
    world.assert_agreed(&[3]);
    assert_eq!([1, 2, 3].map(|n| world.islands(n)), [1, 1, 1]);
}

#[test]
fn two_clusters_told_to_join_each_other_stay_apart_and_report_it() {
    let mut world = World::new();
    world.cut_off(&[1], &[2]);
    world.start(1, &[1, 2]);
    world.start(2, &[2, 1]);
    world.run(7);
    world.assert_agreed(&[1]);
    world.assert_agreed(&[2]);
    world.heal();
    world.run(30);
    world.assert_agreed(&[1]);
    world.assert_agreed(&[2]);
    assert_ne!(world.nodes[&1].cluster(), world.nodes[&2].cluster());
    assert_eq!([world.islands(1), world.islands(2)], [1, 1]);
    assert_eq!(world.join(1, &[2]), Err(JoinError::AlreadyMember));
}

#[test]
fn strangers_are_counted_and_not_believed() {
    let mut world = World::formed(&[1, 2, 3]);
    let other = World::formed(&[4, 5]);
    let stranger = other.nodes[&4].own().clone();
    let before = world.nodes[&1].gossip().clone();
    let down = |by: &World| {
        let mut gossip = by.nodes[&2].gossip().clone();
        gossip.advance(by.nodes[&1].own(), MemberStatus::Down).unwrap();
        Box::new(crate::membership::gossip::GossipForm::from(&gossip))
    };
    let envelope = |from: &UniqueAddress, world: &World| crate::membership::exchange::Envelope {
        from: from.clone(),
        to: world.nodes[&1].own().clone(),
        cluster: world.nodes[&1].cluster().unwrap(),
        gossip: down(world),
    };
    let member = world.nodes[&2].own().clone();
    let forged = MembershipPdu::Gossip(envelope(&member, &world));
    let unknown = MembershipPdu::Gossip(envelope(&stranger, &world));
    let mut foreign = envelope(&stranger, &world);
    foreign.cluster = other.nodes[&4].cluster().unwrap();
    let foreign = MembershipPdu::Gossip(foreign);
    for (pdu, why) in [
        (forged, RefusedPdu::Impostor),
        (unknown, RefusedPdu::UnknownSender),
        (foreign, RefusedPdu::OtherCluster),
    ] {
        world.with(1, |node, now| node.handle_pdu(now, &stranger, pdu));
        assert_eq!(world.nodes[&1].refusals().count(why), 1, "{why:?}");
    }
    assert_eq!(*world.nodes[&1].gossip(), before);
}

#[test]
fn news_of_a_machine_without_a_shell_is_bounded() {
    let mut world = World::formed(&[1, 2, 3]);
    let machine = world.nodes.get_mut(&1).unwrap();
    let now = world.now;
    for n in 0..100_000_u64 {
        let from = UniqueAddress::new(address(1_000 + (n % 60_000) as u16), Uid::new(n));
        let pdu = MembershipPdu::InitJoin {
            from: from.clone(),
            cluster: None,
            settings: crate::membership::pdu::SharedSettings::default(),
        };
        machine.handle_pdu(now, &from, pdu);
    }
    assert!(machine.dropped() > 0);
    let waiting = std::iter::from_fn(|| machine.poll_transmit()).count();
    assert!(waiting <= machine.settings.max_queued + 100, "{waiting}");
    assert!(std::iter::from_fn(|| machine.poll_event()).count() < 2_000);
}
