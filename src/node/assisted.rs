//! Is a task that others may move on: one that has made work for it lends it its own thread.
//!
//! To be scheduled costs a task more than a short piece of work, and where several threads serve the tasks it often
//! wakes another thread in vain.
//!
//! Whatever an assistance leaves half done goes on with the task's own poll: what the work waits for wakes the task,
//! whoever moved the work on, and so does a yield to a scheduler that is not the task's own. Therefore the task waits for
//! one who assists, for as long as one poll takes, and never the other way round.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::runtime::{Handle, RuntimeFlavor};

/// Is a task that others may move on.
pub(crate) struct Assisted {
    /// Held while somebody moves it on.
    work: Mutex<Work>,
    /// The task's own, for timers of the work wherever it is moved on.
    runtime: Handle,
}

struct Work {
    /// None when it has ended.
    rest: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Wakes the task itself; none before it has begun.
    waker: Option<Waker>,
}

impl Assisted {
    pub(crate) fn new(
        runtime: Handle,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Arc<Self> {
        let work = Work { rest: Some(Box::pin(work)), waker: None };
        Arc::new(Self { work: Mutex::new(work), runtime })
    }

    /// Runs the task; to be spawned once.
    pub(crate) async fn run(self: Arc<Self>) {
        let end = End(&self);
        poll_fn(|cx| {
            let mut work = end.0.lock();
            work.waker = Some(cx.waker().clone());
            work.poll()
        })
        .await;
    }

    /// Moves the task on as far as it goes at once; false if it has not begun or somebody else does.
    pub(crate) fn assist(&self) -> bool {
        let Ok(mut work) = self.work.try_lock() else { return false };
        if work.waker.is_none() {
            return false;
        }
        let _runtime = self.runtime.enter();
        // A panic is the task's, not the caller's.
        let moved = catch_unwind(AssertUnwindSafe(|| work.poll()));
        if moved.is_err() {
            work.rest = None;
        }
        if work.rest.is_none() {
            work.waker.iter().for_each(Waker::wake_by_ref);
        }
        true
    }

    /// Tells whether its runtime has but one thread.
    pub(crate) fn is_on_the_only_thread(&self) -> bool {
        self.runtime.runtime_flavor() == RuntimeFlavor::CurrentThread
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    /// Moves the work on; whoever does so, it wakes the task when there is more to do.
    fn poll(&mut self) -> Poll<()> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(()) };
        let Some(waker) = &self.waker else { return Poll::Pending };
        let poll = rest.as_mut().poll(&mut Context::from_waker(waker));
        if poll.is_ready() {
            self.rest = None;
        }
        poll
    }
}

/// Ends the work with its task.
struct End<'a>(&'a Assisted);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let rest = self.0.lock().rest.take();
        drop(rest);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Notify;
    use tokio::task::yield_now;

    use super::*;

    /// Counts how often it was woken for work.
    fn counting(wake: Arc<Notify>) -> (Arc<Assisted>, Arc<AtomicU32>) {
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        let work = async move {
            loop {
                wake.notified().await;
                counted.fetch_add(1, Ordering::Relaxed);
            }
        };
        (Assisted::new(Handle::current(), work), count)
    }

    #[tokio::test]
    async fn work_goes_on_by_assistance_and_by_its_own_task() {
        let wake = Arc::new(Notify::new());
        let (task, count) = counting(Arc::clone(&wake));
        wake.notify_one();
        task.assist();
        assert_eq!(count.load(Ordering::Relaxed), 0, "it has not begun");
        let running = tokio::spawn(Arc::clone(&task).run());
        yield_now().await;
        assert_eq!(count.load(Ordering::Relaxed), 1);
        wake.notify_one();
        task.assist();
        assert_eq!(count.load(Ordering::Relaxed), 2, "nobody else has run");
        // What waits after an assistance still wakes the task.
        yield_now().await;
        wake.notify_one();
        yield_now().await;
        assert_eq!(count.load(Ordering::Relaxed), 3);
        running.abort();
    }

    #[tokio::test]
    async fn the_end_of_the_work_ends_the_task_and_the_other_way_round() {
        let wake = Arc::new(Notify::new());
        let woken = Arc::clone(&wake);
        let task = Assisted::new(Handle::current(), async move { woken.notified().await });
        let running = tokio::spawn(Arc::clone(&task).run());
        yield_now().await;
        wake.notify_one();
        task.assist();
        running.await.unwrap();
        task.assist();
        drop(task);
        assert_eq!(Arc::strong_count(&wake), 1, "the work is dropped");

        let (task, _) = counting(Arc::clone(&wake));
        let running = tokio::spawn(Arc::clone(&task).run());
        yield_now().await;
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        task.assist();
        assert_eq!(Arc::strong_count(&wake), 1, "the work is dropped with its task");
    }

    #[test]
    fn work_that_has_ended_is_not_moved_on() {
        let rest: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async {});
        let mut work = Work { rest: Some(rest), waker: Some(Waker::noop().clone()) };
        assert!(work.poll().is_ready() && work.poll().is_ready());
    }

    #[tokio::test]
    async fn a_panic_is_the_task_s_own() {
        let wake = Arc::new(Notify::new());
        let woken = Arc::clone(&wake);
        let task = Assisted::new(Handle::current(), async move {
            woken.notified().await;
            panic!("as a transport might");
        });
        let running = tokio::spawn(Arc::clone(&task).run());
        yield_now().await;
        wake.notify_one();
        task.assist();
        running.await.unwrap();
    }

    #[tokio::test]
    async fn work_that_asks_for_assistance_gets_none() {
        let task = Arc::new_cyclic(|itself: &Weak<Assisted>| {
            let itself = Weak::clone(itself);
            let work = async move {
                if let Some(itself) = itself.upgrade() {
                    itself.assist();
                }
            };
            let work = Work { rest: Some(Box::pin(work)), waker: None };
            Assisted { work: Mutex::new(work), runtime: Handle::current() }
        });
        task.run().await;
    }
}
