//! Holds what all processes have noted to what tellwire promises.
//!
//! What a process notes before it is killed is known, for its journal outlives it. What is gone with it:
//!
//! * as a sender: how many of its tells became dead letters. That they came in order, once, and not more of them than
//!   it has told is checked all the same; what is missing of them is only counted;
//! * as a receiver: what had come in and no actor had seen yet. Such tells lie between the last one that the killed
//!   process has noted and the first one that the next process has; those are only counted. A gap anywhere else has to
//!   be among the dead letters.

use std::collections::{BTreeMap, HashSet};

use crate::books::{Books, Life};
use crate::journal::{Way, What};

/// Sums up what became of everything, with a text for each promise that was broken.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) broken: Vec<String>,
    pub(crate) tells: Tells,
    pub(crate) asks: BTreeMap<String, u64>,
    pub(crate) refused: BTreeMap<String, u64>,
    pub(crate) letters: BTreeMap<String, u64>,
    pub(crate) lives: usize,
}

/// Counts the ends of tells.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tells {
    pub(crate) told: u64,
    pub(crate) arrived: u64,
    /// Missing, and among the dead letters.
    pub(crate) accounted: u64,
    /// Missing where a receiver was killed.
    pub(crate) with_receiver: u64,
    /// Missing of a sender that was killed.
    pub(crate) with_sender: u64,
    /// Among the dead letters although they arrived: a broken link's last ones, whose end nobody can know.
    pub(crate) arrived_in_doubt: u64,
}

/// Is what became of the tells of one process to one node.
#[derive(Debug, Default)]
struct Stream {
    arrived: u64,
    /// Missing between two tells that one process has noted, or where no receiver was killed.
    in_sight: u64,
    out_of_sight: u64,
    last: u64,
}

/// Judges the books of all nodes.
pub(crate) fn judge(books: &Books) -> Verdict {
    let mut verdict = Verdict::default();
    for (node, lives) in books.iter().enumerate() {
        for (generation, life) in lives.iter().enumerate() {
            let sender = Sender { node, name: format!("{node}.{generation}"), life };
            verdict.lives += 1;
            verdict.count(life);
            for (to, receivers) in books.iter().enumerate().filter(|(to, _)| *to != node) {
                verdict.judge_tells(&sender, to, receivers);
            }
            verdict.judge_asks(&sender, books);
            verdict.judge_end(&sender);
        }
    }
    verdict
}

/// Is one process in its part as a sender.
struct Sender<'a> {
    node: usize,
    name: String,
    life: &'a Life,
}

impl Verdict {
    fn count(&mut self, life: &Life) {
        for ((.., reason), count) in &life.letters {
            *self.letters.entry(reason.clone()).or_default() += count;
        }
        for (why, count) in &life.refused {
            *self.refused.entry(why.clone()).or_default() += count;
        }
    }

    fn judge_tells(&mut self, sender: &Sender<'_>, to: usize, receivers: &[Life]) {
        let Sender { node, name, life } = sender;
        let told = life.told.get(&to).copied().unwrap_or(0);
        let mut stream = Stream::default();
        if let Err(why) = stream.follow(life.uid, receivers) {
            self.broken.push(format!("{name} to {to}: {why}"));
        }
        if stream.last > told {
            let text = format!("{name} to {to}: told {told}, and {} arrived", stream.last);
            self.broken.push(text);
        }
        let end = told.saturating_sub(stream.last);
        self.tells.told += told;
        self.tells.arrived += stream.arrived;
        if life.closed.is_none() {
            self.tells.with_sender += told.saturating_sub(stream.arrived);
            return;
        }
        stream.end(end, receivers, life.uid);
        let at_receiver = |receiver: &Life| receiver.letters_with(*node, Way::In, is_for_tells);
        let there: u64 = receivers.iter().map(at_receiver).sum();
        let letters = life.letters_with(to, Way::Out, is_for_tells) + there;
        let missing = stream.in_sight + stream.out_of_sight;
        if stream.in_sight > letters {
            self.broken.push(format!(
                "{name} to {to}: of {told} tells {} are missing, and there are {letters} dead letters",
                stream.in_sight
            ));
        }
        let not_sent = life.letters_with(to, Way::Out, is_certain);
        if not_sent > 0 && stream.arrived + not_sent > told {
            self.broken.push(format!(
                "{name} to {to}: of {told} tells {} arrived, and {not_sent} were said not to be sent",
                stream.arrived
            ));
        }
        let accounted = missing.min(letters);
        self.tells.accounted += accounted;
        self.tells.with_receiver += missing - accounted;
        self.tells.arrived_in_doubt += letters - accounted;
    }

