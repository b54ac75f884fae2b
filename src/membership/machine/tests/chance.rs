//! Lets chance cut, pause, crash, restart and part nodes; whoever is left must agree in the end.
//!
//! `FIRST_SEED` and `SEEDS` in the environment say which seeds and how many.

use super::{BTreeMap, ClusterId, Duration, MemberStatus, Phase, UniqueAddress, World, address};

const ALL: [u16; 6] = [1, 2, 3, 4, 5, 6];

/// Holds a world that chance governs.
struct Chance {
    seed: u64,
    rng: fastrand::Rng,
    world: World,
    /// How far each node has seen each member come.
    furthest: BTreeMap<(UniqueAddress, UniqueAddress), MemberStatus>,
}

impl Chance {
    fn new(seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self { seed, rng, world: World::formed(&ALL), furthest: BTreeMap::new() }
    }

    fn act(&mut self) {
        let (rng, world) = (&mut self.rng, &mut self.world);
        let (a, b, act) = (rng.u16(1..7), rng.u16(1..7), rng.u8(..8));
        eprintln!("seed {}, {:?}: {act} of {a} and {b}", self.seed, world.now - world.start);
        match act {
            0 if a != b => drop(world.cut.insert((a, b))),
            1 => {
                let (left, right) = ALL.split_at(rng.usize(1..6));
                world.cut_off(left, right);
            }
            2 => world.heal(),
            3 if world.nodes.contains_key(&a) => world.crash(a),
            4 | 5 => {
                world.paused.remove(&a);
                world.start(a, &[1, 2]);
            }
            6 if world.nodes.contains_key(&a) => {
                world.with(a, |node, now| node.handle_leave(now, &address(b))).unwrap_or_default();
            }
            _ => drop(world.paused.insert(a)),
        }
    }

    fn pass(&mut self) {
        let time = Duration::from_millis(self.rng.u64(0..15_000));
        self.world.run_for(time);
        self.world.end_duties();
        self.check_statuses();
        for n in ALL {
            if self.rng.bool() && self.world.paused.contains(&n) {
                self.world.resume(n);
            }
        }
    }

    /// Checks that no status goes backwards.
    fn check_statuses(&mut self) {
        for node in self.world.nodes.values() {
            for member in node.state().members() {
                let key = (node.own().clone(), member.node().clone());
                let before = self.furthest.insert(key, member.status());
                assert!(before.is_none_or(|before| before <= member.status()), "{member:?}");
            }
        }
    }

    /// Ends all faults, and waits for what is left to agree.
    fn settle(&mut self) {
        self.world.heal();
        for n in self.world.paused.clone() {
            self.world.resume(n);
        }
        for _ in 0..120 {
            self.world.run(1);
            self.world.end_duties();
            self.check_statuses();
        }
    }

    /// Gives the members of each cluster that is left: more than one if a first seed was cut off.
    fn clusters(&self) -> BTreeMap<Option<ClusterId>, Vec<u16>> {
        let mut clusters: BTreeMap<_, Vec<u16>> = BTreeMap::new();
        for (n, node) in &self.world.nodes {
            match node.phase() {
                Phase::Member => clusters.entry(node.cluster()).or_default().push(*n),
                Phase::Joining => {}
                Phase::Stopped(_) => assert_eq!(node.poll_timeout(), None),
                Phase::Idle | Phase::Exiting => panic!("{n} is {:?}", node.phase()),
            }
        }
        clusters
    }
}

#[test]
fn whatever_happens_those_left_agree() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("FIRST_SEED").unwrap_or(0);
    for seed in first..first + number("SEEDS").unwrap_or(30) {
        let mut chance = Chance::new(seed);
        for _ in 0..chance.rng.u32(2..12) {
            chance.act();
            chance.pass();
        }
        chance.settle();
        for nodes in chance.clusters().values() {
            for n in nodes {
                eprintln!("{}", chance.world.nodes[n].explain(chance.world.now));
            }
            chance.world.assert_agreed(nodes);
        }
    }
}
