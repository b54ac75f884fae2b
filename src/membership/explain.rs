//! Says why the cluster is as it is, for operators: [`Explanation`], as data and as a readable text.
//!
//! Floor 2: values made from a machine at one moment; nothing here decides anything.

use std::fmt;
use std::time::Duration;

use super::cluster_id::ClusterId;
use super::downing::{Cause, Decision};
use super::machine::Phase;
use super::member::MemberStatus;
use super::reachability::ReachabilityStatus;
use super::refusals::Refusals;
use crate::address::{Address, UniqueAddress};

/// Says why the cluster is as it is, as one node sees it at one moment.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// Which node.
    pub own: UniqueAddress,
    /// How far it has come.
    pub phase: Phase,
    /// Its cluster; none before it is a member.
    pub cluster: Option<ClusterId>,
    /// Who leads its data centre.
    pub leader: Option<UniqueAddress>,
    /// Members it knows, of whatever status.
    pub members: usize,
    /// What it does to get in; none unless it is joining.
    pub joining: Option<JoinProgress>,
    /// Members that must have seen the present state and have not: one thing that blocks convergence.
    pub not_seen: Vec<UniqueAddress>,
    /// Members that somebody cannot reach, and who cannot: the other thing that may block convergence.
    pub accusations: Vec<Accusation>,
    /// Members that are not Up yet, and why.
    pub waiting: Vec<Waiting>,
    /// What downing will decide, if nothing changes.
    pub downing: Option<Forecast>,
    /// PDUs it has not believed.
    pub refusals: Refusals,
    /// Expected time from a crash to the accusation.
    pub detection_time: Duration,
}

/// Says what a node does to get in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinProgress {
    /// It asks the seeds for a member that lets it in.
    Asking {
        /// Seeds it asks.
        seeds: Vec<Address>,
        /// Seeds that have said that they are no members.
        refused: usize,
        /// Attempts so far, this one included.
        attempt: u32,
        /// Time until it forms a cluster itself; none if it must not.
        forms_in: Option<Duration>,
    },
    /// It waits for this member's Welcome.
    Requested {
        /// Which member.
        of: UniqueAddress,
        /// Time until it asks the seeds once more.
        gives_up_in: Duration,
    },
}

/// Says who cannot reach a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accusation {
    /// The member.
    pub subject: UniqueAddress,
    /// The most severe statement about it.
    pub status: ReachabilityStatus,
    /// Who says so.
    pub observers: Vec<UniqueAddress>,
    /// What comes of it.
    pub effect: AccusationEffect,
}

/// Says what comes of an accusation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccusationEffect {
    /// It blocks convergence until the member is back or downed.
    Blocks,
    /// It does not: the member is Down or Exiting, or elsewhere, or is this node, or its accusers are Down.
    Harmless,
}

/// Says why a member is not Up yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Which member.
    pub node: UniqueAddress,
    /// Joining or WeaklyUp.
    pub status: MemberStatus,
    /// Why.
    pub reason: WaitReason,
}

/// Says what a joining member waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitReason {
    /// There is no convergence: see what is not seen and who is accused.
    NotConverged,
    /// There are not enough members, or not enough with a role.
    TooFewMembers,
    /// Another data centre's leader decides.
    OtherDataCentre,
    /// Nothing but the leader's next look.
    Leader(Option<UniqueAddress>),
}

/// Says what downing will decide, if nothing changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    /// Time until then.
    pub due_in: Duration,
    /// What it will be.
    pub decision: Decision,
    /// What leads to it.
    pub cause: Cause,
    /// Whom it will mean.
    pub nodes: Vec<UniqueAddress>,
    /// Who will decide it; none if every node does.
    pub by: Option<UniqueAddress>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cluster {
            None => writeln!(f, "{} is {:?}, in no cluster", self.own, self.phase)?,
            Some(id) => {
                let (own, phase, members) = (&self.own, self.phase, self.members);
                writeln!(f, "{own} is {phase:?} in cluster {id} of {members}")?;
            }
        }
        if let Some(progress) = &self.joining {
            writeln!(f, "{progress}")?;
        }
        if self.cluster.is_some() {
            self.write_cluster(f)?;
        }
        for (why, count) in self.refusals.iter() {
            writeln!(f, "refused {count} PDUs: {why:?}")?;
        }
        let detection = seconds(self.detection_time);
        write!(f, "a crash is found within {detection}")
    }
}

impl Explanation {
    fn write_cluster(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.leader {
            Some(leader) => writeln!(f, "leader: {leader}")?,
            None => writeln!(f, "leader: none, for all are Down")?,
        }
        let blocks = |accusation: &&Accusation| accusation.effect == AccusationEffect::Blocks;
        if self.not_seen.is_empty() && !self.accusations.iter().any(|a| blocks(&a)) {
            writeln!(f, "converged")?;
        } else {
            writeln!(f, "not converged:")?;
        }
        if !self.not_seen.is_empty() {
            writeln!(f, "  has not seen this version: {}", list(&self.not_seen))?;
        }
        for accusation in &self.accusations {
            writeln!(f, "  {accusation}")?;
        }
        for waiting in &self.waiting {
            writeln!(f, "{waiting}")?;
        }
        self.downing.iter().try_for_each(|forecast| writeln!(f, "{forecast}"))
    }
}

impl fmt::Display for JoinProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asking { seeds, refused, attempt, forms_in } => {
                write!(f, "asks the seeds {} (attempt {attempt}); ", list(seeds))?;
                write!(f, "{refused} of them are no members; ")?;
                match forms_in {
                    Some(time) => write!(f, "forms a cluster in {}", seconds(*time)),
                    None => write!(f, "waits for one that is a member"),
                }
            }
            Self::Requested { of, gives_up_in } => {
                write!(f, "waits for the Welcome of {of}, for {} more", seconds(*gives_up_in))
            }
        }
    }
}

impl fmt::Display for Accusation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (subject, status, observers) = (&self.subject, self.status, list(&self.observers));
        let effect = match self.effect {
            AccusationEffect::Blocks => "blocks convergence",
            AccusationEffect::Harmless => "blocks nothing",
        };
        write!(f, "{subject} is {status:?} according to {observers}: {effect}")
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}: ", self.node, self.status)?;
        match &self.reason {
            WaitReason::NotConverged => f.write_str("it waits for convergence"),
            WaitReason::TooFewMembers => f.write_str("it waits for enough members"),
            WaitReason::OtherDataCentre => f.write_str("it is for another data centre to decide"),
            WaitReason::Leader(Some(leader)) => write!(f, "{leader} is about to move it Up"),
            WaitReason::Leader(None) => f.write_str("nobody leads"),
        }
    }
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (decision, cause) = (self.decision, self.cause);
        write!(f, "downing decides in {}: {decision:?} ({cause:?}), ", seconds(self.due_in))?;
        match &self.by {
            Some(leader) => write!(f, "by {leader}, ")?,
            None => write!(f, "by every node, ")?,
        }
        write!(f, "which means {}", list(&self.nodes))
    }
}

/// Writes a few of many, so that a text about a thousand members stays readable.
fn list<T: fmt::Display>(items: &[T]) -> String {
    let shown: Vec<_> = items.iter().take(MOST_LISTED).map(T::to_string).collect();
    match items.len().saturating_sub(MOST_LISTED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Items of a list that are written out.
const MOST_LISTED: usize = 8;
