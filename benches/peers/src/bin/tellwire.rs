//! Measures tellwire: default settings, a built-in actor, bincode.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tellwire::node::Context;
use tellwire::{Node, RemoteRef};
use tellwire_peers::{Arrivals, Failure, Peer};

fn main() -> Result<(), Failure> {
    tellwire_peers::run::<Tellwire>()
}

#[derive(Clone)]
struct Tellwire {
    notes: RemoteRef,
    echo: RemoteRef,
    _node: Arc<Node>,
}

#[derive(Serialize, Deserialize)]
struct Note {
    sequence: u64,
    text: String,
}

tellwire::remote_messages! {
    table NOTES, codec = tellwire::codec::Bincode;
    "peers.v1.Note" => Note,
}

impl Peer for Tellwire {
    const TELLS: u64 = 10_000_000;
    const ASKS: u64 = 50_000;
    type Receiver = Node;

    async fn receive(arrivals: Arc<Arrivals>) -> Result<(String, Node), Failure> {
        let node = start().await?;
        node.spawn("/user/notes", move |note: Note, _: &mut Context| {
            arrivals.count(note.sequence);
            std::future::ready(())
        })?;
        node.spawn("/user/echo", async |note: Note, cx: &mut Context| cx.reply(&note))?;
        Ok((node.address().to_string(), node))
    }

    async fn connect(address: String) -> Result<Self, Failure> {
        let node = start().await?;
        let notes = node.resolve(format!("{address}/user/notes"))?;
        let echo = node.resolve(format!("{address}/user/echo"))?;
        Ok(Self { notes, echo, _node: Arc::new(node) })
    }

    async fn tell(&self, sequence: u64) -> Result<(), Failure> {
        Ok(self.notes.send(&note(sequence)).await?)
    }

    async fn ask(&self, sequence: u64) -> Result<(), Failure> {
        let answer: Note = self.echo.ask(&note(sequence), WAIT).await?;
        if answer.sequence == sequence { Ok(()) } else { Err("another's answer".into()) }
    }
}

async fn start() -> Result<Node, Failure> {
    Ok(Node::builder("Peers").listen("tcp://127.0.0.1:0").start().await?)
}

fn note(sequence: u64) -> Note {
    Note { sequence, text: tellwire_peers::text() }
}

const WAIT: Duration = Duration::from_secs(10);
