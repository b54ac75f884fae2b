//! Cuts between processes that live on.

use tellwire::testkit::proxy::Cut;

use crate::{NEVER, member, stage};

#[tokio::test]
async fn a_partition_that_heals_in_time_costs_nobody() {
    for cut in [Cut::Silent, Cut::Reset] {
        let _turn = crate::turn().await;
        let mut stage = stage(5).await.with(member::STABLE_AFTER, NEVER);
        stage.form(0..5).await;
        let before = stage.all_up(&[0, 1, 2, 3, 4]).await;
        stage.mesh.split(&[0, 1], cut);
        for (member, lost) in [(0, 2), (0, 4), (1, 3), (2, 0), (3, 1), (4, 0)] {
            stage.lost(member, lost).await;
        }
        stage.mesh.heal();
        assert_eq!(stage.all_up(&[0, 1, 2, 3, 4]).await, before);
        stage.nobody_downed();
    }
}

#[tokio::test]
async fn lost_members_are_looked_for_before_their_back_off_is_over() {
    let _turn = crate::turn().await;
    let stage = stage(5).await.with(member::STABLE_AFTER, NEVER);
    let mut stage = stage.with(member::BACK_OFF, NEVER);
    stage.form(0..5).await;
    stage.mesh.split(&[0, 1], Cut::Reset);
    for (member, lost) in [(0, 4), (1, 3), (2, 0), (3, 1), (4, 0)] {
        stage.lost(member, lost).await;
    }
    stage.mesh.heal();
    stage.all_up(&[0, 1, 2, 3, 4]).await;
    stage.nobody_downed();
}

#[tokio::test]
async fn of_a_lasting_partition_exactly_one_side_survives() {
    let _turn = crate::turn().await;
    let mut stage = stage(5).await;
    stage.form(0..5).await;
    stage.mesh.split(&[0, 1], Cut::Reset);
    stage.all_up(&[2, 3, 4]).await;
    for member in 0..2 {
        assert_eq!(stage.ended(member).await, "Stopped(Downed)");
    }
    // Their successors get in again once the cut is over.
    stage.mesh.heal();
    stage.start(0..2).await;
    for member in 0..2 {
        stage.join(member, &[0, 1, 2]).await;
    }
    stage.all_up(&[0, 1, 2, 3, 4]).await;
}

#[tokio::test]
async fn of_indirectly_connected_nodes_no_bystander_goes() {
    let _turn = crate::turn().await;
    let mut stage = stage(4).await;
    stage.form(0..4).await;
    stage.mesh.cut(1, 2, Cut::Silent);
    for member in 1..3 {
        assert_eq!(stage.ended(member).await, "Stopped(Downed)");
    }
    stage.all_up(&[0, 3]).await;
}
