mod waking;

use std::any::TypeId;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;

use super::*;
use crate::association::control::Amount;
use crate::settings::Settings;

/// Makes an outbox whose tells have all the credit they want.
fn outbox() -> Outbox {
    let outbox = Outbox::new(Settings::default().outbox);
    (0..8).for_each(|account| grant(&outbox, account, u64::from(u32::MAX)));
    outbox
}

fn grant(outbox: &Outbox, account: u16, messages: u64) {
    let granted = Amount { messages, bytes: 1 << 40 };
    outbox.grant(&[Grant { account, granted }]);
}

fn offer(outbox: &Outbox) -> Position {
    offer_sized(outbox, 7).unwrap()
}

fn offer_sized(outbox: &Outbox, size: usize) -> Result<Position, Refused> {
    let (manifest, payload) = (ReplyName::Relayed("c:m"), vec![1; size]);
    let position = outbox.offer(&OutgoingReply { correlation: 1, manifest, payload: &payload });
    position.map(|position| position.expect("a reply needs no credit"))
}

fn tell(outbox: &Outbox, target: &str, size: usize) -> Result<Position, Refused> {
    offer_tell(outbox, target, size).map(|position| position.expect("all the credit it wants"))
}

fn offer_tell(outbox: &Outbox, target: &str, size: usize) -> Result<Option<Position>, Refused> {
    offer_as(false, None, outbox, target, size)
}

fn offer_as(
    is_patient: bool,
    ask: Option<AskHeader>,
    outbox: &Outbox,
    target: &str,
    size: usize,
) -> Result<Option<Position>, Refused> {
    let manifest = WireName { type_id: TypeId::of::<u8>(), form: 0, codec: "c", manifest: "m" };
    outbox.offer_tell(&Outgoing {
        target,
        target_id: &AtomicU16::new(0),
        manifest,
        sender: None,
        ask,
        is_patient,
        payload: &vec![1; size],
    })
}

/// Writes everything that waits to a link, and gives what each write brought.
fn write(outbox: &Outbox) -> Vec<Batch> {
    activate(outbox);
    let (mut batches, mut defined) = (Vec::new(), 0);
    while !outbox.is_empty() {
        batches.push(take(outbox, &mut defined));
    }
    batches
}

/// Begins a link, and says for the receiver that nothing it was sent was lost.
fn activate(outbox: &Outbox) {
    outbox.activate(LinkId::default(), Writer::default(), IsFirst::No);
    outbox.settle_credit(&[], true);
}

fn take(outbox: &Outbox, defined: &mut usize) -> Batch {
    let mut batch = Batch::default();
    outbox.take(LinkId::default(), &mut batch, defined);
    assert!(!batch.is_empty(), "nothing to take from an outbox that is not empty");
    batch
}

#[test]
fn an_answer_shows_that_everything_up_to_its_ask_has_arrived() {
    let outbox = outbox();
    assert_eq!([(); 4].map(|()| offer(&outbox)), [1, 2, 3, 4].map(Position::Ordinary));
    write(&outbox);
    outbox.answered(Passed { ordinary: 3, bulk: 0 });
    assert_eq!(outbox.settle_unknown(), 1);
}

#[test]
fn an_answer_says_nothing_of_what_a_former_incarnation_had() {
    let outbox = outbox();
    offer(&outbox);
    write(&outbox);
    assert_eq!(outbox.new_incarnation().lost, 1);
    let position = offer(&outbox);
    offer(&outbox);
    write(&outbox);
    let mut reached = Passed::default();
    reached.add(Some(position));
    outbox.answered(reached);
    assert_eq!(outbox.settle_unknown(), 1);
}

#[test]
fn control_frames_for_a_former_incarnation_are_not_sent_to_the_next() {
    let outbox = outbox();
    outbox.offer_control(&ControlPdu::Received { received: 4096 }).unwrap();
    outbox.new_incarnation();
    assert!(outbox.is_empty());
}

#[test]
fn no_write_brings_more_user_frames_than_a_quantum_and_lanes_take_turns() {
    let outbox = outbox();
    for _ in 0..100 {
        offer_sized(&outbox, 10_000).unwrap();
    }
    offer_sized(&outbox, 1_000_000).unwrap();
    let batches = write(&outbox);
    assert!(batches.iter().all(|batch| batch.ordinary.is_empty() != batch.bulk.is_none()));
    let most = batches.iter().map(|batch| batch.pieces().concat().len()).max();
    assert!(most <= Some(QUANTUM + 64), "{most:?}");
    let turns: Vec<_> = batches.iter().take(30).map(|batch| batch.bulk.is_some()).collect();
    assert!(turns.windows(2).all(|pair| pair[0] != pair[1]), "{turns:?}");
}