    fn judge_asks(&mut self, sender: &Sender<'_>, books: &Books) {
        let Sender { name, life, .. } = sender;
        for (to, receivers) in books.iter().enumerate() {
            let mut asked = HashSet::new();
            let came = receivers.iter().filter_map(|receiver| receiver.questions.get(&life.uid));
            for id in came.flatten() {
                if !asked.insert(*id) {
                    self.broken.push(format!("{name}: ask {id} came to {to} twice"));
                }
            }
            for (id, (_, end)) in life.asks.iter().filter(|(_, (whom, _))| *whom == to) {
                self.judge_ask(
                    name,
                    *id,
                    end.as_deref(),
                    asked.contains(id),
                    life.closed.is_some(),
                );
            }
        }
    }

    fn judge_ask(&mut self, name: &str, id: u64, end: Option<&str>, came: bool, has_books: bool) {
        let known = end.unwrap_or(if has_books { "never" } else { "killed" });
        *self.asks.entry(known.to_owned()).or_default() += 1;
        let is_fine = match known {
            "reply" => came,
            "timeout" | "killed" => true,
            "wrong" | "hung" | "never" => false,
            late if late.starts_with("last:") => false,
            failed => !came || MAY_BE_PROCESSED.contains(&failed),
        };
        if !is_fine {
            let came = if came { "had come" } else { "had not come" };
            self.broken.push(format!("{name}: ask {id} ended as {known}, and {came} to its actor"));
        }
    }

    fn judge_end(&mut self, sender: &Sender<'_>) {
        for to in &sender.life.stuck {
            self.broken.push(format!("{} to {to}: the last tell finds no room", sender.name));
        }
        let held_back =
            sender.life.letters.iter().filter(|((.., reason), _)| reason == "MailboxFull");
        let refused: u64 = held_back.map(|(_, count)| count).sum();
        if refused > 0 {
            self.broken.push(format!("{}: full mailboxes refused {refused} tells", sender.name));
        }
        if let Some((streamed, counted)) = sender.life.closed {
            if streamed != counted {
                let name = &sender.name;
                self.broken.push(format!(
                    "{name}: {counted} dead letters were counted, and {streamed} came by the stream"
                ));
            }
        }
    }
}

impl Stream {
    /// Follows the tells of an incarnation through the processes of a node: each later than the one before.
    fn follow(&mut self, uid: u64, receivers: &[Life]) -> Result<(), String> {
        let mut was_killed = false;
        for receiver in receivers {
            let mut is_first = true;
            for seq in receiver.got.get(&uid).into_iter().flatten() {
                if *seq <= self.last {
                    return Err(format!("{seq} arrived after {}", self.last));
                }
                let gap = seq - self.last - 1;
                let is_hidden = is_first && was_killed;
                *(if is_hidden { &mut self.out_of_sight } else { &mut self.in_sight }) += gap;
                (self.arrived, self.last, is_first) = (self.arrived + 1, *seq, false);
            }
            was_killed = receiver.closed.is_none() || (was_killed && is_first);
        }
        Ok(())
    }

    /// Adds what is missing behind the last one that arrived.
    fn end(&mut self, missing: u64, receivers: &[Life], uid: u64) {
        let last = receivers.iter().rposition(|receiver| receiver.got.contains_key(&uid));
        let mut since = receivers.iter().skip(last.unwrap_or(0));
        let was_killed = since.any(|receiver| receiver.closed.is_none());
        *(if was_killed { &mut self.out_of_sight } else { &mut self.in_sight }) += missing;
    }
}

fn is_for_tells(what: What, _: &str) -> bool {
    what != What::Ask
}

/// Says of dead letters that they were certainly not sent.
fn is_certain(what: What, reason: &str) -> bool {
    what == What::Tell && !["LinkLost", "NewIncarnation"].contains(&reason)
}

