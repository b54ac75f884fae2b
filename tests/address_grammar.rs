//! Holds the grammar of addresses and paths against generated values and hostile texts.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::hash_map::DefaultHasher;
use std::fmt::{Debug, Display};
use std::hash::{Hash, Hasher};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::test_runner::Config;
use proptest::{prop_oneof, proptest};
use serde::Serialize;
use serde::de::DeserializeOwned;

use tellwire::address::{Address, AddressError, Endpoint, Uid, UniqueAddress};
use tellwire::path::{ActorPath, PathError};

fn scheme() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9+-]{0,15}"
}

fn system() -> impl Strategy<Value = String> {
    "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
}

fn host_name() -> impl Strategy<Value = String> {
    // The last label begins with a letter, so that it is never a number.
    "([a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9_])?\\.){0,3}[a-z]([a-z0-9_-]{0,61}[a-z0-9_])?"
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).to_string()),
        any::<u128>().prop_map(|bits| Ipv6Addr::from(bits).to_string()),
        any::<u16>().prop_map(|bits| Ipv6Addr::from(u128::from(bits)).to_string()),
        any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).to_ipv6_mapped().to_string()),
        host_name(),
    ]
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    (scheme(), host(), any::<u16>())
        .prop_map(|(scheme, host, port)| Endpoint::new(&scheme, &host, port).unwrap())
}

fn address() -> impl Strategy<Value = Address> {
    (scheme(), system(), host(), 1_u16..)
        .prop_map(|(scheme, system, host, port)| Address::new(&scheme, &system, &host, port))
        .prop_map(Result::unwrap)
}

fn unique_address() -> impl Strategy<Value = UniqueAddress> {
    (address(), any::<u64>()).prop_map(|(address, uid)| UniqueAddress::new(address, Uid::new(uid)))
}

fn segment() -> impl Strategy<Value = String> {
    "[A-Za-z0-9*$+:@&=,!~'_.-]{1,30}"
        .prop_filter("dots lead elsewhere", |segment| !matches!(segment.as_str(), "." | ".."))
}

fn local() -> impl Strategy<Value = ActorPath> {
    vec(segment(), 1..5).prop_map(|segments| format!("/{}", segments.join("/")).parse().unwrap())
}

fn path() -> impl Strategy<Value = ActorPath> {
    prop_oneof![
        local(),
        (local(), address()).prop_map(|(local, address)| local.at(&address).unwrap()),
    ]
}

/// Makes addresses from so few parts that equal ones, and ones that differ in one part, are common.
fn crowded_address() -> impl Strategy<Value = Address> {
    let host = prop_oneof!["[ab]", "::[12]", "10\\.0\\.0\\.[12]"];
    ("t(cp|ls)", "[AB]", host, 9_u16..=11)
        .prop_map(|(scheme, system, host, port)| Address::new(&scheme, &system, &host, port))
        .prop_map(Result::unwrap)
}

fn survives_its_text<T>(value: &T)
where
    T: FromStr<Err: Debug> + Display + Debug + PartialEq + Serialize + DeserializeOwned,
{
    let text = value.to_string();
    assert_eq!(&text.parse::<T>().unwrap(), value);
    assert_eq!(text.parse::<T>().unwrap().to_string(), text);

    let standard = bincode::config::standard();
    let bytes = bincode::serde::encode_to_vec(value, standard).unwrap();
    let (back, used) = bincode::serde::decode_from_slice::<T, _>(&bytes, standard).unwrap();
    assert_eq!((&back, used), (value, bytes.len()));
}

fn encodes_as<T: Serialize, U: Serialize>(value: &T, plain: &U) {
    let standard = bincode::config::standard();
    let bytes = bincode::serde::encode_to_vec(value, standard).unwrap();
    assert_eq!(bytes, bincode::serde::encode_to_vec(plain, standard).unwrap());
}

