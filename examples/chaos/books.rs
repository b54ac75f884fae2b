//! Reads what all processes have noted, and puts it in order by node and process.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use crate::failure::Failure;
use crate::journal::{Entry, Way, What};

/// Holds the processes of each node, in the order in which they lived.
pub(crate) type Books = Vec<Vec<Life>>;

/// Is what one process has noted.
#[derive(Debug, Default)]
pub(crate) struct Life {
    pub(crate) uid: u64,
    /// The number of the last tell to each node that was not refused.
    pub(crate) told: HashMap<usize, u64>,
    /// Tells that were refused, by reason.
    pub(crate) refused: BTreeMap<String, u64>,
    /// The numbers of the tells that came in, by the incarnation that told, in their order.
    pub(crate) got: HashMap<u64, Vec<u64>>,
    pub(crate) letters: BTreeMap<(usize, Way, What, String), u64>,
    /// Whom was asked, and how it ended.
    pub(crate) asks: BTreeMap<u64, (usize, Option<String>)>,
    /// The numbers of the asks that came in, by the incarnation that asked.
    pub(crate) questions: HashMap<u64, Vec<u64>>,
    /// Nodes that the last tell did not get away to.
    pub(crate) stuck: Vec<usize>,
    /// Dead letters that came by the stream, and those that were counted; none if the process was killed.
    pub(crate) closed: Option<(u64, u64)>,
}

/// Reads the journals of so many nodes.
pub(crate) fn read(folder: &Path, nodes: usize) -> Result<Books, Failure> {
    let mut books: Books = (0..nodes).map(|_| Vec::new()).collect();
    for (node, lives) in books.iter_mut().enumerate() {
        for generation in 0.. {
            let path = folder.join(format!("node-{node}.{generation:04}"));
            if !path.exists() {
                break;
            }
            let text = fs::read_to_string(&path)?;
            let life = Life::parse(&text);
            lives.push(life.map_err(|line| Failure::run(format!("{}: `{line}`", path.display())))?);
        }
    }
    Ok(books)
}

impl Life {
    /// Reads a journal; a line that is none is given back, unless the process was killed while it wrote it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (mut life, mut lines) = (Self::default(), text.lines().peekable());
        while let Some(line) = lines.next() {
            match line.parse() {
                Ok(entry) => life.take(entry),
                Err(_) if lines.peek().is_none() => break,
                Err(_) => return Err(line.to_owned()),
            }
        }
        Ok(life)
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Born { uid } => self.uid = uid,
            Entry::Told { to, seq } => {
                self.told.insert(to, seq);
            }
            Entry::Refused { to, seq, why } => {
                self.told.insert(to, seq - 1);
                *self.refused.entry(why).or_default() += 1;
            }
            Entry::Got { uid, seq, .. } => self.got.entry(uid).or_default().push(seq),
            Entry::Letter { peer, way, what, reason, count } => {
                *self.letters.entry((peer, way, what, reason)).or_default() += count;
            }
            Entry::Asked { to, id } => {
                self.asks.insert(id, (to, None));
            }
            Entry::Ended { id, how } => {
                if let Some((_, end)) = self.asks.get_mut(&id) {
                    *end = Some(how);
                }
            }
            Entry::Question { uid, id, .. } => self.questions.entry(uid).or_default().push(id),
            Entry::Stuck { to } => self.stuck.push(to),
            Entry::Remark(_) => {}
            Entry::Closed { streamed, counted } => self.closed = Some((streamed, counted)),
        }
    }

    /// Counts the dead letters to or from a node that `is_meant` picks by what they were and their reason.
    pub(crate) fn letters_with(
        &self,
        node: usize,
        way: Way,
        is_meant: impl Fn(What, &str) -> bool,
    ) -> u64 {
        let with = self.letters.iter().filter(|((peer, to, ..), _)| (*peer, *to) == (node, way));
        let meant = with.filter(|((_, _, what, reason), _)| is_meant(*what, reason));
        meant.map(|(_, count)| count).sum()
    }
}
