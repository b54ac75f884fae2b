use std::any::TypeId;
use std::sync::atomic::AtomicU16;

use super::*;
use crate::settings::Settings;

fn outbox() -> Outbox {
    Outbox::new(Settings::default().outbox)
}

fn offer(outbox: &Outbox) -> Position {
    offer_sized(outbox, 7).unwrap()
}

fn offer_sized(outbox: &Outbox, size: usize) -> Result<Position, Refused> {
    let manifest = ReplyName::Relayed("c:m");
    outbox.offer_reply(&OutgoingReply { correlation: 1, manifest, payload: &vec![1; size] })
}

fn tell(outbox: &Outbox, target: &str, size: usize) -> Result<Position, Refused> {
    let manifest = WireName { type_id: TypeId::of::<u8>(), form: 0, codec: "c", manifest: "m" };
    outbox.offer_tell(&Outgoing {
        target,
        target_id: &AtomicU16::new(0),
        manifest,
        sender: None,
        ask: None,
        payload: &vec![1; size],
    })
}

/// Writes everything that waits to a link, and gives what each write brought.
fn write(outbox: &Outbox) -> Vec<Batch> {
    outbox.activate(LinkId::default(), Arc::default());
    let (mut batches, mut defined) = (Vec::new(), 0);
    while !outbox.is_empty() {
        batches.push(take(outbox, &mut defined));
    }
    batches
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
    outbox.answered(Position::Ordinary(3));
    assert_eq!(outbox.settle_unknown(), 1);
}

#[test]
fn an_answer_says_nothing_of_what_a_former_incarnation_had() {
    let outbox = outbox();
    offer(&outbox);
    write(&outbox);
    assert_eq!(outbox.new_incarnation(), 1);
    let position = offer(&outbox);
    offer(&outbox);
    write(&outbox);
    outbox.answered(position);
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
    outbox.activate(LinkId::default(), Arc::default());
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
    outbox.activate(LinkId::default(), Arc::default());
    take(&outbox, &mut 0);
    assert_eq!(outbox.deactivate(), Passed::default());
    assert_eq!(outbox.settle_unknown(), 0);
    let written: usize = write(&outbox).iter().map(|batch| batch.pieces().concat().len()).sum();
    assert_eq!(written, whole);
    assert_eq!(outbox.settle_unknown(), 1);
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
    outbox.activate(LinkId::default(), Arc::default());
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
