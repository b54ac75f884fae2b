//! Accepts links and hears who is calling, before anything of a peer's is believed.
//!
//! The loop survives every accept error, waiting 5 ms to 1 s between them. A link says Hello within the
//! handshake time and 16 KiB, or it is closed; so many may be at it at once, up to their activation.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::association::control::{ControlPdu, Hello, Refusal, VERSION, decode_pdu};
use crate::event::NodeEvent;
use crate::frame::{self, ClusterFrame, FrameFault};
use crate::node::core::{Core, Counters};
use crate::node::driver::{Accepted, Input};
use crate::node::link::{HANDSHAKE_LIMIT, LinkReader, LinkWriter, NewLink, now};
use crate::node::remote_ref::ResolveError;
use crate::transport::{Link, Listener, TransportError};
use crate::wire::FrameDecoder;

/// Accepts links until the node closes.
pub(crate) async fn run(core: Arc<Core>, mut listener: Box<dyn Listener>) {
    let handshakes = Arc::new(Semaphore::new(core.settings.inbound.max_handshakes));
    let closing = core.closing.clone();
    let mut pause = SHORTEST_PAUSE;
    loop {
        // Biased: a closing node takes no more links.
        let accepted = tokio::select! { biased;
            () = closing.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(link) => {
                pause = SHORTEST_PAUSE;
                admit(&core, &handshakes, link);
            }
            Err(TransportError::Closed) => return,
            Err(error) => {
                if let Some(held_back) = core.log.admit(now()) {
                    tracing::error!(%error, held_back, "accepting failed; trying again");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Starts the handshake of a link, if not too many are at it.
fn admit(core: &Arc<Core>, handshakes: &Arc<Semaphore>, link: Link) {
    let Ok(permit) = Arc::clone(handshakes).try_acquire_owned() else {
        Counters::add(&core.counters.handshakes_refused, 1);
        return;
    };
    let task = handshake(Arc::clone(core), link, permit);
    core.spawn(task);
}

async fn handshake(core: Arc<Core>, link: Link, permit: OwnedSemaphorePermit) {
    let remote = link.remote().to_owned();
    let (mut reader, mut writer) = link.split();
    let mut decoder = FrameDecoder::new(HANDSHAKE_LIMIT);
    let limit = core.settings.association.handshake_timeout;
    let heard = tokio::time::timeout(limit, hello(&mut reader, &mut decoder)).await;
    let why = match heard {
        Ok(Ok(hello)) => match core.identity.check(&hello) {
            Ok(()) if core.is_uid_taken(&hello.from) => {
                return refuse(&core, &mut writer, Some(&hello), Refusal::UidTaken).await;
            }
            Ok(()) => {
                let new = NewLink { reader, writer, decoder, handshake: Some(permit) };
                return hand_over(core, Accepted { hello, new }).await;
            }
            Err(refusal) => {
                refuse(&core, &mut writer, Some(&hello), refusal).await;
                return;
            }
        },
        Ok(Err(HelloError::Version)) => {
            let refusal = Refusal::Version { min: VERSION, max: VERSION };
            return refuse(&core, &mut writer, None, refusal).await;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no Hello in time".to_owned(),
    };
    Counters::add(&core.counters.handshakes_refused, 1);
    if let Some(held_back) = core.log.admit(now()) {
        tracing::warn!(remote, why, held_back, "a link ended before its Hello");
    }
    drop(permit);
}

/// Reads the Hello, and nothing else.
async fn hello(reader: &mut LinkReader, decoder: &mut FrameDecoder) -> Result<Hello, HelloError> {
    loop {
        if let Some(raw) = decoder.next_frame().map_err(FrameFault::from)? {
            return match ClusterFrame::parse(raw)? {
                ClusterFrame::Hello(prefix, body) => {
                    if !(prefix.min_version..=prefix.max_version).contains(&VERSION) {
                        return Err(HelloError::Version);
                    }
                    Ok(decode_pdu(body).map_err(FrameFault::from)?)
                }
                _ => Err(HelloError::Fault(FrameFault::OutOfTurn)),
            };
        }
        match reader.read(decoder.space()).await? {
            0 => return Err(HelloError::Ended),
            bytes => decoder.filled(bytes),
        }
    }
}

async fn hand_over(core: Arc<Core>, accepted: Accepted) {
    let peer = match core.peer(accepted.hello.from.address()) {
        Ok(peer) => peer,
        Err(error) => {
            let refusal = match error {
                ResolveError::Stopped => Refusal::Stopping,
                _ => Refusal::TooManyPeers,
            };
            let Accepted { hello, mut new } = accepted;
            return refuse(&core, &mut new.writer, Some(&hello), refusal).await;
        }
    };
    let Some(inputs) = &peer.inputs else { return };
    if inputs.send(Input::Accepted(accepted)).await.is_err() {
        tracing::debug!(peer = %peer.address, "a link for an association that has ended");
    }
}

/// Tells the dialler why there is no handshake, and notes it here.
async fn refuse(core: &Core, writer: &mut LinkWriter, hello: Option<&Hello>, refusal: Refusal) {
    Counters::add(&core.counters.handshakes_refused, 1);
    core.observers.event(NodeEvent::HandshakeRefused {
        peer: hello.map(|hello| hello.from.address().clone()),
        uid: hello.map(|hello| hello.from.uid()),
        why: refusal.to_string(),
    });
    let mut out = Vec::new();
    if let Err(fault) = frame::encode_control(&ControlPdu::Refuse(refusal), &mut out) {
        tracing::error!(%fault, "a refusal of this node's own");
    }
    let told = async {
        writer.write_all(&out).await?;
        writer.shutdown().await
    };
    let limit = core.settings.association.handshake_timeout;
    if !matches!(tokio::time::timeout(limit, told).await, Ok(Ok(()))) {
        tracing::trace!("the refused peer did not listen");
    }
}

#[derive(Debug, thiserror::Error)]
enum HelloError {
    #[error("no common version")]
    Version,
    #[error("the link ended")]
    Ended,
    #[error(transparent)]
    Fault(#[from] FrameFault),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
