//! Stands between any two of a set of nodes in processes of their own: [`Mesh`].

use std::io;
use std::net::SocketAddr;

use super::{Detours, Direction, FaultProxy, ProxyHandle};

/// Holds one proxy for each way from a node to another, so that each pair can be parted by itself, also one way.
///
/// ```text
///   node 0 ──► way(0, 1) ──► node 1           each node listens where it likes, advertises `endpoint(n)`,
///   node 0 ◄── way(1, 0) ◄── node 1           and dials through `detours(n)`
/// ```
/// All of it is known before the first node starts, and stays when one starts again: only the
/// [target](Self::set_target) is new then. Dropping it ends every link.
#[derive(Debug)]
pub struct Mesh {
    /// By dialler and then by target; what leads from a node to itself is for everybody who knows of no detour.
    ways: Vec<Vec<FaultProxy>>,
}

/// Says how a cut shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cut {
    /// Nothing passes; links stay, new ones too, and what was sent arrives when the cut ends.
    Silent,
    /// Links are reset, and new ones as well.
    Reset,
}

impl Mesh {
    /// Starts the proxies between so many nodes.
    ///
    /// # Errors
    /// The operating system's, if it gives not enough ports.
    pub async fn start(nodes: usize) -> io::Result<Self> {
        let mut ways = Vec::new();
        for _ in 0..nodes {
            let mut row = Vec::new();
            for _ in 0..nodes {
                row.push(FaultProxy::bind().await?);
            }
            ways.push(row);
        }
        Ok(Self { ways })
    }

    /// Gives the endpoint that a node is to advertise.
    ///
    /// # Panics
    /// If there is no such node, as all other methods do.
    #[must_use]
    pub fn endpoint(&self, node: usize) -> String {
        format!("tcp://{}", self.way(node, node).address())
    }

    /// Gives the transport of a node.
    #[must_use]
    pub fn detours(&self, node: usize) -> Detours {
        let mut detours = Detours::default();
        for to in 0..self.ways.len() {
            detours.lead(self.way(to, to).address(), self.way(node, to).address());
        }
        detours
    }

    /// Sets where a node listens, from now on.
    pub fn set_target(&self, node: usize, target: SocketAddr) {
        for from in 0..self.ways.len() {
            self.way(from, node).set_target(target);
        }
    }

    /// Gives the proxy that links dialled by `from` pass on their way to `to`.
    #[must_use]
    pub fn way(&self, from: usize, to: usize) -> &ProxyHandle {
        self.ways[from][to].handle()
    }

    /// Parts two nodes until the cut [heals](Self::heal).
    pub fn cut(&self, one: usize, other: usize, cut: Cut) {
        for way in [self.way(one, other), self.way(other, one)] {
            match cut {
                Cut::Silent => way.blackhole(),
                Cut::Reset => {
                    way.refuse();
                    way.reset();
                }
            }
        }
    }

    /// Lets nothing pass from one node to another, while the other way stays open.
    pub fn deafen(&self, from: usize, to: usize) {
        self.way(from, to).stall(Direction::ToTarget);
        self.way(to, from).stall(Direction::FromTarget);
    }

    /// Parts every node of one side from every other node.
    pub fn split(&self, side: &[usize], cut: Cut) {
        let others = || (0..self.ways.len()).filter(|node| !side.contains(node));
        side.iter().for_each(|one| others().for_each(|other| self.cut(*one, other, cut)));
    }

    /// Ends every cut.
    pub fn heal(&self) {
        self.ways.iter().flatten().for_each(|way| way.handle().pass());
    }
}
