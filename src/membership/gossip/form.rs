//! Spells a state for the wire, and builds one from what a peer has spelt.
//!
//! Members are sent once, in the order of their addresses; all else names them by their place in
//! that list, and their profiles, of which there are few, by the place in another. A [`GossipForm`]
//! is what arrives, with nothing checked; a [`Gossip`] built from it keeps every invariant of one
//! made here. The order of fields is the wire format.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Gossip, MAX_KNOWN_MEMBERS, MAX_TOMBSTONES, RemovalTime};
use crate::address::UniqueAddress;
use crate::membership::member::{Member, MemberError, MemberStatus, UpNumber};
use crate::membership::profile::Profile;
use crate::membership::reachability::{Reachability, ReachabilityStatus};
use crate::membership::vector_clock::{NodeKey, VectorClock};

/// Is a state as it travels; nothing in it is checked before [`Gossip::try_from`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GossipForm {
    /// The distinct profiles of the members.
    pub profiles: Vec<Profile>,
    /// The members, in ascending order of their unique addresses.
    pub members: Vec<MemberForm>,
    /// Places of the members that have seen this version, ascending.
    pub seen: Vec<u32>,
    /// The observers, in ascending order of their places.
    pub observers: Vec<ObserverForm>,
    /// The version.
    pub clock: VectorClock,
    /// Who was removed and when, in ascending order of the unique addresses.
    pub tombstones: Vec<(UniqueAddress, RemovalTime)>,
}

/// Is a member as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberForm {
    /// Which incarnation of which node.
    pub node: UniqueAddress,
    /// How far it has come.
    pub status: MemberStatus,
    /// Its place in the order of age, if it has one.
    pub up_number: Option<UpNumber>,
    /// Place of its profile.
    pub profile: u32,
}

/// Is what one observer says, as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObserverForm {
    /// Place of the observer.
    pub observer: u32,
    /// How often it has changed its rows, at least once.
    pub version: u64,
    /// Its rows, in ascending order of the subjects' places.
    pub rows: Vec<RowForm>,
}

/// Is what an observer says of one subject, as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowForm {
    /// Place of the subject.
    pub subject: u32,
    /// What the observer says.
    pub status: ReachabilityStatus,
    /// The observer's count when it said so, not above its present one.
    pub version: u64,
}

impl From<&Gossip> for GossipForm {
    fn from(state: &Gossip) -> Self {
        let profiles: BTreeSet<&Profile> =
            state.members.values().map(|member| member.profile().as_ref()).collect();
        let profile_places = places(profiles.iter().copied());
        let member_places = places(state.members.keys());
        let place = |node: &UniqueAddress| member_places.get(node).copied();
        Self {
            members: state.members.values().map(|m| member_form(m, &profile_places)).collect(),
            profiles: profiles.into_iter().cloned().collect(),
            seen: state.seen.iter().filter_map(place).collect(),
            observers: observer_forms(&state.reachability, &member_places),
            clock: state.clock.clone(),
            tombstones: state.tombstones.iter().map(|(node, at)| (node.clone(), *at)).collect(),
        }
    }
}

impl TryFrom<GossipForm> for Gossip {
    type Error = FormError;

    fn try_from(form: GossipForm) -> Result<Self, FormError> {
        check_counts(&form)?;
        check_order(&form)?;
        let nodes: Vec<_> = form.members.iter().map(|member| member.node.clone()).collect();
        let seen = form.seen.iter().map(|place| at(&nodes, *place).cloned());
        let seen = seen.collect::<Result<_, _>>()?;
        let reachability = reachability(form.observers, &nodes)?;
        let members = members(form.members, form.profiles)?;
        let tombstones: BTreeMap<_, _> = form.tombstones.into_iter().collect();
        if let Some(node) = members.keys().find(|node| tombstones.contains_key(*node)) {
            return Err(FormError::MemberWasRemoved { node: node.clone() });
        }
        let keys: BTreeSet<_> = members.keys().map(NodeKey::of).collect();
        if let Some(key) = form.clock.nodes().find(|key| !keys.contains(key)) {
            return Err(FormError::VersionOfStranger { key });
        }
        let (members, tombstones) = (Arc::new(members), Arc::new(tombstones));
        Ok(Self { members, seen, reachability, clock: form.clock, tombstones })
    }
}

