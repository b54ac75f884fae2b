//! Is one member in a process of its own: does what it is told on standard input, and says what it sees.
//!
//! ```text
//!   at PORT                                     it listens there
//!   sees ada=Up bob=Up?; pending; leader ada; of ID      whenever that changes: who is there, who is unreachable
//!   told bob Unreachable                        an event of the cluster
//!   refused REASON                              a handshake, a request to join, or an order that was not carried out
//!   why TEXT                                    one line of an explanation
//!   stopped CAUSE                               the end
//! ```
#![expect(clippy::print_stdout, reason = "whoever has started it reads its output")]

use std::env;
use std::time::Duration;

use tellwire::event::NodeEvent;
use tellwire::membership::downing::StableAfter;
use tellwire::membership::settings::DetectorSettings;
use tellwire::membership::state::Convergence;
use tellwire::membership::{ClusterEvent, ClusterSettings, ClusterState, Member};
use tellwire::node::Observed;
use tellwire::node::cluster::{Cluster, ClusterUpdate};
use tellwire::testkit::processes;
use tellwire::testkit::proxy::Detours;
use tellwire::{Address, Node, Settings};

/// Runs a member as the environment says; does nothing in a process that nobody has started as one.
pub(crate) async fn run() {
    let Ok(detours) = env::var(DETOURS) else { return };
    let mut orders = processes::orders();
    let node = start(detours.parse().unwrap()).await;
    println!("\nat {}", node.listens_on().port());
    let (cluster, mut events) = (node.cluster(), node.events());
    let (mut updates, mut shown) = (cluster.subscribe(), String::new());
    let mut looks = tokio::time::interval(LOOK);
    loop {
        // Biased: what has happened is told before anything more is done.
        tokio::select! { biased;
            update = updates.next() => match update {
                Some(ClusterUpdate::Event(event)) => tell(&event),
                Some(_) => {}
                None => break,
            },
            Some(event) = events.next() => {
                if let Observed::Item(NodeEvent::HandshakeRefused { why, .. }) = event {
                    println!("refused {why}");
                }
            }
            _ = looks.tick() => {
                let sees = view(&cluster.state());
                if sees != shown {
                    println!("sees {sees}");
                    shown = sees;
                }
            }
            Some(order) = orders.recv() => obey(&order, &cluster).await,
        }
    }
    println!("stopped {:?}", cluster.phase());
}

async fn start(detours: Detours) -> Node {
    let given = |key| env::var(key).unwrap_or_default();
    let name = given(NAME);
    let roles = given(ROLES);
    let roles = roles.split_whitespace().map(str::to_owned).chain([format!("{IS}{name}")]);
    let (mut settings, mut cluster) = match given(PACE).as_str() {
        "default" => (Settings::default(), ClusterSettings::default()),
        _ => (Settings::local(), brisk()),
    };
    settings.cluster.leave_timeout = Duration::from_secs(5);
    if let Ok(wait) = given(BACK_OFF).parse() {
        let wait = Duration::from_millis(wait);
        (settings.association.backoff_min, settings.association.backoff_max) = (wait, wait);
        settings.association.give_up_after = 2 * wait;
    }
    if let Ok(wait) = given(STABLE_AFTER).parse() {
        cluster.downing.stable_after = StableAfter::Fixed(Duration::from_millis(wait));
    }
    let node = Node::builder(env::var(SYSTEM).unwrap_or_else(|_| "Test".to_owned()));
    let node = node.listen("tcp://127.0.0.1:0").advertise(given(ENDPOINT)).transport(detours);
    // It is told later whom to join; until then it belongs to nobody, also if it is asked.
    let node = node.seeds([] as [Address; 0]).roles(roles);
    node.settings(settings).cluster_settings(cluster).start().await.unwrap()
}

/// Gives settings with which everything takes moments, but a busy machine is not mistaken for a dead one.
fn brisk() -> ClusterSettings {
    let ms = Duration::from_millis;
    let mut settings = ClusterSettings::local();
    (settings.gossip_interval, settings.leader_interval) = (ms(100), ms(100));
    settings.join.seed_timeout = ms(1_000);
    settings.join.probe_interval = ms(500);
    settings.downing.stable_after = StableAfter::Fixed(ms(1_500));
    if let DetectorSettings::Phi(phi) = &mut settings.detector {
        phi.acceptable_pause = ms(1_200);
    }
    settings
}

