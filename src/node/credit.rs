//! Counts what may still be sent to each target of a peer: the sender's half of flow control.
//!
//! Floor 4, but a plain table: no tokio, no lock, no clock. It decides, `outbox.rs` holds and releases, and
//! `receiving.rs` is the half at the other end.
//!
//! Each target has an account of two running sums since the incarnations met: what was *offered* (left for the link)
//! and what the receiver has *granted*. Sums only grow, so a grant that is repeated, late or lost does no harm. A tell
//! may leave while both numbers offered are below those granted, so one message may overshoot the bytes: otherwise a
//! message larger than the window could never go. Every account begins with a grant of 256 messages and 64 KiB that
//! needs no word of the receiver; it grants more as soon as it sees that the target is used.
//!
//! **Accounts.** The number of an account is the target's dictionary id, which means the same text for the life of an
//! incarnation, so it is found without hashing. Targets that travel as literals share 1 024 accounts by their hash:
//! bounded without a table that a peer could fill, and both ends find the same account with nothing agreed upon. Two
//! of them may slow each other down; that begins with more targets than a dictionary holds.
//!
//! **Links.** A broken link takes frames along that the receiver never counts. So on each link but the first the
//! receiver says how its accounts stand, and the sender begins again from that: what was offered is what came, and
//! what waits here or was written to this link.
//!
//! ```text
//! sender                                receiver
//!    |== tells, up to the granted ========>|  delivered, or ended: freed at once
//!    |                                     |  mailbox full: kept in the backlog, freed when the mailbox takes it
//!    |<-- Credit(freed + window) ----------|  when half a window was freed
//!    |    held tells follow                |
//!  ~~~ the link breaks, another one is activated ~~~
//!    |<-- Activate, Standing(received) ----|
//! ```

use crate::association::control::{Amount, Grant, Standing};
use crate::wire::{DICTIONARY_ENTRIES, TextRef};

/// Numbers an account: what stands for a target towards one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AccountId(u16);

/// Counts what may still be sent to each target of a peer.
#[derive(Debug, Default)]
pub(crate) struct Credit {
    accounts: Vec<Account>,
}

#[derive(Debug, Clone, Copy)]
struct Account {
    offered: Amount,
    granted: Amount,
    /// The part of `offered` that the receiver can not have counted before the present link.
    on_link: Amount,
    /// The receiver has not said yet how it stands on this link.
    is_unsettled: bool,
    /// Tells wait for credit, so later ones wait behind them.
    is_held: bool,
}

impl AccountId {
    /// Gives the account of a target.
    #[inline]
    pub(crate) fn of(target: TextRef<'_>) -> Self {
        match target {
            TextRef::Id(id) => Self(id.get() - 1),
            TextRef::Literal(text) => Self(DICTIONARY_ENTRIES + hash(text)),
        }
    }

    /// Accepts a number that a peer sent.
    pub(crate) fn new(number: u16) -> Option<Self> {
        (usize::from(number) < MAX_ACCOUNTS).then_some(Self(number))
    }

    /// Gives the number.
    pub(crate) fn get(self) -> u16 {
        self.0
    }

