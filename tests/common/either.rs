//! Is an actor of two message types that records in which order they came.

use tellwire::node::{Actor, Context};

use crate::common::{Note, Text};

pub(crate) enum Either {
    Note(Note),
    Text(Text),
}

impl From<Note> for Either {
    fn from(note: Note) -> Self {
        Self::Note(note)
    }
}

impl From<Text> for Either {
    fn from(text: Text) -> Self {
        Self::Text(text)
    }
}

/// Records the numbers of both types, and lets others run in between.
pub(crate) struct Recorder(pub(crate) Box<dyn Fn(u64) + Send + Sync>);

impl Actor<Either> for Recorder {
    async fn receive(&mut self, message: Either, _: &mut Context) {
        tokio::task::yield_now().await;
        self.0(match message {
            Either::Note(note) => note.seq,
            Either::Text(Text(seq)) => seq.parse().unwrap(),
        });
    }
}
