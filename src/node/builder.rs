//! Starts a node: gathers what the user chose, checks it, binds, and lets it run.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::address::{Address, AddressError, Endpoint};
use crate::association::control::{Identity, Limits};
use crate::codec::{CodecEntry, CodecRegistry, RegistryError};
use crate::membership::downing::DowningStrategy;
use crate::membership::machine::JoinError;
use crate::membership::profile::{Profile, ProfileError};
use crate::membership::settings::{ClusterSettings, ClusterSettingsError};
use crate::node::cluster_plan::{ClusterPlan, Prepared};
use crate::node::core::{Core, Entropy, Parts};
use crate::node::gossiper::Gossiper;
use crate::node::seeds::SeedError;
use crate::node::sink::{GossipSink, RemoteMessageSink};
use crate::node::{Node, accept, local};
use crate::settings::{Settings, SettingsError};
#[cfg(feature = "tcp")]
use crate::transport::TcpTransport;
use crate::transport::{Listener, Privacy, Transport, TransportError};

/// Gathers what a node needs before it starts.
#[must_use = "the node starts with `start`"]
pub struct NodeBuilder {
    system: String,
    listen: Option<String>,
    advertise: Option<String>,
    transports: Vec<Arc<dyn Transport>>,
    registry: Registry,
    required: Vec<&'static [CodecEntry]>,
    settings: Settings,
    sink: Option<Arc<dyn RemoteMessageSink>>,
    plaintext: Plaintext,
    cluster: ClusterPlan,
    entropy: Entropy,
}

/// Where the codec registry comes from.
enum Registry {
    Linked,
    Tables(Vec<&'static [CodecEntry]>),
    Given(CodecRegistry),
}

/// Whether unencrypted links may leave this machine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plaintext {
    LoopbackOnly,
    Anywhere,
}

