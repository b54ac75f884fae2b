//! Reads the seeds that a node is to join through.

use crate::address::{Address, AddressError, Endpoint};
use crate::membership::machine::MAX_SEEDS;

/// Says why a seed was refused; nothing was sent. The caller's fault: the same text is refused again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SeedError {
    /// The text is neither an address nor an endpoint.
    #[error("a seed is no address: {0}")]
    Address(#[from] AddressError),
    /// The seed belongs to another actor system, and so to another cluster.
    #[error("the seed {seed} is no node of the system `{ours}`")]
    OtherSystem {
        /// The seed.
        seed: Address,
        /// This node's system.
        ours: String,
    },
    /// No transport of this node speaks the seed's scheme.
    #[error("no transport for the scheme of the seed {seed}")]
    UnknownScheme {
        /// The seed.
        seed: Address,
    },
    /// More seeds than a node asks.
    #[error("more than {limit} seeds")]
    TooMany {
        /// How many there may be.
        limit: usize,
    },
}

/// Knows what a seed of one node may look like.
#[derive(Debug, Clone)]
pub(crate) struct SeedRules {
    pub(crate) system: String,
    pub(crate) schemes: Vec<&'static str>,
}

impl SeedRules {
    /// Reads seeds in their order: addresses, or endpoints of the own system. Who is named twice counts once.
    pub(crate) fn read(
        &self,
        texts: impl IntoIterator<Item = impl ToString>,
    ) -> Result<Vec<Address>, SeedError> {
        let mut seeds = Vec::new();
        for text in texts {
            let seed = self.read_one(&text.to_string())?;
            if !seeds.contains(&seed) {
                seeds.push(seed);
            }
            if seeds.len() > MAX_SEEDS {
                return Err(SeedError::TooMany { limit: MAX_SEEDS });
            }
        }
        Ok(seeds)
    }

    fn read_one(&self, text: &str) -> Result<Address, SeedError> {
        let seed = if text.contains('@') {
            text.parse::<Address>()?
        } else {
            text.parse::<Endpoint>()?.with_system(&self.system)?
        };
        if seed.system() != self.system {
            return Err(SeedError::OtherSystem { seed, ours: self.system.clone() });
        }
        if !self.schemes.contains(&seed.scheme()) {
            return Err(SeedError::UnknownScheme { seed });
        }
        Ok(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<Vec<String>, SeedError> {
        let rules = SeedRules { system: "Shop".into(), schemes: vec!["tcp"] };
        Ok(rules.read(texts)?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn endpoints_are_of_the_own_system_and_the_order_is_kept() {
        let seeds = ["tcp://b:2", "tcp://Shop@a:1", "tcp://B:2"];
        assert_eq!(read(&seeds), Ok(vec!["tcp://Shop@b:2".into(), "tcp://Shop@a:1".into()]));
    }

    #[test]
    fn what_nobody_could_join_through_is_refused() {
        assert!(matches!(read(&["nonsense"]), Err(SeedError::Address(_))));
        assert!(matches!(read(&["tcp://a:0"]), Err(SeedError::Address(_))));
        assert!(matches!(read(&["tcp://Other@a:1"]), Err(SeedError::OtherSystem { .. })));
        assert!(matches!(read(&["quic://Shop@a:1"]), Err(SeedError::UnknownScheme { .. })));
        let many: Vec<String> = (1..=65).map(|port| format!("tcp://a:{port}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(read(&many), Err(SeedError::TooMany { limit: MAX_SEEDS }));
        assert_eq!(read(&many[..64]).map(|seeds| seeds.len()), Ok(64));
    }
}
