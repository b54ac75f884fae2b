//! Counts what a peer's tells still occupy here and grants it more: the receiver's half of flow control.
//!
//! Floor 4, but a plain table: no tokio, no clock. `credit.rs` describes the protocol and is the half at the other
//! end; the dispatcher and the backlogs say what came and where it ended.
//!
//! Each account has three sums: *freed* (delivered to a mailbox, or ended otherwise), *waiting* (in the backlog of a
//! full mailbox) and *granted*. The peer may always have `freed + window`. A peer that keeps to its grant can wait
//! with at most a window of messages, and nothing else is ever kept here; whoever does not is refused. Grants are
//! state and not messages: the writer picks up the latest when it writes, so they need no queue and cannot be lost
//! but with their link, after which [`standing`](Receiving::standing) says everything again.
//!
//! A window that is right for a slow actor holds a fast one's sender back: word of what was freed is under way for
//! longer than the rest of the window takes. So a window doubles with each grant, in messages, as long as nothing of its
//! account has to wait, and falls back to the account's share of the budget when something has to. What windows have beyond
//! their shares comes from one sum for the peer; what an account was granted of it is its own until the next grant, so one
//! that falls silent keeps it:
//!
//! ```text
//!  share ── grant ──▶ 2 x share ── grant ──▶ 4 x share ── grant ──▶ .. at most `max_window` by the number of senders
//!    ▲                    │                      │                   │
//!    └────────────────────┴─ a message waits ────┴───────────────────┘
//! ```

use std::sync::Arc;

use crate::association::control::{Amount, Grant, Standing};
use crate::node::budget::{Budget, Lease};
use crate::node::credit::{AccountId, INITIAL};
use crate::settings::InboundSettings;

/// Counts what one peer's tells occupy here, by target.
#[derive(Debug)]
pub(crate) struct Receiving {
    accounts: Vec<Account>,
    /// The accounts whose grant the peer has yet to be told.
    due: Vec<AccountId>,
    /// Counts the peer's incarnations, so that what an old one left behind is not the new one's.
    epoch: u64,
    /// Bytes that wait in backlogs, of all incarnations.
    held: u64,
    /// The window of a target whose messages never wait.
    window: Amount,
    max_held: u64,
    max_window: u64,
    /// Messages by which windows may still exceed their shares.
    spare: u64,
}

#[derive(Debug, Default)]
struct Account {
    freed: Amount,
    waiting: Amount,
    granted: Amount,
    /// The window half of which is worth the next grant; none before the first, and after something had to wait.
    window: Option<Amount>,
    /// Messages of the last grant's window beyond the share; none if something has had to wait since, or waited then.
    extra: Option<u64>,
    /// Messages beyond the share that may be on their way by the last grant.
    reserved: u64,
    lease: Option<Lease>,
    is_due: bool,
}

/// Stands for one message in a backlog.
#[derive(Debug)]
pub(crate) struct Ticket {
    id: AccountId,
    epoch: u64,
    bytes: u64,
}

impl Receiving {
    pub(crate) fn new(settings: &InboundSettings) -> Self {
        Self {
            accounts: Vec::new(),
            due: Vec::new(),
            epoch: 0,
            held: 0,
            window: window(settings),
            max_held: settings.max_held_bytes as u64,
            max_window: settings.max_window as u64,
            spare: settings.max_window as u64,
        }
    }

    /// Notes that tells have ended, in a mailbox or otherwise. Their target shares `budget` among its senders, if
    /// its messages may have to wait.
    pub(crate) fn free(&mut self, id: AccountId, amount: Amount, budget: Option<&Arc<Budget>>) {
        let account = self.account(id);
        account.freed = account.freed.plus(amount);
        account.lease_from(budget);
        self.consider(id);
    }

