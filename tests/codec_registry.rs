//! Shows that registered messages travel unchanged, and that hostile bytes and wrong set-ups are
//! refused.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::marker::PhantomData;

use proptest::prelude::{Strategy, any, prop_oneof, proptest};
use proptest::{collection, option};
use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tellwire::codec::{
    self, Bincode, Codec, CodecEntry, CodecFault, CodecRegistry, DecodeError, Origin,
    RegistryError, RemoteMessage,
};
use tellwire_json::Json;

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
struct Zoo {
    keeper: Option<String>,
    cages: Vec<Animal>,
    visitors: BTreeMap<String, (u64, i32)>,
    marker: (),
    weight: f64,
    big: u128,
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
enum Animal {
    Bear,
    Wolf(Age),
    Bird { sings: bool, call: char },
    Pack(Box<Animal>, Vec<Animal>),
}

#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq)]
struct Age(u8);

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Page<T> {
    items: Vec<T>,
}

tellwire::remote_messages! {
    /// Lists the animals.
    #[allow(missing_docs)]
    pub table ZOO, codec = tellwire::codec::Bincode;
    "zoo.v1.Zoo" => Zoo,
    "zoo.v1.AgePage" => Page<Age>,
    "zoo.v1.TextPage" => Page<String>
}

mod nested {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub(super) struct Ticket(pub(super) u32);

    tellwire::remote_messages! {
        pub(super) table TICKETS, codec = tellwire::codec::Bincode;
        "v3.Ticket" => Ticket,
    }
}

fn zoo() -> Zoo {
    Zoo {
        keeper: Some("Ada".to_owned()),
        cages: vec![Animal::Bear, Animal::Bird { sings: true, call: 'ü' }],
        visitors: BTreeMap::from([("bob".to_owned(), (300, -1))]),
        marker: (),
        weight: 1.5,
        big: 7,
    }
}

fn encoded<M: RemoteMessage>(message: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(message, &mut bytes).expect("the message is encodable");
    bytes
}

fn refusal<M: DeserializeOwned + Serialize>(bytes: &[u8]) -> CodecFault {
    match <Bincode as Codec<M>>::decode(bytes) {
        Ok(_) => panic!("hostile bytes were accepted"),
        Err(fault) => fault,
    }
}

fn animal() -> impl Strategy<Value = Animal> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(|_| Animal::Bear),
        any::<u8>().prop_map(|age| Animal::Wolf(Age(age))),
        (any::<bool>(), any::<char>()).prop_map(|(sings, call)| Animal::Bird { sings, call }),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        (inner.clone(), collection::vec(inner, 0..4))
            .prop_map(|(head, pack)| Animal::Pack(Box::new(head), pack))
    })
}

fn any_zoo() -> impl Strategy<Value = Zoo> {
    let visitors = collection::btree_map(any::<String>(), any::<(u64, i32)>(), 0..8);
    (
        option::of(any::<String>()),
        collection::vec(animal(), 0..8),
        visitors,
        any::<f64>(),
        any::<u128>(),
    )
        .prop_map(|(keeper, cages, visitors, weight, big)| {
            let weight = if weight.is_nan() { 0.0 } else { weight };
            Zoo { keeper, cages, visitors, marker: (), weight, big }
        })
}

proptest! {
    #[test]
    fn every_zoo_comes_back_unchanged(zoo in any_zoo()) {
        let registry = CodecRegistry::from_tables(&[ZOO]).unwrap();
        let back: Zoo = registry.decode("bincode:zoo.v1.Zoo", &encoded(&zoo)).unwrap();
        assert_eq!(back, zoo);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in collection::vec(any::<u8>(), 0..200)) {
        if let Ok(zoo) = <Bincode as Codec<Zoo>>::decode(&bytes) {
            assert!(zoo.cages.len() <= bytes.len());
        }
    }
}

#[test]
fn bincode_bytes_are_frozen() {
    let expected = b"\x01\x03Ada\x02\x00\x02\x01\xc3\xbc\x01\x03bob\xfb\x2c\x01\x01\
        \x00\x00\x00\x00\x00\x00\xf8\x3f\x07";
    assert_eq!(encoded(&zoo()), expected);
}

#[test]
fn long_lists_of_small_numbers_are_no_bomb() {
    let numbers = Page { items: vec![1_u128; Bincode::MAX_BYTES / 16 + 1] };
    let mut bytes = Vec::new();
    <Bincode as Codec<_>>::encode(&numbers, &mut bytes).unwrap();
    assert_eq!(<Bincode as Codec<_>>::decode(&bytes), Ok(numbers));
}

