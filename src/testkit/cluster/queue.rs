//! Orders what is to come: by time, and at the same time by when it was planned.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Holds what is planned.
#[derive(Debug)]
pub(super) struct Queue<T> {
    heap: BinaryHeap<Entry<T>>,
    /// Counts what was ever planned.
    planned: u64,
}

#[derive(Debug)]
struct Entry<T> {
    at: Instant,
    sequence: u64,
    item: T,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), planned: 0 }
    }

    /// Plans `item` for `at`.
    pub(super) fn push(&mut self, at: Instant, item: T) {
        self.planned += 1;
        self.heap.push(Entry { at, sequence: self.planned, item });
    }

    /// Takes the first item that is due at `limit` or before.
    pub(super) fn pop_until(&mut self, limit: Instant) -> Option<(Instant, T)> {
        let is_due = self.heap.peek().is_some_and(|first| first.at <= limit);
        let entry = if is_due { self.heap.pop() } else { None };
        entry.map(|entry| (entry.at, entry.item))
    }
}

impl<T> Ord for Entry<T> {
    /// Puts what comes first at the top of the heap, whose top is its greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Queue;

    #[test]
    fn what_is_due_comes_by_time_and_then_in_the_order_of_planning() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut queue = Queue::new();
        for (millis, name) in [(20, "c"), (10, "a"), (30, "d"), (10, "b")] {
            queue.push(at(millis), name);
        }
        let mut due = Vec::new();
        while let Some((when, name)) = queue.pop_until(at(20)) {
            due.push((when, name));
        }
        assert_eq!(due, [(at(10), "a"), (at(10), "b"), (at(20), "c")]);
    }
}
