//! Stands between the nodes: a proxy for each of them towards each other one, so that any two can be parted.
//!
//! What is in force on a pair follows from all faults that are; ending one of two leaves the other as it is.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU64;

use tellwire::testkit::FaultProxy;
use tellwire::testkit::proxy::{Direction, Flow, ProxyHandle};

use crate::plan::Kind;

/// Holds the proxies and the faults in force.
///
/// It is changed on the one thread that also carries the bytes, so that nothing slips through in the middle of a change.
#[derive(Debug)]
pub(crate) struct Grid {
    /// The links that the first node dials to the second; those of a node to itself are its door.
    proxies: Vec<Vec<FaultProxy>>,
    applied: Vec<Vec<Rules>>,
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
        let (mut proxies, mut applied) = (Vec::new(), Vec::new());
        for _ in 0..nodes {
            let (mut row, mut rules) = (Vec::new(), Vec::new());
            for _ in 0..nodes {
                row.push(FaultProxy::bind().await?);
                rules.push(Rules::default());
            }
            proxies.push(row);
            applied.push(rules);
        }
        Ok(Self { proxies, applied, in_force: BTreeMap::new() })
    }

    /// Gives what each node is known by: an address that outlives its processes.
    pub(crate) fn doors(&self) -> Vec<SocketAddr> {
        self.proxies.iter().enumerate().map(|(node, row)| row[node].address()).collect()
    }

    /// Gives what a node dials in place of each door.
    pub(crate) fn ways_of(&self, node: usize) -> Vec<SocketAddr> {
        self.proxies[node].iter().map(FaultProxy::address).collect()
    }

    /// Lets everybody's links to a node lead to where it listens.
    pub(crate) fn lead(&self, node: usize, to: SocketAddr) {
        for row in &self.proxies {
            row[node].handle().set_target(to);
        }
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
        let dialled = self.proxies[node].iter();
        dialled.chain(self.proxies.iter().map(move |row| &row[node])).map(FaultProxy::handle)
    }

    fn apply(&mut self) {
        for from in 0..self.proxies.len() {
            for to in 0..self.proxies.len() {
                let wanted = self.rules(from, to);
                if self.applied[from][to] != wanted {
                    wanted.put_on(self.proxies[from][to].handle());
                    self.applied[from][to] = wanted;
                }
            }
        }
    }

    /// Works out what is done to the links that one node dials to another.
    fn rules(&self, from: usize, to: usize) -> Rules {
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
