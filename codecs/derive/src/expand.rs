//! Turns the attribute of one type into one line of `remote_messages!`.

use proc_macro2::{Literal, TokenStream};
use quote::{ToTokens, quote};
use syn::meta::ParseNestedMeta;
use syn::parse::ParseStream;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{DeriveInput, Error, Ident, LitInt, LitStr, Result, Token, Type, parenthesized};

use crate::manifest::flaw;
use crate::shape;

/// Expands the derive, or says at the right place what is wrong.
pub(crate) fn remote_message(input: &DeriveInput) -> Result<TokenStream> {
    if let Some(parameter) = input.generics.params.first() {
        return Err(Error::new(parameter.span(), GENERIC));
    }
    let Keys { manifest, codecs, into, schema, older } = Keys::of(input)?;
    let manifest = manifest.ok_or_else(|| Error::new(input.ident.span(), NO_MANIFEST))?;
    let codecs = codecs.ok_or_else(|| Error::new(input.ident.span(), NO_CODEC))?;
    let schema = match schema.unwrap_or_else(|| Schema::Given(shape_of(input))) {
        Schema::None => None,
        Schema::Given(hash) => Some(quote!(schema = #hash,)),
    };
    let (into, message) = (into.into_iter(), &input.ident);
    let older = older.iter().map(|(manifest, old)| quote!(until understood #manifest => #old));
    // The constant gives the table, which a single type has no use for, a scope of its own.
    Ok(quote! {
        const _: () = {
            ::tellwire::remote_messages! {
                table MESSAGE, codecs = [#codecs];
                #manifest => #message #(as #into)* { #schema #(#older),* },
            }
        };
    })
}

/// Holds what `#[remote(…)]` says.
#[derive(Default)]
struct Keys {
    manifest: Option<LitStr>,
    codecs: Option<Punctuated<Type, Token![,]>>,
    into: Option<Type>,
    schema: Option<Schema>,
    older: Vec<(LitStr, Type)>,
}

/// Says which schema hash is compared.
enum Schema {
    None,
    Given(TokenStream),
}

impl Keys {
    fn of(input: &DeriveInput) -> Result<Self> {
        let mut keys = Self::default();
        for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("remote"))
        {
            attribute.parse_nested_meta(|key| keys.read(&key))?;
        }
        Ok(keys)
    }

    fn read(&mut self, key: &ParseNestedMeta<'_>) -> Result<()> {
        let name = key.path.get_ident().map(Ident::to_string).unwrap_or_default();
        match name.as_str() {
            "manifest" => set(&mut self.manifest, manifest(key.value()?)?, key),
            "codec" => {
                let codec: Type = key.value()?.parse()?;
                set(&mut self.codecs, Punctuated::from_iter([codec]), key)
            }
            "codecs" => set(&mut self.codecs, codecs(key)?, key),
            "into" => set(&mut self.into, key.value()?.parse()?, key),
            "schema" => set(&mut self.schema, schema(key.value()?)?, key),
            "until_understood" => {
                self.older.push(older(key)?);
                Ok(())
            }
            _ => Err(key.error(UNKNOWN_KEY)),
        }
    }
}

fn manifest(input: ParseStream<'_>) -> Result<LitStr> {
    let manifest: LitStr = input.parse()?;
    match flaw(&manifest.value()) {
        Some(flaw) => Err(Error::new(manifest.span(), flaw)),
        None => Ok(manifest),
    }
}

fn codecs(key: &ParseNestedMeta<'_>) -> Result<Punctuated<Type, Token![,]>> {
    let list;
    parenthesized!(list in key.input);
    let codecs = Punctuated::parse_terminated(&list)?;
    if codecs.is_empty() { Err(key.error(NO_CODEC)) } else { Ok(codecs) }
}

fn schema(input: ParseStream<'_>) -> Result<Schema> {
    if input.peek(LitInt) {
        let hash: LitInt = input.parse()?;
        return Ok(Schema::Given(hash.to_token_stream()));
    }
    let word: Ident = input.parse().map_err(|error| Error::new(error.span(), NO_SCHEMA))?;
    if word == "none" { Ok(Schema::None) } else { Err(Error::new(word.span(), NO_SCHEMA)) }
}

fn older(key: &ParseNestedMeta<'_>) -> Result<(LitStr, Type)> {
    let version;
    parenthesized!(version in key.input);
    let manifest = manifest(&version)?;
    version.parse::<Token![=>]>()?;
    Ok((manifest, version.parse()?))
}

fn shape_of(input: &DeriveInput) -> TokenStream {
    Literal::u64_unsuffixed(shape::hash(input)).to_token_stream()
}

fn set<T>(slot: &mut Option<T>, value: T, key: &ParseNestedMeta<'_>) -> Result<()> {
    if slot.replace(value).is_some() {
        return Err(key.error("this key was given already"));
    }
    Ok(())
}

const GENERIC: &str = "a generic type travels as concrete types; register each with a line of \
                       `tellwire::remote_messages!` instead";

const NO_MANIFEST: &str = "a remote message needs a manifest, a wire name with a version: \
                           `#[remote(manifest = \"shop.v1.AddItem\", codec = Bincode)]`";

const NO_CODEC: &str = "a remote message needs a codec: add `codec = tellwire::codec::Bincode`, or \
                        another, to `#[remote(…)]`";

const NO_SCHEMA: &str = "a schema is a hash, as in `schema = 0x1f3a`, or `schema = none`";

const UNKNOWN_KEY: &str = "unknown key; there are `manifest`, `codec`, `codecs(…)`, `into`, `schema` \
                           and `until_understood(\"…\" => …)`";
