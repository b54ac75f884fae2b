//! Lets nodes in: in any order, late, restarted, refused.

use super::{
    ClusterEvent, ClusterId, DetectorSettings, JoinRefusal, KeepOldest, MemberStatus,
    MembershipPdu, Minimum, Phase, Profile, SECOND, StopCause, World, address, label, settings,
    unique,
};

#[test]
fn a_single_seed_forms_a_cluster_at_once() {
    let mut world = World::new();
    world.start(1, &[1]);
    world.assert_agreed(&[1]);
    assert_eq!(world.told(1, 1), ["up"]);
    let state = world.nodes[&1].state();
    assert_eq!(state.self_member().and_then(|m| m.up_number()).map(|n| n.get()), Some(1));
    assert!(matches!(world.events[&1][1], ClusterEvent::LeaderChanged(Some(_))));
}

#[test]
fn nodes_join_in_any_order() {
    for order in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
        let mut world = World::new();
        for n in order {
            world.start(n, &[1, 2]);
            world.run(4);
        }
        world.run(10);
        world.assert_agreed(&[1, 2, 3]);
    }
}

#[test]
fn many_nodes_join_all_at_once() {
    let mut world = World::new();
    let all: Vec<u16> = (1..=20).collect();
    all.iter().for_each(|n| world.start(*n, &[1, 2, 3]));
    world.run(15);
    world.assert_agreed(&all);
    assert_eq!(world.nodes[&1].refusals().iter().count(), 0);
}

#[test]
fn all_wait_for_a_first_seed_that_is_late() {
    let mut world = World::new();
    world.start(2, &[1, 2]);
    world.start(3, &[1, 2]);
    world.run(60);
    assert_eq!([world.phase(2), world.phase(3)], [Phase::Joining; 2]);
    assert!(world.nodes[&2].explain(world.now).to_string().contains("asks"));
    world.start(1, &[1, 2]);
    world.run(10);
    world.assert_agreed(&[1, 2, 3]);
}

#[test]
fn a_first_seed_that_restarts_joins_what_is_there() {
    let mut world = World::formed(&[1, 2, 3]);
    let cluster = world.nodes[&2].cluster();
    world.crash(1);
    world.run(1);
    world.start(1, &[1, 2]);
    world.run(20);
    world.assert_agreed(&[1, 2, 3]);
    assert_eq!(world.nodes[&1].cluster(), cluster);
    assert_eq!(world.islands(2) + world.islands(3), 0);
}

#[test]
fn a_node_restarted_at_its_address_gets_in_again_and_its_past_is_removed() {
    let mut world = World::formed(&[1, 2, 3]);
    world.events.values_mut().for_each(Vec::clear);
    world.crash(3);
    world.start(3, &[1, 2]);
    world.run(20);
    world.assert_agreed(&[1, 2, 3]);
    let told = world.told(2, 3);
    assert!(told.contains(&"removed from Down".to_owned()), "{told:?}");
    assert_eq!(told.last().map(String::as_str), Some("up"), "{told:?}");
}

#[test]
fn settings_that_do_not_fit_are_refused_on_both_sides() {
    let mut world = World::formed(&[1, 2]);
    let mut other = settings();
    other.detector = DetectorSettings::Deadline { acceptable_pause: 5 * SECOND };
    world.launch(3, other, Profile::default(), Box::new(KeepOldest::default()));
    world.join(3, &[1, 2]).unwrap();
    let names = vec![label("detector"), label("downing.strategy")];
    let why = JoinRefusal::Settings { names };
    let joiner = world.nodes[&3].own().clone();
    let by = |n: u16, world: &World| ClusterEvent::JoinRefused {
        joiner: joiner.clone(),
        by: world.nodes[&n].own().clone(),
        why: why.clone(),
    };
    assert_eq!(world.events[&3], [by(1, &world)]);
    assert_eq!(world.events[&1].last(), Some(&by(1, &world)));
    assert_eq!(world.phase(3), Phase::Idle);
    world.run(10);
    world.assert_agreed(&[1, 2]);
}

#[test]
fn a_joiner_waits_for_enough_members() {
    let mut few = settings();
    few.minimum = Minimum { members: 3, ..Minimum::default() };
    let mut world = World::new();
    for n in [1, 2] {
        world.start_with(n, &[1, 2], few.clone(), Profile::default());
    }
    world.run(20);
    assert_eq!(world.status(2, 1), Some(MemberStatus::Joining));
    world.start_with(3, &[1, 2], few, Profile::default());
    world.run(10);
    world.assert_agreed(&[1, 2, 3]);
}

#[test]
fn a_joiner_that_leaves_before_its_welcome_has_left() {
    let mut world = World::formed(&[1, 2]);
    world.cut.insert((1, 3));
    world.cut.insert((2, 3));
    world.start(3, &[1, 2]);
    world.with(3, |node, now| node.handle_leave(now, &address(3))).unwrap();
    assert_eq!(world.phase(3), Phase::Stopped(StopCause::Left));
    world.run(3);
    world.assert_agreed(&[1, 2]);
}

#[test]
fn a_joiner_whose_welcome_was_lost_gets_another() {
    let mut world = World::formed(&[1, 2]);
    world.start(3, &[2]);
    world.drop_next = Some(|pdu| matches!(pdu, MembershipPdu::Welcome { .. }));
    world.run(1);
    world.crash(3);
    world.start(3, &[1, 2]);
    world.run(30);
    assert!(world.drop_next.is_none(), "a Welcome was lost");
    world.assert_agreed(&[1, 2, 3]);
}

#[test]
fn a_full_cluster_keeps_the_first_seed_from_forming_another() {
    let mut world = World::new();
    world.start(1, &[1, 2]);
    let from = unique(2);
    let full = MembershipPdu::InitJoinAck {
        from: from.clone(),
        cluster: ClusterId::new(9),
        admission: crate::membership::pdu::Admission::Full,
    };
    world.with(1, |node, now| node.handle_pdu(now, &from, full));
    world.run(60);
    assert_eq!(world.phase(1), Phase::Joining);
    assert!(matches!(world.events[&1][..], [ClusterEvent::JoinRefused { .. }]));
}

#[test]
fn a_joiner_outlives_the_only_member_that_knew_it() {
    let mut world = World::formed(&[1, 2, 3]);
    world.cut_off(&[1], &[2, 3]);
    world.cut_off(&[4], &[2, 3]);
    world.start(4, &[1, 2]);
    world.run(1);
    assert_eq!(world.status(4, 1), Some(MemberStatus::Joining));
    world.crash(1);
    world.heal();
    world.run(1);
    let known = |world: &World| world.status(4, 2);
    assert_eq!(known(&world), None);
    world.run(40);
    world.assert_agreed(&[2, 3, 4]);
}
