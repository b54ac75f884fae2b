//! Nodes that join, in every order.

use std::time::Duration;

use tellwire::testkit::proxy::Cut;

use crate::stage::NAMES;
use crate::{NEVER, member, stage};

#[tokio::test]
async fn nodes_join_all_at_once_and_in_any_order() {
    let _turn = crate::turn().await;
    let mut stage = stage(6).await;
    stage.start(0..5).await;
    for member in [4, 1, 3, 0, 2] {
        stage.join(member, &[0, 1]).await;
    }
    stage.all_up(&[0, 1, 2, 3, 4]).await;
    // Through one that is not the first seed, and who forms nothing itself.
    stage.start([5]).await;
    stage.join(5, &[3]).await;
    stage.all_up(&[0, 1, 2, 3, 4, 5]).await;
    stage.nobody_downed();
}

#[tokio::test]
async fn a_first_seed_that_is_late_is_waited_for() {
    let _turn = crate::turn().await;
    let mut stage = stage(3).await;
    stage.start(1..3).await;
    for member in 1..3 {
        stage.join(member, &[0, 1]).await;
    }
    // Twice as long as a first seed waits before it forms a cluster.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for member in [1, 2] {
        let alone = stage.sees(member).await;
        assert_eq!(alone, "; pending; leader none; of none", "at {}", NAMES[member]);
    }
    stage.start([0]).await;
    stage.join(0, &[0, 1]).await;
    stage.all_up(&[0, 1, 2]).await;
}

#[tokio::test]
async fn a_first_seed_that_restarts_rejoins_what_is_there() {
    let _turn = crate::turn().await;
    let mut stage = stage(3).await;
    stage.form(0..3).await;
    let before = stage.all_up(&[0, 1, 2]).await;
    stage.kill(0).await;
    stage.start([0]).await;
    stage.join(0, &[0, 1]).await;
    assert_eq!(stage.all_up(&[0, 1, 2]).await, before, "another cluster, or another leader");
}

#[tokio::test]
async fn a_seed_that_restarts_while_parted_waits_for_the_cluster_it_knows() {
    let _turn = crate::turn().await;
    let mut stage = stage(4).await;
    stage.form(0..4).await;
    let before = stage.all_up(&[0, 1, 2, 3]).await;
    stage.mesh.split(&[1], Cut::Silent);
    stage.kill(1).await;
    stage.start([1]).await;
    stage.join(1, &[0, 1]).await;
    stage.all_up(&[0, 2, 3]).await;
    stage.mesh.heal();
    assert_eq!(stage.all_up(&[0, 1, 2, 3]).await, before);
}

#[tokio::test]
async fn a_quick_restart_with_other_roles_leaves_one_member_with_the_new_ones() {
    let _turn = crate::turn().await;
    let mut stage = stage(3).await;
    stage.start(0..2).await;
    stage.start_as(2, &[(member::ROLES, "front store")]).await;
    for member in 0..3 {
        stage.join(member, &[0, 1]).await;
    }
    stage.all_see(&[0, 1, 2], "ada=Up bob=Up cleo[front,store]=Up").await;
    for roles in ["back", "front"] {
        stage.kill(2).await;
        stage.start_as(2, &[(member::ROLES, roles)]).await;
        stage.join(2, &[0, 1]).await;
        stage.all_see(&[0, 1, 2], &format!("ada=Up bob=Up cleo[{roles}]=Up")).await;
    }
}

#[tokio::test]
async fn a_joiner_comes_weakly_up_while_a_member_is_unreachable() {
    let _turn = crate::turn().await;
    let mut stage = stage(4).await.with(member::STABLE_AFTER, NEVER);
    stage.form(0..3).await;
    stage.mesh.split(&[2], Cut::Silent);
    stage.lost(0, 2).await;
    stage.lost(1, 2).await;
    stage.start([3]).await;
    stage.join(3, &[0]).await;
    let is_weak = |sees: &str| sees.contains("cleo=Up? dan=WeaklyUp");
    stage.until(0, "dan weakly up", is_weak).await;
    stage.until(3, "dan weakly up", is_weak).await;
    stage.mesh.heal();
    stage.all_up(&[0, 1, 2, 3]).await;
    stage.nobody_downed();
}

#[tokio::test]
async fn clusters_that_were_formed_apart_never_merge_and_both_report_it() {
    let _turn = crate::turn().await;
    let mut stage = stage(4).await;
    stage.start(0..4).await;
    stage.mesh.split(&[0, 1], Cut::Silent);
    for (member, seeds) in [(0, [0, 2]), (1, [0, 2]), (2, [2, 0]), (3, [2, 0])] {
        stage.join(member, &seeds).await;
    }
    let (here, there) = (stage.all_up(&[0, 1]).await, stage.all_up(&[2, 3]).await);
    assert_ne!(here, there);
    stage.mesh.heal();
    for (member, other) in [(0, &there), (2, &here)] {
        let (_, id) = other.split_once("of ").unwrap();
        assert_eq!(stage.refused(member).await, format!("island {id}"));
    }
    for (member, seed) in [(0, 2), (2, 0)] {
        stage.join(member, &[seed]).await;
        let why = stage.refused(member).await;
        assert!(why.contains("member"), "{why}");
    }
    assert_eq!((stage.all_up(&[0, 1]).await, stage.all_up(&[2, 3]).await), (here, there));
}

#[tokio::test]
async fn clusters_of_different_names_refuse_each_other_with_the_reason_on_both_sides() {
    let _turn = crate::turn().await;
    let mut stage = stage(2).await;
    stage.start_as(0, &[(member::SYSTEM, "Shop")]).await;
    stage.start_as(1, &[(member::SYSTEM, "Bank")]).await;
    stage.join(0, &[0]).await;
    stage.all_up(&[0]).await;
    stage.join(1, &[0, 1]).await;
    let (here, there) = (stage.refused(0).await, stage.refused(1).await);
    assert_eq!(here, there);
    assert!(here.contains("Shop") || here.contains("Bank"), "{here}");
    stage.all_up(&[0]).await;
}
