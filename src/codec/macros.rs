//! Registers message types while the program is compiled and linked.
//!
//! [`remote_messages!`](crate::remote_messages) is the one place where a type meets its wire names. Its
//! lines become constants, which join to one table; a program that links the table has registered it.

use super::CodecEntry;

/// Registers message types under explicit wire names.
///
/// Gives `impl RemoteMessage` for every type, registers each for
/// [`CodecRegistry::linked`](crate::codec::CodecRegistry::linked), and defines a `static` table of
/// the entries for explicit registration. A manifest is 1 to 200 bytes of `[A-Za-z0-9._-]` with a
/// version segment (`.v1.` inside, `v1.` in front or `.v1` at the end); anything else does not
/// compile.
///
/// A generic type needs one line for each concrete type that travels.
///
/// A crate that is listed in `Cargo.toml` but named nowhere in code is not linked, and registers
/// nothing: say `use that_crate as _;`, or name its table.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tellwire::codec::{self, CodecRegistry};
///
/// #[derive(Serialize, Deserialize, PartialEq, Debug)]
/// struct Greet {
///     name: String,
/// }
///
/// tellwire::remote_messages! {
///     /// Everything a greeter understands.
///     pub table HELLO, codec = tellwire::codec::Bincode;
///     "hello.v1.Greet" => Greet,
/// }
///
/// let mut bytes = Vec::new();
/// codec::encode(&Greet { name: "Ada".into() }, &mut bytes)?;
/// let registry = CodecRegistry::from_tables(&[HELLO])?;
/// let greet: Greet = registry.decode("bincode:hello.v1.Greet", &bytes)?;
/// assert_eq!(greet.name, "Ada");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A manifest without a version does not compile:
///
/// ```compile_fail,E0080
/// tellwire::remote_messages! {
///     table NUMBERS, codec = tellwire::codec::Bincode;
///     "number" => Number,
/// }
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Number(u8);
/// ```
///
/// # Several formats
///
/// `codecs = [Bincode, Json]` in place of `codec = Bincode`: the first one sends, all are accepted. A
/// peer that does not accept the first is sent the first that it does.
///
/// # Options of a line
///
/// In braces behind the type, separated by commas:
///
/// | option | means |
/// |---|---|
/// | `codec = Json` or `codecs = [Json, Bincode]` | takes the place of the table's |
/// | `schema = 0x1f3a` | hashes the type's shape; two nodes with different hashes refuse the manifest |
/// | `until understood "shop.v1.AddItem" => AddItemV1` | sends the older version to each peer that is not known to accept this one |
///
/// # Versions
///
/// `"shop.v1.AddItem" => AddItemV1 as AddItem` decodes the old version and converts it with `From`, so
/// actors know the newest only; `V1 as V2 as V3` converts step by step. The other way,
/// `until understood`, wants `From<&AddItem> for AddItemV1`; several of them stand from newer to
/// older. A tell goes to one peer, so it is enough that this peer understands: each one is sent the
/// new version as soon as its registry is known to accept it, at once after its restart with the new
/// build. Once no node of the old build is left, both can be deleted.
///
/// ```standalone_crate
/// use serde::{Deserialize, Serialize};
/// use tellwire::codec::{Bincode, CodecRegistry};
///
/// #[derive(Serialize, Deserialize)]
/// struct AddItem {
///     sku: String,
///     count: u32,
/// }
///
/// #[derive(Serialize, Deserialize)]
/// struct AddItemV1 {
///     sku: String,
/// }
///
/// impl From<AddItemV1> for AddItem {
///     fn from(old: AddItemV1) -> Self {
///         Self { sku: old.sku, count: 1 }
///     }
/// }
///
/// impl From<&AddItem> for AddItemV1 {
///     fn from(new: &AddItem) -> Self {
///         Self { sku: new.sku.clone() }
///     }
/// }
///
/// tellwire::remote_messages! {
///     table SHOP, codec = Bincode;
///     "shop.v2.AddItem" => AddItem { until understood "shop.v1.AddItem" => AddItemV1 },
///     "shop.v1.AddItem" => AddItemV1 as AddItem,
/// }
///
/// let registry = CodecRegistry::from_tables(&[SHOP])?;
/// let item: AddItem = registry.decode("bincode:shop.v1.AddItem", b"\x03tea")?;
/// assert_eq!((item.sku.as_str(), item.count), ("tea", 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[macro_export]
macro_rules! remote_messages {
    (
        $(#[$attribute:meta])*
        $visibility:vis table $table:ident, codec = $codec:ty;
        $($lines:tt)*
    ) => {
        $crate::remote_messages! {
            $(#[$attribute])*
            $visibility table $table, codecs = [$codec];
            $($lines)*
        }
    };
    (
        $(#[$attribute:meta])*
        $visibility:vis table $table:ident, codecs = $codecs:tt;
        $($manifest:literal => $message:ty $(as $newer:ty)* $({ $($options:tt)* })?),* $(,)?
    ) => {
        $($crate::__remote_message! {
            items $codecs [::core::option::Option::None] [] { $($($options)*)? }
            ($manifest, $message, [$($newer),*])
        })*

        $(#[$attribute])*
        ///
        /// Lists the codec entries of these messages, for explicit registration:
        $(#[doc = ::core::concat!("`", $manifest, "`")])*
        $visibility static $table: &[$crate::codec::CodecEntry] = {
            const LINES: &[&[$crate::codec::CodecEntry]] = &[$($crate::__remote_message! {
                entries $codecs [::core::option::Option::None] [] { $($($options)*)? }
                ($manifest, $message, [$($newer),*])
            }),*];
            const ALL: [$crate::codec::CodecEntry; $crate::__private::count(LINES)] =
                $crate::__private::concat(LINES);
            &ALL
        };

        $crate::__private::inventory::submit! { $crate::__private::Linked(|| $table) }
    };
}

/// Expands one line of `remote_messages!`: takes its options one by one, each into its place (the
/// codecs, the schema, the older versions), then gives what the first word asks for.
#[doc(hidden)]
#[macro_export]
macro_rules! __remote_message {
    ($want:ident $codecs:tt $schema:tt $older:tt
        { codecs = $own:tt $(, $($rest:tt)*)? } $line:tt) => {
        $crate::__remote_message! { $want $own $schema $older { $($($rest)*)? } $line }
    };
    ($want:ident $codecs:tt $schema:tt $older:tt
        { codec = $own:ty $(, $($rest:tt)*)? } $line:tt) => {
        $crate::__remote_message! { $want [$own] $schema $older { $($($rest)*)? } $line }
    };
    ($want:ident $codecs:tt $schema:tt $older:tt
        { schema = $own:expr $(, $($rest:tt)*)? } $line:tt) => {
        $crate::__remote_message! {
            $want $codecs [::core::option::Option::Some($own)] $older { $($($rest)*)? } $line
        }
    };
    ($want:ident $codecs:tt $schema:tt [$($older:tt)*]
        { until understood $manifest:literal => $old:ty $(, $($rest:tt)*)? } $line:tt) => {
        $crate::__remote_message! {
            $want $codecs $schema [$($older)* ($manifest, $old)] { $($($rest)*)? } $line
        }
    };
    (items $codecs:tt $schema:tt $older:tt { $($unknown:tt)+ } $line:tt) => {
        ::core::compile_error!(
            "the options of a message are `codec = …`, `codecs = […]`, `schema = …` and \
             `until understood \"…\" => …`"
        );
    };
    (entries $codecs:tt $schema:tt $older:tt { $($unknown:tt)+ } $line:tt) => {
        &[]
    };
    (items $codecs:tt [$schema:expr] [$($older:tt)*] {} ($manifest:literal, $message:ty, [])) => {
        const _: () = $crate::__private::assert_manifest($manifest);

        impl $crate::codec::RemoteMessage for $message {
            const MANIFEST: &'static str = $manifest;
            type Codec = $crate::__remote_message!(first $codecs);
            const SCHEMA: ::core::option::Option<u64> = $schema;
            const ENCODINGS: &'static [&'static [$crate::codec::Encoding<Self>]] = &[
                $crate::__remote_message!(own $codecs $manifest),
                $($crate::__remote_message!(older $codecs $older)),*
            ];
        }
    };
    (items $codecs:tt $schema:tt [] {} ($manifest:literal, $message:ty, $newer:tt)) => {
        const _: () = $crate::__private::assert_manifest($manifest);
    };
    (items $codecs:tt $schema:tt $older:tt {} $line:tt) => {
        ::core::compile_error!("`until understood` belongs to the line of the newest version");
    };
    (entries [$($codec:ty),+ $(,)?] [$schema:expr] $older:tt {}
        ($manifest:literal, $message:ty, $newer:tt)) => {
        &$crate::__private::ranked([$(
            $crate::codec::CodecEntry::reading::<
                $message,
                $codec,
                $crate::__remote_message!(upgrade $newer),
            >(
                $manifest,
                $crate::codec::Origin::new(
                    ::core::file!(),
                    ::core::line!(),
                    ::core::module_path!(),
                ),
            )
            .with_schema($schema)
        ),+])
    };
    (first [$first:ty $(, $other:ty)* $(,)?]) => {
        $first
    };
    (own [$($codec:ty),+ $(,)?] $manifest:literal) => {
        &[$($crate::codec::Encoding::new::<$codec>($manifest, Self::SCHEMA)),+]
    };
    (older [$($codec:ty),+ $(,)?] ($manifest:literal, $old:ty)) => {{
        const _: () = $crate::__private::assert_manifest($manifest);
        &[$($crate::codec::Encoding::<Self>::older::<$old, $codec>($manifest)),+]
    }};
    (upgrade []) => {
        ()
    };
    (upgrade [$next:ty $(, $newer:ty)*]) => {
        ($next, $crate::__remote_message!(upgrade [$($newer),*]))
    };
}

/// Holds what the expansion of [`remote_messages!`](crate::remote_messages) refers to.
pub mod private {
    pub use inventory;

    pub use super::{Linked, Upgrade, concat, count, ranked};
    pub use crate::codec::grammar::assert_manifest;
}

/// Registers one table at link time.
#[derive(Debug)]
pub struct Linked(pub fn() -> &'static [CodecEntry]);

inventory::collect!(Linked);

/// Converts an old version `O` of a message into the one that actors know, step by step.
///
/// `()` is no step; `(N, V)` goes to `N`, and from there along `V`.
pub trait Upgrade<O>: 'static {
    /// Is where the steps lead.
    type Last: 'static;

    /// Takes the steps.
    fn upgrade(old: O) -> Self::Last;
}

impl<O: 'static> Upgrade<O> for () {
    type Last = O;

    fn upgrade(old: O) -> O {
        old
    }
}

impl<O, N: From<O> + 'static, V: Upgrade<N>> Upgrade<O> for (N, V) {
    type Last = V::Last;

    fn upgrade(old: O) -> V::Last {
        V::upgrade(N::from(old))
    }
}

/// Gives each entry of a line its place.
pub const fn ranked<const N: usize>(mut entries: [CodecEntry; N]) -> [CodecEntry; N] {
    assert!(N <= MAX_CODECS, "a message has at most 16 codecs");
    let mut at = 0;
    let mut rank = 0;
    while at < N {
        entries[at] = entries[at].with_rank(rank);
        at += 1;
        rank += 1;
    }
    entries
}

/// Counts the entries of all lines.
pub const fn count(lines: &[&[CodecEntry]]) -> usize {
    let (mut count, mut at) = (0, 0);
    while at < lines.len() {
        count += lines[at].len();
        at += 1;
    }
    count
}

/// Joins the entries of all lines, `N` in number.
pub const fn concat<const N: usize>(lines: &[&[CodecEntry]]) -> [CodecEntry; N] {
    let mut all = [CodecEntry::PLACEHOLDER; N];
    let (mut filled, mut line) = (0, 0);
    while line < lines.len() {
        let mut at = 0;
        while at < lines[line].len() {
            all[filled] = lines[line][at];
            filled += 1;
            at += 1;
        }
        line += 1;
    }
    all
}

/// Bounds the formats of one message: each peer's choice among versions and formats is one byte.
const MAX_CODECS: usize = 16;
