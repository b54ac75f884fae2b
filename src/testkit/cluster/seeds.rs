//! Chooses the seeds that a scenario is run with.

use std::env;

use super::Failure;

/// Is the seeds that a scenario is run with.
///
/// | variable | runs |
/// |---|---|
/// | none | as many as the scenario asks for, from 0 on |
/// | `TELLWIRE_SEEDS=5000` | so many of each scenario |
/// | `TELLWIRE_SEED=17` | that one alone: the replay of a failure |
///
/// With `TELLWIRE_TRACE=100000` a failure shows so many of the last lines of its trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeds(std::ops::Range<u64>);

impl Seeds {
    /// Returns `count` seeds, or what the variables say instead.
    ///
    /// # Panics
    /// If a variable is set to something that is no number.
    #[must_use]
    pub fn from_environment(count: u64) -> Self {
        Self::chosen(count, number("TELLWIRE_SEEDS"), number("TELLWIRE_SEED"))
    }

    /// Returns how many lines of trace are wanted.
    pub(super) fn trace_lines() -> usize {
        let lines = number("TELLWIRE_TRACE").and_then(|lines| usize::try_from(lines).ok());
        lines.unwrap_or(TRACE_LINES)
    }

    fn chosen(count: u64, many: Option<u64>, one: Option<u64>) -> Self {
        match one {
            Some(seed) => Self(seed..seed.saturating_add(1)),
            None => Self(0..many.unwrap_or(count)),
        }
    }

    /// Runs a scenario once for each seed, and stops at the first failure.
    ///
    /// # Panics
    /// If it fails; the message holds the end of the trace, the seed and the way to replay it.
    pub fn run(self, name: &str, scenario: impl Fn(u64) -> Result<(), Failure>) {
        for seed in self.0 {
            if let Err(failure) = scenario(seed) {
                panic!("{failure}: TELLWIRE_SEED={seed} cargo test --all-features {name}\n");
            }
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// Lines of trace that show how a failure came about.
const TRACE_LINES: usize = 60;

#[cfg(test)]
mod tests {
    use super::Seeds;

    #[test]
    fn one_seed_goes_before_many_and_many_before_the_default() {
        assert_eq!(Seeds::chosen(3, None, None), Seeds(0..3));
        assert_eq!(Seeds::chosen(3, Some(9), None), Seeds(0..9));
        assert_eq!(Seeds::chosen(3, Some(9), Some(7)), Seeds(7..8));
    }
}
