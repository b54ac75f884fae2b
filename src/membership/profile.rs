//! Holds what a node says of itself when it joins: roles, application version, data centre.
//!
//! Floor 2. A profile never changes while its incarnation lives, so members share it.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// Names a role, an application version or a data centre: 1 to 64 bytes of `[A-Za-z0-9._+-]`.
///
/// Cloning is cheap. Labels are ordered as texts, `"10"` before `"9"`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(Arc<str>);

impl Label {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
        if (1..=MAX_LABEL).contains(&text.len()) && text.bytes().all(is_allowed) {
            Ok(Self(text.into()))
        } else {
            Err(ProfileError::LabelInvalid { length: text.len() })
        }
    }
}

impl TryFrom<String> for Label {
    type Error = ProfileError;

    fn try_from(text: String) -> Result<Self, ProfileError> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0.as_ref().into()
    }
}

// Lets a set of labels be asked with a plain text.
impl Borrow<str> for Label {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Holds what a node says of itself when it joins; fixed for its incarnation.
///
/// ```
/// use tellwire::membership::profile::Profile;
///
/// let profile = Profile::default().with_roles(["backend".parse()?])?;
/// assert!(profile.has_role("backend"));
/// assert_eq!(profile.data_centre().as_str(), "default");
/// # Ok::<(), tellwire::membership::profile::ProfileError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Profile {
    /// What the node is there for; at most 32.
    #[serde(deserialize_with = "few_roles")]
    roles: BTreeSet<Label>,
    /// Version of the application that runs on the node.
    app_version: Label,
    /// Where the node runs: convergence and leaders are matters of one data centre.
    data_centre: Label,
}

impl Profile {
    /// Returns the profile with these roles instead of its own.
    ///
    /// # Errors
    /// [`ProfileError::TooManyRoles`] beyond 32.
    pub fn with_roles(self, roles: impl IntoIterator<Item = Label>) -> Result<Self, ProfileError> {
        let roles = check_roles(roles.into_iter().collect())?;
        Ok(Self { roles, ..self })
    }

    /// Returns the profile with another application version.
    #[must_use]
    pub fn with_app_version(self, app_version: Label) -> Self {
        Self { app_version, ..self }
    }

    /// Returns the profile in another data centre.
    #[must_use]
    pub fn with_data_centre(self, data_centre: Label) -> Self {
        Self { data_centre, ..self }
    }

    /// Gives the roles in the order of their texts.
    pub fn roles(&self) -> impl Iterator<Item = &Label> {
        self.roles.iter()
    }

    /// Tells whether the node has the role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.contains(role)
    }

    /// Returns the version of the application.
    #[must_use]
    pub fn app_version(&self) -> &Label {
        &self.app_version
    }

    /// Returns the data centre.
    #[must_use]
    pub fn data_centre(&self) -> &Label {
        &self.data_centre
    }
}

impl Default for Profile {
    /// Gives no roles, version `0.0.0` and the data centre `default`.
    fn default() -> Self {
        Self {
            roles: BTreeSet::new(),
            app_version: Label(DEFAULT_VERSION.into()),
            data_centre: Label(DEFAULT_DATA_CENTRE.into()),
        }
    }
}

/// Says what is wrong with a profile. Nothing was built; the same texts are refused again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Refuses a label: the fault of whoever wrote it; use 1 to 64 bytes of `[A-Za-z0-9._+-]`.
    #[error("a label of {length} bytes is not 1 to {MAX_LABEL} bytes of `[A-Za-z0-9._+-]`")]
    LabelInvalid {
        /// Bytes in the refused text.
        length: usize,
    },
    /// Refuses a list of roles: the fault of whoever configured it; name fewer.
    #[error("{count} roles are too many, at most {MAX_ROLES} are allowed")]
    TooManyRoles {
        /// Distinct roles in the list.
        count: usize,
    },
}

fn check_roles(roles: BTreeSet<Label>) -> Result<BTreeSet<Label>, ProfileError> {
    match roles.len() {
        0..=MAX_ROLES => Ok(roles),
        count => Err(ProfileError::TooManyRoles { count }),
    }
}

fn few_roles<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<Label>, D::Error> {
    check_roles(BTreeSet::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Bytes in a label.
const MAX_LABEL: usize = 64;
/// Roles of one node.
const MAX_ROLES: usize = 32;
const DEFAULT_VERSION: &str = "0.0.0";
const DEFAULT_DATA_CENTRE: &str = "default";

#[cfg(test)]
mod tests {
    use super::{Label, MAX_LABEL, MAX_ROLES, Profile, ProfileError};
    use crate::codec::{Bincode, Codec};

    #[test]
    fn a_label_is_short_and_plain() {
        for good in ["a", "dc-1", "1.2.3+build", &"x".repeat(MAX_LABEL)] {
            assert_eq!(good.parse::<Label>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "ä", "a/b", "a\n", &"x".repeat(MAX_LABEL + 1)] {
            let refused = ProfileError::LabelInvalid { length: bad.len() };
            assert_eq!(bad.parse::<Label>(), Err(refused));
        }
    }

    #[test]
    fn default_labels_keep_their_own_rule() {
        let profile = Profile::default();
        for label in [profile.app_version(), profile.data_centre()] {
            assert_eq!(label.as_str().parse().as_ref(), Ok(label));
        }
    }

    #[test]
    fn too_many_roles_are_refused_here_and_from_the_wire() {
        let roles = |count: usize| (0..count).map(|n| format!("r{n}").parse::<Label>().unwrap());
        assert!(Profile::default().with_roles(roles(MAX_ROLES)).is_ok());
        let refused = Profile::default().with_roles(roles(MAX_ROLES + 1));
        assert_eq!(refused, Err(ProfileError::TooManyRoles { count: MAX_ROLES + 1 }));

        let mut bytes = Vec::new();
        let default = Profile::default();
        let forged = Profile { roles: roles(MAX_ROLES + 1).collect(), ..default };
        Bincode::encode(&forged, &mut bytes).unwrap();
        assert!(<Bincode as Codec<Profile>>::decode(&bytes).is_err());
    }
}