    /// Lets a message wait in a backlog; refused to a peer that was not granted as much, and when its messages
    /// occupy as much as they may together.
    pub(crate) fn wait(&mut self, id: AccountId, bytes: u64) -> Option<Ticket> {
        let (epoch, held) = (self.epoch, self.held.saturating_add(bytes + WAITING_COST));
        let has_room = held <= self.max_held;
        let account = self.account(id);
        let occupied = account.freed.plus(account.waiting);
        if !has_room || !occupied.is_below(account.granted) {
            return None;
        }
        account.waiting = account.waiting.plus(Amount::one(bytes));
        account.fall_back();
        self.held = held;
        Some(Ticket { id, epoch, bytes })
    }

    /// Tells whether a message may wait though its mailbox has room, because it is not decoded yet. A quarter of what
    /// may be held stays free for those whose mailbox is full.
    pub(crate) fn may_defer(&mut self, id: AccountId, bytes: u64) -> bool {
        let has_room = self.held.saturating_add(bytes) <= self.max_held / 4 * 3;
        let account = self.account(id);
        has_room && account.freed.plus(account.waiting).is_below(account.granted)
    }

    /// Notes that a message has left its backlog.
    pub(crate) fn leave(&mut self, ticket: &Ticket) {
        self.held = self.held.saturating_sub(ticket.bytes + WAITING_COST);
        if ticket.epoch != self.epoch {
            return;
        }
        let (account, amount) = (self.account(ticket.id), Amount::one(ticket.bytes));
        account.waiting = account.waiting.minus(amount);
        account.freed = account.freed.plus(amount);
        self.consider(ticket.id);
    }

    /// Takes back that a message waits: it ended at once, and is yet to be counted as such.
    pub(crate) fn forget(&mut self, ticket: &Ticket) {
        self.held = self.held.saturating_sub(ticket.bytes + WAITING_COST);
        let account = self.account(ticket.id);
        account.waiting = account.waiting.minus(Amount::one(ticket.bytes));
    }

    /// Tells whether the peer is to be told something.
    pub(crate) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Gives the grants that the peer has yet to be told.
    pub(crate) fn take_due(&mut self) -> Vec<Grant> {
        let due = std::mem::take(&mut self.due);
        due.into_iter().filter_map(|id| Some(self.accounts.get_mut(id.index())?.tell(id))).collect()
    }

    /// Gives how every account that was used stands, for the beginning of a link.
    pub(crate) fn standing(&mut self) -> Vec<Standing> {
        self.due.clear();
        let accounts = self.accounts.iter_mut().zip(0..).filter_map(|(account, number)| {
            let received = account.freed.plus(account.waiting);
            let grant = account.tell(AccountId::new(number)?);
            (received != Amount::default()).then_some(Standing { received, grant })
        });
        accounts.collect()
    }

    /// Numbers the peer's present incarnation.
    pub(crate) fn incarnation(&self) -> u64 {
        self.epoch
    }

    /// Begins anew for another incarnation of the peer.
    pub(crate) fn restart(&mut self) {
        self.accounts.clear();
        self.due.clear();
        self.epoch += 1;
        self.spare = self.max_window;
    }

    /// Grants more if that is worth a word, half a window.
    fn consider(&mut self, id: AccountId) {
        let (full, spare, max_window) = (self.window, self.spare, self.max_window);
        let account = self.account(id);
        if account.window.is_some_and(|window| !account.is_worth_a_word(window)) {
            return;
        }
        let share = account.lease.as_ref().map_or(full, Lease::share);
        let available = account.reserved + spare;
        let extra = account.next_extra(share.messages, max_window).min(available);
        let window = share.plus(INITIAL).plus(messages(extra));
        account.window = Some(window);
        if !account.is_worth_a_word(window) {
            return;
        }
        account.granted = account.granted.max(account.freed.plus(window));
        account.extra = (account.waiting.messages == 0).then_some(extra);
        let outstanding = account.outstanding();
        // A grant for the sake of bytes leaves messages that were granted before.
        let beyond = outstanding.messages.saturating_sub(share.messages);
        account.reserved = beyond.min(account.reserved.max(extra));
        let left = available - account.reserved;
        if let Some(lease) = &mut account.lease {
            lease.set(outstanding.minus(messages(account.reserved)));
        }
        if !std::mem::replace(&mut account.is_due, true) {
            self.due.push(id);
        }
        self.spare = left;
    }

