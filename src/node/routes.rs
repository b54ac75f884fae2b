//! Keeps the resolved routes of one link, found by a pair of dictionary ids without hashing.
//!
//! A peer chooses the ids, so the table is indexed by them: no choice makes it slow. It is bounded in routes and in
//! the messages that they hold together.

use std::sync::Arc;

use crate::association::control::Amount;
use crate::node::backlog::Parked;
use crate::node::deferred::{Decoding, Encoded};
use crate::node::directory::{Failure, Left, Place, Route};
use crate::node::mailbox::Envelope;
use crate::wire::TextId;

/// Names a route: the target's id and the manifest's.
pub(crate) type Key = (TextId, TextId);

/// Keeps the resolved routes of one link.
#[derive(Default)]
pub(crate) struct Routes {
    /// By the target's id; each has about as many as its actor has message types.
    by_target: Vec<Vec<Warm>>,
    /// The routes that messages came for since the last flush, in the order of the first.
    filled: Vec<Key>,
    /// Counts the routes.
    len: usize,
    /// Counts the messages that the routes hold.
    held: usize,
}

/// Gives back a message that did not take its route.
#[derive(Debug)]
pub(crate) enum Unpushed {
    /// Messages of other types for the same actor wait: they are to be flushed, or it would overtake them.
    Flush(Envelope),
    /// There is no route, or its registration has ended: resolve it, behind what waits.
    Resolve(Envelope),
    /// It has ended; it is counted.
    Failed(Failure),
}

struct Warm {
    manifest: TextId,
    route: Box<dyn Route>,
    /// The registration that the route leads to.
    place: Arc<Place>,
    /// What came since the last look at the counts; a route that holds messages has a count.
    came: Amount,
}

impl Routes {
    /// Adds a route, in place of one whose registration has ended; call it only when no route holds a message.
    pub(crate) fn insert(&mut self, (target, manifest): Key, route: Box<dyn Route>) {
        if self.len >= MAX_ROUTES {
            // Nothing is lost: a route is found again at the next message.
            *self = Self::default();
        }
        if self.by_target.len() <= target.index() {
            self.by_target.resize_with(target.index() + 1, Vec::new);
        }
        let Some(routes) = self.by_target.get_mut(target.index()) else { return };
        let before = routes.len();
        routes.retain(|warm| warm.manifest != manifest);
        let (place, came) = (Arc::clone(route.place()), Amount::default());
        routes.push(Warm { manifest, route, place, came });
        self.len += routes.len() - before;
    }

    /// Counts a message and takes it into the batch of its route.
    #[inline]
    pub(crate) fn push(
        &mut self,
        key: Key,
        payload: &[u8],
        envelope: Envelope,
    ) -> Result<(), Unpushed> {
        let (target, manifest) = key;
        let routes = self.by_target.get_mut(target.index()).map(Vec::as_mut_slice);
        let routes = routes.unwrap_or_default();
        let Some(at) = routes.iter().position(|warm| warm.manifest == manifest) else {
            return Err(Unpushed::Resolve(envelope));
        };
        // First of all: whoever is registered there instead is found, behind what waits.
        if routes.get(at).is_none_or(|warm| !warm.place.is_current()) {
            return Err(Unpushed::Resolve(envelope));
        }
        if routes.len() > 1
            && routes.iter().any(|warm| warm.has_some() && warm.manifest != manifest)
        {
            return Err(Unpushed::Flush(envelope));
        }
        let Some(warm) = routes.get_mut(at) else { return Err(Unpushed::Resolve(envelope)) };
        if !warm.has_some() {
            self.filled.push(key);
        }
        warm.came = warm.came.plus(Amount::one(payload.len() as u64));
        self.held += 1;
        warm.route.push(payload, envelope).map_err(Unpushed::Failed)
    }

    /// Gives a message that is to wait until it is decoded, and where; call it only when no route holds a message.
    pub(crate) fn defer(
        &mut self,
        key: Key,
        encoded: Encoded,
        envelope: Envelope,
    ) -> Option<(Arc<Place>, Box<dyn Parked>, Decoding)> {
        let warm = find(&mut self.by_target, key)?;
        let (parked, decoding) = warm.route.defer(encoded, envelope);
        Some((Arc::clone(&warm.place), parked, decoding))
    }

    /// Tells whether there is a route whose registration still stands.
    pub(crate) fn has(&mut self, key: Key) -> bool {
        find(&mut self.by_target, key).is_some_and(|warm| warm.place.is_current())
    }

    /// Shows by target what came since the last flush.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (TextId, Amount)> {
        let warm =
            |key: &Key| self.by_target.get(key.0.index())?.iter().find(|w| w.manifest == key.1);
        self.filled.iter().filter_map(move |key| Some((key.0, warm(key)?.came)))
    }

    /// Hands every batch over and counts anew; gives how many messages were taken, and shows the others to `left`.
    pub(crate) fn flush(&mut self, mut left: impl FnMut(Key, &Arc<Place>, Left)) -> u64 {
        let mut taken = 0;
        self.held = 0;
        for key in self.filled.drain(..) {
            if let Some(warm) = find(&mut self.by_target, key) {
                warm.came = Amount::default();
                taken += warm.route.flush(&mut |message| left(key, &warm.place, message));
                if self.len > FEW_ROUTES {
                    warm.route.shrink();
                }
            }
        }
        taken
    }

    /// Gives the registration that a target's messages go to.
    pub(crate) fn place(&self, target: usize) -> Option<&Arc<Place>> {
        Some(&self.by_target.get(target)?.last()?.place)
    }

    /// Tells whether the routes hold as many messages as they may: they are to be flushed.
    pub(crate) fn is_brimful(&self) -> bool {
        self.held >= MAX_HELD
    }
}