/// Nests through newtype variants.
#[derive(Serialize, Deserialize)]
enum Variants {
    Leaf,
    Deep(Box<Variants>),
}

#[test]
fn nesting_within_the_budget_is_accepted() {
    let mut bytes = vec![1; 128];
    bytes.push(0);
    assert!(<Bincode as Codec<Variants>>::decode(&bytes).is_ok());
    bytes.insert(0, 1);
    assert_eq!(refusal::<Variants>(&bytes), CodecFault::TooDeep { limit: 128 });
}

#[test]
fn elements_without_bytes_are_counted() {
    let mut bytes = vec![0xfd];
    bytes.extend_from_slice(&(1_u64 << 36).to_le_bytes());
    let limit = 1024 + 4 * bytes.len();
    assert_eq!(refusal::<Vec<()>>(&bytes), CodecFault::TooManyElements { limit });
    assert_eq!(refusal::<HashMap<(), ()>>(&bytes), CodecFault::TooManyElements { limit });
    assert_eq!(<Bincode as Codec<Vec<()>>>::decode(&[200]).map(|units| units.len()), Ok(200));
}

#[test]
fn input_beyond_the_byte_limit_is_refused() {
    let bytes = vec![0; Bincode::MAX_BYTES + 1];
    assert_eq!(refusal::<Page<u8>>(&bytes), CodecFault::TooLarge { limit: Bincode::MAX_BYTES });
}

/// Records what the format offers to reserve for, and the way it hands over text.
struct Probe;

thread_local! {
    static HINTS: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

impl<'de> Deserialize<'de> for Probe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Self)
    }
}

impl Serialize for Probe {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Visitor<'de> for Probe {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nested sequences")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self, A::Error> {
        HINTS.with_borrow_mut(|hints| hints.extend(sequence.size_hint()));
        assert_eq!(HINTS.with_borrow(|hints| hints.last().copied()), sequence.size_hint());
        while sequence.next_element::<Self>()?.is_some() {}
        Ok(self)
    }
}

#[test]
fn a_chain_of_claimed_lengths_reserves_little() {
    let bytes: Vec<u8> = [0xfc, 0xff, 0xff, 0xff, 0x7f].repeat(100);
    assert!(matches!(refusal::<Probe>(&bytes), CodecFault::Decode(_)));
    let hints = HINTS.take();
    assert_eq!(hints.len(), 100);
    assert_eq!(hints.first(), Some(&bytes.len()));
    assert_eq!(hints.iter().sum::<usize>(), 1024 + bytes.len() / 8);
}

#[test]
fn finished_collections_give_their_reservation_back() {
    let mut bytes = vec![0xfb, 0xd0, 0x07];
    bytes.extend([[1, 0]; 2000].concat());
    assert!(<Bincode as Codec<Probe>>::decode(&bytes).is_ok());
    let hints = HINTS.take();
    assert_eq!(hints.first(), Some(&1024));
    assert_eq!(hints.iter().filter(|hint| **hint == 1).count(), 2000);
}

/// Asks for an owned string and accepts a borrowed one only.
struct Borrowed;

impl Serialize for Borrowed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("")
    }
}

impl<'de> Deserialize<'de> for Borrowed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<'de>(PhantomData<&'de str>);

        impl<'de> Visitor<'de> for Text<'de> {
            type Value = Borrowed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("borrowed text or bytes")
            }

            fn visit_borrowed_str<E>(self, _text: &'de str) -> Result<Borrowed, E> {
                Ok(Borrowed)
            }

            fn visit_str<E: serde::de::Error>(self, _text: &str) -> Result<Borrowed, E> {
                Err(E::custom("the text was copied"))
            }
        }
        deserializer.deserialize_string(Text(PhantomData))
    }
}

#[test]
fn owned_text_is_requested_in_borrowed_form() {
    assert!(<Bincode as Codec<Borrowed>>::decode(b"\x03abc").is_ok());
}

/// Swallows whatever goes wrong inside.
struct Lenient;

impl Serialize for Lenient {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Variants::deserialize(deserializer).map_or(Self, |_| Self))
    }
}

#[test]
fn an_exceeded_budget_cannot_be_swallowed() {
    assert_eq!(refusal::<Lenient>(&[1; 200]), CodecFault::TooDeep { limit: 128 });
}

#[test]
fn types_that_need_a_self_describing_format_get_a_plain_error() {
    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u8),
        Text(String),
    }
    assert_eq!(refusal::<Either>(&[1]), CodecFault::decode("Serde(AnyNotSupported)").at_byte(0));
}

