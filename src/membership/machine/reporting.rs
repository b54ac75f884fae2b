//! Shows what this node knows, and says why it is so.

use std::time::Instant;

use super::Membership;
use crate::address::UniqueAddress;
use crate::membership::convergence::Perspective;
use crate::membership::downing::Cause;
use crate::membership::explain::{
    Accusation, AccusationEffect, Explanation, Forecast, WaitReason, Waiting,
};
use crate::membership::leader;
use crate::membership::state::{ClusterState, Convergence, Known};

impl Membership {
    /// Returns what this node knows of its cluster; made once for each state, and cheap to clone.
    #[must_use]
    pub fn state(&self) -> ClusterState {
        self.shown.get_or_init(|| self.show()).clone()
    }

    /// Says why the cluster is as it is.
    #[must_use]
    pub fn explain(&self, now: Instant) -> Explanation {
        let view = self.view();
        let obstacles = view.obstacles();
        Explanation {
            own: self.own.clone(),
            phase: self.phase,
            cluster: self.cluster,
            leader: leader::leader(&view).cloned(),
            members: self.gossip.member_count(),
            joining: self.joiner.progress(now),
            not_seen: obstacles.not_seen.into_iter().cloned().collect(),
            accusations: self.accusations(&obstacles.unreachable),
            waiting: self.waiting(&view),
            downing: self.forecast(now),
            refusals: self.refusals.clone(),
            detection_time: self.detection_time(),
        }
    }

    fn show(&self) -> ClusterState {
        let view = self.view();
        let is_converged = self.cluster.is_some() && view.is_converged();
        ClusterState::new(Known {
            own: self.own.clone(),
            cluster: self.cluster,
            members: self.gossip.members().cloned().collect(),
            unreachable: self.unreachable(),
            leader: leader::leader(&view).cloned(),
            seen: self.gossip.seen().cloned().collect(),
            convergence: if is_converged { Convergence::Reached } else { Convergence::Pending },
        })
    }

    fn accusations(&self, blocking: &[&UniqueAddress]) -> Vec<Accusation> {
        let reachability = self.gossip.reachability();
        let accusation = |subject: &UniqueAddress| Accusation {
            subject: subject.clone(),
            status: reachability.aggregate(subject),
            observers: reachability.observers_of(subject).into_iter().cloned().collect(),
            effect: if blocking.contains(&subject) {
                AccusationEffect::Blocks
            } else {
                AccusationEffect::Harmless
            },
        };
        reachability.all_unreachable().into_iter().map(accusation).collect()
    }

    fn waiting(&self, view: &Perspective<'_>) -> Vec<Waiting> {
        let entering = self.gossip.members().filter(|member| member.status().is_entering());
        let (is_converged, has_enough) =
            (view.is_converged(), self.settings.minimum.is_met(&self.gossip));
        let waiting = |member: &crate::membership::member::Member| {
            let reason = if member.profile().data_centre() != view.data_centre {
                WaitReason::OtherDataCentre
            } else if !has_enough {
                WaitReason::TooFewMembers
            } else if !is_converged {
                WaitReason::NotConverged
            } else {
                WaitReason::Leader(leader::leader(view).cloned())
            };
            Waiting { node: member.node().clone(), status: member.status(), reason }
        };
        entering.map(waiting).collect()
    }

    fn forecast(&self, now: Instant) -> Option<Forecast> {
        let forecast = match self.is_view_stale {
            true => self.downing.forecast_with(now, &self.downing_view(now)),
            false => self.downing.forecast(),
        };
        let (at, verdict) = forecast.filter(|_| self.is_member())?;
        let by = match verdict.cause {
            Cause::Unstable => None,
            Cause::Stable | Cause::Quarantined => leader::leader(&self.view()).cloned(),
        };
        let due_in = at.saturating_duration_since(now);
        let (decision, cause, nodes) = (verdict.decision, verdict.cause, verdict.nodes);
        Some(Forecast { due_in, decision, cause, nodes, by })
    }
}