    fn account(&mut self, id: AccountId) -> &mut Account {
        if self.accounts.len() <= id.index() {
            let new = || Account { granted: INITIAL, ..Account::default() };
            self.accounts.resize_with(id.index() + 1, new);
        }
        // Within bounds by the line above.
        &mut self.accounts[id.index()]
    }
}

impl Account {
    fn is_worth_a_word(&self, window: Amount) -> bool {
        let more = self.freed.plus(window).minus(self.granted);
        more.messages >= (window.messages / 2).max(1) || more.bytes >= (window.bytes / 2).max(1)
    }

    /// Lets the next grant be what the share of the budget allows.
    fn fall_back(&mut self) {
        self.window = None;
        self.extra = None;
    }

    /// Gives what the next window has beyond the share: it is twice the last one while nothing has to wait.
    fn next_extra(&self, share: u64, max_window: u64) -> u64 {
        let (Some(lease), Some(extra)) = (&self.lease, self.extra) else { return 0 };
        let most = (max_window / lease.senders()).saturating_sub(share);
        extra.saturating_mul(2).saturating_add(share).min(most)
    }

    /// Gives what may be on its way beyond the initial window.
    fn outstanding(&self) -> Amount {
        self.granted.minus(self.freed).minus(INITIAL)
    }

    fn lease_from(&mut self, budget: Option<&Arc<Budget>>) {
        let is_leased = match (&self.lease, budget) {
            (Some(lease), Some(budget)) => lease.is_of(budget),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !is_leased {
            self.fall_back();
            let leased = self.outstanding().minus(messages(self.reserved));
            self.lease = budget.map(|budget| Lease::new(budget, leased));
        }
    }

    fn tell(&mut self, id: AccountId) -> Grant {
        self.is_due = false;
        Grant { account: id.get(), granted: self.granted }
    }
}

/// Gives the budget of one target: what its senders share of its window, beyond the initial window of each.
pub(crate) fn window(settings: &InboundSettings) -> Amount {
    let (messages, bytes) = (settings.mailbox_capacity as u64, settings.mailbox_bytes as u64);
    Amount { messages, bytes }
}

fn messages(messages: u64) -> Amount {
    Amount { messages, bytes: 0 }
}

/// What a message in a backlog is held to cost beside its payload, in bytes.
const WAITING_COST: u64 = 128;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::{Strategy, any};
    use proptest::{collection, prop_assert, prop_oneof, proptest};

    use super::*;
    use crate::node::credit::Credit;

    const A: u16 = 0;
    const B: u16 = 1500;

    fn id(number: u16) -> AccountId {
        AccountId::new(number).unwrap()
    }

    fn settings(capacity: usize) -> InboundSettings {
        InboundSettings { mailbox_capacity: capacity, ..InboundSettings::default() }
    }

    /// Both halves, the links between them, and one mailbox behind two accounts.
    struct World {
        /// The mailbox takes what comes while nothing waits.
        is_fast: bool,
        credit: Credit,
        receiving: Receiving,
        budget: Arc<Budget>,
        /// Offered, and not yet written.
        lane: VecDeque<(u16, u64)>,
        /// Written to the present link, and not yet read.
        link: VecDeque<(u16, u64)>,
        backlog: VecDeque<Ticket>,
    }

    #[derive(Debug, Clone)]
    enum Step {
        Tell(u16, u64),
        Write(usize),
        Read(usize),
        Take(usize),
        Grant,
        Break,
        Pace(bool),
    }

