//! Counts one link's tells against the peer's credit while they are dispatched.
//!
//! What comes is counted without a lock and settled with the peer's accounts whenever the batches are handed over:
//! by then it is known which messages ended and which wait.

use std::sync::Arc;

use crate::association::control::Amount;
use crate::event::Reason;
use crate::node::backlog::{Keeper, Parked, Waiting, keep};
use crate::node::core::Core;
use crate::node::credit::AccountId;
use crate::node::directory::{Failure, Place};
use crate::node::peers::Peer;

/// Counts one link's tells, by account.
pub(crate) struct Intake {
    peer: Arc<Peer>,
    /// What came and does not wait, since the last settlement.
    came: Vec<Amount>,
    touched: Vec<AccountId>,
}

impl Intake {
    pub(crate) fn new(peer: Arc<Peer>) -> Self {
        Self { peer, came: Vec::new(), touched: Vec::new() }
    }

    /// Counts tells.
    pub(crate) fn count(&mut self, id: AccountId, tells: Amount) {
        if self.came.len() <= id.index() {
            self.came.resize(id.index() + 1, Amount::default());
        }
        let Some(came) = self.came.get_mut(id.index()) else { return };
        if came.messages == 0 {
            self.touched.push(id);
        }
        *came = came.plus(tells);
    }

    /// Lets a message wait in front of its full mailbox; given back as a failure if the peer was not granted as much,
    /// or the registration has ended.
    pub(crate) fn park(
        &mut self,
        core: &Arc<Core>,
        id: AccountId,
        place: &Arc<Place>,
        parked: Box<dyn Parked>,
    ) -> Result<(), Failure> {
        let bytes = parked.bytes();
        let ticket = self.peer.receiving().wait(id, bytes);
        let (Some(backlog), Some(ticket)) = (place.backlog(), ticket) else {
            return Err(parked.fail(Reason::MailboxFull));
        };
        let peer = Arc::clone(&self.peer);
        match backlog.push(Waiting { parked, peer, ticket }) {
            Ok(Keeper::Present) => {}
            Ok(Keeper::Wanted) => core.spawn(keep(Arc::clone(core), Arc::clone(place))),
            Err(Waiting { parked, ticket, .. }) => {
                self.peer.receiving().forget(&ticket);
                return Err(parked.fail(Reason::MailboxGone));
            }
        }
        if let Some(came) = self.came.get_mut(id.index()) {
            *came = came.minus(Amount::one(bytes));
        }
        Ok(())
    }

    /// Settles what was counted. `place` says where an account's messages go.
    pub(crate) fn settle<'a>(&mut self, place: impl Fn(AccountId) -> Option<&'a Arc<Place>>) {
        if self.touched.is_empty() {
            return;
        }
        let mut receiving = self.peer.receiving();
        for id in self.touched.drain(..) {
            let Some(came) = self.came.get_mut(id.index()) else { continue };
            let backlog = place(id).and_then(|place| place.backlog());
            let budget = backlog.map(|backlog| backlog.budget());
            receiving.free(id, std::mem::take(came), budget);
        }
    }
}
