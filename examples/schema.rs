//! The table of what a program accepts, for a project's checks: `print` it once and commit it, `check` it from then on.
//!
//! `cargo run --example schema -- print`
//! `cargo run --example schema -- check examples/schema.txt`
//!
//! Ends with 1 where a change would make nodes of the committed build and of this one refuse each other, with 2 where
//! it cannot compare. A program of your own needs these few lines and `use your_messages as _;`, or a test around
//! `SchemaTable`.

#![expect(clippy::print_stdout, reason = "its output is its use")]

use std::error::Error;
use std::fs;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use tellwire::codec::schema::{Change, SchemaTable};
use tellwire::codec::{Bincode, CodecRegistry};
use tellwire_json::Json;

#[derive(Serialize, Deserialize)]
struct AddItem {
    sku: String,
    count: u32,
}

#[derive(Serialize, Deserialize)]
struct AddItemV1 {
    sku: String,
}

impl From<AddItemV1> for AddItem {
    fn from(old: AddItemV1) -> Self {
        Self { sku: old.sku, count: 1 }
    }
}

#[derive(Serialize, Deserialize)]
struct Checkout;

tellwire::remote_messages! {
    table SHOP, codecs = [Bincode, Json];
    "shop.v2.AddItem" => AddItem { schema = 0x5f2e_0b19_c4d7_8a36 },
    "shop.v1.AddItem" => AddItemV1 as AddItem { codec = Bincode },
    "shop.v1.Checkout" => Checkout,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["print"] => print(),
        ["check", file] => check(file),
        _ => Err("say `print` or `check FILE`".into()),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::from(2)
    })
}

fn linked() -> Result<SchemaTable, Box<dyn Error>> {
    let registry = CodecRegistry::linked()?;
    registry.require(SHOP)?;
    Ok(SchemaTable::of(&registry))
}

fn print() -> Result<ExitCode, Box<dyn Error>> {
    print!("{}", linked()?);
    Ok(ExitCode::SUCCESS)
}

fn check(file: &str) -> Result<ExitCode, Box<dyn Error>> {
    let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let committed: SchemaTable = text.parse().map_err(|error| format!("{file}: {error}"))?;
    let changes = committed.changes_to(&linked()?);
    for change in &changes {
        let verdict = if change.is_incompatible() { "incompatible" } else { "note" };
        println!("{verdict}: {change}");
    }
    let is_compatible = !changes.iter().any(Change::is_incompatible);
    Ok(if is_compatible { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
