//! Holds every knob of the membership machine: plain nested structs with defaults, checked once at start.
//!
//! Floor 2: no behaviour beyond [`ClusterSettings::check`] and [`ClusterSettings::shared`], which gives those that all
//! members must have alike.

use std::collections::BTreeMap;
use std::time::Duration;

use super::detector::{Deadline, FailureDetector, PhiAccrual, PhiSettings};
use super::downing::{DowningSettings, DowningStrategy, StableAfter};
use super::heartbeat::HeartbeatSettings;
use super::leader::Minimum;
use super::pdu::{SharedSettings, TooManySettings};
use super::profile::Label;

/// Every knob of the membership machine.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ClusterSettings {
    /// Time between two rounds of gossip. Default 1 s, 10 ms to 1 h; one status to one member each round, and three
    /// times as many while news spreads.
    pub gossip_interval: Duration,
    /// Time between two looks of the leader at what there is to do. Default 1 s, 10 ms to 1 h.
    pub leader_interval: Duration,
    /// Who monitors whom, and how often.
    pub heartbeat: HeartbeatSettings,
    /// What makes a monitored member unreachable.
    pub detector: DetectorSettings,
    /// When unreachable members are decided upon.
    pub downing: DowningSettings,
    /// How many members there must be before any comes Up. Default 1.
    pub minimum: Minimum,
    /// Time without convergence after which joining members become WeaklyUp; never if none. Default 7 s.
    pub weakly_up_after: Option<Duration>,
    /// How a node finds its way in.
    pub join: JoinSettings,
    /// Time for which a removed member is remembered. Default 24 h, 1 min to 30 days; about 60 bytes each in every
    /// full state. It must be longer than any member may be cut off and then come back.
    pub tombstone_age: Duration,
    /// PDUs that may wait to be taken by the shell. Default 16 384, from 64; a state waits as its receiver's name only.
    pub max_queued: usize,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            gossip_interval: Duration::from_secs(1),
            leader_interval: Duration::from_secs(1),
            heartbeat: HeartbeatSettings::default(),
            detector: DetectorSettings::default(),
            downing: DowningSettings::default(),
            minimum: Minimum::default(),
            weakly_up_after: Some(Duration::from_secs(7)),
            join: JoinSettings::default(),
            tombstone_age: Duration::from_secs(24 * 60 * 60),
            max_queued: 16_384,
        }
    }
}

impl ClusterSettings {
    /// Gives the settings for processes on one machine, such as tests and examples: a fifth of the usual times, so that
    /// a crash is decided upon after about 4 s.
    #[must_use]
    pub fn local() -> Self {
        let ms = Duration::from_millis;
        let mut settings = Self {
            gossip_interval: ms(200),
            leader_interval: ms(200),
            weakly_up_after: Some(ms(1_400)),
            join: JoinSettings {
                seed_timeout: ms(1_000),
                ask_interval: ms(200),
                retry_after: ms(2_000),
                probe_interval: ms(2_000),
            },
            ..Self::default()
        };
        (settings.heartbeat.interval, settings.heartbeat.first_answer_within) =
            (ms(200), ms(1_000));
        let mut phi = PhiSettings::default();
        (phi.acceptable_pause, phi.first_estimate) = (ms(1_500), ms(200));
        settings.detector = DetectorSettings::Phi(phi);
        settings.downing.stable_after = StableAfter::Fixed(ms(2_000));
        settings
    }

