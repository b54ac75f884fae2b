//! Peers send what they should not. Nothing may panic, evict an honest live member or stop the gossip.

use tellwire::membership::cluster_id::ClusterId;
use tellwire::membership::exchange::Envelope;
use tellwire::membership::gossip::{
    Gossip, GossipForm, MAX_KNOWN_MEMBERS, MemberForm, OwnMark, RemovalTime,
};
use tellwire::membership::member::{Member, MemberStatus};
use tellwire::membership::pdu::{MAX_PDU, MembershipPdu, encode};
use tellwire::membership::profile::Profile;
use tellwire::membership::reachability::ReachabilityStatus;
use tellwire::testkit::cluster::{Failure, Seeds, SimCluster, Start, address};
use tellwire::{Uid, UniqueAddress};

use crate::{Run, agreed, formed, nobody_was_downed, running, secs, settings, status, wait};

#[test]
fn gossip_of_a_stranger_is_ignored() {
    check("gossip_of_a_stranger_is_ignored", |cluster| {
        let stranger = UniqueAddress::new(address(99), Uid::new(99));
        let mut state = known(cluster, 1);
        state.add(Member::joining(stranger.clone(), Profile::default())).unwrap_or_default();
        down_all_but(&mut state, &stranger);
        state.stamp(&stranger, OwnMark::Give);
        send(cluster, &stranger, &state);
        unharmed(cluster)
    });
}

#[test]
fn gossip_of_an_earlier_incarnation_is_ignored() {
    check("gossip_of_an_earlier_incarnation_is_ignored", |cluster| {
        let old = own(cluster, 3);
        let mut state = known(cluster, 3);
        cluster.restart(3, Start::default(), &[1, 2]);
        agreed(cluster, secs(90))?;
        down_all_but(&mut state, &old);
        state.stamp(&old, OwnMark::Give);
        let stays = [1, 2, 4].map(|node| (node, own(cluster, node)));
        for (node, _) in &stays {
            let pdu = envelope(cluster, &old, *node, &state);
            cluster.inject(&old, *node, pdu);
        }
        cluster.run_for(secs(60))?;
        agreed(cluster, secs(60))?;
        let is_there = stays.iter().all(|(node, own)| cluster.own(*node) == Some(own));
        cluster.require("the members are there", is_there)
    });
}

#[test]
fn gossip_of_another_cluster_is_ignored() {
    check("gossip_of_another_cluster_is_ignored", |cluster| {
        let liar = UniqueAddress::new(address(99), Uid::new(99));
        let mut state = known(cluster, 4);
        state.add(Member::joining(liar.clone(), Profile::default())).unwrap_or_default();
        down_all_but(&mut state, &liar);
        state.stamp(&liar, OwnMark::Give);
        for node in 1..=3 {
            let MembershipPdu::Gossip(mut envelope) = envelope(cluster, &liar, node, &state) else {
                continue;
            };
            envelope.cluster = ClusterId::new(!envelope.cluster.get());
            cluster.inject(&liar, node, MembershipPdu::Gossip(envelope));
        }
        unharmed(cluster)
    });
}

#[test]
fn gossip_with_too_many_members_is_refused() {
    check("gossip_with_too_many_members_is_refused", |cluster| {
        let liar = own(cluster, 4);
        let mut form = GossipForm::from(&known(cluster, 4));
        let extra = (0..=MAX_KNOWN_MEMBERS).map(|number| MemberForm {
            node: UniqueAddress::new(address(u16::MAX), Uid::new(number as u64)),
            status: MemberStatus::Joining,
            up_number: None,
            profile: 0,
        });
        form.members.extend(extra);
        form.members.sort_by(|a, b| a.node.cmp(&b.node));
        for node in 1..=3 {
            inject_form(cluster, &liar, node, form.clone());
        }
        unharmed(cluster)
    });
}

#[test]
fn statuses_that_go_backwards_are_corrected() {
    check("statuses_that_go_backwards_are_corrected", |cluster| {
        let liar = own(cluster, 4);
        let mut state = known(cluster, 4);
        state.stamp(&liar, OwnMark::Give);
        let mut form = GossipForm::from(&state);
        for member in &mut form.members {
            (member.status, member.up_number) = (MemberStatus::Joining, None);
        }
        for node in 1..=3 {
            inject_form(cluster, &liar, node, form.clone());
        }
        // It believes in changes of its own that it never made, and cannot be told otherwise.
        cluster.crash(4);
        cluster.run_for(secs(90))?;
        cluster.require("the others are there", running(cluster) == [1, 2, 3])?;
        agreed(cluster, secs(60))
    });
}

#[test]
fn a_tombstone_of_the_receiver_is_refused() {
    check("a_tombstone_of_the_receiver_is_refused", |cluster| {
        let liar = own(cluster, 4);
        for node in 1..=3 {
            let mut state = known(cluster, 4);
            let victim = own(cluster, node);
            let removed = RemovalTime::since_1970(secs(1_700_000_001));
            state.remove(&victim, removed).unwrap_or_default();
            state.stamp(&liar, OwnMark::Give);
            let pdu = envelope(cluster, &liar, node, &state);
            cluster.inject(&liar, node, pdu);
        }
        unharmed(cluster)
    });
}