/// Fails to convert, in the way its number says.
struct Faulty(u8);

impl Serialize for Faulty {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            0 => (1_u64, Self(1)).serialize(serializer),
            1 => Err(S::Error::custom("cannot be sent")),
            2 => (1_u64, Self(3)).serialize(serializer),
            _ => panic!("this type panics while it is encoded"),
        }
    }
}

impl<'de> Deserialize<'de> for Faulty {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            0 => panic!("this type panics while it is decoded"),
            _ => Err(D::Error::custom("never valid")),
        }
    }
}

tellwire::remote_messages! {
    table FAULTY, codec = Bincode;
    "faulty.v1.Faulty" => Faulty
}

#[test]
fn faulty_types_leave_the_buffer_and_the_caller_unharmed() {
    for (message, fault) in [
        (Faulty(0), CodecFault::Encode("cannot be sent".to_owned())),
        (Faulty(2), CodecFault::Panicked),
    ] {
        let mut out = b"before".to_vec();
        let error = codec::encode(&message, &mut out).unwrap_err();
        assert_eq!((error.codec(), error.manifest()), ("bincode", "faulty.v1.Faulty"));
        assert_eq!(*error.fault(), fault);
        assert_eq!(out, b"before");
    }
    let [entry] = FAULTY else { panic!("one entry was declared") };
    let error = entry.decode::<Faulty>(&[0]).map(drop).unwrap_err();
    assert_eq!(*error.fault(), CodecFault::Panicked);
    assert_eq!(
        error.to_string(),
        "bincode:faulty.v1.Faulty: the conversion code of the type panicked"
    );
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Price {
    cents: u64,
    currency: String,
}

#[derive(Serialize, Deserialize)]
struct PriceV2 {
    cents: u64,
}

#[derive(Serialize, Deserialize)]
struct PriceV1(u32);

impl From<PriceV1> for PriceV2 {
    fn from(old: PriceV1) -> Self {
        Self { cents: u64::from(old.0) * 100 }
    }
}

impl From<PriceV2> for Price {
    fn from(old: PriceV2) -> Self {
        Self { cents: old.cents, currency: "EUR".to_owned() }
    }
}

impl From<&Price> for PriceV2 {
    fn from(new: &Price) -> Self {
        Self { cents: new.cents }
    }
}

impl From<&Price> for PriceV1 {
    fn from(new: &Price) -> Self {
        Self(u32::try_from(new.cents / 100).expect("no such price before"))
    }
}

tellwire::remote_messages! {
    table PRICES, codecs = [Bincode, Json,];
    "shop.v3.Price" => Price {
        schema = 0x33,
        until understood "shop.v2.Price" => PriceV2,
        until understood "shop.v1.Price" => PriceV1,
    },
    "shop.v2.Price" => PriceV2 as Price { codec = Json },
    "shop.v1.Price" => PriceV1 as PriceV2 as Price { schema = 0x11, codecs = [Json, Bincode] },
}

#[test]
fn each_manifest_has_its_formats_schema_and_rank() {
    let facts = |entry: &CodecEntry| (entry.wire_name(), entry.rank(), entry.schema());
    let expected = [
        ("bincode:shop.v3.Price", 0, Some(0x33)),
        ("json:shop.v3.Price", 1, Some(0x33)),
        ("json:shop.v2.Price", 0, None),
        ("json:shop.v1.Price", 0, Some(0x11)),
        ("bincode:shop.v1.Price", 1, Some(0x11)),
    ];
    let expected = expected.map(|(name, rank, schema)| (name.to_owned(), rank, schema));
    assert_eq!(PRICES.iter().map(facts).collect::<Vec<_>>(), expected);
    assert!(PRICES.iter().all(CodecEntry::decodes::<Price>));
    assert_eq!((Price::MANIFEST, Price::SCHEMA), ("shop.v3.Price", Some(0x33)));
}

#[test]
fn old_versions_decode_into_the_newest_step_by_step() {
    let registry = CodecRegistry::from_tables(&[PRICES]).unwrap();
    let price = |cents| Ok(Price { cents, currency: "EUR".to_owned() });
    assert_eq!(registry.decode("json:shop.v2.Price", br#"{"cents":5}"#), price(5));
    assert_eq!(registry.decode("json:shop.v1.Price", b"7"), price(700));
    assert_eq!(registry.decode("bincode:shop.v1.Price", &[7]), price(700));
    let other = registry.decode::<PriceV1>("json:shop.v1.Price", b"7").map(drop);
    assert!(matches!(other, Err(DecodeError::Codec(error)) if error.to_string().contains("Price")));
}

#[test]
fn a_type_is_sent_in_its_newest_version_and_first_format_first() {
    let price = Price { cents: 500, currency: "EUR".to_owned() };
    let encoded = |encoding: &codec::Encoding<Price>| {
        let mut bytes = Vec::new();
        encoding.encode(&price, &mut bytes).unwrap();
        (format!("{}:{}", encoding.codec(), encoding.manifest()), bytes)
    };
    let versions = Price::ENCODINGS.iter().map(|formats| formats.iter().map(encoded).collect());
    let expected: [Vec<(&str, &[u8])>; 3] = [
        vec![
            ("bincode:shop.v3.Price", b"\xfb\xf4\x01\x03EUR"),
            ("json:shop.v3.Price", br#"{"cents":500,"currency":"EUR"}"#),
        ],
        vec![
            ("bincode:shop.v2.Price", b"\xfb\xf4\x01"),
            ("json:shop.v2.Price", br#"{"cents":500}"#),
        ],
        vec![("bincode:shop.v1.Price", b"\x05"), ("json:shop.v1.Price", b"5")],
    ];
    let owned = expected.map(|formats| {
        let own = |(name, bytes): (&str, &[u8])| (name.to_owned(), bytes.to_vec());
        formats.into_iter().map(own).collect::<Vec<_>>()
    });
    assert_eq!(versions.collect::<Vec<Vec<_>>>(), owned);
    assert_eq!(self::encoded(&price), b"\xfb\xf4\x01\x03EUR");
}

#[test]
fn a_conversion_that_panics_is_a_fault_and_leaves_the_buffer_as_it_was() {
    let price = Price { cents: u64::MAX, currency: String::new() };
    let mut out = b"before".to_vec();
    let oldest = Price::ENCODINGS[2][0].encode(&price, &mut out).unwrap_err();
    assert_eq!((oldest.manifest(), oldest.fault()), ("shop.v1.Price", &CodecFault::Panicked));
    assert_eq!(out, b"before");
}

impl RemoteMessage for Age {
    const MANIFEST: &'static str = "zoo.v1.Zoo";
    type Codec = Bincode;
}

static CLASH: &[CodecEntry] = &[CodecEntry::new::<Age>(Origin::new("clash.rs", 3, "other::clash"))];

static MOVED: &[CodecEntry] = &[CodecEntry::new::<Zoo>(Origin::new("moved.rs", 4, "other::moved"))];

static HASHED: &[CodecEntry] =
    &[CodecEntry::new::<Zoo>(Origin::new("hashed.rs", 5, "other::hashed"))
        .with_schema(Some(0xabc))];

/// Shares the origin of [`CLASH`], as two types of one declaration do.
static TWIN: &[CodecEntry] = &[CodecEntry::new::<Zoo>(Origin::new("clash.rs", 3, "other::clash"))];

#[test]
fn linked_registry_holds_every_declared_message() {
    let registry = CodecRegistry::linked().unwrap();
    for (name, is_right_type) in [
        ("bincode:zoo.v1.Zoo", CodecEntry::decodes::<Zoo> as fn(&CodecEntry) -> bool),
        ("bincode:zoo.v1.AgePage", CodecEntry::decodes::<Page<Age>>),
        ("bincode:zoo.v1.TextPage", CodecEntry::decodes::<Page<String>>),
        ("bincode:v3.Ticket", CodecEntry::decodes::<nested::Ticket>),
        ("bincode:faulty.v1.Faulty", CodecEntry::decodes::<Faulty>),
    ] {
        assert!(registry.find(name).is_some_and(is_right_type), "{name}");
    }
    assert_eq!(registry.len(), 6 + PRICES.len());
    registry.require(ZOO).unwrap();
    registry.require(nested::TICKETS).unwrap();
}

#[test]
fn messages_declared_in_a_function_are_linked_too() {
    #[derive(Serialize, Deserialize)]
    struct Local;

    tellwire::remote_messages! {
        table LOCAL, codec = Bincode;
        "local.v1" => Local,
    }
    assert!(CodecRegistry::linked().unwrap().find("bincode:local.v1").is_some());
    assert_eq!(LOCAL.len(), 1);
}

#[test]
fn one_entry_reached_twice_is_no_duplicate() {
    let linked = CodecRegistry::linked().unwrap();
    let more = linked.clone().with_tables(&[ZOO, ZOO]).unwrap();
    assert_eq!(more.len(), linked.len());
    assert_eq!(CodecRegistry::from_tables(&[ZOO, ZOO]).unwrap().len(), ZOO.len());
}

#[test]
fn duplicates_name_both_origins() {
    for other in [CLASH, MOVED] {
        let error = CodecRegistry::from_tables(&[ZOO, other]).unwrap_err();
        assert!(matches!(error, RegistryError::Duplicate { .. }));
        let text = error.to_string();
        assert!(text.contains("`bincode:zoo.v1.Zoo`"), "{text}");
        assert!(text.contains("tests/codec_registry.rs:"), "{text}");
        assert!(text.contains(&other[0].origin().to_string()), "{text}");
    }
}

#[test]
fn one_origin_does_not_excuse_two_types() {
    let error = CodecRegistry::from_tables(&[CLASH, TWIN]).unwrap_err().to_string();
    assert!(
        error.contains("codec_registry::Age") && error.contains("codec_registry::Zoo"),
        "{error}"
    );
}

#[test]
fn require_names_everything_missing_and_the_cure() {
    let registry = CodecRegistry::from_tables(&[nested::TICKETS]).unwrap();
    let text = registry.require(ZOO).unwrap_err().to_string();
    for entry in ZOO {
        assert!(text.contains(&entry.wire_name()), "{text}");
    }
    assert!(text.contains("`use codec_registry as _;`"), "{text}");
}

#[test]
fn require_refuses_a_name_that_belongs_to_another_type() {
    let registry = CodecRegistry::from_tables(&[CLASH]).unwrap();
    assert!(matches!(registry.require(ZOO), Err(RegistryError::Duplicate { .. })));
}

#[test]
fn registries_side_by_side_do_not_share_entries() {
    let zoo = CodecRegistry::from_tables(&[ZOO]).unwrap();
    let clash = CodecRegistry::from_tables(&[CLASH]).unwrap();
    let empty = CodecRegistry::from_tables(&[]).unwrap();
    assert!(zoo.find("bincode:zoo.v1.Zoo").unwrap().decodes::<Zoo>());
    assert_eq!(clash.decode::<Age>("bincode:zoo.v1.Zoo", &[5]), Ok(Age(5)));
    assert!(empty.is_empty() && !zoo.is_empty());
}

#[test]
fn unknown_names_are_refused() {
    let registry = CodecRegistry::from_tables(&[ZOO]).unwrap();
    for name in
        ["", ":", "zoo.v1.Zoo", "json:zoo.v1.Zoo", "bincode:zoo.v1.Zo", "bincode:zoo.v1.Zoo:"]
    {
        assert!(registry.find(name).is_none(), "{name}");
        let refused = registry.decode::<Zoo>(name, &[]);
        assert_eq!(refused, Err(DecodeError::Unknown { wire_name: name.to_owned() }));
    }
}

#[test]
fn fingerprint_depends_on_names_and_schemas_alone() {
    let fingerprint = |tables: &[&'static [CodecEntry]]| {
        CodecRegistry::from_tables(tables).unwrap().fingerprint()
    };
    assert_eq!(fingerprint(&[ZOO, nested::TICKETS]), fingerprint(&[nested::TICKETS, ZOO]));
    assert_eq!(fingerprint(&[CLASH]), fingerprint(&[MOVED]));
    assert_ne!(fingerprint(&[ZOO]), fingerprint(&[nested::TICKETS]));
    assert_eq!(fingerprint(&[]), 0xcbf2_9ce4_8422_2325);
    assert_eq!(fingerprint(&[CLASH]), fnv1a(b"bincode:zoo.v1.Zoo\n"));
    assert_eq!(fingerprint(&[HASHED]), fnv1a(b"bincode:zoo.v1.Zoo 0000000000000abc\n"));
}

/// Hashes by the published definition, apart from the code under test.
fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = 14_695_981_039_346_656_037_u128;
    for byte in bytes {
        hash = ((hash ^ u128::from(*byte)) * 1_099_511_628_211) % (1 << 64);
    }
    u64::try_from(hash).expect("the remainder has 64 bits")
}

#[test]
fn entries_are_listed_in_the_order_of_their_names() {
    let registry = CodecRegistry::from_tables(&[ZOO, nested::TICKETS]).unwrap();
    let names: Vec<_> = registry.iter().map(CodecEntry::manifest).collect();
    assert_eq!(names, ["v3.Ticket", "zoo.v1.AgePage", "zoo.v1.TextPage", "zoo.v1.Zoo"]);
}
