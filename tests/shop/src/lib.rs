//! Registers a message: a crate of its own, for a program that names it and one that does not.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};
use tellwire::codec::Bincode;

/// Is what the shop understands.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// How many.
    pub count: u32,
}

tellwire::remote_messages! {
    /// Everything the shop understands.
    pub table SHOP, codec = Bincode;
    "shop.v1.Order" => Order,
}
