//! Carries messages to a built-in mailbox, which its actor decodes.
//!
//! A message that brings something along is decoded at once, so that an asker learns at once if it cannot be; and so is
//! one that would be costly to copy, or that has to wait in front of the mailbox.

use std::sync::{Arc, Weak};

use super::{Failure, Left, Place, Route, TypedRoute, open};
use crate::codec::{CodecEntry, RemoteMessage};
use crate::event::Reason;
use crate::node::backlog::{Backlog, Parked};
use crate::node::deferred::{Decoding, Encoded};
use crate::node::ended::Teller;
use crate::node::inbox::{MailboxSender, Untaken};
use crate::node::letters::{Letters, Source};
use crate::node::mailbox::{Delivery, Envelope, Mailbox, Refused};

/// Carries the messages of one type to one actor.
pub(super) struct InboxRoute<M, T> {
    /// Carries what is decoded before the actor takes it.
    decoding: TypedRoute<M, T>,
    inbox: Weak<MailboxSender<T>>,
    source: Arc<Source<T>>,
    batch: Letters<T>,
}

impl<M: RemoteMessage + Into<T>, T: Send + 'static> InboxRoute<M, T> {
    /// Leads to a mailbox; `None` if `codec` decodes another type.
    pub(super) fn new(
        codec: &'static CodecEntry,
        place: &Arc<Place>,
        inbox: &Arc<MailboxSender<T>>,
        teller: Teller,
    ) -> Option<Self> {
        let inbox = Arc::downgrade(inbox);
        let mailbox: Weak<dyn Mailbox<T>> = Weak::<MailboxSender<T>>::clone(&inbox);
        let decoding = TypedRoute::<M, T>::new(codec, place, mailbox)?;
        let source = Source::new(codec, decoding.decode, Arc::clone(place), teller);
        Some(Self { decoding, inbox, source: Arc::new(source), batch: Letters::new() })
    }

    /// Shows every message of the batch to `left`, those that cannot be decoded excepted.
    fn leave(
        &mut self,
        left: &mut dyn FnMut(Left),
        why: impl Fn(&Self, Delivery<T>) -> Left,
    ) -> u64 {
        let mut shown = 0;
        while let Some(opened) = self.batch.pop() {
            if let Ok(delivery) = opened {
                shown += 1;
                left(why(self, delivery));
            }
        }
        shown
    }
}

impl<M: RemoteMessage + Into<T>, T: Send + 'static> Route for InboxRoute<M, T> {
    #[inline]
    fn push(&mut self, payload: &[u8], envelope: Envelope) -> Result<(), Failure> {
        if payload.len() <= MAX_ENCODED && envelope.is_bare() {
            self.batch.push_encoded(&self.source, payload);
            return Ok(());
        }
        let TypedRoute { codec, decode: by, .. } = self.decoding;
        open::<M, T>(codec, by, payload, envelope, |delivery| self.batch.push(delivery))
    }

    fn defer(&self, encoded: Encoded, envelope: Envelope) -> (Box<dyn Parked>, Decoding) {
        self.decoding.defer(encoded, envelope)
    }

    fn flush(&mut self, left: &mut dyn FnMut(Left)) -> u64 {
        let offered = self.batch.len() as u64;
        if self.place().backlog().is_some_and(Backlog::is_waiting) {
            return offered
                - self.leave(left, |route, delivery| Left::Waits(route.decoding.park(delivery)));
        }
        let inbox = self.inbox.upgrade();
        match inbox.map_or(Err(Untaken::Gone), |inbox| inbox.try_deliver_letters(&mut self.batch)) {
            Ok(()) => offered,
            Err(Untaken::Full) => {
                offered
                    - self.leave(left, |route, delivery| {
                        route.decoding.refusal(Refused::Full(delivery))
                    })
            }
            Err(Untaken::Gone) => {
                while let Some((envelope, _)) = self.batch.pop_unread() {
                    left(Left::Failed(Failure {
                        reason: Reason::MailboxGone,
                        detail: None,
                        envelope,
                    }));
                }
                0
            }
        }
    }

    fn place(&self) -> &Arc<Place> {
        &self.decoding.place
    }

    fn shrink(&mut self) {
        self.batch.shrink(KEPT);
    }
}

/// Bytes above which a message is decoded at once: to copy it costs more than to have its memory given back by another
/// thread.
const MAX_ENCODED: usize = 4 * 1024;
/// Bytes for encoded messages that one route among many keeps.
const KEPT: usize = 4 * 1024;