#[test]
fn control_frames_go_out_with_the_next_quantum_whatever_waits() {
    let outbox = outbox();
    tell(&outbox, "/a", 10_000_000).unwrap();
    tell(&outbox, "/b", 60_000).unwrap();
    tell(&outbox, "/b", 60_000).unwrap();
    activate(&outbox);
    let mut defined = 0;
    for _ in 0..10 {
        outbox.offer_control(&ControlPdu::Received { received: 1 }).unwrap();
        let batch = take(&outbox, &mut defined);
        assert!(!batch.control.is_empty() && outbox.counts().control == Queued::default());
    }
}

#[test]
fn a_large_tell_is_complete_after_the_earlier_and_before_the_later_ones() {
    let outbox = outbox();
    for _ in 0..10 {
        tell(&outbox, "/a", 60_000).unwrap();
    }
    assert_eq!(tell(&outbox, "/a", 70_000), Ok(Position::Bulk(1)));
    assert_eq!(tell(&outbox, "/a", 1), Ok(Position::Bulk(2)));
    assert_eq!(tell(&outbox, "/b", 1), Ok(Position::Ordinary(11)));
    assert_eq!(tell(&outbox, "/a", 1), Ok(Position::Bulk(3)));
    let batches = write(&outbox);
    let bulk: Vec<_> = batches.iter().map(|batch| batch.bulk.is_some()).collect();
    let (first, rest) = bulk.split_at(bulk.len() - 2);
    // One chunk travels at once; the other waits for the ten, and the followers are one write.
    assert_eq!(first.iter().filter(|is_bulk| **is_bulk).count(), 1, "{bulk:?}");
    assert_eq!(rest, [true, true]);
    assert_eq!(tell(&outbox, "/a", 1), Ok(Position::Ordinary(12)));
}

#[test]
fn a_large_message_whose_link_broke_begins_anew_and_is_counted_once() {
    let outbox = outbox();
    offer_sized(&outbox, 200_000).unwrap();
    let whole: usize = outbox.counts().bulk.bytes;
    activate(&outbox);
    take(&outbox, &mut 0);
    assert_eq!(outbox.deactivate(), Passed::default());
    outbox.rewind(|_| panic!("there is another link to come"));
    assert_eq!(outbox.settle_unknown(), 0);
    let written: usize = write(&outbox).iter().map(|batch| batch.pieces().concat().len()).sum();
    assert_eq!(written, whole);
    assert_eq!(outbox.settle_unknown(), 1);
}

#[test]
fn a_large_message_that_breaks_link_after_link_is_given_up_and_holds_nothing_up() {
    let outbox = outbox();
    tell(&outbox, "/a", 60_000).unwrap();
    tell(&outbox, "/a", 200_000).unwrap();
    tell(&outbox, "/a", 1).unwrap();
    let mut dead = Vec::new();
    for number in 1..=bulk::MAX_TRIES {
        activate(&outbox);
        let mut batch = Batch::default();
        while batch.bulk.is_none() {
            batch = take(&outbox, &mut 0);
        }
        outbox.deactivate();
        outbox.rewind(|undelivered| dead.push((number, format!("{undelivered:?}"))));
    }
    let told = Undelivered::Tell { target: "/a", manifest: "c:m", ask: None };
    assert_eq!(dead, [(bulk::MAX_TRIES, format!("{told:?}"))]);
    activate(&outbox);
    assert_eq!(written_payloads(&outbox), [1]);
    assert!(outbox.is_empty() && outbox.counts().bulk == Queued::default());
}

#[test]
fn what_was_told_behind_a_message_that_is_dropped_still_comes_after_what_was_told_before() {
    let outbox = outbox();
    for _ in 0..3 {
        tell(&outbox, "/a", 60_000).unwrap();
    }
    tell(&outbox, "/a", 200_000).unwrap();
    assert_eq!(tell(&outbox, "/a", 1), Ok(Position::Bulk(2)));
    let mut dead = 0;
    outbox.limit(100_000, |_| dead += 1);
    activate(&outbox);
    assert_eq!((dead, written_payloads(&outbox)), (1, vec![60_000, 60_000, 60_000, 1]));
    assert_eq!(tell(&outbox, "/a", 200_000), Err(Refused::TooLarge { limit: 100_000 }));
}