    /// Checks every knob against its range.
    ///
    /// # Errors
    /// [`ClusterSettingsError`] names the first that is out of range.
    pub fn check(&self) -> Result<(), ClusterSettingsError> {
        let round = LEAST_ROUND..=LONGEST_ROUND;
        let knobs = [
            ("gossip_interval", self.gossip_interval, round.clone()),
            ("leader_interval", self.leader_interval, round.clone()),
            ("heartbeat.interval", self.heartbeat.interval, round.clone()),
            ("join.seed_timeout", self.join.seed_timeout, round.clone()),
            ("join.ask_interval", self.join.ask_interval, round.clone()),
            ("join.retry_after", self.join.retry_after, round.clone()),
            ("join.probe_interval", self.join.probe_interval, round),
            ("tombstone_age", self.tombstone_age, LEAST_AGE..=LONGEST_AGE),
        ];
        if let Some((knob, value, range)) =
            knobs.into_iter().find(|(_, v, range)| !range.contains(v))
        {
            let (least, most) = range.into_inner();
            return Err(ClusterSettingsError::OutOfRange { knob, value, least, most });
        }
        if self.max_queued < LEAST_QUEUED {
            return Err(ClusterSettingsError::QueueTooShort { length: self.max_queued });
        }
        Ok(())
    }

    /// Gives the settings that all members must have alike, with those of the downing strategy.
    #[must_use]
    pub fn shared(&self, strategy: &dyn DowningStrategy) -> SharedSettings {
        let texts = [
            ("heartbeat.interval", format!("{:?}", self.heartbeat.interval)),
            ("heartbeat.monitored", self.heartbeat.monitored.to_string()),
            ("detector", format!("{:?}", self.detector)),
            ("downing.strategy", strategy.identity()),
            ("downing.stable-after", format!("{:?}", self.downing.stable_after)),
            ("downing.unstable", format!("{:?}", self.downing.unstable)),
        ];
        let label = |(name, text): (&str, String)| (label(name), label(&text));
        let shared: BTreeMap<Label, Label> = texts.into_iter().map(label).collect();
        shared.try_into().unwrap_or_else(|TooManySettings { .. }| SharedSettings::default())
    }
}

/// Says what makes a monitored member unreachable.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum DetectorSettings {
    /// Silence that is unlikely by the rhythm so far; the default.
    Phi(PhiSettings),
    /// Silence of a heartbeat interval and this pause.
    Deadline {
        /// Silence beyond the interval that is still ordinary, from 1 ms.
        acceptable_pause: Duration,
    },
}

impl Default for DetectorSettings {
    fn default() -> Self {
        Self::Phi(PhiSettings::default())
    }
}

impl DetectorSettings {
    /// Makes a detector for heartbeats at this interval.
    #[must_use]
    pub fn detector(&self, interval: Duration) -> Box<dyn FailureDetector> {
        match self {
            Self::Phi(settings) => Box::new(PhiAccrual::new(settings.clone())),
            Self::Deadline { acceptable_pause } => {
                Box::new(Deadline::new(interval, *acceptable_pause))
            }
        }
    }

    /// Returns the silence after which a member with an even rhythm is unreachable.
    #[must_use]
    pub fn detection_time(&self, interval: Duration) -> Duration {
        match self {
            Self::Phi(settings) => settings.detection_time(),
            Self::Deadline { acceptable_pause } => interval.saturating_add(*acceptable_pause),
        }
    }
}

/// Says how a node finds its way in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JoinSettings {
    /// Time after which the first seed forms a cluster if it has heard of none. Default 5 s, 10 ms to 1 h; the longer,
    /// the less a first seed that restarts cut off from the others makes a cluster of its own.
    pub seed_timeout: Duration,
    /// Time between two questions to the seeds, and two requests to be added. Default 1 s, 10 ms to 1 h.
    pub ask_interval: Duration,
    /// Time after which a member that has not let the node in is given up for another. Default 10 s, 10 ms to 1 h.
    pub retry_after: Duration,
    /// Time between two questions of a member to seeds that are no members. Default 10 s, 10 ms to 1 h; they find
    /// clusters that were formed apart from each other.
    pub probe_interval: Duration,
}

impl Default for JoinSettings {
    fn default() -> Self {
        Self {
            seed_timeout: Duration::from_secs(5),
            ask_interval: Duration::from_secs(1),
            retry_after: Duration::from_secs(10),
            probe_interval: Duration::from_secs(10),
        }
    }
}

