//! A peer that sends more than it was granted is refused the rest, and what is kept of it is bounded.

use tellwire::event::Reason;
use tellwire::node::bounded;

use crate::raw::{self, Control, Raw, chooser};
use crate::{NOTE, Note, Target, payload};

#[tokio::test]
async fn a_peer_that_ignores_its_credit_is_refused_the_rest() {
    let target = Target::start_with(|settings| settings.inbound.mailbox_capacity = 100).await;
    let (mailbox, mut inbox) = bounded::<Note>(1);
    target.node.register("/user/slow", mailbox).expect("a free path");
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    let tell = raw::tell("/user/slow", NOTE, &payload("x"));
    for _ in 0..100 {
        raw.send(&tell.repeat(100)).await;
    }
    let refused = || target.dead(Reason::MailboxFull);
    raw::soon(async {
        while target.node.stats().tells_received < 10_000 || refused() < 9_000 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The mailbox has one; the initial window and the target's budget may wait.
    let kept = 10_000 - refused();
    assert!((1 + 256..=1 + 256 + 100).contains(&kept), "{kept} are kept");
    for _ in 0..kept {
        raw::soon(inbox.recv()).await.expect("what was kept is delivered");
    }
    target.serves_a_healthy_peer().await;
}

#[tokio::test]
async fn large_messages_beyond_the_granted_bytes_are_refused() {
    let target = Target::start_with(|settings| settings.inbound.mailbox_bytes = 1 << 20).await;
    let (mailbox, _inbox) = bounded::<Note>(1);
    target.node.register("/user/slow", mailbox).expect("a free path");
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    let tell = raw::tell("/user/slow", NOTE, &payload(&"x".repeat(1 << 18)));
    for _ in 0..40 {
        raw.send(&tell).await;
    }
    raw::soon(async {
        while target.node.stats().tells_received < 40 || target.dead(Reason::MailboxFull) < 30 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    target.serves_a_healthy_peer().await;
}

#[tokio::test]
async fn a_peer_that_restarts_again_and_again_piles_nothing_up() {
    let target = Target::start_with(|settings| settings.inbound.max_held_bytes = 64 * 1024).await;
    let (mailbox, _inbox) = bounded::<Note>(1);
    target.node.register("/user/slow", mailbox).expect("a free path");
    let tell = raw::tell("/user/slow", NOTE, &payload("x"));
    for uid in 1..=20 {
        let mut raw = Raw::join(&target.node, chooser(uid)).await;
        raw.send(&tell.repeat(100)).await;
        raw::soon(async {
            while target.node.stats().tells_received < uid * 100 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    // At 131 bytes each, 500 of the 2 000 may wait.
    let refused = target.dead(Reason::MailboxFull);
    assert!((1490..=1500).contains(&refused), "{refused} were refused");
}

#[tokio::test]
async fn nonsense_about_credit_does_no_harm() {
    let mut target = Target::start().await;
    let mut raw = Raw::join(&target.node, chooser(1)).await;
    let top = (u16::MAX, (u64::MAX, u64::MAX));
    for grant in [top, (0, (u64::MAX, u64::MAX)), (2047, (0, 0)), (2048, (1, 1))] {
        raw.send(&Control::Credit { grants: vec![grant] }.frame()).await;
        let accounts = vec![((u64::MAX, u64::MAX), grant)];
        raw.send(&Control::Standing { accounts, is_last: true }.frame()).await;
    }
    raw.send(&crate::note("still here")).await;
    target.hears("still here").await;
}
