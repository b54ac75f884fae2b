//! Turns the attribute of one type into one line of `remote_messages!`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{DeriveInput, Error, LitStr, Result, Type};

use crate::manifest::flaw;

/// Expands the derive, or says at the right place what is wrong.
pub(crate) fn remote_message(input: &DeriveInput) -> Result<TokenStream> {
    if let Some(parameter) = input.generics.params.first() {
        return Err(Error::new(parameter.span(), GENERIC));
    }
    let (manifest, codec) = Keys::of(input)?.complete(input)?;
    let message = &input.ident;
    // The constant gives the table, which a single type has no use for, a scope of its own.
    Ok(quote! {
        const _: () = {
            ::tellwire::remote_messages! {
                table MESSAGE, codec = #codec;
                #manifest => #message,
            }
        };
    })
}

/// Holds what `#[remote(…)]` says.
#[derive(Default)]
struct Keys {
    manifest: Option<LitStr>,
    codec: Option<Type>,
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
        if key.path.is_ident("manifest") {
            let manifest: LitStr = key.value()?.parse()?;
            if let Some(flaw) = flaw(&manifest.value()) {
                return Err(Error::new(manifest.span(), flaw));
            }
            set(&mut self.manifest, manifest, key)
        } else if key.path.is_ident("codec") {
            set(&mut self.codec, key.value()?.parse()?, key)
        } else {
            Err(key.error("unknown key; there are `manifest` and `codec`"))
        }
    }

    fn complete(self, input: &DeriveInput) -> Result<(LitStr, Type)> {
        match (self.manifest, self.codec) {
            (Some(manifest), Some(codec)) => Ok((manifest, codec)),
            (None, _) => Err(Error::new(input.ident.span(), NO_MANIFEST)),
            (Some(_), None) => Err(Error::new(input.ident.span(), NO_CODEC)),
        }
    }
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