fn hash_of<T: Hash>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn order_agrees_with_equality<T: Ord + Hash + Display + Debug>(a: &T, b: &T) {
    assert_eq!(a == b, a.cmp(b).is_eq(), "{a} and {b}");
    assert_eq!(a == b, a.to_string() == b.to_string(), "{a} and {b}");
    assert_eq!(a.cmp(b), b.cmp(a).reverse(), "{a} and {b}");
    if a == b {
        assert_eq!(hash_of(a), hash_of(b), "{a}");
    }
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn every_endpoint_survives_its_text(endpoint in endpoint()) {
        survives_its_text(&endpoint);
        encodes_as(&endpoint, &endpoint.as_str());
    }

    #[test]
    fn every_address_survives_its_text(address in address()) {
        survives_its_text(&address);
        encodes_as(&address, &address.as_str());
    }

    #[test]
    fn every_uid_survives_its_text(value in any::<u64>()) {
        survives_its_text(&Uid::new(value));
        encodes_as(&Uid::new(value), &value);
    }

    #[test]
    fn every_unique_address_survives_its_text(unique in unique_address()) {
        survives_its_text(&unique);
    }

    #[test]
    fn every_path_survives_its_text(path in path()) {
        survives_its_text(&path);
        encodes_as(&path, &path.to_string());
    }

    #[test]
    fn every_address_is_rebuilt_from_its_parts(address in address()) {
        let (scheme, system, host) = (address.scheme(), address.system(), address.host());
        assert_eq!(Address::new(scheme, system, host, address.port()).as_ref(), Ok(&address));
        assert_eq!(address.endpoint().with_system(system).as_ref(), Ok(&address));
        let moved = address.endpoint().with_port(0);
        assert_eq!(&moved, &Endpoint::new(scheme, host, 0).unwrap());
        assert_eq!(moved.with_port(address.port()), address.endpoint());
    }

    #[test]
    fn other_spellings_of_a_host_give_the_same_address(bits in any::<u128>(), name in host_name()) {
        let ip = Ipv6Addr::from(bits);
        let long = ip.segments().map(|part| format!("{part:04X}")).join(":");
        let text = |host: &str| format!("tcp://A@{host}:1").parse::<Address>().unwrap();
        assert_eq!(text(&format!("[{long}]")), text(&format!("[{ip}]")));
        assert_eq!(text(&name.to_ascii_uppercase()), text(&name));
    }

    #[test]
    fn address_order_and_hash_agree_with_equality(a in crowded_address(), b in crowded_address()) {
        order_agrees_with_equality(&a, &b);
        order_agrees_with_equality(&a.endpoint(), &b.endpoint());
        let key = |x: &Address| {
            (x.host().to_owned(), x.port(), x.system().to_owned(), x.scheme().to_owned())
        };
        assert_eq!(a.cmp(&b), key(&a).cmp(&key(&b)));
    }

    #[test]
    fn incarnation_order_and_hash_agree_with_equality(
        a in (crowded_address(), 0_u64..2),
        b in (crowded_address(), 0_u64..2),
    ) {
        let [a, b] = [a, b].map(|(address, uid)| UniqueAddress::new(address, Uid::new(uid)));
        order_agrees_with_equality(&a, &b);
        order_agrees_with_equality(&a.uid(), &b.uid());
    }

    #[test]
    fn path_order_and_hash_agree_with_equality(
        a in (crowded_address(), "/[ab]", any::<bool>()),
        b in (crowded_address(), "/[ab]", any::<bool>()),
    ) {
        let [a, b] = [a, b].map(|(address, local, here)| {
            let local: ActorPath = local.parse().unwrap();
            if here { local } else { local.at(&address).unwrap() }
        });
        order_agrees_with_equality(&a, &b);
    }

    #[test]
    fn a_child_leads_back_to_its_parent(path in path(), name in segment()) {
        if let Ok(child) = path.child(&name) {
            assert_eq!(child.name(), name.as_str());
            assert_eq!(child.parent(), Some(path.clone()));
            assert_eq!(child.segments().count(), path.segments().count() + 1);
            assert_ne!(child, path);
        }
    }

    #[test]
    fn a_local_text_is_checked_as_it_is_parsed(text in "(/?[a-z.:%@]{0,2}){0,4}") {
        let parsed = text.parse::<ActorPath>();
        match ActorPath::check_local(&text) {
            Ok(()) => assert!(parsed.unwrap().is_local()),
            Err(error) if text.is_empty() || text.starts_with('/') => {
                assert_eq!(parsed, Err(error));
            }
            Err(_) => assert!(parsed.is_err()),
        }
    }

    #[test]
    fn no_text_panics_and_what_is_accepted_is_canonical(text in prop_oneof![
        ".*",
        "[a-z:/@.#0-9\\[\\]-]{0,60}",
        "(tcp|\u{e9})://.{0,4}@?\\[?.{0,6}\\]?:?[0-9]{0,6}(#[0-9a-f]{15,17})?(/.{0,4}){0,3}",
        "tcp://[A@]{1,3}[a1.:\\[\\]-]{1,8}:[0-9]{1,5}(/[a.]{0,3}){0,3}",
    ]) {
        never_panics::<Endpoint>(&text);
        never_panics::<Address>(&text);
        never_panics::<Uid>(&text);
        never_panics::<UniqueAddress>(&text);
        never_panics::<ActorPath>(&text);
        for refused in [
            Endpoint::new(&text, "a", 1).err(),
            Endpoint::new("tcp", &text, 1).err(),
            Address::new("tcp", &text, "a", 1).err(),
        ] {
            refused.into_iter().for_each(shown);
        }
    }
}

