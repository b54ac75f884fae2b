//! Holds every knob of a node: plain nested structs with defaults, checked once at start.
//!
//! Floor 0: no behaviour beyond [`Settings::check`]. Each field's doc gives unit, default, range and cost.
//! Presets: [`Settings::local`] for processes on one machine, [`Settings::lan`] (the default) and
//! [`Settings::wan`] differ in time-outs only.

use std::time::Duration;

/// Every knob of a node.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// Time-outs and back-off of the association with each peer.
    pub association: AssociationSettings,
    /// Bounds of what waits to be sent to one peer.
    pub outbox: OutboxSettings,
    /// Bounds of what a peer may send and hold here.
    pub inbound: InboundSettings,
    /// Bounds of dead letters, events and their log lines.
    pub observe: ObserveSettings,
    /// What the node does around its membership; how clusters behave is
    /// [`NodeBuilder::cluster_settings`](crate::node::NodeBuilder::cluster_settings).
    pub cluster: ClusterTaskSettings,
}

/// Time-outs and back-off of the association with each peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AssociationSettings {
    /// Time for the transport to give a link. Default 5 s, 10 ms to 10 min.
    pub connect_timeout: Duration,
    /// Time from a link's first byte to its activation, both sides. Default 5 s, 10 ms to 10 min.
    pub handshake_timeout: Duration,
    /// First wait before dialling again, doubled each time, jittered down to its half. Default 100 ms, from 1 ms.
    pub backoff_min: Duration,
    /// Longest wait before dialling again. Default 10 s, at least `backoff_min`. Members of a cluster look for lost ones
    /// sooner, each for one of them in each round of heartbeats.
    pub backoff_max: Duration,
    /// Time without a link after which what waits for the peer becomes dead letters. Default 30 s, from 10 ms.
    pub give_up_after: Duration,
    /// Silence after which the peer is asked for a sign of life. Default 3 s; costs one 20-byte frame each way, and the
    /// two sides take turns. A node looks at its idle links together, so this and `liveness_timeout` may come an eighth of
    /// it later.
    pub ping_interval: Duration,
    /// Silence after which the link is held to be dead. Default 10 s, more than `ping_interval`.
    pub liveness_timeout: Duration,
    /// Time for a closing link to flush and hear the peer's goodbye. Default 5 s.
    pub drain_timeout: Duration,
}

/// Bounds of what waits to be sent to one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxSettings {
    /// Bytes of messages up to 64 KiB that may wait before `tell` answers `Full`; one message may overshoot it. Default
    /// 1 MiB, as much as stays in a core's cache; from 1 KiB. Memory per peer: as much, and the 64 KiB that are being
    /// written.
    pub max_bytes: usize,
    /// Bytes of larger messages, and of those told to the same actors after them, that may wait before `tell` answers
    /// `Full`; each sender may overshoot it by one message. Default 32 MiB, from 64 KiB; two messages of the largest
    /// size keep a link busy.
    pub max_bulk_bytes: usize,
    /// Frames that may wait in each of both before `tell` answers `Full`. Default 65 536, from 1.
    pub max_frames: usize,
    /// Bytes of control frames that may wait; beyond it gossip is refused to its caller and acknowledgements wait for
    /// the next. Default 256 KiB, from 4 KiB. Failures of asks may take the lane up to `max_bytes`.
    pub max_control_bytes: usize,
    /// Asks to one peer that may wait for their reply. Default 65 536, from 1; about 100 bytes each.
    pub max_asks: usize,
    /// Bytes of tells to slow actors of one peer that may wait here for credit before `tell` to these actors answers
    /// `Full`; one message may overshoot it. Default 4 MiB, from 1 KiB. They wait beside `max_bytes`, so that tells to
    /// other actors go on. `send` rather waits for the credit itself.
    pub max_held_bytes: usize,
    /// Tells to slow actors of one peer that may wait here for credit. Default 65 536, from 1.
    pub max_held_frames: usize,
}

