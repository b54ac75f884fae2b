//! Runs the workloads, the same for every library.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::control::Control;
use crate::figures::{cpu, per_second, percentile};
use crate::{Failure, Peer};

/// Runs the workload of this name and gives its line of figures.
pub(crate) fn run<P: Peer>(
    runtime: &Runtime,
    peer: &P,
    control: &mut Control,
    workload: &str,
) -> Result<String, Failure> {
    match workload {
        "tells" => tells(runtime, control, P::TELLS, |count| tell_all(peer.clone(), count, BURST)),
        "yields" => tells(runtime, control, P::TELLS, |count| tell_all(peer.clone(), count, 1)),
        "window" => tells(runtime, control, P::TELLS, |count| tell_confirmed(peer.clone(), count)),
        "asks" => asks(runtime, peer),
        other => Err(format!("no workload {other}").into()),
    }
}

/// Has a task make the tells, once to warm up and once to measure.
fn tells<F>(
    runtime: &Runtime,
    control: &mut Control,
    count: u64,
    tell: impl Fn(u64) -> F,
) -> Result<String, Failure>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    // The first is on its way alone, so that no library is measured while it connects.
    control.begin(1)?;
    runtime.block_on(runtime.spawn(tell(1)))??;
    if control.report()?.arrived != 1 {
        return Err("the first tell has not arrived".into());
    }
    control.begin(count)?;
    let before = cpu();
    runtime.block_on(runtime.spawn(tell(count)))??;
    let report = control.report()?;
    let used = cpu() - before;
    let each = |nanos: u64| nanos / report.arrived.max(1);
    Ok(format!(
        "sent={count} arrived={} rate={:.0} lost={} disorder={} back={} doubled={} sender_ns={} \
         receiver_ns={}",
        report.arrived,
        per_second(report.timed, report.nanos),
        report.lost,
        report.disorder,
        report.steps_back,
        report.doubled,
        each(used),
        each(report.cpu),
    ))
}

/// Tells, and lets other tasks run after every burst: where a tell never waits, a sender that never does either would
/// keep a thread from everybody else.
async fn tell_all<P: Peer>(peer: P, count: u64, burst: u64) -> Result<(), Failure> {
    for sequence in 0..count {
        peer.tell(sequence).await?;
        if sequence % burst == burst - 1 {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Tells in order and keeps at most so many unconfirmed.
async fn tell_confirmed<P: Peer>(peer: P, count: u64) -> Result<(), Failure> {
    let mut unconfirmed = FuturesUnordered::new();
    for sequence in 0..count {
        unconfirmed.push(peer.tell_confirmed(sequence));
        if unconfirmed.len() == WINDOW
            && let Some(confirmed) = unconfirmed.next().await
        {
            confirmed?;
        }
    }
    while let Some(confirmed) = unconfirmed.next().await {
        confirmed?;
    }
    Ok(())
}

fn asks<P: Peer>(runtime: &Runtime, peer: &P) -> Result<String, Failure> {
    let spawn = |count| runtime.block_on(runtime.spawn(one_by_one(peer.clone(), count)));
    spawn(P::ASKS / 10)??;
    let mut trips = spawn(P::ASKS)??;
    trips.sort_unstable();
    let rate = runtime.block_on(many(peer.clone(), P::ASKS))?;
    let (p50, p99) = (percentile(&trips, 50), percentile(&trips, 99));
    Ok(format!("asks={} p50_us={p50:.1} p99_us={p99:.1} rate64={rate:.0}", P::ASKS))
}

async fn one_by_one<P: Peer>(peer: P, count: u64) -> Result<Vec<Duration>, Failure> {
    let mut trips = Vec::new();
    for sequence in 0..count {
        let begun = Instant::now();
        peer.ask(sequence).await?;
        trips.push(begun.elapsed());
    }
    Ok(trips)
}

/// Runs so many tasks, each of which asks one after the other, and gives how many asks a second they made.
async fn many<P: Peer>(peer: P, count: u64) -> Result<f64, Failure> {
    let peer = Arc::new(peer);
    let each = count / WINDOW as u64;
    let begun = Instant::now();
    let mut tasks: JoinSet<Result<(), Failure>> = (0..WINDOW)
        .map(|_| {
            let peer = Arc::clone(&peer);
            async move {
                for sequence in 0..each {
                    peer.ask(sequence).await?;
                }
                Ok(())
            }
        })
        .collect();
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(per_second(each * WINDOW as u64, u64::try_from(begun.elapsed().as_nanos())?))
}

/// After so many tells a sender yields, unless it does after each.
const BURST: u64 = 256;
/// Asks, or unconfirmed tells, that are under way at once.
const WINDOW: usize = 64;
