//! Carries PDUs between the nodes of a simulated cluster, late, not at all or twice.
//!
//! It behaves like the associations of real nodes: from one node to another everything arrives in
//! the order in which it was sent, or is lost. What is under way when its way is cut is lost too.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fastrand::Rng;

/// Says how good the network is between any two nodes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NetworkSettings {
    /// Time every PDU takes. Default 1 ms.
    pub latency: Duration,
    /// Time a PDU may take beyond that, drawn anew for each. Default 4 ms.
    pub jitter: Duration,
    /// Share of PDUs that are lost. Default 0, up to 1.
    pub loss: f64,
    /// Share of PDUs that arrive twice, one behind the other, as they may when a link is replaced
    /// while they are under way. Default 0, up to 1.
    pub duplication: f64,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        let [latency, jitter] = [1, 4].map(Duration::from_millis);
        Self { latency, jitter, loss: 0.0, duplication: 0.0 }
    }
}

impl NetworkSettings {
    /// Returns the settings with this latency and jitter.
    #[must_use]
    pub const fn with_delay(self, latency: Duration, jitter: Duration) -> Self {
        Self { latency, jitter, ..self }
    }

    /// Returns the settings with this share of lost PDUs.
    #[must_use]
    pub const fn with_loss(self, loss: f64) -> Self {
        Self { loss, ..self }
    }

    /// Returns the settings with this share of PDUs that arrive twice.
    #[must_use]
    pub const fn with_duplication(self, duplication: f64) -> Self {
        Self { duplication, ..self }
    }
}

/// Knows who can reach whom at present.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) settings: NetworkSettings,
    /// In which part each node is; a node in none reaches all.
    parts: BTreeMap<u16, usize>,
    isolated: BTreeSet<u16>,
    /// Broken ways, from and to.
    cut: BTreeSet<(u16, u16)>,
    /// When the latest PDU of each way arrives; none may overtake it.
    latest: BTreeMap<(u16, u16), Instant>,
}

impl Network {
    pub(super) fn new(settings: NetworkSettings) -> Self {
        let (parts, isolated) = (BTreeMap::new(), BTreeSet::new());
        Self { settings, parts, isolated, cut: BTreeSet::new(), latest: BTreeMap::new() }
    }

    pub(super) fn split(&mut self, parts: &[&[u16]]) {
        let numbered = parts.iter().enumerate();
        let nodes = numbered.flat_map(|(part, nodes)| nodes.iter().map(move |node| (*node, part)));
        self.parts = nodes.collect();
    }

    pub(super) fn isolate(&mut self, node: u16) {
        self.isolated.insert(node);
    }

    pub(super) fn cut_one_way(&mut self, from: u16, to: u16) {
        self.cut.insert((from, to));
    }

    pub(super) fn mend(&mut self, left: u16, right: u16) {
        self.cut.remove(&(left, right));
        self.cut.remove(&(right, left));
    }

    pub(super) fn recover(&mut self) {
        self.parts.clear();
        self.isolated.clear();
        self.cut.clear();
    }

    /// Tells whether the way from one node to another is open.
    pub(super) fn carries(&self, from: u16, to: u16) -> bool {
        let parts = (self.parts.get(&from), self.parts.get(&to));
        let is_parted = matches!(parts, (Some(here), Some(there)) if here != there);
        let is_isolated = self.isolated.contains(&from) || self.isolated.contains(&to);
        !is_parted && !is_isolated && !self.cut.contains(&(from, to))
    }

    /// Tells when a PDU that is sent now arrives: never, once or twice.
    pub(super) fn send(
        &mut self,
        rng: &mut Rng,
        now: Instant,
        way: (u16, u16),
    ) -> impl Iterator<Item = Instant> + use<> {
        let is_carried = self.carries(way.0, way.1);
        let is_lost = happens(rng, self.settings.loss);
        let is_doubled = happens(rng, self.settings.duplication);
        let count = usize::from(is_carried && !is_lost) * (1 + usize::from(is_doubled));
        let arrivals =
            [self.arrival(rng, now, way, count > 0), self.arrival(rng, now, way, count > 1)];
        arrivals.into_iter().flatten()
    }

    fn arrival(
        &mut self,
        rng: &mut Rng,
        now: Instant,
        way: (u16, u16),
        arrives: bool,
    ) -> Option<Instant> {
        if !arrives {
            return None;
        }
        let sampled = now + self.settings.latency + up_to(rng, self.settings.jitter);
        let latest = self.latest.entry(way).or_insert(sampled);
        *latest = sampled.max(*latest);
        Some(*latest)
    }
}

fn happens(rng: &mut Rng, share: f64) -> bool {
    share > 0.0 && rng.f64() < share
}

/// Draws a time from zero to `most`.
pub(super) fn up_to(rng: &mut Rng, most: Duration) -> Duration {
    most.mul_f64(rng.f64())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use fastrand::Rng;

    use super::{Network, NetworkSettings};

    fn network() -> Network {
        Network::new(NetworkSettings::default())
    }

    #[test]
    fn nothing_overtakes_on_one_way() {
        let millis = Duration::from_millis;
        let mut network =
            Network::new(NetworkSettings::default().with_delay(millis(1), millis(200)));
        let (mut rng, start) = (Rng::with_seed(3), Instant::now());
        let sent = (0..500).map(|step| start + millis(step));
        let arrivals: Vec<_> = sent.flat_map(|now| network.send(&mut rng, now, (1, 2))).collect();
        assert_eq!(arrivals.len(), 500);
        assert!(arrivals.is_sorted());
        assert!(arrivals.windows(2).any(|pair| pair[0] == pair[1]), "nothing was ever held back");
    }

    #[test]
    fn the_shares_of_lost_and_doubled_pdus_are_kept() {
        let settings = NetworkSettings::default().with_loss(0.25).with_duplication(0.5);
        let mut network = Network::new(settings);
        let (mut rng, now) = (Rng::with_seed(3), Instant::now());
        let arrived = (0..10_000).map(|_| network.send(&mut rng, now, (1, 2)).count());
        let mut counts = [0; 3];
        arrived.for_each(|count| counts[count] += 1);
        assert!((2_300..2_700).contains(&counts[0]), "{counts:?}");
        assert!((3_500..4_000).contains(&counts[2]), "{counts:?}");
    }

    #[test]
    fn partitions_cuts_and_isolation_add_up_and_recover_at_once() {
        let mut network = network();
        network.split(&[&[1, 2], &[3]]);
        network.isolate(4);
        network.cut_one_way(1, 2);
        let open = |network: &Network, from| {
            (1..6).filter(move |to| network.carries(from, *to)).collect::<Vec<u16>>()
        };
        assert_eq!(open(&network, 1), [1, 5]);
        assert_eq!(open(&network, 2), [1, 2, 5]);
        assert_eq!(open(&network, 4), [0; 0]);
        network.recover();
        assert_eq!(open(&network, 4), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_mended_link_carries_both_ways() {
        let mut network = network();
        network.cut_one_way(1, 2);
        network.cut_one_way(2, 1);
        network.mend(2, 1);
        assert!(network.carries(1, 2) && network.carries(2, 1));
    }
}
