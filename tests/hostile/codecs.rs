//! In each format, each hostile input ends as one dead letter that says why, and the next good message arrives.

use serde::{Deserialize, Serialize};
use tellwire::Node;
use tellwire::codec::{Bincode, Codec};
use tellwire::event::Reason;
use tellwire::node::{Delivery, Observed};
use tellwire_cbor::Cbor;
use tellwire_json::Json;
use tellwire_messagepack::MessagePack;
use tellwire_postcard::Postcard;
use tellwire_protobuf::Protobuf;
use tokio::sync::mpsc;

use crate::raw::{self, Raw, SYSTEM, chooser, soon};

/// Is a message of every format.
#[derive(Clone, PartialEq, Serialize, Deserialize, prost::Message)]
struct Tree {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    inner: Vec<Tree>,
}

tellwire::remote_messages! {
    table TREES, codecs = [Bincode, Postcard, MessagePack, Cbor, Json, Protobuf];
    "hostile.v1.Tree" => Tree,
}

#[tokio::test]
async fn each_hostile_input_of_each_format_costs_one_dead_letter_that_says_why() {
    let builder = Node::builder(SYSTEM).listen("tcp://127.0.0.1:0").codecs(TREES);
    let node = builder.start().await.expect("a node on loopback");
    let (sender, mut trees) = mpsc::channel::<Delivery<Tree>>(8);
    node.register::<Tree, _>(TREE, sender).expect("a free path");
    let mut dead = node.dead_letters();
    let mut raw = Raw::join(&node, chooser(1)).await;
    for Format { name, good, bad } in formats() {
        let name = format!("{name}:hostile.v1.Tree");
        for (what, bytes, why) in bad {
            raw.send(&raw::tell(TREE, &name, &bytes)).await;
            let Some(Observed::Item(letter)) = soon(dead.next()).await else {
                panic!("{name}, {what}: no dead letter");
            };
            assert_eq!((letter.reason, letter.count), (Reason::Undecodable, 1), "{name}, {what}");
            let detail = letter.detail.unwrap_or_default();
            let is_told = detail.starts_with(&name) && detail.contains(why);
            assert!(is_told, "{name}, {what}: {detail}");

            raw.send(&raw::tell(TREE, &name, &good)).await;
            let delivery = soon(trees.recv()).await.expect("the node runs");
            assert_eq!(delivery.message, tree(), "{name}, after {what}");
        }
    }
    assert_eq!(node.stats().dead_letters_total(), node.stats().delivered);
}

/// Holds what a format writes, and what it must refuse: what it is, the bytes, and what the refusal says.
struct Format {
    name: &'static str,
    good: Vec<u8>,
    bad: Vec<(&'static str, Vec<u8>, &'static str)>,
}

fn formats() -> [Format; 6] {
    [
        format::<Bincode>(b"\xfd\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x00\xfc\xff\xff\xff\xff"),
        format::<Postcard>(b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x00\xff\xff\xff\xff\x0f"),
        format::<MessagePack>(
            b"\x82\xa4name\xdb\xff\xff\xff\xff",
            b"\x82\xa4name\xa0\xa5inner\xdd\xff\xff\xff\xff",
        ),
        format::<Cbor>(
            b"\xa2\x64name\x7b\x7f\xff\xff\xff\xff\xff\xff\xff",
            b"\xa2\x64name\x60\x65inner\x9b\x7f\xff\xff\xff\xff\xff\xff\xff",
        ),
        format::<Json>(b"{\"name\":\"without an end", b"{\"name\":\"\",\"inner\":["),
        format::<Protobuf>(b"\x0a\xff\xff\xff\xff\x0f", b"\x12\xff\xff\xff\xff\x0f"),
    ]
}

/// Derives from what the format writes what it must refuse; what claims to be longer than it is comes as it is.
fn format<C: Codec<Tree>>(long_text: &[u8], long_list: &[u8]) -> Format {
    let good = spelt::<C>(&tree());
    let cut = good[..good.len() - 1].to_vec();
    let mut garbled = good.clone();
    let text = good.windows(3).position(|text| text == b"oak").expect("text as it is");
    garbled[text] = 0xff;
    let around = |inner| Tree { name: String::new(), inner: vec![inner] };
    let deep = spelt::<C>(&(0..200).fold(tree(), |inner, _| around(inner)));
    let mut bad = vec![
        ("a message cut short", cut, "at byte "),
        ("invalid text", garbled, "at byte "),
        ("a text of any length", long_text.to_vec(), "at byte "),
        ("a list of any length", long_list.to_vec(), "at byte "),
        ("another type", vec![0xfe; 3], "at byte "),
        ("a deep nest", deep, " deep"),
    ];
    // Protocol Buffers have no end.
    if C::NAME != <Protobuf as Codec<Tree>>::NAME {
        bad.push(("bytes behind it", [&good[..], b"xy"].concat(), "2 bytes follow"));
    }
    Format { name: C::NAME, good, bad }
}

fn spelt<C: Codec<Tree>>(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    C::encode(tree, &mut bytes).expect("a tree");
    bytes
}

fn tree() -> Tree {
    let twig = |name: &str| Tree { name: name.to_owned(), inner: Vec::new() };
    Tree { name: "an oak".to_owned(), inner: vec![twig("left"), twig("right")] }
}

const TREE: &str = "/user/tree";