    impl World {
        fn new(settings: &InboundSettings) -> Self {
            Self {
                is_fast: false,
                credit: Credit::default(),
                budget: Budget::new(window(settings)),
                receiving: Receiving::new(settings),
                lane: VecDeque::new(),
                link: VecDeque::new(),
                backlog: VecDeque::new(),
            }
        }

        fn step(&mut self, step: &Step) {
            match *step {
                Step::Tell(account, bytes) => {
                    if self.credit.spend(id(account), bytes) {
                        self.lane.push_back((account, bytes));
                    }
                }
                Step::Write(count) => {
                    let count = count.min(self.lane.len());
                    self.link.extend(self.lane.drain(..count));
                }
                Step::Read(count) => (0..count).for_each(|_| self.read()),
                Step::Take(count) => {
                    let count = count.min(self.backlog.len());
                    self.backlog.drain(..count).for_each(|ticket| self.receiving.leave(&ticket));
                }
                Step::Grant => {
                    for Grant { account, granted } in self.receiving.take_due() {
                        self.credit.grant(id(account), granted);
                    }
                }
                Step::Break => self.break_link(),
                Step::Pace(is_fast) => self.is_fast = is_fast,
            }
        }

        /// Reads one tell, which the mailbox takes if it is fast.
        fn read(&mut self) {
            let Some((account, bytes)) = self.link.pop_front() else { return };
            let mut ended = Amount::default();
            if self.is_fast && self.backlog.is_empty() {
                ended = Amount::one(bytes);
            } else {
                let ticket = self.receiving.wait(id(account), bytes);
                self.backlog.push_back(ticket.expect("an honest sender is never refused"));
            }
            self.receiving.free(id(account), ended, Some(&self.budget));
        }

        fn break_link(&mut self) {
            self.link.clear();
            let waiting = self.lane.iter().map(|(account, bytes)| (id(*account), *bytes));
            self.credit.begin_link(waiting);
            self.receiving.standing().iter().for_each(|standing| self.credit.settle(standing));
            self.credit.settle_rest();
        }

        /// Lets everything happen that can, with no break.
        fn come_to_rest(&mut self) {
            for step in [Step::Write(99_999), Step::Read(99_999), Step::Take(99_999), Step::Grant] {
                self.step(&step);
            }
        }
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let account =
            prop_oneof![4 => proptest::strategy::Just(A), 1 => proptest::strategy::Just(B)];
        let bytes = prop_oneof![9 => 0..200_u64, 1 => 0..100_000_u64];
        let step = prop_oneof![
            40 => (account, bytes).prop_map(|(account, bytes)| Step::Tell(account, bytes)),
            8 => (0..400_usize).prop_map(Step::Write),
            8 => (0..400_usize).prop_map(Step::Read),
            6 => (0..200_usize).prop_map(Step::Take),
            6 => any::<bool>().prop_map(|_| Step::Grant),
            1 => any::<bool>().prop_map(|_| Step::Break),
            2 => any::<bool>().prop_map(Step::Pace),
        ];
        collection::vec(step, 0..2000)
    }

    proptest! {
        #[test]
        fn no_credit_is_lost_or_made_up_whatever_happens(
            steps in steps(), capacity in 1..300_usize, max_window in 0..2000_usize,
            mailbox_bytes in 1024..1_000_000_usize,
        ) {
            let settings = InboundSettings { max_window, mailbox_bytes, ..settings(capacity) };
            let mut world = World::new(&settings);
            for step in &steps {
                world.step(step);
                let most = (capacity + max_window) as u64 + 2 * INITIAL.messages;
                prop_assert!(world.backlog.len() as u64 <= most, "{} wait", world.backlog.len());
                let Receiving { accounts, spare, .. } = &world.receiving;
                let reserved = accounts.iter().map(|account| account.reserved).sum::<u64>();
                prop_assert!(spare + reserved == max_window as u64);
                // Whatever was granted can come at once.
                for account in accounts {
                    let beyond = account.outstanding().messages.saturating_sub(capacity as u64);
                    prop_assert!(beyond <= account.reserved);
                }
            }
            world.come_to_rest();
            for account in [A, B] {
                // Whatever happened before, a sender gets through for ever.
                for _ in 0..3 {
                    let tells = (0..256).filter(|_| {
                        world.step(&Step::Tell(account, 1));
                        !world.lane.is_empty()
                    });
                    prop_assert!(tells.count() > 0, "account {account} is stuck");
                    world.come_to_rest();
                }
            }
            prop_assert!(world.backlog.is_empty() && world.receiving.held == 0);
        }
    }