/// Says why a node did not start; nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// `listen` was not called.
    #[error("no endpoint to listen on: call `listen`")]
    NoEndpoint,
    /// An endpoint or the system's name breaks the grammar; the caller's fault.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// No transport speaks the scheme of the endpoint: add one with `transport`, or the feature that brings it.
    #[error("no transport for scheme `{scheme}`")]
    UnknownScheme {
        /// The scheme.
        scheme: String,
    },
    /// Two transports speak the same scheme; the caller's fault.
    #[error("two transports for scheme `{scheme}`")]
    DuplicateScheme {
        /// The scheme.
        scheme: &'static str,
    },
    /// Peers cannot dial an unspecified address: say with `advertise` how they reach this node.
    #[error("{address} is no address that peers can dial: call `advertise`")]
    NotDialable {
        /// The address that peers would have been told.
        address: Address,
    },
    /// The transport does not encrypt, and the endpoint is not on loopback: choose another transport, or accept
    /// the risk with `allow_plaintext`.
    #[error(
        "{endpoint} is not on loopback and the transport does not encrypt: call `allow_plaintext` if that is meant"
    )]
    Plaintext {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// A setting is out of its range; the caller's fault.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A knob of the cluster is out of its range; the caller's fault.
    #[error(transparent)]
    Cluster(#[from] ClusterSettingsError),
    /// A role, version or data centre is no label; the caller's fault.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A seed is none; the caller's fault.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// The membership does not begin to join; the caller's fault.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// A gossip sink takes the place of the membership, so there is none to join with; the caller's fault.
    #[error("a node with a gossip sink of its own joins no cluster")]
    NoMembership,
    /// The codec registry cannot be made, or lacks what is required.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The transport cannot listen there.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// There is no tokio runtime to run in.
    #[error("a node starts inside a tokio runtime")]
    NoRuntime,
}

impl NodeBuilder {
    pub(crate) fn new(system: String) -> Self {
        Self {
            system,
            listen: None,
            advertise: None,
            transports: Vec::new(),
            registry: Registry::Linked,
            required: Vec::new(),
            settings: Settings::default(),
            sink: None,
            plaintext: Plaintext::LoopbackOnly,
            cluster: ClusterPlan::default(),
            entropy: Entropy::System,
        }
    }

    /// Sets the endpoint to listen on, `scheme://host:port`; port 0 lets the system choose.
    pub fn listen(mut self, endpoint: impl ToString) -> Self {
        self.listen = Some(endpoint.to_string());
        self
    }

    /// Sets the endpoint that peers dial, where it is not the one listened on; port 0 means the port listened on.
    pub fn advertise(mut self, endpoint: impl ToString) -> Self {
        self.advertise = Some(endpoint.to_string());
        self
    }

    /// Adds a transport. TCP with default settings is there unless another one speaks `tcp`.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transports.push(Arc::new(transport));
        self
    }

    /// Takes the codecs from this table, and others given so, instead of everything linked.
    pub fn codecs(mut self, table: &'static [CodecEntry]) -> Self {
        match &mut self.registry {
            Registry::Tables(tables) => tables.push(table),
            Registry::Linked | Registry::Given(_) => self.registry = Registry::Tables(vec![table]),
        }
        self
    }

    /// Takes this registry instead of everything linked.
    pub fn registry(mut self, registry: CodecRegistry) -> Self {
        self.registry = Registry::Given(registry);
        self
    }

    /// Refuses to start unless the registry has every entry of the table.
    pub fn require(mut self, table: &'static [CodecEntry]) -> Self {
        self.required.push(table);
        self
    }

    /// Sets every knob.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Lets a sink of your own take the tells in place of the directory; nothing can be registered then.
    pub fn sink(mut self, sink: impl RemoteMessageSink) -> Self {
        self.sink = Some(Arc::new(sink));
        self
    }

    /// Lets a sink of your own take the gossip that peers send, in place of this node's membership: such a node joins
    /// no cluster.
    pub fn gossip(mut self, sink: impl GossipSink) -> Self {
        self.cluster.sink = Some(Arc::new(sink));
        self
    }

    /// Lets unencrypted links leave this machine: anyone on the network can then read and forge them.
    pub fn allow_plaintext(mut self) -> Self {
        self.plaintext = Plaintext::Anywhere;
        self
    }

    /// Joins the cluster of these seeds at the start: addresses, or endpoints of this node's own system
    /// (`tcp://host:port`), in the order that all nodes list them.
    ///
    /// Only a node that is the first of its own list may form a new cluster, when none of the others answers that it
    /// is in one. A node for which this is not called joins nothing by itself, but forms a cluster for the first node
    /// that names it as a seed; so give every node the same list, where more than one node has to be found first.
    /// Host names are resolved at each try, and a node is known by the very address it advertises.
    pub fn seeds<S: ToString>(mut self, seeds: impl IntoIterator<Item = S>) -> Self {
        self.cluster.seeds = Some(seeds.into_iter().map(|seed| seed.to_string()).collect());
        self
    }

    /// Sets what this node says of itself to the other members.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.cluster.profile = profile;
        self
    }

    /// Sets what this node is there for, in place of the roles of its profile.
    pub fn roles<S: Into<String>>(mut self, roles: impl IntoIterator<Item = S>) -> Self {
        self.cluster.roles = Some(roles.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the version of the application that the other members see. Default `0.0.0`.
    pub fn app_version(mut self, version: impl Into<String>) -> Self {
        self.cluster.app_version = Some(version.into());
        self
    }

    /// Sets the name of the data centre that this node is in. Default `default`.
    pub fn data_centre(mut self, name: impl Into<String>) -> Self {
        self.cluster.data_centre = Some(name.into());
        self
    }

    /// Sets every knob of the cluster; what members must have alike is compared when a node joins.
    pub fn cluster_settings(mut self, settings: ClusterSettings) -> Self {
        self.cluster.settings = settings;
        self
    }

    /// Sets what is done about unreachable members; all members must do the same. Default
    /// [`KeepMajority`](crate::membership::downing::KeepMajority).
    pub fn downing(mut self, strategy: impl DowningStrategy + 'static) -> Self {
        self.cluster.strategy = Some(Box::new(strategy));
        self
    }

    /// Draws uid, jitter and the like from a seed, for tests that are run again.
    #[cfg(feature = "testkit")]
    pub(crate) fn random_seed(mut self, seed: u64) -> Self {
        self.entropy = Entropy::seeded(seed);
        self
    }

    /// Binds and starts the node. Not cancel safe: a start that is dropped half way may leave nothing or a node
    /// that ends at once.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub async fn start(self) -> Result<Node, StartError> {
        self.settings.check()?;
        let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let listen: Endpoint = self.listen.as_deref().ok_or(StartError::NoEndpoint)?.parse()?;
        let advertise: Option<Endpoint> = self.advertise.as_deref().map(str::parse).transpose()?;
        listen.with_port(1).with_system(&self.system)?;
        let registry = self.registry.build()?;
        for table in &self.required {
            registry.require(table)?;
        }
        let transports = by_scheme(self.transports)?;
        let listener = bind(&transports, &listen, self.plaintext).await?;
        let address = address(&self.system, listener.endpoint(), advertise)?;
        let max_message = u32::try_from(self.settings.inbound.max_message).unwrap_or(u32::MAX);
        let identity = Identity {
            local: self.entropy.incarnation(address),
            limits: Limits { max_message },
            registry: registry.fingerprint(),
        };
        let schemes = transports.keys().copied().collect();
        let Prepared { cluster, sink: gossip, gossiper } =
            self.cluster.prepare(&identity.local, schemes, &self.settings, self.entropy.draw())?;
        tracing::info!(local = %identity.local, codecs = registry.len(), "node started");
        let (bound, entropy) = (listener.endpoint().clone(), self.entropy);
        let (settings, sink) = (self.settings, self.sink);
        let parts = Parts {
            identity,
            bound,
            entropy,
            settings,
            registry,
            transports,
            sink,
            gossip,
            cluster,
        };
        let core = Core::new(parts, runtime);
        core.drivers.spawn(local::run(Arc::clone(&core)));
        if let Some(parts) = gossiper {
            core.spawn(Gossiper::new(Arc::clone(&core), parts).run());
        }
        core.spawn(accept::run(Arc::clone(&core), listener));
        Ok(Node::new(core))
    }
}