/// Ends of asks after which the ask may have come to its actor.
const MAY_BE_PROCESSED: [&str; 4] =
    ["failed:LinkLost", "failed:NewIncarnation", "failed:NoReply", "failed:Panicked"];

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges what two nodes have noted: 0 tells 1.
    fn broken(sender: &str, receivers: &[&str]) -> Vec<String> {
        let life = |text: &str| {
            let lines: String = text.split(", ").map(|line| format!("0 {line}\n")).collect();
            Life::parse(&lines).unwrap()
        };
        let books = vec![vec![life(sender)], receivers.iter().map(|text| life(text)).collect()];
        judge(&books).broken
    }

    const CLOSED: &str = "closed 0 0";
    const TOLD: &str = "born 7, told 1 1, told 1 2, told 1 3";

    #[test]
    fn what_came_in_order_is_fine() {
        let got = ["got 0 7 1, got 0 7 2, got 0 7 3, closed 0 0"];
        assert_eq!(broken(&format!("{TOLD}, {CLOSED}"), &got), [""; 0]);
        assert_eq!(broken(TOLD, &["got 0 7 2"]), [""; 0]);
    }

    #[test]
    fn disorder_and_duplicates_are_found_in_killed_processes_too() {
        for got in [
            &["got 0 7 2, got 0 7 1"][..],
            &["got 0 7 2, got 0 7 2"],
            &["got 0 7 2", "got 0 7 2, closed 0 0"],
            &["got 0 7 4"],
        ] {
            assert_eq!(broken(TOLD, got).len(), 1, "{got:?}");
        }
    }

    #[test]
    fn what_is_missing_needs_a_dead_letter_unless_a_killed_receiver_may_have_had_it() {
        let sender = format!("{TOLD}, {CLOSED}");
        for got in ["got 0 7 1, got 0 7 3, closed 0 0", "got 0 7 1, got 0 7 2, closed 0 0"] {
            assert_eq!(broken(&sender, &[got]).len(), 1, "{got}");
            let letter = format!("{TOLD}, letter 1 Out Unknown LinkLost 1, {CLOSED}");
            assert_eq!(broken(&letter, &[got]), [""; 0]);
            let ask = format!("{TOLD}, letter 1 Out Ask Unreachable 1, {CLOSED}");
            assert_eq!(broken(&ask, &[got]).len(), 1, "{got}");
        }
        assert_eq!(broken(&sender, &["got 0 7 1", "got 0 7 3, closed 0 0"]), [""; 0]);
        assert_eq!(broken(&sender, &["got 0 7 1", "closed 0 0"]), [""; 0]);
        assert_eq!(broken(&sender, &["got 0 7 1, got 0 7 3"]).len(), 1);
        assert_eq!(broken(&sender, &["got 0 9 1", "got 0 7 1, got 0 7 3, closed 0 0"]).len(), 1);
        assert_eq!(broken(&sender, &["got 0 7 1, closed 0 0", "got 0 7 3"]).len(), 1);
    }

    #[test]
    fn a_tell_that_was_said_not_to_be_sent_does_not_arrive() {
        let got = ["got 0 7 1, got 0 7 2, got 0 7 3, closed 0 0"];
        for (reason, breaks) in [("Unreachable", 1), ("LinkLost", 0)] {
            let sender = format!("{TOLD}, letter 1 Out Tell {reason} 1, {CLOSED}");
            assert_eq!(broken(&sender, &got).len(), breaks);
        }
    }

    #[test]
    fn a_refused_tell_gives_its_number_back() {
        let sender = "born 7, told 1 1, refused 1 1 Full, told 1 1, closed 0 0";
        assert_eq!(broken(sender, &["got 0 7 1, closed 0 0"]), [""; 0]);
        assert_eq!(
            broken("born 7, told 1 1, refused 1 1 Full, closed 0 0", &["got 0 7 1"]).len(),
            1
        );
    }

    #[test]
    fn every_ask_ends_and_says_truly_whether_it_came() {
        let end = |how: &str, question: &str| {
            let sender = format!("born 7, asked 1 5, ended 5 {how}, {CLOSED}");
            broken(&sender, &[&format!("{question}, {CLOSED}")]).len()
        };
        let (came, none) = ("question 0 7 5", "question 0 9 5");
        assert_eq!(
            [end("reply", came), end("timeout", came), end("failed:LinkLost", came)],
            [0; 3]
        );
        assert_eq!([end("failed:Unreachable", none), end("refused:Full", none)], [0; 2]);
        assert_eq!([end("failed:Unreachable", came), end("refused:Full", came)], [1; 2]);
        assert_eq!([end("reply", none), end("hung", none), end("wrong", came)], [1; 3]);
        assert_eq!(end("reply", "question 0 7 5, question 0 7 5"), 1);
        assert_eq!(broken("born 7, asked 1 5, closed 0 0", &[CLOSED]).len(), 1);
        assert_eq!(broken("born 7, asked 1 5", &[CLOSED]), [""; 0]);
    }

    #[test]
    fn the_stream_of_dead_letters_and_their_count_are_compared() {
        assert_eq!(broken("born 7, closed 3 4", &[CLOSED]).len(), 1);
    }

    #[test]
    fn a_full_mailbox_holds_back_and_refuses_nothing() {
        let receiver = format!("got 0 7 1, got 0 7 3, letter 0 In Tell MailboxFull 1, {CLOSED}");
        assert_eq!(broken(&format!("{TOLD}, {CLOSED}"), &[&receiver]).len(), 1);
    }

    #[test]
    fn at_last_everything_gets_through() {
        let end =
            |last: &str| broken(&format!("born 7, asked 1 5, {last}, {CLOSED}"), &[CLOSED]).len();
        assert_eq!([end("ended 5 timeout"), end("ended 5 last:timeout")], [0, 1]);
        assert_eq!(end("ended 5 timeout, stuck 1"), 1);
    }
}
