//! Holds a cluster to what it does about silence, pauses and partitions.

use super::{
    BTreeSet, ClusterEvent, DetectorSettings, Duration, MemberStatus, Phase, PhiSettings, Profile,
    SECOND, World, address, label, settings,
};

#[test]
fn a_crashed_member_becomes_unreachable_is_downed_and_removed() {
    let mut world = World::formed(&[1, 2, 3, 4, 5]);
    world.events.values_mut().for_each(Vec::clear);
    world.crash(3);
    let detection = world.nodes[&1].detection_time();
    world.run_for(detection + SECOND);
    assert!(world.nodes[&1].state().unreachable().iter().any(|n| *n.address() == address(3)));
    let text = world.nodes[&1].explain(world.now).to_string();
    assert!(text.contains("downing") && text.contains("mem://Test@node:3"), "{text}");
    world.run(20);
    world.assert_agreed(&[1, 2, 4, 5]);
    for n in [1, 2, 4, 5] {
        assert_eq!(world.told(n, 3), ["unreachable", "downed", "removed from Down"], "by {n}");
    }
}

#[test]
fn a_partition_that_heals_in_time_leaves_no_trace() {
    let mut world = World::formed(&[1, 2, 3, 4, 5]);
    world.cut_off(&[1, 2], &[3, 4, 5]);
    world.run(8);
    assert!(!world.nodes[&3].state().unreachable().is_empty());
    world.heal();
    world.run(8);
    world.assert_agreed(&[1, 2, 3, 4, 5]);
}

#[test]
fn a_joiner_becomes_weakly_up_while_a_member_is_unreachable() {
    let mut world = World::formed(&[1, 2, 3]);
    world.crash(3);
    world.run(7);
    world.start(4, &[1, 2]);
    world.nodes.get_mut(&1).unwrap().settings.downing.stable_after =
        crate::membership::downing::StableAfter::Fixed(60 * SECOND);
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        world.run(1);
        seen.extend(world.status(4, 2));
    }
    assert!(seen.contains(&MemberStatus::Joining), "{seen:?}");
    world.assert_agreed(&[1, 2, 4]);
}

#[test]
fn a_fenced_incarnation_is_terminated_for_good() {
    let mut world = World::formed(&[1, 2, 3]);
    world.events.values_mut().for_each(Vec::clear);
    let fenced = world.nodes[&3].own().clone();
    world.crash(3);
    world.with(1, |node, now| node.handle_fenced(now, &fenced));
    assert_eq!(world.told(1, 3), ["unreachable"]);
    world.run(20);
    world.assert_agreed(&[1, 2]);
}

#[test]
fn a_member_accused_by_one_that_cannot_hear_it_goes_on_until_downing_decides() {
    let mut world = World::formed(&[1, 2, 3, 4, 5]);
    world.cut.insert((5, 4));
    world.run(12);
    assert!(world.nodes[&4].state().unreachable().iter().any(|n| *n.address() == address(5)));
    assert_eq!(world.phase(5), Phase::Member);
    world.heal();
    world.run(6);
    world.assert_agreed(&[1, 2, 3, 4, 5]);
}

#[test]
fn a_paused_process_accuses_nobody_when_it_goes_on() {
    let mut world = World::formed(&[1, 2, 3]);
    world.events.values_mut().for_each(Vec::clear);
    world.paused.insert(1);
    world.run_for(Duration::from_millis(3_500));
    world.resume(1);
    world.run(10);
    world.assert_agreed(&[1, 2, 3]);
    let is_starved = |event: &ClusterEvent| matches!(event, ClusterEvent::Starved { .. });
    assert!(world.events[&1].iter().any(is_starved));
    assert_eq!(world.told(1, 2).len() + world.told(1, 3).len(), 0);
}

#[test]
fn a_leader_held_up_decides_nothing_from_what_it_saw_before() {
    let mut world = World::formed(&[1, 2, 3, 4, 5]);
    world.cut.insert((3, 1));
    while world.nodes[&1].explain(world.now).downing.is_none_or(|f| f.due_in > SECOND) {
        world.run_for(SECOND / 10);
    }
    world.paused.insert(1);
    world.heal();
    world.run(3);
    world.resume(1);
    world.run(10);
    world.assert_agreed(&[1, 2, 3, 4, 5]);
}

#[test]
fn a_member_of_two_data_centres_hears_of_both() {
    let mut world = World::new();
    let moon = Profile::default().with_data_centre(label("moon"));
    for n in [1, 2] {
        world.start(n, &[1, 2]);
    }
    for n in [3, 4] {
        world.start_with(n, &[1, 2], settings(), moon.clone());
    }
    world.run(40);
    for n in 1..=4 {
        assert!(world.members(n).iter().all(|(_, status)| *status == MemberStatus::Up), "{n}");
        assert_eq!(world.members(n).len(), 4, "{n}");
    }
}

#[test]
fn an_explanation_names_who_blocks_convergence_and_who_waits_for_it() {
    use crate::membership::explain::{AccusationEffect, WaitReason};
    let mut world = World::formed(&[1, 2, 3]);
    assert!(world.nodes[&1].explain(world.now).to_string().contains("converged"));
    world.crash(3);
    world.run(7);
    world.start(4, &[1, 2]);
    let explanation = world.nodes[&1].explain(world.now);
    let [accusation] = &explanation.accusations[..] else { panic!("{explanation}") };
    assert_eq!(accusation.effect, AccusationEffect::Blocks);
    assert_eq!(accusation.observers.len(), 2);
    let [waiting] = &explanation.waiting[..] else { panic!("{explanation}") };
    assert_eq!(*waiting.node.address(), address(4));
    assert_eq!(waiting.reason, WaitReason::NotConverged);
    let forecast = explanation.downing.as_ref().unwrap();
    assert_eq!(forecast.nodes.as_slice(), std::slice::from_ref(&accusation.subject));
    assert_eq!(forecast.by.as_ref(), Some(world.nodes[&1].own()));
    let text = explanation.to_string();
    for part in ["not converged", "blocks convergence", "waits for convergence", "downing decides"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    let due = forecast.due_in;
    world.run_for(due - SECOND / 10);
    assert_eq!(world.status(3, 1), Some(MemberStatus::Up));
    world.run_for(SECOND / 5);
    assert_eq!(world.status(3, 1), Some(MemberStatus::Down));
}

#[test]
fn the_detection_time_follows_from_the_settings() {
    let mut fast = settings();
    fast.detector = DetectorSettings::Phi(PhiSettings::default());
    let mut world = World::new();
    world.start_with(1, &[1], fast, Profile::default());
    let time = world.nodes[&1].detection_time();
    assert!(
        (Duration::from_millis(5_500)..Duration::from_millis(5_550)).contains(&time),
        "{time:?}"
    );
}

#[test]
fn a_time_before_the_last_one_harms_nobody() {
    let mut world = World::formed(&[1, 2, 3]);
    let earlier = world.now - 15 * SECOND;
    for (n, peer) in [(1, 2), (2, 3), (3, 1)] {
        let peer = world.nodes[&peer].own().clone();
        let node = world.node(n);
        node.handle_traffic(earlier, &peer);
        node.handle_timeout(earlier);
        node.handle_exit_done(earlier);
    }
    world.pump();
    world.run(20);
    world.assert_agreed(&[1, 2, 3]);
    assert!([1, 2, 3].iter().all(|n| !world.told(*n, 2).contains(&"unreachable".to_owned())));
}