#[test]
fn pdus_cut_short_or_too_long_are_ignored() {
    check("pdus_cut_short_or_too_long_are_ignored", |cluster| {
        let liar = own(cluster, 4);
        let state = known(cluster, 4);
        for node in 1..=3 {
            let mut bytes = Vec::new();
            encode(&envelope(cluster, &liar, node, &state), &mut bytes).unwrap_or_default();
            let length = cluster.rng().usize(..bytes.len());
            cluster.inject_bytes(&liar, node, bytes[..length].to_vec());
            let place = cluster.rng().usize(..bytes.len());
            bytes[place] ^= 1 << cluster.rng().u32(..8);
            bytes.truncate(bytes.len() - 1);
            cluster.inject_bytes(&liar, node, bytes);
            let noise: Vec<u8> = (0..200).map(|_| cluster.rng().u8(..)).collect();
            cluster.inject_bytes(&liar, node, noise);
        }
        cluster.inject_bytes(&liar, 1, vec![0; MAX_PDU + 1]);
        unharmed(cluster)
    });
}

#[test]
fn a_pdu_in_the_name_of_another_is_ignored() {
    check("a_pdu_in_the_name_of_another_is_ignored", |cluster| {
        let (liar, named) = (own(cluster, 4), own(cluster, 2));
        let mut state = known(cluster, 2);
        down_all_but(&mut state, &named);
        state.stamp(&named, OwnMark::Give);
        for node in [1, 3] {
            let pdu = envelope(cluster, &named, node, &state);
            cluster.inject(&liar, node, pdu);
            cluster.inject(&liar, node, MembershipPdu::Leave { node: named.clone() });
            cluster.inject(&liar, node, MembershipPdu::ExitingConfirmed { node: named.clone() });
        }
        unharmed(cluster)
    });
}

#[test]
fn a_member_that_accuses_all_others_goes_alone() {
    check("a_member_that_accuses_all_others_goes_alone", |cluster| {
        let liar = own(cluster, 4);
        let is_caught = |cluster: &SimCluster| {
            let down = |by| status(cluster, by, 4) == Some(MemberStatus::Down);
            (1..=3).all(down)
        };
        for _ in 0..60 {
            lie(cluster, &liar);
            wait(cluster, 200..=2_000)?;
            if is_caught(cluster) {
                break;
            }
        }
        cluster.require("it is found out", is_caught(cluster))?;
        cluster.crash(4);
        agreed(cluster, secs(90))?;
        cluster.require("the others are there", running(cluster) == [1, 2, 3])
    });
}

/// Runs a scenario with a few seeds, on a formed cluster of four.
fn check(name: &str, scenario: impl Fn(&mut SimCluster) -> Result<(), Failure>) {
    Seeds::from_environment(SEEDS).run(name, |seed| {
        let mut cluster = SimCluster::new(settings(seed));
        formed(&mut cluster, 4)?;
        wait(&mut cluster, 0..=3_000)?;
        scenario(&mut cluster)
    });
}

/// Waits until all agree again, and lets the news of a newcomer prove that gossip goes on.
fn unharmed(cluster: &mut SimCluster) -> Run {
    cluster.run_for(secs(60))?;
    cluster.boot([5], &[1, 2]);
    agreed(cluster, secs(60))?;
    cluster.require("all members are there", running(cluster) == [1, 2, 3, 4, 5])?;
    cluster.require("nobody was downed", nobody_was_downed(cluster))
}

fn own(cluster: &SimCluster, node: u16) -> UniqueAddress {
    cluster.own(node).cloned().unwrap_or_else(|| panic!("node {node} runs"))
}

fn known(cluster: &SimCluster, node: u16) -> Gossip {
    cluster.gossip(node).cloned().unwrap_or_default()
}

fn down_all_but(state: &mut Gossip, spared: &UniqueAddress) {
    let nodes: Vec<_> = state.members().map(|member| member.node().clone()).collect();
    for node in nodes.iter().filter(|node| *node != spared) {
        state.advance(node, MemberStatus::Down).unwrap_or_default();
    }
}

fn send(cluster: &mut SimCluster, from: &UniqueAddress, state: &Gossip) {
    for node in running(cluster) {
        let pdu = envelope(cluster, from, node, state);
        cluster.inject(from, node, pdu);
    }
}

fn inject_form(cluster: &mut SimCluster, from: &UniqueAddress, to: u16, form: GossipForm) {
    let MembershipPdu::Gossip(mut envelope) = envelope(cluster, from, to, &Gossip::default())
    else {
        return;
    };
    *envelope.gossip = form;
    cluster.inject(from, to, MembershipPdu::Gossip(envelope));
}

fn envelope(cluster: &SimCluster, from: &UniqueAddress, to: u16, state: &Gossip) -> MembershipPdu {
    let id = cluster.membership(to).and_then(|membership| membership.cluster());
    MembershipPdu::Gossip(Envelope {
        from: from.clone(),
        to: own(cluster, to),
        cluster: id.unwrap_or(ClusterId::new(0)),
        gossip: Box::new(GossipForm::from(state)),
    })
}

/// Lets node 4 tell all others that it can reach none of them.
fn lie(cluster: &mut SimCluster, liar: &UniqueAddress) {
    let mut state = known(cluster, 1);
    for node in 1..=3 {
        let accused = state.observe(liar, &own(cluster, node), ReachabilityStatus::Unreachable);
        accused.unwrap_or_default();
    }
    state.stamp(liar, OwnMark::Give);
    for node in 1..=3 {
        let pdu = envelope(cluster, liar, node, &state);
        cluster.inject(liar, node, pdu);
    }
}

/// Seeds of each scenario; there are 9 of them.
const SEEDS: u64 = 12;