/// Says why what a peer has spelt is no state. It is the peer's fault, and refused again each time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormError {
    /// Refuses a list that is longer than any may be.
    #[error("{count} {what} are too many, at most {limit} are allowed")]
    TooMany {
        /// Which list.
        what: &'static str,
        /// How long it is.
        count: usize,
        /// How long it may be.
        limit: usize,
    },
    /// Refuses a list that is out of order or names something twice.
    #[error("the {what} are not in ascending order")]
    NotAscending {
        /// Which list.
        what: &'static str,
    },
    /// Refuses a place beyond the end of the list it points into.
    #[error("there is no place {place} in a list of {length}")]
    NoSuchPlace {
        /// The named place.
        place: u32,
        /// How long the list is.
        length: usize,
    },
    /// Refuses a member that cannot be.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// Refuses a member that has a tombstone in the same state.
    #[error("{node} is a member and has a tombstone")]
    MemberWasRemoved {
        /// The contradicted member.
        node: UniqueAddress,
    },
    /// Refuses counts of an observer that no changes lead to.
    #[error("the count {version} of an observer's row is not within the observer's {limit}")]
    RowVersion {
        /// The count in question.
        version: u64,
        /// The greatest it may be.
        limit: u64,
    },
    /// Refuses a version that counts changes of a node that is no member.
    #[error("the version counts changes of {key:?}, who is no member")]
    VersionOfStranger {
        /// Whose changes.
        key: NodeKey,
    },
}

fn places<'a, T: Ord>(items: impl Iterator<Item = &'a T>) -> BTreeMap<&'a T, u32> {
    items.zip(0..).collect()
}

fn member_form(member: &Member, profiles: &BTreeMap<&Profile, u32>) -> MemberForm {
    MemberForm {
        node: member.node().clone(),
        status: member.status(),
        up_number: member.up_number(),
        profile: profiles.get(member.profile().as_ref()).copied().unwrap_or_default(),
    }
}

fn observer_forms(
    table: &Reachability,
    members: &BTreeMap<&UniqueAddress, u32>,
) -> Vec<ObserverForm> {
    let mut rows: BTreeMap<u32, Vec<RowForm>> = BTreeMap::new();
    for record in table.records() {
        let ends = (members.get(record.observer), members.get(record.subject));
        if let (Some(observer), Some(subject)) = ends {
            let row = RowForm { subject: *subject, status: record.status, version: record.version };
            rows.entry(*observer).or_default().push(row);
        }
    }
    let form = |(node, version)| {
        let observer = *members.get(node)?;
        Some(ObserverForm { observer, version, rows: rows.remove(&observer).unwrap_or_default() })
    };
    table.versions().filter_map(form).collect()
}

fn check_counts(form: &GossipForm) -> Result<(), FormError> {
    let rows = form.observers.iter().map(|observer| observer.rows.len()).sum();
    for (what, count, limit) in [
        ("members", form.members.len(), MAX_KNOWN_MEMBERS),
        ("profiles", form.profiles.len(), form.members.len()),
        ("tombstones", form.tombstones.len(), MAX_TOMBSTONES),
        ("rows", rows, MAX_ROWS),
    ] {
        if count > limit {
            return Err(FormError::TooMany { what, count, limit });
        }
    }
    Ok(())
}

/// Checks that each list ascends, and so names nothing twice.
fn check_order(form: &GossipForm) -> Result<(), FormError> {
    let rows_ascend =
        |observer: &ObserverForm| observer.rows.is_sorted_by(|a, b| a.subject < b.subject);
    for (what, is_ascending) in [
        ("members", form.members.is_sorted_by(|a, b| a.node < b.node)),
        ("marks", form.seen.is_sorted_by(|a, b| a < b)),
        ("observers", form.observers.is_sorted_by(|a, b| a.observer < b.observer)),
        ("rows", form.observers.iter().all(rows_ascend)),
        ("tombstones", form.tombstones.is_sorted_by(|(a, _), (b, _)| a < b)),
    ] {
        if !is_ascending {
            return Err(FormError::NotAscending { what });
        }
    }
    Ok(())
}

fn at<T>(items: &[T], place: u32) -> Result<&T, FormError> {
    let item = usize::try_from(place).ok().and_then(|index| items.get(index));
    item.ok_or(FormError::NoSuchPlace { place, length: items.len() })
}

fn members(
    forms: Vec<MemberForm>,
    profiles: Vec<Profile>,
) -> Result<BTreeMap<UniqueAddress, Member>, FormError> {
    let profiles: Vec<_> = profiles.into_iter().map(Arc::new).collect();
    let member = |form: MemberForm| {
        let profile = Arc::clone(at(&profiles, form.profile)?);
        let key = form.node.clone();
        Ok((key, Member::from_parts(form.node, form.status, form.up_number, profile)?))
    };
    forms.into_iter().map(member).collect()
}

fn reachability(
    observers: Vec<ObserverForm>,
    nodes: &[UniqueAddress],
) -> Result<Reachability, FormError> {
    let mut table = Reachability::default();
    for form in observers {
        within(form.version, MAX_ROW_VERSION)?;
        let row = |row: &RowForm| {
            within(row.version, form.version)?;
            Ok::<_, FormError>((at(nodes, row.subject)?.clone(), row.status, row.version))
        };
        let rows = form.rows.iter().map(row).collect::<Result<Vec<_>, _>>()?;
        table.restore(at(nodes, form.observer)?.clone(), form.version, rows);
    }
    Ok(table)
}

