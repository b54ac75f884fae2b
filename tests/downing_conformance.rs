//! Holds every downing strategy to the same promises, and the suite to finding those who break them.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use tellwire::membership::downing::{
    Alone, Decision, DownAll, DowningStrategy, KeepMajority, KeepOldest, StaticQuorum, View,
};
use tellwire::testkit::downing::{Gap, conforms};

#[test]
fn keep_majority_conforms() {
    conforms(&KeepMajority::new(), &[], &[]);
    conforms(&KeepMajority::new().with_role("x"), &["x"], &[]);
}

#[test]
fn keep_oldest_conforms() {
    for alone in [Alone::Down, Alone::Keep] {
        conforms(&KeepOldest::new(alone), &[], &[]);
        conforms(&KeepOldest::new(alone).with_role("x"), &["x"], &[]);
    }
}

#[test]
fn static_quorum_conforms_but_for_uneven_news() {
    for size in 1..=3 {
        let quorum = StaticQuorum::new(size.try_into().unwrap());
        // The suite's clusters are too small for two quorums of three.
        let gaps: &[Gap] = if size < 3 { &[Gap::UnevenNews] } else { &[] };
        conforms(&quorum, &[], gaps);
        conforms(&quorum.with_role("x"), &["x"], gaps);
    }
}

#[test]
fn down_all_conforms() {
    conforms(&DownAll, &[], &[]);
}

/// Decides by a closure.
struct By<F>(&'static str, F);

impl<F> std::fmt::Debug for By<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl<F: Fn(&View) -> Decision + Send> DowningStrategy for By<F> {
    fn decide(&self, view: &View) -> Decision {
        (self.1)(view)
    }
}

#[test]
fn a_timeout_lets_both_sides_go_on_and_has_to_say_so() {
    let timeout = By("timeout", |_: &View| Decision::DownUnreachable);
    let why = refusal(&timeout, &[]);
    assert!(why.contains("both sides go on") && why.contains("BothSides"), "{why}");
    conforms(&timeout, &[], &[Gap::BothSides, Gap::UnevenNews]);
}

#[test]
fn a_tie_that_both_sides_win_is_found() {
    let half = By("half", |view: &View| {
        let here = view.counted(None).filter(|it| view.is_reachable(&it.address)).count();
        let keeps = 2 * here >= view.counted(None).count();
        if keeps { Decision::DownUnreachable } else { Decision::DownReachable }
    });
    let why = refusal(&half, &[]);
    assert!(why.contains("node-0 of [node-0:Up node-1:Up(unreachable)]"), "{why}");
}

#[test]
fn a_majority_that_forgets_who_is_arriving_is_found() {
    let hasty = By("hasty", |view: &View| {
        if !view.indirectly_connected().is_empty() {
            return Decision::DownIndirectlyConnected;
        }
        let here = view.counted(None).filter(|it| view.is_reachable(&it.address)).count();
        let keeps = 2 * here > view.counted(None).count();
        if keeps { Decision::DownUnreachable } else { Decision::DownReachable }
    });
    let why = refusal(&hasty, &[]);
    assert!(why.contains("UnevenNews") && why.contains("Joining"), "{why}");
    conforms(&hasty, &[], &[Gap::UnevenNews]);
}

#[test]
fn one_that_spares_itself_leaves_members_that_cannot_reach_each_other() {
    let spares = By("spares", |view: &View| {
        let is_apart = view.unreachable().is_subset(view.indirectly_connected());
        if is_apart { Decision::DownSelf } else { Decision::DownAll }
    });
    let why = refusal(&spares, &[]);
    assert!(why.contains("cannot reach"), "{why}");
}

#[test]
fn one_that_remembers_is_found() {
    let asked = AtomicUsize::new(0);
    let moody = By("moody", move |_: &View| match asked.fetch_add(1, Ordering::Relaxed) % 3 {
        0 => Decision::DownReachable,
        _ => Decision::DownAll,
    });
    let why = refusal(&moody, &[]);
    assert!(why.contains("is not pure"), "{why}");
}

#[test]
fn one_that_panics_is_found_with_its_view() {
    let fragile = By("fragile", |view: &View| {
        assert!(!view.members().is_empty(), "nobody is there");
        Decision::DownAll
    });
    let why = refusal(&fragile, &[]);
    assert!(why.contains("panicked at node-0 of []"), "{why}");
}

#[test]
fn a_gap_that_does_not_show_is_refused() {
    let why = refusal(&DownAll, &[Gap::BothSides]);
    assert!(why.contains("is no gap"), "{why}");
}

/// Gives what the suite has against a strategy.
fn refusal(strategy: &dyn DowningStrategy, gaps: &[Gap]) -> String {
    let run = catch_unwind(AssertUnwindSafe(|| conforms(strategy, &[], gaps)));
    *run.expect_err("it conforms").downcast::<String>().unwrap()
}