impl Registry {
    fn build(self) -> Result<CodecRegistry, RegistryError> {
        match self {
            Self::Linked => CodecRegistry::linked(),
            Self::Tables(tables) => CodecRegistry::from_tables(&tables),
            Self::Given(registry) => Ok(registry),
        }
    }
}

type Transports = HashMap<&'static str, Arc<dyn Transport>>;

fn by_scheme(given: Vec<Arc<dyn Transport>>) -> Result<Transports, StartError> {
    let mut transports = Transports::new();
    for transport in given {
        let scheme = transport.scheme();
        if transports.insert(scheme, transport).is_some() {
            return Err(StartError::DuplicateScheme { scheme });
        }
    }
    #[cfg(feature = "tcp")]
    transports.entry("tcp").or_insert_with(|| Arc::new(TcpTransport::new()));
    Ok(transports)
}

async fn bind(
    transports: &Transports,
    endpoint: &Endpoint,
    plaintext: Plaintext,
) -> Result<Box<dyn Listener>, StartError> {
    let scheme = endpoint.scheme();
    let transport = transports.get(scheme);
    let transport =
        transport.ok_or_else(|| StartError::UnknownScheme { scheme: scheme.to_owned() })?;
    let is_exposed = transport.privacy() == Privacy::Plaintext && !is_loopback(endpoint.host());
    if is_exposed && plaintext == Plaintext::LoopbackOnly {
        return Err(StartError::Plaintext { endpoint: endpoint.clone() });
    }
    Ok(transport.listen(endpoint).await?)
}

/// Gives the address that peers are told.
fn address(
    system: &str,
    bound: &Endpoint,
    advertise: Option<Endpoint>,
) -> Result<Address, StartError> {
    let endpoint = match advertise {
        Some(endpoint) if endpoint.port() == 0 => endpoint.with_port(bound.port()),
        Some(endpoint) => endpoint,
        None => bound.clone(),
    };
    let address = endpoint.with_system(system)?;
    let is_unspecified = address.host().parse().is_ok_and(|ip: IpAddr| ip.is_unspecified());
    if is_unspecified { Err(StartError::NotDialable { address }) } else { Ok(address) }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

impl std::fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeBuilder")
            .field("system", &self.system)
            .field("listen", &self.listen)
            .field("advertise", &self.advertise)
            .finish_non_exhaustive()
    }
}