impl Warm {
    #[inline]
    fn has_some(&self) -> bool {
        self.came.messages > 0
    }
}

fn find(by_target: &mut [Vec<Warm>], (target, manifest): Key) -> Option<&mut Warm> {
    by_target.get_mut(target.index())?.iter_mut().find(|warm| warm.manifest == manifest)
}

/// Routes that a link may have; a peer can name one actor in many ways.
const MAX_ROUTES: usize = 1024;
/// Routes that may keep the memory of as much as one read brings; if there are more, each keeps a little.
const FEW_ROUTES: usize = 32;
/// Messages that the routes of a link may hold together, more than one read brings of most sizes; bounds what each of
/// them keeps reserved.
const MAX_HELD: usize = 1024;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::node::directory::Directory;

    type Seen = Arc<Mutex<Vec<(&'static str, u8)>>>;

    /// Notes what reaches it under its name.
    struct Noting {
        name: &'static str,
        batch: Vec<u8>,
        seen: Seen,
        place: Arc<Place>,
    }

    impl Route for Noting {
        fn push(&mut self, payload: &[u8], _: Envelope) -> Result<(), Failure> {
            self.batch.extend(payload);
            Ok(())
        }

        fn flush(&mut self, _: &mut dyn FnMut(Left)) -> u64 {
            let batch = std::mem::take(&mut self.batch);
            let taken = batch.len() as u64;
            self.seen.lock().unwrap().extend(batch.into_iter().map(|byte| (self.name, byte)));
            taken
        }

        fn defer(&self, _: Encoded, _: Envelope) -> (Box<dyn Parked>, Decoding) {
            unreachable!("nothing is deferred here")
        }

        fn place(&self) -> &Arc<Place> {
            &self.place
        }
    }

    fn id(number: u16) -> TextId {
        TextId::new(number).unwrap()
    }

    fn insert(routes: &mut Routes, key: (u16, u16), name: &'static str, seen: &Seen) {
        let seen = Arc::clone(seen);
        let directory = Directory::default();
        let path = "/user/a".parse().unwrap();
        let place = directory.insert(&path, Vec::new(), None).unwrap();
        if name == "ended" {
            directory.remove(path.local());
        }
        let route = Noting { name, batch: Vec::new(), seen, place };
        routes.insert((id(key.0), id(key.1)), Box::new(route));
    }

    /// Pushes a message of one byte, and says what became of it.
    fn push(routes: &mut Routes, key: (u16, u16), byte: u8) -> &'static str {
        match routes.push((id(key.0), id(key.1)), &[byte], Envelope::default()) {
            Ok(()) => "pushed",
            Err(Unpushed::Flush(_)) => "flush",
            Err(Unpushed::Resolve(_)) => "resolve",
            Err(Unpushed::Failed(_)) => "failed",
        }
    }

    #[test]
    fn batches_go_out_in_the_order_in_which_they_began() {
        let (mut routes, seen) = (Routes::default(), Seen::default());
        insert(&mut routes, (1, 9), "first", &seen);
        insert(&mut routes, (1000, 9), "second", &seen);
        for (target, byte) in [(1000, 1), (1, 2), (1000, 3)] {
            assert_eq!(push(&mut routes, (target, 9), byte), "pushed");
        }
        let counts: Vec<_> = routes.counts().map(|(id, came)| (id.get(), came.messages)).collect();
        assert_eq!(counts, [(1000, 2), (1, 1)]);
        assert_eq!(routes.flush(|_, _, _| unreachable!()), 3);
        assert_eq!(*seen.lock().unwrap(), [("second", 1), ("second", 3), ("first", 2)]);
        assert_eq!(routes.flush(|_, _, _| unreachable!()), 0);
        assert_eq!(routes.counts().count(), 0);
    }

    #[test]
    fn another_type_for_the_same_actor_waits_for_a_flush() {
        let (mut routes, seen) = (Routes::default(), Seen::default());
        insert(&mut routes, (1, 8), "one type", &seen);
        insert(&mut routes, (1, 9), "other type", &seen);
        insert(&mut routes, (2, 8), "other actor", &seen);
        assert_eq!(push(&mut routes, (1, 8), 1), "pushed");
        assert_eq!(push(&mut routes, (1, 8), 2), "pushed");
        assert_eq!(push(&mut routes, (2, 8), 3), "pushed");
        assert_eq!(push(&mut routes, (1, 9), 4), "flush");
        routes.flush(|_, _, _| unreachable!());
        assert_eq!(push(&mut routes, (1, 9), 4), "pushed");
    }

    #[test]
    fn a_route_is_resolved_anew_when_its_registration_has_ended() {
        let (mut routes, seen) = (Routes::default(), Seen::default());
        assert_eq!(push(&mut routes, (3, 4), 5), "resolve");
        insert(&mut routes, (3, 4), "ended", &seen);
        assert_eq!(push(&mut routes, (3, 4), 5), "resolve");
        insert(&mut routes, (3, 5), "other type", &seen);
        assert_eq!(push(&mut routes, (3, 5), 6), "pushed");
        assert_eq!(push(&mut routes, (3, 4), 5), "resolve", "and not only flushed");
        routes.flush(|_, _, _| unreachable!());
        seen.lock().unwrap().clear();
        insert(&mut routes, (3, 4), "new", &seen);
        assert_eq!(push(&mut routes, (3, 4), 5), "pushed");
        assert_eq!(routes.flush(|_, _, _| unreachable!()), 1);
        assert_eq!(*seen.lock().unwrap(), [("new", 5)]);
    }
}
