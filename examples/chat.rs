//! Lets people talk: whoever opens the room relays what the members say.
//!
//! `cargo run --example chat -- --listen tcp://127.0.0.1:2551 --name ada`
//! `cargo run --example chat -- --seed tcp://127.0.0.1:2551 --name bob`
//!
//! ```text
//!   bob                                the room, on ada's node                 ada, cleo, …
//!    │ ── Join { name, member: ActorPath } ──▶ │                                    │   ask
//!    │ ◀──────── Welcome ────────────────────  │ ── Heard::Line "* bob joined" ───▶ │   reply, tells
//!    │ ── Say { text }, from /user/member ───▶ │ ── Heard::Line "bob: hello" ─────▶ │   tells
//!    │ ◀──────── Heard::Relayed ─────────────  │                                    │
//!    │ ── Leave, from /user/member ──────────▶ │ ── Heard::Line "* bob left" ─────▶ │
//!    │ ◀──────── Heard::Farewell ────────────  │                                    │
//! ```
//! All of them are one cluster, joined through the node of whoever opened the room. Whoever loses the link to the room
//! has left it. The room closes when the one who opened it leaves.
#![expect(clippy::print_stdout, reason = "stdout is where people read what others say")]

#[path = "common/failure.rs"]
mod failure;
#[path = "common/room.rs"]
mod room;
#[path = "common/terminal.rs"]
mod terminal;

use std::process::ExitCode;
use std::time::Duration;

use tellwire::address::Endpoint;
use tellwire::membership::ClusterSettings;
use tellwire::membership::downing::{Alone, KeepOldest};
use tellwire::{ActorPath, Address, Node, RemoteRef, Settings};
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::room::{CHAT, Heard, LINES, Room, ToRoom, Welcome, check_name, gone};

/// What the arguments ask for: without a seed, to open the room.
struct Arguments {
    listen: Endpoint,
    seed: Option<Address>,
    name: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let given = std::env::args_os().skip(1).map(|given| given.to_string_lossy().into_owned());
    let outcome = match arguments(given) {
        Ok(arguments) => chat(arguments).await,
        Err(failure) => Err(failure),
    };
    outcome.map_or_else(|failure| failure.report("chat"), |()| ExitCode::SUCCESS)
}

async fn chat(arguments: Arguments) -> Result<(), Failure> {
    let mut settings = Settings::local();
    settings.association.give_up_after = PATIENCE;
    let node = Node::builder(SYSTEM).listen(arguments.listen).settings(settings).require(CHAT);
    // Whoever opens the room has no seeds: its node forms the cluster and is the oldest in it, which always stays.
    let node =
        node.cluster_settings(ClusterSettings::local()).downing(KeepOldest::new(Alone::Keep));
    let node = match &arguments.seed {
        Some(seed) => node.seeds([seed]).start().await?,
        None => node.start().await?,
    };
    if arguments.seed.is_none() {
        Room::open(&node)?;
        println!("* the room is open at {}", node.address().endpoint());
    }
    let room = arguments.seed.unwrap_or_else(|| node.address());
    let outcome = take_part(&node, &room, arguments.name).await;
    node.shutdown(PATIENCE).await;
    outcome
}

/// Joins the room and talks, one line at a time, until the input ends, or the room is closed.
async fn take_part(node: &Node, room: &Address, name: String) -> Result<(), Failure> {
    let (inbox, mut heard) = mpsc::channel::<Heard>(LINES);
    let me = node.register::<Heard, _>("/user/member", inbox)?;
    let mut events = node.events();
    let room = node.resolve("/user/room".parse::<ActorPath>()?.at(room)?)?;
    let others = join(node, &room, &me, name).await?;
    println!("* you are in the room with {others}");

    let (mut typed, mut is_waiting, mut is_leaving) = (terminal::typed_lines(), false, false);
    loop {
        // Biased: what was said before the room closed is shown before that.
        let text = tokio::select! { biased;
            Some(heard) = heard.recv() => match heard {
                Heard::Line(line) => { println!("{}", terminal::printable(&line)); continue }
                Heard::Relayed => { is_waiting = false; continue }
                Heard::Farewell => return Ok(()),
            },
            Some(event) = events.next() => match gone(event) {
                Some(peer) if Some(&peer) == room.path().address() => {
                    println!("* the room is closed");
                    return Ok(());
                }
                Some(_) | None => continue,
            },
            typed = typed.recv(), if !is_waiting && !is_leaving => typed,
            interrupted = tokio::signal::ctrl_c() => match interrupted {
                Ok(()) if !is_leaving => None,
                Ok(()) | Err(_) => return Ok(()),
            },
        };
        (is_waiting, is_leaving) = (text.is_some(), text.is_none());
        let message = text.map_or(ToRoom::Leave, |text| ToRoom::Say { text });
        room.tell_from(&me, &message)?;
    }
}

/// Asks to be let in, and gives the names of the others.
async fn join(
    node: &Node,
    room: &RemoteRef,
    me: &ActorPath,
    name: String,
) -> Result<String, Failure> {
    let message = ToRoom::Join { name, member: me.clone() };
    let Welcome(outcome) = room.ask(&message, 2 * PATIENCE).await.map_err(|error| {
        let associations = node.associations();
        let seed = associations.iter().find(|a| Some(&a.address) == room.path().address());
        let why = seed.and_then(|seed| seed.last_failure.clone()).unwrap_or(error.to_string());
        Failure::run(format!("no answer from {}: {why}", room.path()))
    })?;
    let others = outcome.map_err(Failure::run)?;
    Ok(if others.is_empty() { "nobody yet".to_owned() } else { others.join(", ") })
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<Arguments, Failure> {
    let (mut listen, mut seed, mut name) = (None, None, None);
    while let Some(option) = given.next() {
        let slot = match option.as_str() {
            "--listen" => &mut listen,
            "--seed" => &mut seed,
            "--name" => &mut name,
            _ => return Err(Failure::usage(format!("unknown option `{option}`; {USAGE}"))),
        };
        *slot = Some(given.next().ok_or_else(|| Failure::usage(USAGE))?);
    }
    let name = name.ok_or_else(|| Failure::usage(USAGE))?;
    check_name(&name).map_err(Failure::usage)?;
    if seed.is_none() && listen.is_none() {
        return Err(Failure::usage(USAGE));
    }
    let listen = listen.as_deref().unwrap_or("tcp://127.0.0.1:0");
    let listen = listen.parse().map_err(Failure::usage)?;
    let address = |seed: String| seed.parse::<Endpoint>()?.with_system(SYSTEM);
    let seed = seed.map(address).transpose().map_err(Failure::usage)?;
    Ok(Arguments { listen, seed, name })
}

const USAGE: &str =
    "usage: chat (--listen ENDPOINT | --seed ENDPOINT [--listen ENDPOINT]) --name NAME";
const SYSTEM: &str = "Chat";
/// How long to look for the room, or to say goodbye.
const PATIENCE: Duration = Duration::from_secs(3);