#[test]
fn each_lane_has_bounds_of_its_own() {
    let outbox = outbox();
    while tell(&outbox, "/large", 1 << 20).is_ok() {}
    assert_eq!(tell(&outbox, "/large", 1), Err(Refused::Full));
    assert!(tell(&outbox, "/small", 1).is_ok());
    let limit = Settings::default().outbox.max_bulk_bytes;
    let waiting = outbox.counts().bulk.bytes;
    assert!((limit..limit + (2 << 20)).contains(&waiting), "{waiting}");
}

#[tokio::test]
async fn whoever_waits_for_room_in_a_lane_gets_it() {
    for size in [50_000, 1 << 20] {
        let outbox = outbox();
        while tell(&outbox, "/a", size).is_ok() {}
        let room = outbox.room();
        assert_eq!(tell(&outbox, "/a", size), Err(Refused::Full));
        write(&outbox);
        room.await;
        assert!(tell(&outbox, "/a", size).is_ok());
    }
}

#[test]
fn whatever_waits_becomes_one_dead_letter_each() {
    let outbox = outbox();
    tell(&outbox, "/large", 1 << 20).unwrap();
    tell(&outbox, "/large", 1).unwrap();
    tell(&outbox, "/small", 1).unwrap();
    offer_sized(&outbox, 1 << 20).unwrap();
    activate(&outbox);
    take(&outbox, &mut 0);
    take(&outbox, &mut 0);
    let mut dead = Vec::new();
    let passed = outbox.discard(|undelivered| {
        dead.push(match undelivered {
            Undelivered::Tell { target, manifest, .. } => format!("{target} {manifest}"),
            Undelivered::Reply { manifest, .. } => manifest.to_owned(),
        });
    });
    assert_eq!(dead, ["/large c:m", "/large c:m", "c:m"]);
    assert_eq!(passed, Passed { ordinary: 1, bulk: 3 });
    assert!(outbox.is_empty());
}

#[test]
fn tells_without_credit_are_held_and_others_go_on() {
    let outbox = Outbox::new(Settings::default().outbox);
    let told = (0..1000).map(|_| offer_tell(&outbox, "/slow", 1).unwrap().is_some());
    assert_eq!(told.filter(|is_on_its_way| *is_on_its_way).count(), 256);
    assert_eq!(offer_tell(&outbox, "/other", 1), Ok(Some(Position::Ordinary(257))));
    let counts = outbox.counts();
    assert_eq!((counts.held.frames, counts.ordinary.frames, counts.tells), (744, 257, 1001));
    outbox.activate(LinkId::default(), Writer::default(), IsFirst::Yes);
    while !outbox.is_drained() {
        take(&outbox, &mut 0);
    }
    assert!(!outbox.is_empty(), "what is held is still to be told");
    grant(&outbox, 0, 300);
    let mut batch = take(&outbox, &mut 0);
    let mut frames = 0;
    let mut rest = batch.ordinary.as_slice();
    while let Some((_, behind)) = wire::split_frame(rest) {
        (frames, rest) = (frames + 1, behind);
    }
    assert_eq!((frames, outbox.counts().held.frames), (44, 700));
    batch.clear();
}

#[test]
fn a_full_hold_refuses_the_starved_target_alone_and_wakes_its_senders_by_credit() {
    let mut settings = Settings::default().outbox;
    settings.max_held_frames = 10;
    let outbox = Outbox::new(settings);
    let taken = (0..1000).take_while(|_| offer_tell(&outbox, "/slow", 1).is_ok()).count();
    assert_eq!(taken, 256 + 10);
    assert!(offer_tell(&outbox, "/other", 1).is_ok());
    assert!(wakes(&outbox, || grant(&outbox, 0, 257)));
}

