//! Membership (map to come).

pub mod gossip;
pub mod member;
pub mod profile;
pub mod reachability;
pub mod vector_clock;

#[cfg(test)]
mod tests;