/// Says which knob cannot be as it is: the caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterSettingsError {
    /// Refuses a time outside of its range.
    #[error("{knob} is {value:?}, which is not within {least:?} and {most:?}")]
    OutOfRange {
        /// Which knob.
        knob: &'static str,
        /// What it is.
        value: Duration,
        /// The least it may be.
        least: Duration,
        /// The most it may be.
        most: Duration,
    },
    /// Refuses a queue in which not even one round has room.
    #[error("max_queued is {length}, which is less than {LEAST_QUEUED}")]
    QueueTooShort {
        /// PDUs that could wait.
        length: usize,
    },
}

/// Makes a label of any text: what no label may have becomes a dash, and what is too long ends in its hash.
fn label(text: &str) -> Label {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"._+-".contains(c));
    let mut plain = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
    if plain.len() > LONGEST_LABEL || plain.is_empty() {
        let hash = text.bytes().fold(FNV_OFFSET, |h, b| (h ^ u64::from(b)).wrapping_mul(FNV_PRIME));
        plain.truncate(LONGEST_LABEL - 17);
        plain = format!("{plain}-{hash:016x}");
    }
    plain.parse().unwrap_or_else(|_| unreachable!("only allowed characters are left"))
}

/// Shorter rounds would only make load.
const LEAST_ROUND: Duration = Duration::from_millis(10);
/// Longer ones are a mistake.
const LONGEST_ROUND: Duration = Duration::from_secs(60 * 60);
/// Tombstones must outlive what is still under way.
const LEAST_AGE: Duration = Duration::from_secs(60);
/// Longer ones only make every state larger.
const LONGEST_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Room for one round of heartbeats and gossip.
const LEAST_QUEUED: usize = 64;
/// Bytes in a label.
const LONGEST_LABEL: usize = 64;
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::{ClusterSettings, ClusterSettingsError, DetectorSettings, Duration, label};
    use crate::membership::downing::{DownAll, KeepMajority, StableAfter};
    use crate::membership::pdu::Admission;

    #[test]
    fn the_defaults_are_within_their_ranges() {
        assert_eq!(ClusterSettings::default().check(), Ok(()));
    }

    #[test]
    fn a_knob_out_of_its_range_is_named() {
        let mut settings = ClusterSettings::default();
        settings.join.ask_interval = Duration::ZERO;
        let refused = settings.check();
        let Err(ClusterSettingsError::OutOfRange { knob, value, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!((knob, value), ("join.ask_interval", Duration::ZERO));
        let settings = ClusterSettings { max_queued: 3, ..ClusterSettings::default() };
        assert_eq!(settings.check(), Err(ClusterSettingsError::QueueTooShort { length: 3 }));
    }

    #[test]
    fn nodes_differ_in_the_detector_and_in_downing_only() {
        let base = ClusterSettings::default();
        let names = |other: &ClusterSettings, strategy: &dyn super::DowningStrategy| {
            let required = base.shared(&KeepMajority::default());
            match other.shared(strategy).check(&required) {
                Admission::Incompatible { names } => {
                    names.iter().map(ToString::to_string).collect::<Vec<_>>()
                }
                _ => Vec::new(),
            }
        };
        let mut other = base.clone();
        other.gossip_interval *= 2;
        other.minimum.members = 3;
        assert_eq!(names(&other, &KeepMajority::default()), [""; 0]);
        other.detector = DetectorSettings::Deadline { acceptable_pause: Duration::from_secs(3) };
        other.downing.stable_after = StableAfter::Fixed(Duration::from_secs(9));
        let all = ["detector", "downing.stable-after", "downing.strategy"];
        assert_eq!(names(&other, &DownAll), all);
    }

    #[test]
    fn any_text_makes_a_label_and_different_texts_different_ones() {
        let labels = ["", "a b", "{}", "ü", &"x".repeat(65), &"x".repeat(66)].map(label);
        let distinct: std::collections::BTreeSet<_> = labels.iter().collect();
        assert_eq!(distinct.len(), labels.len());
        assert_eq!(labels[1].as_str(), "a-b");
    }
}
