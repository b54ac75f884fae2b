//! Delivers a tell that came by texts: to a custom sink, or through a route of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::address::UniqueAddress;
use crate::event::Reason;
use crate::node::core::{Core, Counters};
use crate::node::credit::AccountId;
use crate::node::directory::{Failure, Left, Place};
use crate::node::ended::{Ended, Resolved};
use crate::node::intake::Intake;
use crate::node::mailbox::{Envelope, ReplyTo};
use crate::node::peers::Peer;
use crate::node::sink::{DeliverError, InboundTell};
use crate::path::ActorPath;

/// A tell that came by texts, and what is known of it.
pub(crate) struct Cold<'a> {
    pub(crate) core: &'a Arc<Core>,
    pub(crate) peer: &'a Arc<Peer>,
    pub(crate) from: Option<&'a UniqueAddress>,
    pub(crate) account: AccountId,
    pub(crate) tell: Resolved<'a>,
}

/// Delivers it; gives where it went, and how it ended if it did not arrive.
pub(crate) fn deliver_cold(
    cold: &Cold<'_>,
    intake: &mut Intake,
    envelope: Envelope,
) -> (Option<Arc<Place>>, Option<Ended>) {
    let ended = |failure| Ended::cold(&cold.tell, failure);
    if ActorPath::check_local(cold.tell.target).is_err() {
        let failure = Failure { reason: Reason::Malformed, detail: None, envelope };
        return (None, Some(ended(failure)));
    }
    match &cold.core.sink {
        Some(_) => (None, cold.deliver_to_sink(envelope).err().map(ended)),
        None => {
            let (place, delivered) = cold.deliver_once(intake, envelope);
            (place, delivered.err().map(ended))
        }
    }
}

impl Cold<'_> {
    fn deliver_once(
        &self,
        intake: &mut Intake,
        envelope: Envelope,
    ) -> (Option<Arc<Place>>, Result<(), Failure>) {
        let codec = self.core.registry.find(self.tell.wire_name);
        let mut route =
            match self.core.directory.route(self.tell.target, codec, self.core, self.peer) {
                Ok(route) => route,
                Err(reason) => return (None, Err(Failure { reason, detail: None, envelope })),
            };
        let place = Arc::clone(route.place());
        if let Err(failure) = route.push(self.tell.payload, envelope) {
            return (Some(place), Err(failure));
        }
        let mut outcome = Ok(());
        let taken = route.flush(&mut |left| {
            outcome = match left {
                Left::Failed(failure) => Err(failure),
                Left::Waits(parked) => intake.park(self.core, self.account, &place, parked),
            };
        });
        Counters::add(&self.core.counters.delivered, taken);
        (Some(place), outcome)
    }

    fn deliver_to_sink(&self, mut envelope: Envelope) -> Result<(), Failure> {
        let (Some(sink), Some(peer)) = (&self.core.sink, self.from) else { return Ok(()) };
        let verdict = envelope.reply.as_mut().map(ReplyTo::await_verdict);
        let inbound = InboundTell {
            target: self.tell.target,
            wire_name: self.tell.wire_name,
            payload: self.tell.payload,
            sender: envelope.sender,
            reply: envelope.reply,
            peer,
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| sink.deliver(inbound)));
        let result = outcome.unwrap_or_else(|_| Err(DeliverError::new(Reason::Panicked)));
        if let Some(verdict) = verdict {
            verdict.give(result.as_ref().map_or_else(|error| error.reason, |()| Reason::NoReply));
        }
        let failed = |DeliverError { reason, detail }| {
            let envelope = Envelope::default();
            Failure { reason, detail, envelope }
        };
        result.map_err(failed)?;
        Counters::add(&self.core.counters.delivered, 1);
        Ok(())
    }
}