async fn obey(order: &str, cluster: &Cluster) {
    let mut words = order.split_whitespace();
    match words.next() {
        Some("join") => {
            if let Err(error) = cluster.join(words).await {
                println!("refused {error}");
            }
        }
        Some("leave") => {
            let cluster = cluster.clone();
            tokio::spawn(async move {
                match cluster.leave().await {
                    Ok(cause) => println!("stopped {cause:?}"),
                    Err(error) => println!("refused {error}"),
                }
                std::process::exit(0);
            });
        }
        Some("explain") => match cluster.explain().await {
            Ok(explanation) => {
                explanation.to_string().lines().for_each(|line| println!("why {line}"));
            }
            Err(error) => println!("refused {error}"),
        },
        _ => println!("refused {order}, which means nothing"),
    }
}

/// Writes who is there, in the order of the names.
fn view(state: &ClusterState) -> String {
    let row = |member: &Member| {
        let lost = if state.unreachable().contains(member.node()) { "?" } else { "" };
        format!("{}={}{lost}", spell(member), member.status())
    };
    let mut rows: Vec<String> = state.members().iter().map(row).collect();
    rows.sort();
    let leader = state.leader().and_then(|leader| state.member(leader));
    let leader = leader.map_or_else(|| "none".to_owned(), name);
    let converged = match state.convergence() {
        Convergence::Reached => "converged",
        Convergence::Pending => "pending",
    };
    let id = state.cluster().map_or_else(|| "none".to_owned(), |id| id.to_string());
    format!("{}; {converged}; leader {leader}; of {id}", rows.join(" "))
}

fn tell(event: &ClusterEvent) {
    let (member, what) = match event {
        ClusterEvent::Joined(member) => (member, "Joined"),
        ClusterEvent::WeaklyUp(member) => (member, "WeaklyUp"),
        ClusterEvent::Up(member) => (member, "Up"),
        ClusterEvent::Leaving(member) => (member, "Leaving"),
        ClusterEvent::Exited(member) => (member, "Exited"),
        ClusterEvent::Downed(member) => (member, "Downed"),
        ClusterEvent::Removed { member, .. } => (member, "Removed"),
        ClusterEvent::Unreachable(member) => (member, "Unreachable"),
        ClusterEvent::Reachable(member) => (member, "Reachable"),
        ClusterEvent::JoinRefused { why, .. } => return println!("refused {why:?}"),
        ClusterEvent::Island { cluster, .. } => return println!("refused island {cluster}"),
        other => return println!("told {other:?}"),
    };
    println!("told {} {what}", name(member));
}

/// Gives the name of a member, and its roles behind it.
fn spell(member: &Member) -> String {
    let roles = member.profile().roles().map(|role| role.as_str());
    let roles: Vec<&str> = roles.filter(|role| !role.starts_with(IS)).collect();
    let roles = if roles.is_empty() { String::new() } else { format!("[{}]", roles.join(",")) };
    format!("{}{roles}", name(member))
}

fn name(member: &Member) -> String {
    let mut roles = member.profile().roles();
    let name = roles.find_map(|role| role.as_str().strip_prefix(IS));
    name.unwrap_or("nobody").to_owned()
}

/// What begins the role that is the name of a member.
const IS: &str = "is-";
/// Time between two looks at the state.
const LOOK: Duration = Duration::from_millis(10);

/// What a member is told in its environment: how it dials.
pub(crate) const DETOURS: &str = "MEMBER_DETOURS";
/// What peers dial.
pub(crate) const ENDPOINT: &str = "MEMBER_ENDPOINT";
/// What it is called.
pub(crate) const NAME: &str = "MEMBER_NAME";
/// Its roles beside its name.
pub(crate) const ROLES: &str = "MEMBER_ROLES";
/// Its actor system, if it is not that of the others.
pub(crate) const SYSTEM: &str = "MEMBER_SYSTEM";
/// `default`, or else everything takes moments.
pub(crate) const PACE: &str = "MEMBER_PACE";
/// Milliseconds between two dials of a peer that does not answer.
pub(crate) const BACK_OFF: &str = "MEMBER_BACK_OFF";
/// Milliseconds for which things have to be stable before downing decides.
pub(crate) const STABLE_AFTER: &str = "MEMBER_STABLE_AFTER";