#[test]
fn what_its_sender_would_rather_wait_with_is_not_held_while_a_link_may_bring_credit() {
    for size in [1, 100_000] {
        let outbox = Outbox::new(Settings::default().outbox);
        activate_first(&outbox);
        let offer = || offer_as(true, None, &outbox, "/slow", size);
        while offer() != Err(Refused::Full) {}
        assert_eq!(outbox.counts().held.frames, 0);
        assert!(!wakes(&outbox, || drop(written_payloads(&outbox))), "nothing is granted yet");
        assert!(wakes(&outbox, || grant(&outbox, 0, 257)));
        assert!(offer().unwrap().is_some());

        // Behind what others told, it waits until all that has gone.
        grant(&outbox, 0, 257);
        while offer() != Err(Refused::Full) {}
        assert!(offer_tell(&outbox, "/slow", 1).unwrap().is_none());
        assert!(wakes(&outbox, || grant(&outbox, 0, 300)));
        assert_eq!(offer(), Err(Refused::Full));
        assert!(wakes(&outbox, || drop(written_payloads(&outbox))));
        assert!(offer().unwrap().is_some());

        // Without a link, only what waits here can bring one.
        while offer() != Err(Refused::Full) {}
        assert!(wakes(&outbox, || _ = outbox.deactivate()));
        assert_eq!(offer(), Ok(None));
    }
}

/// Tells whether who waits for room is woken by what `run` does.
fn wakes(outbox: &Outbox, run: impl FnOnce()) -> bool {
    let mut room = std::pin::pin!(outbox.room());
    room.as_mut().enable();
    run();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    Future::poll(room, &mut context).is_ready()
}

#[test]
fn what_is_held_keeps_its_order_across_the_lanes() {
    let outbox = Outbox::new(Settings::default().outbox);
    // The first takes all the bytes of the initial window.
    for size in [70_000, 1, 80_000, 2, 3, 90_000, 4] {
        offer_tell(&outbox, "/a", size).unwrap();
    }
    assert_eq!(outbox.counts().held.frames, 6);
    grant(&outbox, 0, 99);
    activate_first(&outbox);
    grant(&outbox, 0, 99);
    assert_eq!(written_payloads(&outbox), [70_000, 1, 80_000, 2, 3, 90_000, 4]);
}

#[test]
fn what_waits_in_the_lanes_waits_for_the_credit_of_another_incarnation_in_its_order() {
    let outbox = Outbox::new(Settings::default().outbox);
    activate_first(&outbox);
    grant(&outbox, 0, 99);
    let sizes = [1, 70_000, 2, 3, 80_000, 4];
    assert!(sizes.iter().all(|size| offer_tell(&outbox, "/a", *size).unwrap().is_some()));
    outbox.deactivate();
    outbox.new_incarnation();
    offer_tell(&outbox, "/a", 5).unwrap();
    let counts = outbox.counts();
    assert_eq!((counts.held.frames, counts.ordinary.frames, counts.bulk.bytes), (7, 0, 0));
    activate_first(&outbox);
    assert_eq!(written_payloads(&outbox), [1, 70_000], "the initial window, and one beyond it");
    grant(&outbox, 0, 99);
    assert_eq!(written_payloads(&outbox), [2, 3, 80_000, 4, 5]);
    assert!(outbox.is_empty());
}

/// Writes everything that waits to the active link; gives the sizes of the tells in the order of their beginnings.
fn written_payloads(outbox: &Outbox) -> Vec<usize> {
    let mut sizes = Vec::new();
    while !outbox.is_drained() {
        let mut batch = Batch::default();
        assert!(outbox.take(LinkId::default(), &mut batch, &mut 0));
        for bytes in &batch.pieces()[1..] {
            let mut rest = *bytes;
            while let Some((raw, behind)) = wire::split_frame(rest) {
                sizes.extend(message::Waiting::parse(raw).map(|tell| tell.payload));
                rest = behind;
            }
        }
    }
    sizes
}

fn activate_first(outbox: &Outbox) {
    outbox.activate(LinkId::default(), Writer::default(), IsFirst::Yes);
}

#[test]
fn what_is_held_is_discarded_with_the_rest_and_its_credit_comes_back() {
    let outbox = Outbox::new(Settings::default().outbox);
    assert!((0..300).all(|_| offer_tell(&outbox, "/a", 1).is_ok()));
    let mut dead = 0;
    outbox.discard(|_| dead += 1);
    assert_eq!((dead, outbox.counts().held.frames), (300, 0));
    assert!(outbox.is_empty());
    assert_eq!(offer_tell(&outbox, "/a", 1), Ok(Some(Position::Ordinary(257))));
}
