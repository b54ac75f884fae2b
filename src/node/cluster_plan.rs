//! Gathers what the builder was told of the cluster, and makes the membership of a node from it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::address::UniqueAddress;
use crate::membership::downing::{DowningStrategy, KeepMajority};
use crate::membership::gossip::RemovalTime;
use crate::membership::machine::{Membership, Setup};
use crate::membership::profile::{Label, Profile, ProfileError};
use crate::membership::settings::ClusterSettings;
use crate::node::StartError;
use crate::node::cluster::{Cluster, View};
use crate::node::gossiper::{self, Founding};
use crate::node::link::now;
use crate::node::seeds::SeedRules;
use crate::node::sink::GossipSink;
use crate::settings::Settings;

/// What the builder was told of the cluster; texts are checked at the start.
#[derive(Default)]
pub(crate) struct ClusterPlan {
    pub(crate) seeds: Option<Vec<String>>,
    pub(crate) profile: Profile,
    pub(crate) roles: Option<Vec<String>>,
    pub(crate) app_version: Option<String>,
    pub(crate) data_centre: Option<String>,
    pub(crate) settings: ClusterSettings,
    pub(crate) strategy: Option<Box<dyn DowningStrategy>>,
    /// Takes the place of the membership.
    pub(crate) sink: Option<Arc<dyn GossipSink>>,
}

/// A node's membership before it begins.
pub(crate) struct Prepared {
    pub(crate) cluster: Cluster,
    pub(crate) sink: Arc<dyn GossipSink>,
    /// None where a sink takes its place.
    pub(crate) gossiper: Option<gossiper::Parts>,
}

impl ClusterPlan {
    /// Makes the machine, which begins to join if there are seeds, its inbox and its handle; `schemes` are those of the node's transports.
    pub(crate) fn prepare(
        self,
        own: &UniqueAddress,
        schemes: Vec<&'static str>,
        settings: &Settings,
        seed: u64,
    ) -> Result<Prepared, StartError> {
        let rules = SeedRules { system: own.address().system().to_owned(), schemes };
        // A node that was told of no seeds is one itself, for whoever names it.
        let founding = if self.seeds.is_none() { Founding::WhenAsked } else { Founding::Never };
        let seeds = rules.read(self.seeds.iter().flatten())?;
        if self.sink.is_some() && !seeds.is_empty() {
            return Err(StartError::NoMembership);
        }
        let mut machine = Membership::new(Setup {
            own: own.clone(),
            profile: self.profile()?,
            settings: self.settings,
            strategy: self.strategy.unwrap_or_else(|| Box::new(KeepMajority::new())),
            seed,
            started: (now(), RemovalTime::since_1970(since_1970())),
        })?;
        if !seeds.is_empty() {
            machine.handle_join(now(), seeds)?;
        }
        let (phase, state) = (machine.phase(), machine.state());
        let view = View { last: 0, phase, state, refused: None };
        let (cluster, ends) = Cluster::new(own.clone(), rules, view, settings);
        if let Some(sink) = self.sink {
            return Ok(Prepared { cluster, sink, gossiper: None });
        }
        let sink = Arc::clone(&ends.inbox) as Arc<dyn GossipSink>;
        let gossiper = Some(gossiper::Parts { machine, ends, founding });
        Ok(Prepared { cluster, sink, gossiper })
    }

    fn profile(&self) -> Result<Profile, ProfileError> {
        let mut profile = self.profile.clone();
        if let Some(roles) = &self.roles {
            let roles: Vec<Label> =
                roles.iter().map(|role| role.parse()).collect::<Result<_, _>>()?;
            profile = profile.with_roles(roles)?;
        }
        if let Some(version) = &self.app_version {
            profile = profile.with_app_version(version.parse()?);
        }
        if let Some(place) = &self.data_centre {
            profile = profile.with_data_centre(place.parse()?);
        }
        Ok(profile)
    }
}

/// Reads the wall clock, once: tombstones are dated by it, and only by the day.
fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

impl fmt::Debug for ClusterPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterPlan").field("seeds", &self.seeds).finish_non_exhaustive()
    }
}
