//! Runs an expectation that must fail its test.

/// Runs what must fail, and gives the subject back with the reason.
pub(crate) async fn failure<S>(mut subject: S, run: impl AsyncFnOnce(&mut S)) -> (S, String) {
    let mut running = Box::pin(run(&mut subject));
    let outcome = std::future::poll_fn(|cx| {
        let polled =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| running.as_mut().poll(cx)));
        match polled {
            Ok(std::task::Poll::Pending) => std::task::Poll::Pending,
            Ok(std::task::Poll::Ready(())) => std::task::Poll::Ready(None),
            Err(panic) => std::task::Poll::Ready(panic.downcast_ref::<String>().cloned()),
        }
    })
    .await;
    drop(running);
    (subject, outcome.expect("it passes, and should fail"))
}