    /// Counts from 0, for tables indexed by account.
    #[inline]
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl Credit {
    /// Takes credit for a tell that leaves now; false if it has to wait.
    #[inline]
    pub(crate) fn spend(&mut self, id: AccountId, bytes: u64) -> bool {
        let account = self.account(id);
        if account.is_held || !account.offered.is_below(account.granted) {
            return false;
        }
        account.offer(Amount::one(bytes));
        true
    }

    /// Tells whether a tell might leave now.
    pub(crate) fn has_some(&mut self, id: AccountId) -> bool {
        let account = self.account(id);
        !account.is_held && account.offered.is_below(account.granted)
    }

    /// Takes credit for the first of the tells that wait; false if there is none.
    pub(crate) fn spend_for_held(&mut self, id: AccountId, bytes: u64) -> bool {
        let account = self.account(id);
        let has_credit = account.offered.is_below(account.granted);
        if has_credit {
            account.offer(Amount::one(bytes));
        }
        has_credit
    }

    /// Gives credit back for a tell that was never written.
    pub(crate) fn refund(&mut self, id: AccountId, bytes: u64) {
        let account = self.account(id);
        let amount = Amount::one(bytes);
        account.offered = account.offered.minus(amount);
        account.on_link = account.on_link.minus(amount);
    }

    /// Notes whether tells of the account wait for credit.
    pub(crate) fn hold(&mut self, id: AccountId, is_held: bool) {
        self.account(id).is_held = is_held;
    }

    /// Takes a grant.
    pub(crate) fn grant(&mut self, id: AccountId, granted: Amount) {
        let account = self.account(id);
        account.granted = account.granted.max(granted);
    }

    /// Begins a link to an incarnation that has had none before, with the tells that wait for it in the lanes.
    pub(crate) fn begin(&mut self, waiting: impl Iterator<Item = (AccountId, u64)>) {
        self.begin_link(waiting);
        for account in &mut self.accounts {
            (account.offered, account.granted) = (account.on_link, INITIAL);
            account.is_unsettled = false;
        }
    }

    /// Begins another link, with the tells that wait for it in the lanes: what was lost before is settled by what
    /// the receiver says.
    pub(crate) fn begin_link(&mut self, waiting: impl Iterator<Item = (AccountId, u64)>) {
        for account in &mut self.accounts {
            (account.on_link, account.is_unsettled) = (Amount::default(), true);
        }
        for (id, bytes) in waiting {
            let account = self.account(id);
            account.on_link = account.on_link.plus(Amount::one(bytes));
        }
    }

    /// Settles an account by what the receiver says.
    pub(crate) fn settle(&mut self, standing: &Standing) {
        let Grant { account, granted } = standing.grant;
        let Some(id) = AccountId::new(account) else { return };
        self.grant(id, granted);
        let account = self.account(id);
        if std::mem::take(&mut account.is_unsettled) {
            account.offered = standing.received.plus(account.on_link);
        }
    }

    /// Settles the accounts of which the receiver had nothing to say: none of their tells has come.
    pub(crate) fn settle_rest(&mut self) {
        for account in &mut self.accounts {
            if std::mem::take(&mut account.is_unsettled) {
                account.offered = account.on_link;
            }
        }
    }

    #[inline]
    fn account(&mut self, id: AccountId) -> &mut Account {
        if self.accounts.len() <= id.index() {
            self.accounts.resize(id.index() + 1, Account::NEW);
        }
        // Within bounds by the line above.
        &mut self.accounts[id.index()]
    }
}

impl Account {
    const NEW: Self = Self {
        offered: Amount { messages: 0, bytes: 0 },
        granted: INITIAL,
        on_link: Amount { messages: 0, bytes: 0 },
        is_unsettled: false,
        is_held: false,
    };

