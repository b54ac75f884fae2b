//! Holds the gossip that waits for this node's membership, within bounds that one peer alone cannot use up.
//!
//! The readers of the links fill it and never wait; what has no room is dropped and counted, and the next round of
//! gossip makes up for it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::address::UniqueAddress;
use crate::node::sink::GossipSink;
use crate::settings::ClusterTaskSettings;

/// Holds encoded membership PDUs from the links' readers to the gossiper.
#[derive(Debug)]
pub(crate) struct GossipInbox {
    settings: ClusterTaskSettings,
    waiting: Mutex<Waiting>,
    arrived: Notify,
    dropped: AtomicU64,
}

/// One PDU and the verified peer that it came from.
pub(crate) type Parcel = (UniqueAddress, Vec<u8>);

#[derive(Debug, Default)]
struct Waiting {
    parcels: VecDeque<Parcel>,
    bytes: usize,
    /// How many of them are of each peer.
    shares: HashMap<UniqueAddress, usize>,
}

impl GossipInbox {
    pub(crate) fn new(settings: ClusterTaskSettings) -> Self {
        let (waiting, arrived) = (Mutex::default(), Notify::new());
        Self { settings, waiting, arrived, dropped: AtomicU64::new(0) }
    }

    /// Waits until something is there. Cancel safe.
    pub(crate) async fn arrived(&self) {
        loop {
            let arrived = self.arrived.notified();
            if !self.lock().parcels.is_empty() {
                return;
            }
            arrived.await;
        }
    }

    /// Takes the oldest PDU.
    pub(crate) fn take(&self) -> Option<Parcel> {
        let mut waiting = self.lock();
        let parcel = waiting.parcels.pop_front()?;
        waiting.bytes -= parcel.1.len();
        if let Some(share) = waiting.shares.get_mut(&parcel.0) {
            *share -= 1;
            if *share == 0 {
                waiting.shares.remove(&parcel.0);
            }
        }
        Some(parcel)
    }

    /// Counts what had no room.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GossipSink for GossipInbox {
    fn receive(&self, from: &UniqueAddress, pdu: &[u8]) {
        let mut waiting = self.lock();
        let share = waiting.shares.get(from).copied().unwrap_or(0);
        let has_room = share < self.settings.max_pdus_of_peer
            && waiting.parcels.len() < self.settings.max_pdus
            && waiting.bytes + pdu.len() <= self.settings.max_bytes;
        if !has_room {
            drop(waiting);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.shares.insert(from.clone(), share + 1);
        waiting.bytes += pdu.len();
        waiting.parcels.push_back((from.clone(), pdu.to_vec()));
        drop(waiting);
        self.arrived.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Uid;
    use crate::settings::Settings;

    fn peer(uid: u64) -> UniqueAddress {
        UniqueAddress::new("mem://Test@peer:1".parse().unwrap(), Uid::new(uid))
    }

    fn inbox(set: impl FnOnce(&mut ClusterTaskSettings)) -> GossipInbox {
        let mut settings = Settings::default().cluster;
        set(&mut settings);
        GossipInbox::new(settings)
    }

    #[tokio::test]
    async fn pdus_come_out_in_the_order_they_came_in() {
        let inbox = inbox(|_| {});
        for (uid, pdu) in [(1, b"a"), (2, b"b"), (1, b"c")] {
            inbox.receive(&peer(uid), pdu);
        }
        inbox.arrived().await;
        let taken: Vec<Parcel> = std::iter::from_fn(|| inbox.take()).collect();
        let expected = [(1, b"a"), (2, b"b"), (1, b"c")];
        assert_eq!(taken, expected.map(|(uid, pdu)| (peer(uid), pdu.to_vec())));
    }

    #[test]
    fn one_peer_leaves_room_for_the_others() {
        let inbox = inbox(|settings| settings.max_pdus_of_peer = 2);
        (0..5).for_each(|_| inbox.receive(&peer(1), b"flood"));
        inbox.receive(&peer(2), b"honest");
        assert_eq!(inbox.dropped(), 3);
        let taken: Vec<_> = std::iter::from_fn(|| inbox.take()).map(|(from, _)| from).collect();
        assert_eq!(taken, [peer(1), peer(1), peer(2)]);
        inbox.receive(&peer(1), b"again");
        assert_eq!(inbox.dropped(), 3, "what was taken makes room");
    }

    #[test]
    fn bytes_and_pdus_are_bounded() {
        let bytes = inbox(|settings| settings.max_bytes = 10);
        bytes.receive(&peer(1), &[0; 10]);
        bytes.receive(&peer(2), &[0; 1]);
        assert_eq!(bytes.dropped(), 1);
        let pdus = inbox(|settings| settings.max_pdus = 1);
        (1..=3).for_each(|uid| pdus.receive(&peer(uid), b"x"));
        assert_eq!(pdus.dropped(), 2);
    }
}
