//! Hashes the shape of a type: what its fields and variants are called, their order, and their types as written.
//!
//! The name of the type, its visibility and its docs are no part of it; the attributes of serde and prost are,
//! since they change what is written. The text that is hashed is made token by token: how a compiler would space
//! them plays no role, so the hash is the same on every toolchain.

use std::fmt::Write as _;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Data, DeriveInput, Fields};

/// Hashes the shape of a type with 64-bit FNV-1a.
pub(crate) fn hash(input: &DeriveInput) -> u64 {
    spell(input)
        .bytes()
        .fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME))
}

fn spell(input: &DeriveInput) -> String {
    let mut text = String::new();
    attributes(&input.attrs, &mut text);
    match &input.data {
        Data::Struct(data) => fields(&data.fields, &mut text),
        Data::Enum(data) => {
            for variant in &data.variants {
                attributes(&variant.attrs, &mut text);
                text.push_str("| ");
                tokens(variant.ident.to_token_stream(), &mut text);
                fields(&variant.fields, &mut text);
                if let Some((_, number)) = &variant.discriminant {
                    tokens(number.to_token_stream(), &mut text);
                }
            }
        }
        Data::Union(data) => {
            data.fields.named.iter().for_each(|field| self::field(field, &mut text));
        }
    }
    text
}

fn fields(fields: &Fields, text: &mut String) {
    let (open, close) = match fields {
        Fields::Named(_) => ("{ ", "} "),
        Fields::Unnamed(_) => ("( ", ") "),
        Fields::Unit => ("", "; "),
    };
    text.push_str(open);
    fields.iter().for_each(|field| self::field(field, text));
    text.push_str(close);
}

fn field(field: &syn::Field, text: &mut String) {
    attributes(&field.attrs, text);
    tokens(field.ident.to_token_stream(), text);
    text.push_str(": ");
    tokens(field.ty.to_token_stream(), text);
    text.push_str(", ");
}

fn attributes(attributes: &[Attribute], text: &mut String) {
    let shapes = |attribute: &&Attribute| {
        ["serde", "prost"].iter().any(|name| attribute.path().is_ident(name))
    };
    for attribute in attributes.iter().filter(shapes) {
        text.push_str("# ");
        tokens(attribute.meta.to_token_stream(), text);
    }
}

fn tokens(stream: TokenStream, text: &mut String) {
    for token in stream {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("( ", ") "),
                    Delimiter::Brace => ("{ ", "} "),
                    Delimiter::Bracket => ("[ ", "] "),
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                tokens(group.stream(), text);
                text.push_str(close);
            }
            // Writing to a string does not fail.
            other => drop(write!(text, "{other} ")),
        }
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[cfg(test)]
mod tests {
    use syn::{DeriveInput, parse_quote};

    use super::{hash, spell};

    #[test]
    fn names_order_and_types_are_the_shape() {
        let same: [DeriveInput; 3] = [
            parse_quote!(
                struct Item {
                    sku: String,
                    tags: Vec<(u8, [u16; 3])>,
                }
            ),
            parse_quote!(
                #[derive(Debug)]
                pub(crate) struct Article {
                    /// The number on the shelf.
                    pub sku: String,
                    tags: Vec<(u8, [u16; 3])>,
                }
            ),
            parse_quote!(
                #[remote(manifest = "x.v1.A")]
                struct Item {
                    sku: String,
                    tags: Vec<(u8, [u16; 3])>,
                }
            ),
        ];
        assert_eq!(spell(&same[0]), "{ sku : String , tags : Vec < ( u8 , [ u16 ; 3 ] ) > , } ");
        assert!(same.iter().all(|input| hash(input) == hash(&same[0])));
        let others: [DeriveInput; 7] = [
            parse_quote!(
                struct Item {
                    tags: Vec<(u8, [u16; 3])>,
                    sku: String,
                }
            ),
            parse_quote!(
                struct Item {
                    sku: String,
                }
            ),
            parse_quote!(
                struct Item {
                    name: String,
                    tags: Vec<(u8, [u16; 3])>,
                }
            ),
            parse_quote!(
                struct Item {
                    sku: String,
                    tags: Vec<(u8, [u32; 3])>,
                }
            ),
            parse_quote!(
                struct Item {
                    sku: String,
                    #[serde(default)]
                    tags: Vec<(u8, [u16; 3])>,
                }
            ),
            parse_quote!(
                struct Item(String, Vec<(u8, [u16; 3])>);
            ),
            parse_quote!(
                struct Item;
            ),
        ];
        assert!(others.iter().all(|input| hash(input) != hash(&same[0])));
    }

    #[test]
    fn variants_are_part_of_the_shape() {
        let spelled = |input: DeriveInput| spell(&input);
        let text = spelled(parse_quote!(
            enum Order {
                Now,
                At(u64),
                #[serde(rename = "l")]
                Late {
                    by: u8,
                },
            }
        ));
        assert_eq!(
            text,
            "| Now ; | At ( : u64 , ) # serde ( rename = \"l\" ) | Late { by : u8 , } "
        );
        let turned: DeriveInput = parse_quote!(
            enum Order {
                Late,
                Now,
            }
        );
        assert_ne!(
            hash(&turned),
            hash(&parse_quote!(
                enum Order {
                    Now,
                    Late,
                }
            ))
        );
    }
}
