//! Feeds the grammar of paths and addresses.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use tellwire::address::Endpoint;
use tellwire::{ActorPath, Address, UniqueAddress};

use super::{Verdict, shown, verdict};

/// Reads a text as everything that is named by one.
pub fn paths(bytes: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::Refused };
    let path = kept::<ActorPath>(text);
    let is_local = path.as_ref().is_some_and(ActorPath::is_local);
    assert_eq!(ActorPath::check_local(text).is_ok(), is_local, "{text:?}");
    let address = kept::<Address>(text);
    let endpoint = kept::<Endpoint>(text);
    assert!(address.is_none() || endpoint.is_none(), "{text:?} is two things");
    let unique = kept::<UniqueAddress>(text);
    if let Some(path) = &path {
        whole(path);
    }
    let is_known = path.is_some() || address.is_some() || endpoint.is_some() || unique.is_some();
    verdict(if is_known { Ok(()) } else { Err(()) })
}

/// Checks that a path keeps its parts, and none of them is one that hostile paths are made of.
fn whole(path: &ActorPath) {
    for segment in path.segments() {
        assert!(!matches!(segment, "" | "." | ".."), "{path}");
        assert!(!segment.contains(['/', '\\', '%', '\0', ' ']), "{path}");
    }
    let address = Address::new("mem", "Test", "node", 1).expect("an address");
    let local = path.without_address();
    assert!(local.is_local());
    if let Ok(placed) = local.at(&address) {
        assert_eq!(placed.address(), Some(&address));
        assert_eq!(placed.local(), path.local());
    }
}

/// Reads a text; what was read is spelt as something that reads the same.
fn kept<T: FromStr<Err: Display> + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    match text.parse::<T>() {
        Ok(value) => {
            let spelt = value.to_string();
            let again = spelt.parse::<T>();
            assert!(again.as_ref().is_ok_and(|again| *again == value), "{text:?} became {spelt:?}");
            Some(value)
        }
        Err(error) => {
            shown(&error);
            None
        }
    }
}