fn within(version: u64, limit: u64) -> Result<(), FormError> {
    match version {
        0 => Err(FormError::RowVersion { version, limit }),
        version if version > limit => Err(FormError::RowVersion { version, limit }),
        _ => Ok(()),
    }
}

/// Rows of all observers together; when half of the largest cluster is lost, and 18 neighbours
/// complain of each lost node, there are 37 000.
const MAX_ROWS: usize = 262_144;
/// Count of an observer: far beyond any real one, far enough from the end to go on counting.
const MAX_ROW_VERSION: u64 = u64::MAX / 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};
    use proptest::test_runner::Config;

    use super::{
        FormError, Gossip, GossipForm, MAX_ROW_VERSION, MemberError, MemberStatus, NodeKey,
        ObserverForm, Profile, ReachabilityStatus, RemovalTime, RowForm,
    };
    use crate::membership::tests::{any_gossip, clock, gossip, unique};

    /// Spells a state of the members 1 to 3 after `spoil` was at it, and reads it.
    fn read(spoil: impl FnOnce(&mut GossipForm)) -> Result<Gossip, FormError> {
        let mut state = gossip(&[1, 2, 3]);
        state.observe(&unique(1), &unique(2), ReachabilityStatus::Unreachable).unwrap();
        state.observe(&unique(1), &unique(3), ReachabilityStatus::Unreachable).unwrap();
        let mut form = GossipForm::from(&state);
        spoil(&mut form);
        Gossip::try_from(form)
    }

    #[test]
    fn lists_out_of_order_are_refused() {
        let refused = |what| Err(FormError::NotAscending { what });
        assert_eq!(read(|form| form.members.swap(0, 1)), refused("members"));
        assert_eq!(read(|form| form.seen = vec![1, 1]), refused("marks"));
        assert_eq!(read(|form| form.observers[0].rows.swap(0, 1)), refused("rows"));
        let tombstone = (unique(9), RemovalTime(0));
        assert_eq!(
            read(|form| form.tombstones = vec![tombstone.clone(), tombstone]),
            refused("tombstones")
        );
        let twice = |form: &mut GossipForm| form.observers.push(form.observers[0].clone());
        assert_eq!(read(twice), refused("observers"));
    }

    #[test]
    fn places_beyond_the_end_are_refused() {
        let refused = |place, length| Err(FormError::NoSuchPlace { place, length });
        assert_eq!(read(|form| form.seen = vec![3]), refused(3, 3));
        assert_eq!(read(|form| form.members[2].profile = 1), refused(1, 1));
        assert_eq!(read(|form| form.observers[0].observer = u32::MAX), refused(u32::MAX, 3));
        assert_eq!(read(|form| form.observers[0].rows[1].subject = 7), refused(7, 3));
    }

    #[test]
    fn members_that_cannot_be_are_refused() {
        let status = MemberStatus::Removed;
        let impossible = MemberError::Inconsistent { status, up_number: None };
        let spoilt =
            read(|form| (form.members[1].status, form.members[1].up_number) = (status, None));
        assert_eq!(spoilt, Err(FormError::Member(impossible)));
        let removed = read(|form| form.tombstones.push((unique(2), RemovalTime(1))));
        assert_eq!(removed, Err(FormError::MemberWasRemoved { node: unique(2) }));
    }

    #[test]
    fn a_version_that_counts_strangers_is_refused() {
        let key = NodeKey::of(&unique(9));
        let spoilt = read(|form| form.clock = clock(&[(1, 1), (9, 1)]));
        assert_eq!(spoilt, Err(FormError::VersionOfStranger { key }));
    }

    #[test]
    fn counts_that_no_changes_lead_to_are_refused() {
        let refused = |version, limit| Err(FormError::RowVersion { version, limit });
        let observer = |version| read(|form| form.observers[0].version = version);
        assert_eq!(observer(0), refused(0, MAX_ROW_VERSION));
        assert_eq!(observer(u64::MAX), refused(u64::MAX, MAX_ROW_VERSION));
        assert_eq!(observer(1), refused(2, 1));
    }

    #[test]
    fn lists_that_are_too_long_are_refused() {
        let profiles = read(|form| form.profiles = vec![Profile::default(); 4]);
        assert_eq!(profiles, Err(FormError::TooMany { what: "profiles", count: 4, limit: 3 }));
        let row = RowForm { subject: 0, status: ReachabilityStatus::Reachable, version: 1 };
        let rows = vec![row; super::MAX_ROWS + 1];
        let form = ObserverForm { observer: 0, version: 1, rows };
        assert!(matches!(
            read(|spoilt| spoilt.observers = vec![form]),
            Err(FormError::TooMany { what: "rows", .. })
        ));
    }

    proptest! {
        #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

        #[test]
        fn a_state_survives_its_spelling(state in any_gossip()) {
            prop_assert_eq!(Gossip::try_from(GossipForm::from(&state)), Ok(state));
        }
    }
}
