//! Whatever a member sends shows that it lives.

use std::time::Instant;

use tellwire::membership::downing::KeepMajority;
use tellwire::membership::gossip::RemovalTime;
use tellwire::membership::machine::{Membership, Setup};
use tellwire::membership::pdu;
use tellwire::membership::profile::Profile;
use tellwire::transport::InProcessNetwork;
use tokio::sync::mpsc;

use super::common::{Text, collector};
use super::*;

#[tokio::test(start_paused = true)]
async fn tells_count_as_heartbeats() {
    let net = Net::Mem(InProcessNetwork::new());
    let ada = quick(&net).start().await.unwrap();
    let (ear, mut heard) = collector::<Text>();
    ada.register("/user/ear", ear).unwrap();
    let mut puppet = Puppet::start(&net).await;
    puppet.join(&ada).await;
    let mut updates = ada.cluster().subscribe();
    // Its membership has nothing more to say; it only talks.
    let ear = puppet.node.resolve(ada.path("/user/ear")).unwrap();
    let talking = tokio::spawn(async move {
        loop {
            ear.tell(&Text("still here".into())).unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let unreachable =
        |event| matches!(event, ClusterEvent::Unreachable(_)).then_some(Instant::now());
    let accused = tokio::time::timeout(TALKING, next_event(&mut updates, unreachable)).await;
    assert!(accused.is_err(), "{:?}", ada.cluster().state());
    assert!(heard.drain().len() > 30);
    talking.abort();
    drop(puppet);
    next_event(&mut updates, unreachable).await;
}

/// Is a node whose membership a test keeps, and so may stop to keep.
struct Puppet {
    node: Node,
    machine: Membership,
    gossip: mpsc::UnboundedReceiver<(UniqueAddress, Vec<u8>)>,
}

impl Puppet {
    async fn start(net: &Net) -> Self {
        let (sink, gossip) = mpsc::unbounded_channel();
        let node = quick(net).gossip(Ear(sink)).start().await.unwrap();
        let setup = Setup {
            own: node.unique_address(),
            profile: Profile::default(),
            settings: brisk(),
            strategy: Box::new(KeepMajority::default()),
            seed: 7,
            started: (Self::now(), RemovalTime::since_1970(Duration::from_secs(1))),
        };
        let machine = Membership::new(setup).unwrap();
        Self { node, machine, gossip }
    }

    /// Joins, and plays its part until both nodes are Up.
    async fn join(&mut self, seed: &Node) {
        self.machine.handle_join(Self::now(), vec![seed.address()]).unwrap();
        let is_up = |state: &ClusterState| {
            let up = state.members().iter().filter(|it| it.status() == MemberStatus::Up);
            up.count() == 2
        };
        // Heartbeats have been answered by then.
        let (begun, settled) = (Self::now(), Duration::from_secs(10));
        while !is_up(&self.machine.state()) || Self::now() < begun + settled {
            self.turn().await;
        }
        when_state(&seed.cluster(), is_up).await;
    }

    async fn turn(&mut self) {
        while let Some(transmit) = self.machine.poll_transmit() {
            let mut bytes = Vec::new();
            pdu::encode(&transmit.pdu, &mut bytes).unwrap();
            self.node.gossip(&transmit.to, &bytes).unwrap();
        }
        let due = self.machine.poll_timeout().unwrap();
        tokio::select! { biased;
            Some((from, bytes)) = self.gossip.recv() => {
                self.machine.handle_pdu(Self::now(), &from, pdu::decode(&bytes).unwrap());
            }
            () = tokio::time::sleep_until(due.into()) => self.machine.handle_timeout(Self::now()),
        }
    }

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

struct Ear(mpsc::UnboundedSender<(UniqueAddress, Vec<u8>)>);

impl GossipSink for Ear {
    fn receive(&self, from: &UniqueAddress, pdu: &[u8]) {
        drop(self.0.send((from.clone(), pdu.to_vec())));
    }
}

/// Far longer than it takes to notice a silence.
const TALKING: Duration = Duration::from_secs(20);