    #[test]
    fn a_target_in_use_gets_a_larger_window_and_word_of_it_each_half() {
        let mut receiving = Receiving::new(&InboundSettings { max_window: 0, ..settings(1000) });
        let budget = Budget::new(window(&settings(1000)));
        receiving.free(id(7), Amount::one(1), Some(&budget));
        let grant = receiving.take_due()[0];
        assert_eq!((grant.account, grant.granted.messages), (7, 1 + 256 + 1000));
        let mut words = 0;
        for _ in 0..10_000 {
            receiving.free(id(7), Amount::one(1), Some(&budget));
            words += receiving.take_due().len();
        }
        assert_eq!(words, 10_000 / (1256 / 2));
    }

    /// Frees messages until there is another grant; gives what may be on its way by it.
    fn next_window(receiving: &mut Receiving, number: u16, budget: &Arc<Budget>) -> u64 {
        loop {
            receiving.free(id(number), Amount::one(1), Some(budget));
            if let [Grant { granted, .. }] = receiving.take_due()[..] {
                let freed = receiving.account(id(number)).freed;
                return granted.minus(freed).messages - INITIAL.messages;
            }
        }
    }

    #[test]
    fn a_window_doubles_until_something_has_to_wait() {
        let settings = InboundSettings { max_window: 5000, ..settings(1000) };
        let mut receiving = Receiving::new(&settings);
        let budget = Budget::new(window(&settings));
        for expected in [1000, 2000, 4000, 5000, 5000] {
            assert_eq!(next_window(&mut receiving, 0, &budget), expected);
        }
        let ticket = receiving.wait(id(0), 1).unwrap();
        assert_eq!(next_window(&mut receiving, 0, &budget), 1000);
        assert_eq!(next_window(&mut receiving, 0, &budget), 1000, "it waits still");
        receiving.leave(&ticket);
        assert_eq!(next_window(&mut receiving, 0, &budget), 1000);
        assert_eq!(next_window(&mut receiving, 0, &budget), 2000);
    }

    #[test]
    fn windows_share_what_they_may_have_beyond_their_budgets() {
        let settings = InboundSettings { max_window: 5000, ..settings(1000) };
        let mut receiving = Receiving::new(&settings);
        let budgets = [(); 2].map(|()| Budget::new(window(&settings)));
        for expected in [1000, 2000, 4000] {
            assert_eq!(next_window(&mut receiving, 0, &budgets[0]), expected);
        }
        for expected in [1000, 2000, 3000] {
            assert_eq!(next_window(&mut receiving, 1, &budgets[1]), expected);
        }
        receiving.restart();
        for expected in [1000, 2000, 4000] {
            assert_eq!(next_window(&mut receiving, 1, &budgets[1]), expected);
        }
    }

    #[test]
    fn what_is_granted_beyond_a_share_is_nobody_else_s_until_it_is_used_up() {
        let settings = InboundSettings { max_window: 5000, ..settings(1000) };
        let mut receiving = Receiving::new(&settings);
        let budgets = [(); 2].map(|()| Budget::new(window(&settings)));
        for expected in [1000, 2000, 4000, 5000] {
            assert_eq!(next_window(&mut receiving, 0, &budgets[0]), expected);
        }
        let ticket = receiving.wait(id(0), 1).unwrap();
        for expected in [1000, 2000, 2000] {
            assert_eq!(next_window(&mut receiving, 1, &budgets[1]), expected);
        }
        assert_eq!(next_window(&mut receiving, 0, &budgets[0]), 1000);
        receiving.leave(&ticket);
        for expected in [4000, 5000, 5000] {
            assert_eq!(next_window(&mut receiving, 1, &budgets[1]), expected);
        }
    }

