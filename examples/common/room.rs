//! Is the room of `chat`: an actor that knows the members and relays what they say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tellwire::codec::Bincode;
use tellwire::event::NodeEvent;
use tellwire::node::{Delivery, EventStream, Observed};
use tellwire::{ActorPath, Address, Node, RemoteRef};
use tokio::sync::mpsc;

use crate::failure::Failure;

/// What the room takes.
#[derive(Serialize, Deserialize)]
pub(crate) enum ToRoom {
    /// Lets a member in; an ask.
    Join { name: String, member: ActorPath },
    /// Says a line to the others.
    Say { text: String },
    /// Takes the member out that sends it.
    Leave,
}

/// Answers a `Join`: who else is there, or why there is no place.
#[derive(Serialize, Deserialize)]
pub(crate) struct Welcome(pub(crate) Result<Vec<String>, String>);

/// What a member takes.
#[derive(Serialize, Deserialize)]
pub(crate) enum Heard {
    /// Somebody said something, came or went.
    Line(String),
    /// What this member said was relayed, and it may say more.
    Relayed,
    /// The member has left.
    Farewell,
}

tellwire::remote_messages! {
    /// What the room and its members say to each other.
    pub(crate) table CHAT, codec = Bincode;
    "chat.v1.ToRoom" => ToRoom,
    "chat.v1.Welcome" => Welcome,
    "chat.v1.Heard" => Heard,
}

/// Knows the members and relays what they say.
pub(crate) struct Room {
    node: Node,
    members: BTreeMap<ActorPath, Member>,
}

struct Member {
    name: String,
    actor: RemoteRef,
}

impl Room {
    /// Starts the room at `/user/room`.
    pub(crate) fn open(node: &Node) -> Result<(), Failure> {
        let (inbox, requests) = mpsc::channel::<Delivery<ToRoom>>(REQUESTS);
        node.register::<ToRoom, _>("/user/room", inbox)?;
        let room = Self { node: node.clone(), members: BTreeMap::new() };
        tokio::spawn(room.run(requests, node.events()));
        Ok(())
    }

    async fn run(
        mut self,
        mut requests: mpsc::Receiver<Delivery<ToRoom>>,
        mut events: EventStream,
    ) {
        loop {
            // Biased: what a member said is relayed before its link's end is noticed.
            tokio::select! { biased;
                Some(request) = requests.recv() => self.handle(request),
                Some(event) = events.next() => self.notice(event),
                else => return,
            }
        }
    }

    fn handle(&mut self, Delivery { message, envelope, .. }: Delivery<ToRoom>) {
        match (message, envelope.sender, envelope.reply) {
            (ToRoom::Join { name, member }, _, Some(asker)) => {
                let welcome = Welcome(self.join(&name, member));
                if let Err(error) = asker.reply(&welcome) {
                    eprintln!("chat: cannot welcome {name}: {error}");
                }
            }
            // The library vouches for the sender's node, so nobody speaks in another's name.
            (ToRoom::Say { text }, Some(sender), _) => {
                if let Some(member) = self.members.get(&*sender) {
                    self.announce(&format!("{}: {text}", member.name), Some(&sender));
                    tell(member, &Heard::Relayed);
                }
            }
            (ToRoom::Leave, Some(sender), _) => {
                if let Some(member) = self.remove(&sender) {
                    tell(&member, &Heard::Farewell);
                }
            }
            (ToRoom::Join { .. } | ToRoom::Say { .. } | ToRoom::Leave, ..) => {}
        }
    }

    /// Takes a member out whose node cannot be reached any more.
    fn notice(&mut self, event: Observed<NodeEvent>) {
        let Some(peer) = gone(event) else { return };
        let member = self.members.keys().find(|member| member.address() == Some(&peer)).cloned();
        member.and_then(|member| self.remove(&member));
    }

    /// Lets a member in and gives the names of the others.
    fn join(&mut self, name: &str, member: ActorPath) -> Result<Vec<String>, String> {
        check_name(name)?;
        let mut others: Vec<String> =
            self.members.values().map(|other| other.name.clone()).collect();
        others.sort();
        if others.iter().any(|other| other == name) {
            return Err(format!("somebody is called {name} already"));
        }
        let actor = self.node.resolve(member.clone()).map_err(|error| error.to_string())?;
        self.announce(&format!("* {name} joined"), None);
        self.members.insert(member, Member { name: name.to_owned(), actor });
        Ok(others)
    }

    fn remove(&mut self, path: &ActorPath) -> Option<Member> {
        let member = self.members.remove(path)?;
        self.announce(&format!("* {} left", member.name), None);
        Some(member)
    }

    fn announce(&self, line: &str, except: Option<&ActorPath>) {
        for (_, member) in self.members.iter().filter(|(path, _)| Some(*path) != except) {
            tell(member, &Heard::Line(line.to_owned()));
        }
    }
}

fn tell(member: &Member, heard: &Heard) {
    if let Err(error) = member.actor.tell(heard) {
        eprintln!("chat: {} misses a line: {error}", member.name);
    }
}

/// Gives the node that cannot be reached any more.
pub(crate) fn gone(event: Observed<NodeEvent>) -> Option<Address> {
    match event {
        Observed::Item(NodeEvent::AssociationDown { peer, .. }) => Some(peer),
        _ => None,
    }
}

/// Keeps names short and plain.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let is_fine = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if (1..=32).contains(&name.len()) && name.chars().all(is_fine) {
        return Ok(());
    }
    Err("a name has 1 to 32 bytes of letters, digits, `-`, `_` and `.`".to_owned())
}

/// Requests that wait for the room: a member sends the next line when its last one was relayed.
const REQUESTS: usize = 1024;
/// Lines that wait for a member's terminal; what is said beyond that becomes dead letters.
pub(crate) const LINES: usize = 65_536;