/// Bounds of what a peer may send and hold here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InboundSettings {
    /// Largest encoded message, sent or received. Default 16 MiB, 1 KiB to 1 GiB. A peer may keep as much waiting here,
    /// as the beginning of a message that it sends in chunks, beside those that `max_held_bytes` bounds.
    pub max_message: usize,
    /// Links that may be in their handshake at the same time. Default 1 024, from 1; 16 KiB each.
    pub max_handshakes: usize,
    /// Peers this node knows at the same time. Default 16 384, from 1.
    pub max_peers: usize,
    /// Messages that wait in the mailbox of an actor started with `spawn`. Default 4 096, from 1.
    ///
    /// What waits had better fit into the processor's cache; with many more, receiving a small message costs more. A
    /// burst beyond it is held where it was sent, up to [`OutboxSettings::max_held_frames`].
    ///
    /// As many again may be on their way to any mailbox that holds its senders back, whoever made it, 256 more from each
    /// peer, and what `max_window` adds: they wait in front of the mailbox when it is full.
    pub mailbox_capacity: usize,
    /// Messages that may be on their way to an actor that keeps up with its senders, in place of as many again as
    /// `mailbox_capacity`. Default 32 768, from 0; a number up to `mailbox_capacity` changes nothing.
    ///
    /// It is approached by doubling as long as no message has to wait in front of the mailbox, and given up when one has
    /// to; those that are on their way by then still come. All targets of one peer together have at most as many beyond
    /// their shares of `mailbox_capacity`, and one whose sender falls silent keeps its part. What waits is bounded by
    /// `max_held_bytes` too.
    pub max_window: usize,
    /// Encoded bytes that wait in the mailbox of an actor started with `spawn`; one message may overshoot it. Default
    /// 16 MiB, from 1 KiB. As many again may be on their way, as for `mailbox_capacity`, and 64 KiB more from each peer.
    pub mailbox_bytes: usize,
    /// Bytes of one peer's messages that wait in front of full mailboxes, 128 added to each; beyond it they become dead
    /// letters. Default 64 MiB, from 64 KiB. Reached only with some hundred full mailboxes, a few of large messages, or
    /// by a peer that restarts again and again.
    ///
    /// Messages above 128 KiB wait here too while they are decoded beside the task that reads the link, up to three
    /// quarters of it; beyond that this task decodes them itself, and reads nothing else meanwhile. So give it a few
    /// times `max_message`.
    pub max_held_bytes: usize,
}

/// Bounds of dead letters, events and their log lines.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObserveSettings {
    /// Dead letters and events kept for a subscriber that lags; older ones are counted and skipped. Default 1 024.
    pub stream_capacity: usize,
    /// Log lines a second that dead letters and peers' errors may cause. Default 10; the rest is counted.
    pub log_lines_per_second: u32,
}

/// Bounds of the task that keeps a node's membership, and what becomes of the node when that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterTaskSettings {
    /// Membership PDUs that may wait to be read; more are dropped and counted. Default 4 096, from 1.
    pub max_pdus: usize,
    /// Those of one peer among them. Default 64, from 1.
    pub max_pdus_of_peer: usize,
    /// Bytes of those PDUs together; a larger one is never read. Default 16 MiB, from 64 KiB.
    pub max_bytes: usize,
    /// Time that `shutdown` gives the cluster to let the node leave, out of its own deadline; 0 s not to leave at
    /// all. Default 10 s; leaving takes about three rounds of gossip.
    pub leave_timeout: Duration,
    /// Time after which a member that has left is quarantined: until then it may flush what it has told. Default 5 s,
    /// at most 10 minutes; who was declared dead is quarantined as soon as it is removed.
    pub quarantine_left_after: Duration,
    /// What the node does when the cluster has downed it. Default [`WhenDowned::ShutDown`].
    pub when_downed: WhenDowned,
}

/// Says what a node does when its cluster has downed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenDowned {
    /// Shuts down: what it would go on doing, others do in its place.
    ShutDown,
    /// Goes on without a cluster; actors of the other side may run twice.
    GoOn,
}

impl Default for AssociationSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            give_up_after: Duration::from_secs(30),
            ping_interval: Duration::from_secs(3),
            liveness_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

impl Default for OutboxSettings {
    fn default() -> Self {
        Self {
            max_bytes: MIB,
            max_bulk_bytes: 32 * MIB,
            max_frames: 65_536,
            max_control_bytes: 256 * KIB,
            max_asks: 65_536,
            max_held_bytes: 4 * MIB,
            max_held_frames: 65_536,
        }
    }
}

impl Default for InboundSettings {
    fn default() -> Self {
        Self {
            max_message: 16 * MIB,
            max_handshakes: 1_024,
            max_peers: 16_384,
            mailbox_capacity: 4_096,
            max_window: 32_768,
            mailbox_bytes: 16 * MIB,
            max_held_bytes: 64 * MIB,
        }
    }
}

impl Default for ObserveSettings {
    fn default() -> Self {
        Self { stream_capacity: 1_024, log_lines_per_second: 10 }
    }
}

impl Default for ClusterTaskSettings {
    fn default() -> Self {
        Self {
            max_pdus: 4_096,
            max_pdus_of_peer: 64,
            max_bytes: 16 * MIB,
            leave_timeout: Duration::from_secs(10),
            quarantine_left_after: Duration::from_secs(5),
            when_downed: WhenDowned::ShutDown,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::lan()
    }
}

impl Settings {
    /// Gives the settings for processes on one machine: short time-outs.
    #[must_use]
    pub fn local() -> Self {
        let association = AssociationSettings {
            connect_timeout: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(2),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_secs(1),
            give_up_after: Duration::from_secs(10),
            ping_interval: Duration::from_secs(1),
            liveness_timeout: Duration::from_secs(4),
            drain_timeout: Duration::from_secs(2),
        };
        Self { association, ..Self::lan() }
    }

