//! Holds the testkit to its promises. One program, for building and linking each costs more than running it.

#[path = "../common/failing.rs"]
mod failing;

mod barriers;
mod invariants;
mod members;
mod network;
mod probes;
mod proxy;
