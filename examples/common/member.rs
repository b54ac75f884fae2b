//! Is one member of the `cluster` example: does what it is told on stdin, and says on stdout what it sees.

use std::time::Duration;

use tellwire::membership::{ClusterEvent, ClusterSettings, ClusterState, Member};
use tellwire::node::cluster::ClusterUpdate;
use tellwire::{Address, Node, Settings};

use crate::failure::Failure;
use crate::terminal;

/// Runs a node until stdin ends, or it has left.
pub(crate) async fn run(name: &str, endpoint: &str) -> Result<(), Failure> {
    let node = Node::builder("Stage").listen(endpoint).settings(Settings::local());
    // It is told later where the others are; until then it belongs to nobody, also if it is asked.
    let node =
        node.roles([name]).seeds([] as [Address; 0]).cluster_settings(ClusterSettings::local());
    let node = node.start().await?;
    println!("at {}", node.address());

    let (cluster, mut orders) = (node.cluster(), terminal::typed_lines());
    let (mut updates, mut shown) = (cluster.subscribe(), String::new());
    loop {
        // Biased: what has happened is told before anything more is done.
        tokio::select! { biased;
            update = updates.next() => match update {
                Some(update) => show(&update, &cluster.state(), &mut shown),
                None => return Err(Failure::run(format!("{name} has stopped"))),
            },
            order = orders.recv() => match order.as_deref().map(str::split_whitespace) {
                Some(mut words) => match words.next() {
                    Some("join") => cluster.join(words).await?,
                    Some("leave") => {
                        cluster.leave().await?;
                        break;
                    }
                    Some(_) | None => return Err(Failure::usage("an order of no meaning")),
                },
                None => break,
            },
        }
    }
    node.shutdown(PATIENCE).await;
    Ok(())
}

/// Says what has happened, and how all members are if that has changed.
fn show(update: &ClusterUpdate, state: &ClusterState, shown: &mut String) {
    if let ClusterUpdate::Event(event) = update {
        if let Some((member, what)) = spell(event) {
            println!("event {} {what}", name(member));
        }
    }
    let row = |member: &Member| {
        let is_lost = state.unreachable().contains(member.node());
        format!(" {}={}{}", name(member), member.status(), if is_lost { "?" } else { "" })
    };
    let table: String = state.members().iter().map(row).collect();
    if table != *shown {
        println!("table{table}");
        *shown = table;
    }
}

fn spell(event: &ClusterEvent) -> Option<(&Member, &'static str)> {
    match event {
        ClusterEvent::Joined(member) => Some((member, "Joined")),
        ClusterEvent::WeaklyUp(member) => Some((member, "WeaklyUp")),
        ClusterEvent::Up(member) => Some((member, "Up")),
        ClusterEvent::Leaving(member) => Some((member, "Leaving")),
        ClusterEvent::Exited(member) => Some((member, "Exited")),
        ClusterEvent::Downed(member) => Some((member, "Downed")),
        ClusterEvent::Removed { member, .. } => Some((member, "Removed")),
        ClusterEvent::Unreachable(member) => Some((member, "Unreachable")),
        ClusterEvent::Reachable(member) => Some((member, "Reachable")),
        _ => None,
    }
}

/// Gives the name of a member: its only role.
fn name(member: &Member) -> &str {
    member.profile().roles().next().map_or("nobody", |role| role.as_str())
}

/// How long a member may take to go.
const PATIENCE: Duration = Duration::from_secs(20);
