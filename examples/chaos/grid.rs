//! Keeps the faults on the ways between the nodes: what is in force on a way follows from all faults that are, so that
//! ending one of two leaves the other as it is.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU64;

use tellwire::testkit::proxy::{Direction, Flow, Mesh, ProxyHandle};

use crate::plan::Kind;

/// Holds the ways between the nodes and the faults in force.
///
/// It is changed on the one thread that also carries the bytes, so that nothing slips through in the middle of a change.
#[derive(Debug)]
pub(crate) struct Grid {
    mesh: Mesh,
    nodes: usize,
    /// What is in force on each way, by where it comes from and where it leads.
    applied: BTreeMap<(usize, usize), Rules>,
    in_force: BTreeMap<u64, Kind>,
}

/// Says what a proxy does.
#[derive(Debug, Default, PartialEq)]
struct Rules {
    is_stalled: [bool; 2],
    flow: Flow,
    refuses: bool,
}

impl Grid {
    /// Starts the proxies for so many nodes.
    pub(crate) async fn new(nodes: usize) -> io::Result<Self> {
        let mesh = Mesh::start(nodes).await?;
        Ok(Self { mesh, nodes, applied: BTreeMap::new(), in_force: BTreeMap::new() })
    }

    /// Gives the proxies themselves.
    pub(crate) fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Puts a fault into force under a number.
    pub(crate) fn begin(&mut self, number: u64, kind: &Kind) {
        if let Kind::Reset(node) | Kind::Refuse(node) = kind {
            self.of_node(*node).for_each(ProxyHandle::reset);
        }
        self.in_force.insert(number, kind.clone());
        self.apply();
    }

    /// Ends a fault.
    pub(crate) fn end(&mut self, number: u64) {
        self.in_force.remove(&number);
        self.apply();
    }

    fn of_node(&self, node: usize) -> impl Iterator<Item = &ProxyHandle> {
        let ways = (0..self.nodes).map(move |other| [(node, other), (other, node)]);
        ways.flatten().map(|(from, to)| self.mesh.way(from, to))
    }

    fn apply(&mut self) {
        for way in (0..self.nodes).flat_map(|from| (0..self.nodes).map(move |to| (from, to))) {
            let (wanted, (from, to)) = (self.rules(way), way);
            let applied = self.applied.entry(way).or_default();
            if *applied != wanted {
                wanted.put_on(self.mesh.way(from, to));
                *applied = wanted;
            }
        }
    }

    /// Works out what is done to the links that one node dials to another.
    fn rules(&self, (from, to): (usize, usize)) -> Rules {
        let mut rules = Rules::default();
        for kind in self.in_force.values() {
            rules.is_stalled[0] |= is_muted(kind, from, to);
            rules.is_stalled[1] |= is_muted(kind, to, from);
            match kind {
                Kind::Slow(node, pace) if *node == from || *node == to => {
                    rules.flow.latency = pace.latency;
                    rules.flow.jitter = pace.jitter;
                    rules.flow.bandwidth = NonZeroU64::new(pace.bandwidth);
                }
                Kind::Refuse(node) if *node == from || *node == to => rules.refuses = true,
                _ => {}
            }
        }
        rules
    }
}

impl Rules {
    fn put_on(&self, proxy: &ProxyHandle) {
        proxy.pass();
        let directions = [Direction::ToTarget, Direction::FromTarget];
        for (direction, is_stalled) in directions.into_iter().zip(self.is_stalled) {
            proxy.set_flow(direction, self.flow.clone());
            if is_stalled {
                proxy.stall(direction);
            }
        }
        if self.refuses {
            proxy.refuse();
        }
    }
}

/// Tells whether a fault keeps what one node says from another.
fn is_muted(kind: &Kind, speaker: usize, listener: usize) -> bool {
    match kind {
        Kind::Part(group) => group.contains(&speaker) != group.contains(&listener),
        Kind::Mute(node) => *node == speaker,
        Kind::MuteTo(from, to) => (*from, *to) == (speaker, listener),
        Kind::Kill(_) | Kind::Pause(_) | Kind::Slow(..) | Kind::Reset(_) | Kind::Refuse(_) => false,
    }
}
