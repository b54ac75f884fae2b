//! Is what the programs share that measure one library each: the workloads, the counting, the line of figures.
//!
//! ```text
//! PEER receive                           prints "ADDRESS CONTROL", and ends with its standard input
//! PEER send ADDRESS CONTROL WORKLOAD     prints one line of figures
//! ```
//!
//! Messages travel by the library alone. Over the socket at CONTROL the sender says when a run begins, and learns at
//! its end what the receiver has counted. `README.md` says what is measured and how.

#![forbid(unsafe_code)]

mod arrivals;
mod control;
mod figures;
mod workload;

use std::error::Error;
use std::sync::Arc;

use tokio::runtime::Builder;

pub use arrivals::Arrivals;

use control::Control;

/// Whatever went wrong; it ends the run.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Is the sending side of a library, and knows how to start the receiving one.
pub trait Peer: Clone + Send + Sync + 'static {
    /// How many tells one run makes: about what the library carries in some seconds.
    const TELLS: u64;
    /// How many asks one run makes, first one after the other and then many at a time.
    const ASKS: u64;
    /// What has to live as long as the receiving side does.
    type Receiver;

    /// Starts an actor that counts notes and one that sends them back, and tells where they are.
    fn receive(
        arrivals: Arc<Arrivals>,
    ) -> impl Future<Output = Result<(String, Self::Receiver), Failure>> + Send;

    /// Starts the sending side and finds the actors.
    fn connect(address: String) -> impl Future<Output = Result<Self, Failure>> + Send;

    /// Tells the note with this number, as the library's users do, waiting if the library does.
    fn tell(&self, sequence: u64) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Tells it and waits until the receiving side has confirmed it.
    fn tell_confirmed(&self, _sequence: u64) -> impl Future<Output = Result<(), Failure>> + Send {
        std::future::ready(Err("this library confirms no tells".into()))
    }

    /// Asks with the note of this number and takes the same note as the answer.
    fn ask(&self, sequence: u64) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Gives the text of a note, which with its number makes 100 bytes.
pub fn text() -> String {
    "x".repeat(TEXT)
}

/// Plays the part that the command line names.
///
/// # Errors
/// [`Failure`] if the command line is wrong, the library fails, or the other process is gone.
pub fn run<P: Peer>() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    match arguments[..] {
        ["receive"] => {
            let arrivals = Arc::new(Arrivals::new(P::TELLS));
            let (address, receiver) = runtime.block_on(P::receive(Arc::clone(&arrivals)))?;
            let served = control::serve(&address, &arrivals);
            drop(receiver);
            served
        }
        ["send", address, control, workload] => {
            let mut control = Control::connect(control)?;
            let peer = runtime.block_on(P::connect(address.to_owned()))?;
            println!("{}", workload::run(&runtime, &peer, &mut control, workload)?);
            // Not every library ends by itself.
            std::process::exit(0)
        }
        _ => Err("receive | send ADDRESS CONTROL tells|yields|window|asks".into()),
    }
}

const TEXT: usize = 92;
