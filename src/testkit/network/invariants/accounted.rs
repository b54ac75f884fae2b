//! Holds that every tell ends once: [`Accounted`].

use super::{Invariant, Look};
use crate::event::Reason;
use crate::node::Stats;

/// Holds that tells end once: delivered, or as one dead letter; and at the end that each has ended.
///
/// It sums up what all nodes count, so nothing but tells may go between them: an ask that was delivered and gets no
/// reply is a dead letter as well. What a broken link has swallowed together with the node behind it may have been
/// delivered before, so such dead letters are no proof once a node has crashed.
///
/// Source: "whatever is not delivered becomes exactly one dead letter with a reason", [`crate::event::Reason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accounted;

impl Invariant for Accounted {
    fn name(&self) -> &str {
        "every tell ends once"
    }

    fn check(&mut self, look: &Look<'_>) -> Result<(), String> {
        let sums = Sums::of(look);
        let surely_ended = sums.delivered + sums.dead;
        if surely_ended > sums.sent {
            Err(sums.text("more have ended than were sent"))
        } else {
            Ok(())
        }
    }

    fn check_end(&mut self, look: &Look<'_>) -> Result<(), String> {
        self.check(look)?;
        let sums = Sums::of(look);
        let ended = sums.delivered + sums.dead + sums.doubtful;
        // What a crashed node had received and not yet handed over is known to nobody.
        let is_open = ended < sums.sent && look.crashed.count == 0;
        if is_open { Err(sums.text("some have not ended")) } else { Ok(()) }
    }
}

#[derive(Debug, Default)]
struct Sums {
    sent: u64,
    delivered: u64,
    dead: u64,
    /// Dead letters that may have been delivered.
    doubtful: u64,
}

impl Sums {
    fn of(look: &Look<'_>) -> Self {
        let mut sums = Self::default();
        let has_crashed = look.crashed.count > 0;
        for (_, node) in look.nodes() {
            sums.add(&node.stats(), has_crashed);
        }
        look.crashed.stats.iter().for_each(|stats| sums.add(stats, true));
        sums
    }

    fn add(&mut self, stats: &Stats, has_crashed: bool) {
        let doubtful = |reason| if has_crashed { stats.dead_letters_for(reason) } else { 0 };
        let doubtful = DOUBTFUL.map(doubtful).iter().sum::<u64>();
        self.sent += stats.tells_sent;
        self.delivered += stats.delivered;
        self.dead += stats.dead_letters_total() - doubtful;
        self.doubtful += doubtful;
    }

    fn text(&self, what: &str) -> String {
        let Self { sent, delivered, dead, doubtful } = self;
        format!(
            "{what}: {sent} sent, {delivered} delivered, {dead} dead letters, {doubtful} doubtful"
        )
    }
}

/// Reasons of what was written, and may have been delivered before its receiver crashed.
const DOUBTFUL: [Reason; 3] = [Reason::LinkLost, Reason::NewIncarnation, Reason::Quarantined];
