//! Keeps nobody: [`DownAll`].

use super::{Decision, DowningStrategy, View};

/// Downs every member as soon as one is unreachable.
///
/// For clusters that are restarted as a whole, where half a cluster is worth less than none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DownAll;

impl DowningStrategy for DownAll {
    fn decide(&self, _view: &View) -> Decision {
        Decision::DownAll
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_decisions;
    use super::*;

    #[test]
    fn everybody_goes_whoever_is_unreachable() {
        let table = [
            ("a b c | d", "", Decision::DownAll, "bcda"),
            ("a | b", "", Decision::DownAll, "ba"),
            ("a b", "a>b b>a", Decision::DownAll, "ba"),
            ("a b:joining c:exiting | d", "", Decision::DownAll, "bda"),
        ];
        assert_decisions(&DownAll, &table);
    }
}
