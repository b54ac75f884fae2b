//! Nodes that die without a word, and nodes that only seem to.

use crate::{NEVER, member, stage};

#[tokio::test]
async fn a_killed_process_becomes_unreachable_is_downed_and_removed() {
    let _turn = crate::turn().await;
    let mut stage = stage(3).await;
    stage.form(0..3).await;
    stage.kill(2).await;
    stage.all_up(&[0, 1]).await;
    for member in 0..2 {
        let course = stage.told(member, 2);
        let end = ["Up", "Unreachable", "Downed", "Removed"].map(String::from);
        assert!(course.ends_with(&end), "{course:?}");
    }
}

#[tokio::test]
async fn the_last_of_six_goes_when_five_crash_at_once() {
    let _turn = crate::turn().await;
    let mut stage = stage(6).await;
    stage.form(0..6).await;
    for member in 1..6 {
        stage.kill(member).await;
    }
    // It cannot tell five crashes from a cut that leaves it alone.
    assert_eq!(stage.ended(0).await, "Stopped(Downed)");
}

#[tokio::test]
async fn a_process_that_is_paused_comes_back_and_nobody_is_downed() {
    let _turn = crate::turn().await;
    let mut stage = stage(3).await.with(member::STABLE_AFTER, NEVER);
    stage.form(0..3).await;
    stage.pause(2).await;
    stage.lost(0, 2).await;
    stage.lost(1, 2).await;
    stage.resume(2).await;
    stage.all_up(&[0, 1, 2]).await;
    stage.nobody_downed();
}

#[tokio::test]
async fn a_process_that_is_paused_for_too_long_stops_when_it_wakes() {
    let _turn = crate::turn().await;
    let mut stage = stage(3).await;
    stage.form(0..3).await;
    stage.pause(2).await;
    stage.all_up(&[0, 1]).await;
    stage.resume(2).await;
    let why = stage.ended(2).await;
    assert!(["Stopped(Downed)", "Stopped(Removed)"].contains(&why.as_str()), "{why}");
    stage.all_up(&[0, 1]).await;
    for member in 0..2 {
        let course = stage.told(member, 1 - member);
        assert_eq!(course.last().map(String::as_str), Some("Up"), "{course:?}");
    }
}