fn never_panics<T: FromStr<Err: Display> + Display + Debug>(text: &str) {
    match text.parse::<T>() {
        Ok(value) => assert!(value.to_string().eq_ignore_ascii_case(text) || text.contains('[')),
        Err(error) => shown(error),
    }
}

/// Asserts what every error owes to a log: one bounded line of visible characters.
fn shown(error: impl Display) {
    let message = error.to_string();
    assert!(message.len() <= 512, "{} bytes", message.len());
    assert!(!message.chars().any(char::is_control), "{message:?}");
}

/// Expands to a check that a text is refused with a variant, and with a printable message.
macro_rules! refused {
    ($type:ty, $($text:expr => $error:pat),+ $(,)?) => {$(
        let text = $text;
        match text.parse::<$type>() {
            Err(error @ $error) => shown(error),
            other => panic!("{text:?} must be refused as {}, not {other:?}", stringify!($error)),
        }
    )+};
}

#[test]
fn hostile_endpoints_are_refused_for_the_right_reason() {
    refused! { Endpoint,
        "" => AddressError::SchemeMissing(_),
        "127.0.0.1:80" => AddressError::SchemeMissing(_),
        "://h:1" => AddressError::SchemeInvalid(_),
        "tcp://A@h:1" => AddressError::SystemUnexpected(_),
        "tcp://user:secret@h:1" => AddressError::SystemUnexpected(_),
        "tcp://:0" => AddressError::HostInvalid(_),
        "tcp://*:0" => AddressError::HostInvalid(_),
        "tcp://h" => AddressError::PortMissing(_),
        "tcp://h:65536" => AddressError::PortInvalid(_),
    }
}

