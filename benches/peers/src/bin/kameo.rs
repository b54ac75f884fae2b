//! Measures kameo with its `remote` feature: default settings, but plain TCP instead of encryption, as the others.

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use kameo::actor::{ActorRef, RemoteActorRef, Spawn};
use kameo::message::{Context, Message};
use kameo::remote::{self, messaging};
use kameo::{Actor, RemoteActor, remote_message};
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm, SwarmBuilder, plaintext, tcp, yamux};
use serde::{Deserialize, Serialize};
use tellwire_peers::{Arrivals, Failure, Peer};
use tokio::sync::oneshot;

fn main() -> Result<(), Failure> {
    tellwire_peers::run::<Kameo>()
}

#[derive(Clone)]
struct Kameo {
    notes: RemoteActorRef<Notes>,
}

#[derive(Actor, RemoteActor)]
struct Notes(Arc<Arrivals>);

#[derive(Serialize, Deserialize)]
struct Note {
    sequence: u64,
    text: String,
}

#[remote_message]
impl Message<Note> for Notes {
    type Reply = ();

    async fn handle(&mut self, note: Note, _: &mut Context<Self, ()>) {
        self.0.count(note.sequence);
    }
}

#[derive(Serialize, Deserialize, kameo::Reply)]
struct Question {
    sequence: u64,
    text: String,
}

#[remote_message]
impl Message<Question> for Notes {
    type Reply = Question;

    async fn handle(&mut self, question: Question, _: &mut Context<Self, Question>) -> Question {
        question
    }
}

impl Peer for Kameo {
    const TELLS: u64 = 50_000;
    const ASKS: u64 = 10_000;
    type Receiver = ActorRef<Notes>;

    async fn receive(arrivals: Arc<Arrivals>) -> Result<(String, Self::Receiver), Failure> {
        let address = start(None).await?;
        let notes = Notes::spawn(Notes(arrivals));
        notes.register(NAME).await?;
        Ok((address.to_string(), notes))
    }

    async fn connect(address: String) -> Result<Self, Failure> {
        start(Some(address.parse()?)).await?;
        for _ in 0..1_000 {
            if let Ok(Some(notes)) = RemoteActorRef::lookup(NAME).await {
                return Ok(Self { notes });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err("the actor is not to be found".into())
    }

    async fn tell(&self, sequence: u64) -> Result<(), Failure> {
        let text = tellwire_peers::text();
        Ok(self.notes.tell(&Note { sequence, text }).send()?)
    }

    async fn tell_confirmed(&self, sequence: u64) -> Result<(), Failure> {
        let text = tellwire_peers::text();
        Ok(self.notes.tell(&Note { sequence, text }).send_ack().await?)
    }

    async fn ask(&self, sequence: u64) -> Result<(), Failure> {
        let text = tellwire_peers::text();
        let answer = self.notes.ask(&Question { sequence, text }).await?;
        if answer.sequence == sequence { Ok(()) } else { Err("another's answer".into()) }
    }
}

/// Starts a node, connects it to another one if an address is given, and tells its own address.
async fn start(other: Option<Multiaddr>) -> Result<Multiaddr, Failure> {
    let plain = |key: &Keypair| Ok::<_, Infallible>(plaintext::Config::new(key));
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), plain, yamux::Config::default)?
        .with_behaviour(|key| {
            let own = key.public().to_peer_id();
            remote::Behaviour::new(own, messaging::Config::default())
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(FOREVER))
        .build();
    swarm.behaviour().try_init_global()?;
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    if let Some(other) = other {
        if let Some(Protocol::P2p(id)) = other.iter().last() {
            swarm.add_peer_address(id, other.clone());
        }
        swarm.dial(other)?;
    }
    let (told, address) = oneshot::channel();
    tokio::spawn(drive(swarm, told));
    Ok(address.await?)
}

async fn drive(mut swarm: Swarm<remote::Behaviour>, told: oneshot::Sender<Multiaddr>) {
    let mut told = Some(told);
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await
            && let Some(told) = told.take()
        {
            let address = address.with(Protocol::P2p(*swarm.local_peer_id()));
            // Whoever no longer waits for the address needs none.
            drop(told.send(address));
        }
    }
}

const NAME: &str = "notes";
/// As long as two processes of this measurement may be silent.
const FOREVER: Duration = Duration::from_secs(3600);
