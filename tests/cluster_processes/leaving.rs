//! Nodes that go in order.

use tellwire::testkit::proxy::Cut;

use crate::stage;
use crate::stage::NAMES;

#[tokio::test]
async fn the_leader_leaves_and_another_one_leads() {
    let _turn = crate::turn().await;
    let mut stage = stage(4).await;
    stage.form(0..4).await;
    let leader = stage.leader(0).await;
    let others: Vec<usize> = (0..4).filter(|member| *member != leader).collect();
    stage.say(leader, "leave").await;
    assert_eq!(stage.ended(leader).await, "Left");
    stage.all_up(&others).await;
    assert!(others.contains(&stage.leader(others[0]).await));
    for member in others {
        let mut course = stage.told(member, leader);
        // A process that has left answers nobody, which may be noticed before the last member lets it go.
        course.retain(|told| told != "Unreachable");
        assert!(
            course.ends_with(&["Leaving", "Exited", "Removed"].map(String::from)),
            "{course:?}"
        );
        assert!(!course.contains(&"Downed".to_owned()), "{course:?}");
    }
}

#[tokio::test]
async fn who_leaves_while_others_are_parted_is_let_go_when_that_is_resolved() {
    let _turn = crate::turn().await;
    let mut stage = stage(5).await;
    stage.form(0..5).await;
    stage.mesh.split(&[4], Cut::Silent);
    stage.lost(3, 4).await;
    stage.say(3, "leave").await;
    assert_eq!(stage.ended(3).await, "Left");
    assert_eq!(stage.ended(4).await, "Stopped(Downed)");
    stage.all_up(&[0, 1, 2]).await;
    for member in [0, 1, 2] {
        let (left, lost) = (stage.told(member, 3), stage.told(member, 4));
        assert!(left.contains(&"Exited".to_owned()) && !left.contains(&"Downed".to_owned()));
        assert!(lost.contains(&"Downed".to_owned()), "{} saw {lost:?}", NAMES[member]);
    }
}