#[test]
fn hostile_addresses_are_refused_for_the_right_reason() {
    refused! { Address,
        // Length comes before everything else.
        format!("tcp://A@{}:1", "a".repeat(375)) => AddressError::TooLong { length: 385, limit: 384 },
        "\u{0}".repeat(1 << 20) => AddressError::TooLong { .. },
        // Schemes.
        "tcp:A@h:1" => AddressError::SchemeMissing(_),
        "tcp:/A@h:1" => AddressError::SchemeMissing(_),
        "TCP://A@h:1" => AddressError::SchemeInvalid(_),
        " tcp://A@h:1" => AddressError::SchemeInvalid(_),
        "1tcp://A@h:1" => AddressError::SchemeInvalid(_),
        "t.cp://A@h:1" => AddressError::SchemeInvalid(_),
        "abcdefghijklmnopq://A@h:1" => AddressError::SchemeInvalid(_),
        "t\u{441}p://A@h:1" => AddressError::SchemeInvalid(_),
        // Systems.
        "tcp://h:1" => AddressError::SystemMissing(_),
        "tcp://@h:1" => AddressError::SystemInvalid(_),
        "tcp://A:pw@h:1" => AddressError::SystemInvalid(_),
        "tcp://-A@h:1" => AddressError::SystemInvalid(_),
        "tcp://A%40@h:1" => AddressError::SystemInvalid(_),
        "tcp://A/@h:1" => AddressError::SystemInvalid(_),
        "tcp://A\n@h:1" => AddressError::SystemInvalid(_),
        format!("tcp://{}@h:1", "A".repeat(65)) => AddressError::SystemInvalid(_),
        // Hosts.
        "tcp://A@:1" => AddressError::HostInvalid(_),
        "tcp://A@B@h:1" => AddressError::HostInvalid(_),
        "tcp://A@h\u{0}.evil:1" => AddressError::HostInvalid(_),
        "tcp://A@h :1" => AddressError::HostInvalid(_),
        "tcp://A@h.:1" => AddressError::HostInvalid(_),
        "tcp://A@.h:1" => AddressError::HostInvalid(_),
        "tcp://A@a..b:1" => AddressError::HostInvalid(_),
        "tcp://A@-h:1" => AddressError::HostInvalid(_),
        "tcp://A@a.h-.b:1" => AddressError::HostInvalid(_),
        "tcp://A@h%2e:1" => AddressError::HostInvalid(_),
        "tcp://A@b\u{fc}cher:1" => AddressError::HostInvalid(_),
        "tcp://A@\u{212a}elvin:1" => AddressError::HostInvalid(_),
        format!("tcp://A@{}:1", "a".repeat(64)) => AddressError::HostInvalid(_),
        format!("tcp://A@{}a:1", "aa.".repeat(84) + "a") => AddressError::HostInvalid(_),
        "tcp://A@1.2.3:1" => AddressError::HostInvalid(_),
        "tcp://A@999.1.1.1:1" => AddressError::HostInvalid(_),
        "tcp://A@127.0.0.01:1" => AddressError::HostInvalid(_),
        "tcp://A@2130706433:1" => AddressError::HostInvalid(_),
        "tcp://A@0x7f000001:1" => AddressError::HostInvalid(_),
        "tcp://A@127.0.0.0X1:1" => AddressError::HostInvalid(_),
        "tcp://A@host.7:1" => AddressError::HostInvalid(_),
        "tcp://A@\u{661}.2.3.4:1" => AddressError::HostInvalid(_),
        "tcp://A@[::1:1" => AddressError::HostInvalid(_),
        "tcp://A@[]:1" => AddressError::HostInvalid(_),
        "tcp://A@[fe80::1%eth0]:1" => AddressError::HostInvalid(_),
        "tcp://A@[127.0.0.1]:1" => AddressError::HostInvalid(_),
        "tcp://A@[h]:1" => AddressError::HostInvalid(_),
        "tcp://A@[[::1]]:1" => AddressError::PortMissing(_),
        "tcp://A@::1]:1" => AddressError::HostInvalid(_),
        // Ports.
        "tcp://A@h" => AddressError::PortMissing(_),
        "tcp://A@[::1]" => AddressError::PortMissing(_),
        "tcp://A@[::1]x:1" => AddressError::PortMissing(_),
        "tcp://A@fe80::1:1" => AddressError::PortInvalid(_),
        "tcp://A@h:" => AddressError::PortInvalid(_),
        "tcp://A@h:+1" => AddressError::PortInvalid(_),
        "tcp://A@h:-1" => AddressError::PortInvalid(_),
        "tcp://A@h:01" => AddressError::PortInvalid(_),
        "tcp://A@h:00" => AddressError::PortInvalid(_),
        "tcp://A@h: 1" => AddressError::PortInvalid(_),
        "tcp://A@h:1 " => AddressError::PortInvalid(_),
        "tcp://A@h:65536" => AddressError::PortInvalid(_),
        "tcp://A@h:0x50" => AddressError::PortInvalid(_),
        "tcp://A@h:\u{661}" => AddressError::PortInvalid(_),
        "tcp://A@h:1:2" => AddressError::PortInvalid(_),
        "tcp://A@h:1/" => AddressError::PortInvalid(_),
        "tcp://A@h:1#00000000deadbeef" => AddressError::PortInvalid(_),
        "tcp://A@h:0" => AddressError::PortZero(_),
    }
}

#[test]
fn hostile_incarnations_are_refused_for_the_right_reason() {
    refused! { UniqueAddress,
        "#".repeat(402) => AddressError::TooLong { length: 402, limit: 401 },
        "tcp://A@h:1" => AddressError::UidMissing(_),
        "tcp://A@h:0#00000000deadbeef" => AddressError::PortZero(_),
        "tcp://A@h:1#" => AddressError::UidInvalid(_),
        "tcp://A@h:1#deadbeef" => AddressError::UidInvalid(_),
        "tcp://A@h:1#00000000DEADBEEF" => AddressError::UidInvalid(_),
        "tcp://A@h:1#+0000000deadbeef" => AddressError::UidInvalid(_),
        "tcp://A@h:1#000000000deadbeef" => AddressError::UidInvalid(_),
        "tcp://A@h:1#00000000deadbeef#0" => AddressError::UidInvalid(_),
        "tcp://A@h:1#\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}" => AddressError::UidInvalid(_),
    }
}

