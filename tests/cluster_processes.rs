//! Holds clusters of processes over TCP to what the simulated ones promise: joining, crashes, partitions, leaving.
//!
//! Time is real, so the intervals are short; the processes dial each other through a mesh of proxies that can part any
//! two of them. Scenarios that start many processes take turns.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[path = "cluster_processes/crashes.rs"]
mod crashes;
#[path = "cluster_processes/joining.rs"]
mod joining;
#[path = "cluster_processes/leaving.rs"]
mod leaving;
#[path = "cluster_processes/member.rs"]
mod member;
#[path = "cluster_processes/partitions.rs"]
mod partitions;
#[path = "cluster_processes/stage.rs"]
mod stage;

use std::sync::LazyLock;

use tellwire::testkit::Process;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::stage::Stage;

/// Is the process that all scenarios start.
#[tokio::test]
#[ignore = "is no test but a process of one"]
async fn member_main() {
    member::run().await;
}

/// Sets up a stage for so many members.
async fn stage(members: usize) -> Stage {
    Stage::new(members, |name| Process::this_test("member_main", name)).await
}

/// Waits for the turn of a scenario: two at a time leave a busy machine enough for each.
async fn turn() -> SemaphorePermit<'static> {
    static TURNS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(2));
    TURNS.acquire().await.unwrap()
}

/// Milliseconds after which downing would decide, if anything took that long.
const NEVER: u64 = 600_000;