    fn offer(&mut self, amount: Amount) {
        self.offered = self.offered.plus(amount);
        self.on_link = self.on_link.plus(amount);
    }
}

/// Hashes a literal by FNV-1a, which both ends compute alike, into the accounts of literals.
fn hash(text: &str) -> u16 {
    let mix = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let hash = text.as_bytes().iter().fold(0x811c_9dc5, mix);
    u16::try_from((hash >> 16) % u32::from(LITERAL_ACCOUNTS)).unwrap_or(0)
}

/// What every account is granted before the receiver says a word; part of the protocol.
pub(crate) const INITIAL: Amount = Amount { messages: 256, bytes: 64 * 1024 };
/// Accounts that the literal targets share.
const LITERAL_ACCOUNTS: u16 = 1024;
/// All accounts of one direction between two nodes.
pub(crate) const MAX_ACCOUNTS: usize = DICTIONARY_ENTRIES as usize + LITERAL_ACCOUNTS as usize;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u16) -> AccountId {
        AccountId::new(number).unwrap()
    }

    fn spend_all(credit: &mut Credit, id: AccountId, bytes: u64) -> u64 {
        (0..).take_while(|_| credit.spend(id, bytes)).count() as u64
    }

    fn standing(account: u16, received: u64, granted: u64) -> Standing {
        let amount = |messages| Amount { messages, bytes: messages * 1000 };
        Standing { received: amount(received), grant: Grant { account, granted: amount(granted) } }
    }

    #[test]
    fn the_initial_window_is_bounded_in_messages_and_in_bytes() {
        let mut credit = Credit::default();
        assert_eq!(spend_all(&mut credit, id(0), 10), 256);
        assert_eq!(spend_all(&mut credit, id(1), 32 * 1024), 2);
        assert_eq!(spend_all(&mut credit, id(2047), 1 << 30), 1, "one may overshoot");
    }

    #[test]
    fn a_repeated_or_late_grant_changes_nothing() {
        let mut credit = Credit::default();
        spend_all(&mut credit, id(3), 0);
        let granted = Amount { messages: 300, bytes: 70_000 };
        credit.grant(id(3), granted);
        credit.grant(id(3), Amount { messages: 280, bytes: 66_000 });
        assert_eq!(spend_all(&mut credit, id(3), 0), 44);
        credit.grant(id(3), granted);
        assert!(!credit.spend(id(3), 0));
    }

    #[test]
    fn nothing_passes_tells_that_wait() {
        let mut credit = Credit::default();
        credit.hold(id(0), true);
        assert!(!credit.spend(id(0), 1));
        assert!(credit.spend_for_held(id(0), 1));
        assert!(credit.spend(id(1), 1), "another target's go on");
    }

    #[test]
    fn a_new_link_gives_back_what_the_old_one_swallowed() {
        let mut credit = Credit::default();
        assert_eq!(spend_all(&mut credit, id(0), 1), 256);
        assert_eq!(spend_all(&mut credit, id(1), 1), 256);
        // Of account 0, 6 wait in the lanes and 200 of the 250 written ones have come.
        credit.begin_link((0..6).map(|_| (id(0), 1)));
        assert!(!credit.spend(id(0), 1), "not before the receiver's word");
        credit.settle(&standing(0, 200, 256));
        credit.settle_rest();
        assert_eq!(spend_all(&mut credit, id(0), 1), 50);
        assert_eq!(spend_all(&mut credit, id(1), 1), 256, "nothing of it has come");
    }

    #[test]
    fn what_is_spent_on_a_link_before_the_receivers_word_is_counted_once() {
        let mut credit = Credit::default();
        (0..100).for_each(|_| assert!(credit.spend(id(0), 1)));
        credit.begin_link(std::iter::empty());
        (0..10).for_each(|_| assert!(credit.spend(id(0), 1)));
        credit.settle(&standing(0, 90, 256));
        credit.settle(&standing(0, 256, 256));
        credit.settle_rest();
        assert_eq!(spend_all(&mut credit, id(0), 1), 256 - 90 - 10);
    }

    #[test]
    fn a_new_incarnation_begins_from_the_initial_window() {
        let mut credit = Credit::default();
        credit.grant(id(0), Amount { messages: 10_000, bytes: 1 << 30 });
        (0..300).for_each(|_| assert!(credit.spend(id(0), 1)));
        credit.begin((0..6).map(|_| (id(0), 1)));
        assert_eq!(spend_all(&mut credit, id(0), 1), 250);
    }

    #[test]
    fn what_was_never_written_is_refunded() {
        let mut credit = Credit::default();
        assert_eq!(spend_all(&mut credit, id(0), 1), 256);
        credit.refund(id(0), 1);
        assert_eq!(spend_all(&mut credit, id(0), 1), 1);
    }

    #[test]
    fn literals_share_accounts_of_their_own() {
        let accounts = (0..5000).map(|n| AccountId::of(TextRef::Literal(&format!("/user/a{n}"))));
        let mut accounts: Vec<_> = accounts.map(AccountId::index).collect();
        assert!(accounts.iter().all(|index| (1024..MAX_ACCOUNTS).contains(index)));
        accounts.sort_unstable();
        accounts.dedup();
        assert!(accounts.len() > 900, "{} of 1024 are in use", accounts.len());
    }

    #[test]
    fn a_number_beyond_the_accounts_is_refused() {
        assert_eq!(AccountId::new(2047).map(AccountId::get), Some(2047));
        assert_eq!(AccountId::new(2048), None);
        let mut credit = Credit::default();
        credit.settle(&standing(u16::MAX, 1, 1));
        assert!(credit.accounts.is_empty());
    }
}
