//! Ends memberships: by a farewell, by downing, by removal.

use super::{
    ClusterEvent, MemberStatus, MembershipPdu, Phase, RequestError, SECOND, StopCause, World,
    address,
};

#[test]
fn a_member_leaves_without_any_downing() {
    let mut world = World::formed(&[1, 2, 3]);
    world.events.values_mut().for_each(Vec::clear);
    world.with(2, |node, now| node.handle_leave(now, &address(3))).unwrap();
    world.run(4);
    assert_eq!(world.phase(3), Phase::Exiting);
    assert!(world.told(3, 3).contains(&"exited".to_owned()));
    world.with(3, |node, now| node.handle_exit_done(now));
    assert_eq!(world.phase(3), Phase::Stopped(StopCause::Left));
    world.run(4);
    world.assert_agreed(&[1, 2]);
    assert_eq!(world.told(1, 3), ["leaving", "exited", "removed from Exiting"]);
    assert_eq!(world.events[&3].last(), Some(&ClusterEvent::Stopped(StopCause::Left)));
}

#[test]
fn the_leader_leaves_and_the_next_one_takes_over() {
    let mut world = World::formed(&[1, 2, 3]);
    world.with(1, |node, now| node.handle_leave(now, &address(1))).unwrap();
    world.run(4);
    world.with(1, |node, now| node.handle_exit_done(now));
    world.run(4);
    world.assert_agreed(&[2, 3]);
}

#[test]
fn who_goes_waits_until_another_has_heard_of_it() {
    let mut world = exiting_leader();
    world.cut_off(&[1], &[2, 4]);
    world.with(1, |node, now| node.handle_exit_done(now));
    world.run(2);
    assert_eq!((world.phase(1), world.status(1, 2)), (Phase::Exiting, Some(MemberStatus::Leaving)));
    world.heal();
    world.run(4);
    assert_eq!(world.phase(1), Phase::Stopped(StopCause::Left));
    world.assert_agreed(&[2, 4]);
    assert!(!world.told(2, 1).contains(&"downed".to_owned()));
}

#[test]
fn who_goes_does_not_wait_for_ever() {
    let mut world = exiting_leader();
    world.cut_off(&[1], &[2, 4]);
    world.with(1, |node, now| node.handle_exit_done(now));
    world.run(6);
    assert_eq!(world.phase(1), Phase::Stopped(StopCause::Left));
}

#[test]
fn who_leads_next_gives_no_place_in_the_order_of_age_a_second_time() {
    let mut world = exiting_leader();
    world.cut_off(&[1], &[2]);
    world.gossipless = Some([2, 4]);
    world.with(1, |node, now| node.handle_exit_done(now));
    assert_eq!(world.phase(1), Phase::Stopped(StopCause::Left), "node 4 knows");
    assert_eq!(world.ages(4), [(1, 1), (2, 2), (4, 3)]);
    let gone = world.nodes[&1].own().clone();
    world.crash(1);
    world.deliver(2, &gone, MembershipPdu::ExitingConfirmed { node: gone.clone() });
    world.start(3, &[2]);
    world.run(8);
    world.gossipless = None;
    world.run(5);
    world.assert_agreed(&[2, 3, 4]);
    assert_eq!(world.ages(2), [(2, 2), (3, 4), (4, 3)]);
}

/// Gives a cluster in which node 1, the leader, is about to go, and has brought node 4 Up; node 2 knows neither.
fn exiting_leader() -> World {
    let mut world = World::formed(&[1, 2]);
    world.with(1, |node, now| node.handle_leave(now, &address(1))).unwrap();
    world.start(4, &[1]);
    while world.phase(1) != Phase::Exiting {
        world.run_for(SECOND / 100);
    }
    assert_eq!(world.status(1, 2), Some(MemberStatus::Leaving));
    assert_eq!(world.status(4, 1), Some(MemberStatus::Up));
    world
}

#[test]
fn a_member_that_dies_while_it_leaves_is_removed() {
    let mut world = World::formed(&[1, 2, 3]);
    world.with(3, |node, now| node.handle_leave(now, &address(3))).unwrap();
    world.run(4);
    assert_eq!(world.phase(3), Phase::Exiting);
    world.crash(3);
    world.run(15);
    world.assert_agreed(&[1, 2]);
    assert!(!world.told(1, 3).contains(&"downed".to_owned()));
}