    /// Gives the settings for machines in one building: the defaults.
    #[must_use]
    pub fn lan() -> Self {
        Self {
            association: AssociationSettings::default(),
            outbox: OutboxSettings::default(),
            inbound: InboundSettings::default(),
            observe: ObserveSettings::default(),
            cluster: ClusterTaskSettings::default(),
        }
    }

    /// Gives the settings for machines far apart: long time-outs.
    #[must_use]
    pub fn wan() -> Self {
        let association = AssociationSettings {
            connect_timeout: Duration::from_secs(15),
            handshake_timeout: Duration::from_secs(15),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            give_up_after: Duration::from_secs(120),
            ping_interval: Duration::from_secs(10),
            liveness_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(15),
        };
        Self { association, ..Self::lan() }
    }

    /// Checks every knob against its range.
    ///
    /// # Errors
    /// [`SettingsError`] names the first knob that is out of range; nothing was started.
    pub fn check(&self) -> Result<(), SettingsError> {
        let a = &self.association;
        let ms = Duration::from_millis;
        ensure("association.connect_timeout", a.connect_timeout >= ms(10))?;
        ensure("association.connect_timeout", a.connect_timeout <= TEN_MINUTES)?;
        ensure("association.handshake_timeout", a.handshake_timeout >= ms(10))?;
        ensure("association.handshake_timeout", a.handshake_timeout <= TEN_MINUTES)?;
        ensure("association.backoff_min", a.backoff_min >= ms(1))?;
        ensure("association.backoff_max", a.backoff_max >= a.backoff_min)?;
        ensure("association.give_up_after", a.give_up_after >= ms(10))?;
        ensure("association.ping_interval", a.ping_interval >= ms(1))?;
        ensure("association.liveness_timeout", a.liveness_timeout > a.ping_interval)?;
        ensure("outbox.max_bytes", self.outbox.max_bytes >= KIB)?;
        ensure("outbox.max_bulk_bytes", self.outbox.max_bulk_bytes >= 64 * KIB)?;
        ensure("outbox.max_frames", self.outbox.max_frames >= 1)?;
        ensure("outbox.max_control_bytes", self.outbox.max_control_bytes >= 4 * KIB)?;
        ensure("outbox.max_asks", self.outbox.max_asks >= 1)?;
        ensure("outbox.max_held_bytes", self.outbox.max_held_bytes >= KIB)?;
        ensure("outbox.max_held_frames", self.outbox.max_held_frames >= 1)?;
        ensure("inbound.max_message", (KIB..=1024 * MIB).contains(&self.inbound.max_message))?;
        ensure("inbound.max_handshakes", self.inbound.max_handshakes >= 1)?;
        ensure("inbound.max_peers", self.inbound.max_peers >= 1)?;
        ensure("inbound.mailbox_capacity", self.inbound.mailbox_capacity >= 1)?;
        ensure("inbound.mailbox_bytes", self.inbound.mailbox_bytes >= KIB)?;
        ensure("inbound.max_held_bytes", self.inbound.max_held_bytes >= 64 * KIB)?;
        ensure("observe.stream_capacity", self.observe.stream_capacity >= 1)?;
        ensure("cluster.max_pdus", self.cluster.max_pdus >= 1)?;
        ensure("cluster.max_pdus_of_peer", self.cluster.max_pdus_of_peer >= 1)?;
        ensure("cluster.max_bytes", self.cluster.max_bytes >= 64 * KIB)?;
        let left_after = self.cluster.quarantine_left_after;
        ensure("cluster.quarantine_left_after", left_after <= TEN_MINUTES)
    }
}

/// Says which knob is out of its documented range; the caller's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("setting `{knob}` is out of range; its documentation gives the range")]
pub struct SettingsError {
    /// The knob, as the path of its field.
    pub knob: &'static str,
}

fn ensure(knob: &'static str, in_range: bool) -> Result<(), SettingsError> {
    if in_range { Ok(()) } else { Err(SettingsError { knob }) }
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const TEN_MINUTES: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_within_their_ranges() {
        for settings in [Settings::local(), Settings::lan(), Settings::wan(), Settings::default()] {
            assert_eq!(settings.check(), Ok(()));
        }
    }

    #[test]
    fn a_knob_out_of_range_is_named() {
        let mut settings = Settings::default();
        settings.association.liveness_timeout = settings.association.ping_interval;
        let error = settings.check().unwrap_err();
        assert_eq!(error.knob, "association.liveness_timeout");
        let mut settings = Settings::default();
        settings.cluster.quarantine_left_after = Duration::MAX;
        assert_eq!(settings.check().unwrap_err().knob, "cluster.quarantine_left_after");
    }
}
