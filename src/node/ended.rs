//! Describes inbound tells that ended nowhere, for their dead letters.

use std::sync::{Arc, Weak};

use crate::address::Address;
use crate::event::DeadLetter;
use crate::node::core::Core;
use crate::node::directory::Failure;
use crate::node::peers::Peer;
use crate::node::routes::Key;
use crate::path::ActorPath;
use crate::wire::Dictionary;

/// A tell whose texts are resolved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resolved<'a> {
    pub(crate) target: &'a str,
    pub(crate) wire_name: &'a str,
    pub(crate) payload: &'a [u8],
}

/// A tell that ended here, with its names.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) target: String,
    pub(crate) wire_name: String,
    pub(crate) failure: Failure,
}

/// Says whether somebody waited for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Somebody did, and was told the reason.
    Told,
    /// It was a tell.
    None,
}

/// Is who told the tells of a route, for those that end after they were read.
///
/// It outlives the link, in mailboxes, and so keeps no peer from being forgotten.
pub(crate) struct Teller {
    core: Arc<Core>,
    peer: Weak<Peer>,
    address: Address,
    incarnation: u64,
}

impl Teller {
    pub(crate) fn new(core: &Arc<Core>, peer: &Arc<Peer>) -> Self {
        Self {
            core: Arc::clone(core),
            peer: Arc::downgrade(peer),
            address: peer.address.clone(),
            incarnation: peer.receiving().incarnation(),
        }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// Gives the peer's address.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Makes a dead letter of a tell; the incarnation that told it learns of it before long.
    pub(crate) fn report(&self, mut ended: Ended) {
        let asker = ended.report(&self.core, &self.address);
        let Some(peer) = self.peer.upgrade().filter(|_| asker == Asker::None) else { return };
        if peer.receiving().incarnation() == self.incarnation {
            peer.refuse(&ended);
            peer.tell_refusals();
        }
    }
}

impl Ended {
    /// Names a tell that came by ids.
    pub(crate) fn warm(dictionary: &Dictionary, (target, manifest): Key, failure: Failure) -> Self {
        let text = |id| dictionary.get(id).unwrap_or_default().to_owned();
        Self { target: text(target), wire_name: text(manifest), failure }
    }

    /// Names a tell that came by texts.
    pub(crate) fn cold(tell: &Resolved<'_>, failure: Failure) -> Self {
        let (target, wire_name) = (tell.target.to_owned(), tell.wire_name.to_owned());
        Self { target, wire_name, failure }
    }

    /// Makes a dead letter of a tell from `peer`; an asker is told the reason. Gives back whether there was one.
    pub(crate) fn report(&mut self, core: &Core, peer: &Address) -> Asker {
        let (reason, reply) = (self.failure.reason, self.failure.envelope.reply.take());
        let describe = || self.describe(core.address(), peer);
        core.observers.dead_letter(reason, 1, describe);
        match reply {
            Some(reply) => {
                reply.fail(reason);
                Asker::Told
            }
            None => Asker::None,
        }
    }

    /// Gives the dead letter of a tell from `peer` to this node at `local`.
    fn describe(&self, local: &Address, peer: &Address) -> DeadLetter {
        let target = self.target.parse::<ActorPath>().ok();
        DeadLetter {
            target: target.and_then(|target| target.at(local).ok()),
            manifest: Some(self.wire_name.clone()),
            peer: Some(peer.clone()),
            detail: self.failure.detail.clone(),
            ..DeadLetter::new(self.failure.reason)
        }
    }
}