#[test]
fn the_last_member_leaves() {
    let mut world = World::formed(&[1]);
    world.with(1, |node, now| node.handle_leave(now, &address(1))).unwrap();
    world.run(3);
    world.with(1, |node, now| node.handle_exit_done(now));
    assert_eq!(world.phase(1), Phase::Stopped(StopCause::Left));
    assert_eq!(world.nodes[&1].poll_timeout(), None);
}

#[test]
fn the_minority_of_a_partition_stops_and_the_majority_goes_on() {
    let mut world = World::formed(&[1, 2, 3, 4, 5]);
    world.cut_off(&[1, 2], &[3, 4, 5]);
    world.run(40);
    world.assert_agreed(&[3, 4, 5]);
    for n in [1, 2] {
        assert_eq!(world.phase(n), Phase::Stopped(StopCause::Downed), "{n}");
        assert_eq!(world.events[&n].last(), Some(&ClusterEvent::Stopped(StopCause::Downed)));
    }
}

#[test]
fn a_user_downs_a_member_that_lives_and_it_stops() {
    let mut world = World::formed(&[1, 2, 3]);
    world.with(2, |node, now| node.handle_down(now, &address(3))).unwrap();
    world.run(1);
    assert_eq!(world.phase(3), Phase::Stopped(StopCause::Downed));
    world.run(15);
    world.assert_agreed(&[1, 2]);
    assert_eq!(world.told(1, 3).last().map(String::as_str), Some("removed from Down"));
    let refused = world.with(2, |node, now| node.handle_down(now, &address(3)));
    assert_eq!(refused, Err(RequestError::NotAMember { address: address(3) }));
}

#[test]
fn a_quarantined_node_downs_itself_and_is_down_everywhere() {
    let mut world = World::formed(&[1, 2, 3]);
    let by = world.nodes[&1].own().clone();
    world.with(3, |node, now| node.handle_quarantined_by(now, &by));
    assert_eq!(world.phase(3), Phase::Stopped(StopCause::Downed));
    assert_eq!([1, 2].map(|n| world.status(3, n)), [Some(MemberStatus::Down); 2]);
    world.run(15);
    world.assert_agreed(&[1, 2]);
}

#[test]
fn a_joiner_that_gave_up_unheard_is_removed_although_its_links_are_busy() {
    let mut world = World::formed(&[1, 2]);
    world.drop_next = Some(|pdu| matches!(pdu, MembershipPdu::Welcome { .. }));
    world.start(3, &[1, 2]);
    assert_eq!(world.status(3, 1), Some(MemberStatus::Joining));
    world.drop_next = Some(|pdu| matches!(pdu, MembershipPdu::Leave { .. }));
    world.with(3, |node, now| node.handle_leave(now, &address(3))).unwrap();
    assert_eq!(world.status(3, 1), Some(MemberStatus::Joining));
    for _ in 0..8 {
        world.chatter(3, 1);
        world.run(1);
    }
    world.assert_agreed(&[1, 2]);
}

#[test]
fn a_stopped_node_does_not_pass_for_alive_by_other_traffic() {
    let mut world = World::formed(&[1, 2, 3]);
    // It downs itself, and nobody hears of it.
    world.cut_off(&[3], &[1, 2]);
    world.with(3, |node, now| node.handle_down(now, &address(3))).unwrap();
    world.heal();
    assert_eq!(world.phase(3), Phase::Stopped(StopCause::Downed));
    for _ in 0..15 {
        world.chatter(3, 1);
        world.chatter(3, 2);
        world.run(1);
    }
    world.assert_agreed(&[1, 2]);
}

#[test]
fn a_process_paused_until_it_was_removed_stops_when_it_goes_on() {
    for others in [&[2_u16, 3][..], &[2, 3, 4, 5]] {
        let mut world = World::formed(&[&[1][..], others].concat());
        world.paused.insert(1);
        world.run(60);
        world.assert_agreed(others);
        world.waiting.clear();
        world.resume(1);
        world.run(3);
        assert_eq!(world.phase(1), Phase::Stopped(StopCause::Removed));
        world.assert_agreed(others);
    }
}
