//! Proves the machine: scripts for each state and event, random faults, and an exhaustive model.
//!
//! `shell.rs` carries the actions of one machine out, without IO; `pair.rs` lets two of them talk over virtual
//! links in virtual time; `model.rs` lets two of them talk in every order there is.

mod digest;
mod faults;
mod fenced;
mod model;
mod pair;
mod random;
mod script;
mod shell;
mod stop;
mod turns;
mod watch;
mod world;

use crate::address::{Address, Uid, UniqueAddress};

/// Index of a side: the chooser is `ADA`.
type Side = usize;
const ADA: Side = 0;
const BOB: Side = 1;

fn unique(side: Side, uid: u64) -> UniqueAddress {
    UniqueAddress::new(address(side), Uid::new(uid))
}

fn address(side: Side) -> Address {
    let port = 2551 + u16::try_from(side).unwrap_or_default();
    Address::new("mem", "Pair", "127.0.0.1", port).unwrap()
}
