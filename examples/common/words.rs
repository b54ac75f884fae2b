//! Counts words in one process: what a worker does with its batch, and what the sum is checked against.

use std::collections::HashMap;

/// How often each word occurs.
pub(crate) type Counts = HashMap<String, u64>;

/// Counts words: maximal runs of letters and digits of any script, lower-cased.
pub(crate) fn count<'a>(texts: impl IntoIterator<Item = &'a str>) -> Counts {
    let mut counts = Counts::new();
    for text in texts {
        for word in text.split(is_no_word).filter(|word| !word.is_empty()) {
            *counts.entry(word.to_lowercase()).or_default() += 1;
        }
    }
    counts
}

/// Adds the counts of one batch to the sum.
pub(crate) fn merge(sum: &mut Counts, batch: Counts) {
    for (word, count) in batch {
        *sum.entry(word).or_default() += count;
    }
}

/// Cuts a text into batches of whole lines; a line too long for one batch is cut between words.
pub(crate) fn batches(mut text: &str) -> Vec<&str> {
    let mut batches = Vec::new();
    while !text.is_empty() {
        let (batch, rest) = text.split_at(end_of_batch(text));
        batches.push(batch);
        text = rest;
    }
    batches
}

/// Lists the commonest words, and how many there are.
pub(crate) fn report(counts: &Counts) -> String {
    let mut ranked: Vec<(&String, &u64)> = counts.iter().collect();
    ranked.sort_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
    let mut lines = String::new();
    for (word, count) in ranked.iter().take(SHOWN) {
        lines += &format!("{count} {word}\n");
    }
    let total: u64 = counts.values().sum();
    lines + &format!("total {total} words {} distinct\n", counts.len())
}

fn end_of_batch(text: &str) -> usize {
    let reach = text.bytes().enumerate().take(LONGEST_LINE).skip(BATCH);
    let line = reach.map(|(at, byte)| (at + 1, byte)).find(|(_, byte)| *byte == b'\n');
    let gap = || {
        let mut late = text.char_indices().skip_while(|(at, _)| *at < BATCH);
        late.find(|(_, c)| is_no_word(*c)).map(|(at, _)| at)
    };
    line.map(|(end, _)| end).or_else(gap).unwrap_or(text.len())
}

fn is_no_word(c: char) -> bool {
    !c.is_alphanumeric()
}

/// How many words are listed.
const SHOWN: usize = 20;
/// Bytes after which a batch ends with its line.
const BATCH: usize = 8 * 1024;
/// Bytes after which a batch ends inside its line.
const LONGEST_LINE: usize = 64 * 1024;