#[test]
fn hostile_paths_are_refused_for_the_right_reason() {
    refused! { ActorPath,
        format!("/{}", "a/".repeat(256)) => PathError::TooLong { length: 513 },
        "\u{0}".repeat(1 << 20) => PathError::TooLong { length: 1_048_576 },
        "/a".repeat(33) => PathError::TooManySegments { count: 33 },
        format!("/{}", "a".repeat(129)) => PathError::SegmentTooLong { length: 129 },
        "" => PathError::NoSegments(_),
        "tcp://A@h:1" => PathError::NoSegments(_),
        "user/echo" => PathError::NotRooted(_),
        "../user" => PathError::NotRooted(_),
        "tcp:/user" => PathError::NotRooted(_),
        "/" => PathError::SegmentEmpty(_),
        "//" => PathError::SegmentEmpty(_),
        "//user" => PathError::SegmentEmpty(_),
        "/user//echo" => PathError::SegmentEmpty(_),
        "/user/" => PathError::SegmentEmpty(_),
        "tcp://A@h:1/" => PathError::SegmentEmpty(_),
        "tcp://A@h:1//user" => PathError::SegmentEmpty(_),
        "/." => PathError::SegmentDots(_),
        "/user/../system" => PathError::SegmentDots(_),
        "/user/./echo" => PathError::SegmentDots(_),
        "/user/%2e%2e/system" => PathError::SegmentCharacter { found: '%', .. },
        "/user\\system" => PathError::SegmentCharacter { found: '\\', .. },
        "/user echo" => PathError::SegmentCharacter { found: ' ', .. },
        "/user/echo\n" => PathError::SegmentCharacter { found: '\n', .. },
        "/user/\u{0}" => PathError::SegmentCharacter { found: '\0', .. },
        "/user/\u{1b}[31m" => PathError::SegmentCharacter { found: '\u{1b}', .. },
        "/user/\u{202e}ohce" => PathError::SegmentCharacter { found: '\u{202e}', .. },
        "/user/\u{2024}\u{2024}" => PathError::SegmentCharacter { found: '\u{2024}', .. },
        "/user/echo?x=1" => PathError::SegmentCharacter { found: '?', .. },
        "/user/echo#1" => PathError::SegmentCharacter { found: '#', .. },
        "/tcp://A@h:1/user" => PathError::SegmentEmpty(_),
        "tcp://h:1/user" => PathError::Address(AddressError::SystemMissing(_)),
        "tcp://A@h:0/user" => PathError::Address(AddressError::PortZero(_)),
        "tcp://A@h:1#00000000deadbeef/user" => PathError::Address(AddressError::PortInvalid(_)),
        "tcp://A@B@h:1/user" => PathError::Address(AddressError::HostInvalid(_)),
        "a/b://A@h:1/user" => PathError::Address(AddressError::SchemeInvalid(_)),
        "tcp://A/B@h:1/user" => PathError::Address(AddressError::SystemMissing(_)),
        format!("tcp://A@{}:1/user", "a".repeat(376)) => PathError::Address(AddressError::TooLong { .. }),
    }
}

#[test]
fn values_at_their_limits_are_accepted() {
    let name = format!("{}.{}", vec!["a".repeat(63); 3].join("."), "a".repeat(61));
    assert_eq!(name.len(), 253);
    let longest = Address::new(&"s".repeat(16), &"S".repeat(64), &name, u16::MAX).unwrap();
    assert_eq!(longest.as_str().len(), 343);
    survives_its_text(&longest);
    survives_its_text(&"/a".repeat(32).parse::<ActorPath>().unwrap());
    let local = format!("/{}", "a".repeat(128)).parse::<ActorPath>().unwrap();
    survives_its_text(&local.at(&longest).unwrap());
    survives_its_text(&Address::new("mem", "0", "_x", 1).unwrap());
    survives_its_text(&Address::new("mem", "0", "0xylem", 1).unwrap());
}

#[test]
fn bytes_that_hold_no_valid_text_are_refused() {
    let standard = bincode::config::standard();
    for text in ["tcp://A@h:0", "", "\u{0}"] {
        let bytes = bincode::serde::encode_to_vec(text, standard).unwrap();
        assert!(bincode::serde::decode_from_slice::<Address, _>(&bytes, standard).is_err());
        assert!(bincode::serde::decode_from_slice::<ActorPath, _>(&bytes, standard).is_err());
    }
}