    #[test]
    fn what_a_target_is_about_to_be_granted_is_kept_for_nobody() {
        let settings = InboundSettings { max_window: 5000, ..settings(1000) };
        let mut receiving = Receiving::new(&settings);
        let budgets = [(); 9].map(|()| Budget::new(window(&settings)));
        for (number, budget) in (0..).zip(&budgets) {
            assert_eq!(next_window(&mut receiving, number, budget), 1000);
        }
        for expected in [2000, 4000, 5000] {
            assert_eq!(next_window(&mut receiving, 8, &budgets[8]), expected);
        }
    }

    #[test]
    fn another_registration_of_a_target_starts_with_its_own_share() {
        let settings = InboundSettings { max_window: 5000, ..settings(1000) };
        let mut receiving = Receiving::new(&settings);
        let budgets = [(); 2].map(|()| Budget::new(window(&settings)));
        for expected in [1000, 2000, 4000] {
            assert_eq!(next_window(&mut receiving, 0, &budgets[0]), expected);
        }
        for expected in [1000, 2000] {
            assert_eq!(next_window(&mut receiving, 0, &budgets[1]), expected);
        }
    }

    #[test]
    fn senders_to_one_target_share_its_window() {
        let settings = InboundSettings { max_window: 8000, ..settings(1000) };
        let mut peers = [(); 2].map(|()| Receiving::new(&settings));
        let budget = Budget::new(window(&settings));
        let [one, other] = &mut peers;
        assert_eq!(next_window(one, 0, &budget), 1000);
        assert_eq!(next_window(other, 0, &budget), 0, "the first has it all");
        let windows: Vec<_> = (0..8)
            .map(|_| (next_window(one, 0, &budget), next_window(other, 0, &budget)))
            .collect();
        assert_eq!(windows.last(), Some(&(4000, 4000)), "{windows:?}");
    }

    #[test]
    fn a_peer_without_credit_is_refused_and_so_is_one_that_holds_too_much() {
        let mut receiving = Receiving::new(&settings(1));
        let tickets: Vec<_> = (0..1000).map_while(|_| receiving.wait(id(0), 0)).collect();
        assert_eq!(tickets.len(), 256);
        let settings = InboundSettings { max_held_bytes: 100_000, ..settings(1) };
        let mut receiving = Receiving::new(&settings);
        let held = (0..1000).filter(|number| receiving.wait(id(*number), 10_000).is_some());
        assert_eq!(held.count(), 9);
    }

    #[test]
    fn what_is_not_decoded_yet_leaves_room_for_full_mailboxes() {
        let settings = InboundSettings { max_held_bytes: 100_000, ..settings(1) };
        let mut receiving = Receiving::new(&settings);
        assert!(receiving.may_defer(id(0), 70_000));
        let first = receiving.wait(id(0), 70_000).unwrap();
        assert!(!receiving.may_defer(id(0), 1), "no credit is left");
        assert!(receiving.may_defer(id(1), 1000));
        assert!(!receiving.may_defer(id(1), 10_000));
        assert!(receiving.wait(id(1), 10_000).is_some());
        receiving.leave(&first);
        assert!(receiving.may_defer(id(0), 10_000), "credit alone is the sender's to keep");
    }

    #[test]
    fn a_new_incarnation_inherits_no_account_but_what_still_waits_is_counted() {
        let mut receiving = Receiving::new(&settings(1));
        let old = receiving.wait(id(0), 500).unwrap();
        receiving.restart();
        assert!(receiving.standing().is_empty());
        let held = receiving.held;
        receiving.leave(&old);
        assert!(receiving.held < held);
        assert!(receiving.standing().is_empty(), "nothing of the new one has come");
    }
}
