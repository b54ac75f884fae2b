//! Measures what it costs to merge, take and spell the state of a large cluster.
//!
//! `cargo bench --bench gossip_merge`

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use tellwire::membership::cluster_id::ClusterId;
use tellwire::membership::exchange::{Envelope, Receiver};
use tellwire::membership::gossip::{Gossip, GossipForm, OwnMark};
use tellwire::membership::member::{Member, MemberStatus, UpNumber};
use tellwire::membership::pdu::{MembershipPdu, decode, encode};
use tellwire::membership::profile::Profile;
use tellwire::{Address, Uid, UniqueAddress};

fn main() {
    println!("{:>7} {:<28} {:>12}", "members", "what", "microseconds");
    for members in [10, 100, 1_000] {
        let (left, right) = (state(members, 1), state(members, 2));
        time(members, "merge two changed states", || left.merge(&right));
        let envelope = envelope(&right);
        let receiver = Receiver { own: &node(1), local: &left, mark: OwnMark::Give };
        time(members, "receive one and merge", || receiver.receive(envelope.clone()).unwrap());
        let pdu = MembershipPdu::Gossip(envelope.clone());
        let mut bytes = Vec::new();
        encode(&pdu, &mut bytes).unwrap();
        time(members, "spell one", || {
            let mut bytes = Vec::with_capacity(bytes.len());
            encode(&MembershipPdu::Gossip(self::envelope(&right)), &mut bytes).unwrap();
            bytes
        });
        time(members, "read one", || decode(&bytes).unwrap());
        println!("{members:>7} {:<28} {:>12}", "bytes of one", bytes.len());
    }
}

/// Prints the least of many times, which is the one with the least disturbance.
fn time<T>(members: u16, what: &str, run: impl Fn() -> T) {
    let mut least = Duration::MAX;
    let end = Instant::now() + Duration::from_millis(500);
    while Instant::now() < end {
        let start = Instant::now();
        black_box(run());
        least = least.min(start.elapsed());
    }
    println!("{members:>7} {what:<28} {:>12.1}", least.as_secs_f64() * 1e6);
}

/// Builds a state of so many members that one of them has changed last.
fn state(members: u16, changed_by: u16) -> Gossip {
    let mut state = Gossip::default();
    let mut number = UpNumber::FIRST;
    for n in 1..=members {
        state.add(Member::joining(node(n), Profile::default())).unwrap();
        state.promote(&node(n), number).unwrap();
        number = number.next();
        state.stamp(&node(n), OwnMark::Give);
    }
    state.advance(&node(members - changed_by), MemberStatus::Leaving).unwrap();
    state.stamp(&node(changed_by), OwnMark::Give);
    (1..=members).for_each(|n| state.mark_seen(&node(n), OwnMark::Give));
    state
}

fn envelope(state: &Gossip) -> Envelope {
    let gossip = Box::new(GossipForm::from(state));
    Envelope { from: node(2), to: node(1), cluster: ClusterId::new(1), gossip }
}

fn node(n: u16) -> UniqueAddress {
    let address = Address::new("tcp", "Bench", "10.0.0.1", n).unwrap();
    UniqueAddress::new(address, Uid::new(u64::from(n) << 32))
}
