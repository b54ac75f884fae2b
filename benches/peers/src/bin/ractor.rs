//! Measures ractor with ractor_cluster: default settings, plain TCP, notes as 100 bytes written by hand.

#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, pg};
use ractor_cluster::{BytesConvertable, NodeServer, NodeServerMessage, RactorClusterMessage};
use tellwire_peers::{Arrivals, Failure, Peer};

fn main() -> Result<(), Failure> {
    tellwire_peers::run::<Ractor>()
}

#[derive(Clone)]
struct Ractor {
    notes: ActorRef<Word>,
}

#[derive(RactorClusterMessage)]
enum Word {
    Tell(Note),
    #[rpc]
    Ask(Note, RpcReplyPort<Note>),
}

struct Note {
    sequence: u64,
    text: String,
}

impl BytesConvertable for Note {
    fn into_bytes(self) -> Vec<u8> {
        [&self.sequence.to_be_bytes()[..], self.text.as_bytes()].concat()
    }

    fn from_bytes(bytes: Vec<u8>) -> Self {
        let Some((sequence, text)) = bytes.split_first_chunk() else {
            // The trait leaves no other way to refuse.
            panic!("a note is longer")
        };
        let text = String::from_utf8_lossy(text).into_owned();
        Self { sequence: u64::from_be_bytes(*sequence), text }
    }
}

struct Notes(Arc<Arrivals>);

impl Actor for Notes {
    type Msg = Word;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Word>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Word>,
        word: Word,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match word {
            Word::Tell(note) => self.0.count(note.sequence),
            Word::Ask(note, reply) => reply.send(note)?,
        }
        Ok(())
    }
}

impl Peer for Ractor {
    const TELLS: u64 = 1_000_000;
    const ASKS: u64 = 20_000;
    type Receiver = ActorRef<NodeServerMessage>;

    async fn receive(arrivals: Arc<Arrivals>) -> Result<(String, Self::Receiver), Failure> {
        let (notes, _) = Actor::spawn(None, Notes(arrivals), ()).await?;
        pg::join(GROUP.to_owned(), vec![notes.get_cell()]);
        let (port, server) = start("receiver").await?;
        Ok((format!("127.0.0.1:{port}"), server))
    }

    async fn connect(address: String) -> Result<Self, Failure> {
        let (_, server) = start("sender").await?;
        ractor_cluster::client_connect(&server, address).await?;
        Ok(Self { notes: found().await?.into() })
    }

    async fn tell(&self, sequence: u64) -> Result<(), Failure> {
        self.notes.cast(Word::Tell(note(sequence))).map_err(|refused| refused.to_string().into())
    }

    async fn ask(&self, sequence: u64) -> Result<(), Failure> {
        let answer = self.notes.call(|reply| Word::Ask(note(sequence), reply), Some(WAIT)).await;
        match answer.map_err(|refused| refused.to_string())? {
            CallResult::Success(answer) if answer.sequence == sequence => Ok(()),
            CallResult::Success(_) => Err("another's answer".into()),
            CallResult::Timeout => Err("no answer in time".into()),
            CallResult::SenderError => Err("no answer".into()),
        }
    }
}

/// Starts a node and tells at which port, which the library chooses without saying.
async fn start(name: &str) -> Result<(u16, ActorRef<NodeServerMessage>), Failure> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let (cookie, host) = ("peers".to_owned(), "127.0.0.1".to_owned());
    let server = NodeServer::new(port, cookie, name.to_owned(), host, None, None)
        .with_listen_addr(Ipv4Addr::LOCALHOST.into());
    let (server, _) = Actor::spawn(None, server, ()).await?;
    Ok((port, server))
}

/// Waits until the nodes have told each other of their groups.
async fn found() -> Result<ActorCell, Failure> {
    for _ in 0..1_000 {
        if let Some(notes) = pg::get_members(&GROUP.to_owned()).pop() {
            return Ok(notes);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err("the actor is not to be found".into())
}

fn note(sequence: u64) -> Note {
    Note { sequence, text: tellwire_peers::text() }
}

const GROUP: &str = "notes";
const WAIT: Duration = Duration::from_secs(10);
