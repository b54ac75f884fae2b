//! Remembers incarnations that are not talked to again, boundedly.

use std::collections::VecDeque;

use crate::address::Uid;

/// Holds the latest fenced incarnations of one address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Quarantine {
    fenced: VecDeque<Uid>,
}

impl Quarantine {
    /// Fences `uid`; the oldest is forgotten when there are too many.
    pub(crate) fn fence(&mut self, uid: Uid) {
        if self.contains(uid) {
            return;
        }
        if self.fenced.len() == CAPACITY {
            self.fenced.pop_front();
        }
        self.fenced.push_back(uid);
    }

    /// Tells whether `uid` is fenced.
    pub(crate) fn contains(&self, uid: Uid) -> bool {
        self.fenced.contains(&uid)
    }
}

const CAPACITY: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_incarnation_is_forgotten_first() {
        let mut quarantine = Quarantine::default();
        for uid in 0..=CAPACITY as u64 {
            quarantine.fence(Uid::new(uid));
        }
        assert!(!quarantine.contains(Uid::new(0)));
        assert!(quarantine.contains(Uid::new(1)));
        assert!(quarantine.contains(Uid::new(CAPACITY as u64)));
    }
}
