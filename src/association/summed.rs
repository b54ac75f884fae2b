//! Spells who a node is in the handshake: its address, its uid and a check sum of both.
//!
//! One garbled bit in a uid would be another uid, and so a later incarnation, which fences the true one for good. A
//! transport may have no check sum of its own, and TCP's is weak. So a sum that is wrong makes the PDU malformed: the link
//! ends, and the next one tries again. It is no protection against an attacker.
//!
//! The sum is FNV-1a with 32 bits over the address as text and the uid, big-endian.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::address::{Address, Uid, UniqueAddress};

/// Writes a node and the check sum, for `#[serde(with)]`.
pub(super) fn serialize<S: Serializer>(node: &UniqueAddress, to: S) -> Result<S::Ok, S::Error> {
    (node.address(), node.uid(), sum(node)).serialize(to)
}

/// Reads a node whose check sum is right.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<UniqueAddress, D::Error> {
    let (address, uid, told) = <(Address, Uid, u32)>::deserialize(from)?;
    let node = UniqueAddress::new(address, uid);
    if sum(&node) == told {
        Ok(node)
    } else {
        Err(de::Error::custom("the node's address and uid do not match their check sum"))
    }
}

fn sum(node: &UniqueAddress) -> u32 {
    let address = node.address().to_string();
    let bytes = address.bytes().chain(node.uid().get().to_be_bytes());
    bytes.fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use crate::address::{Uid, UniqueAddress};
    use crate::association::control::{ControlPdu, Limits, Welcome, decode_pdu, encode_pdu};

    #[test]
    fn no_flipped_bit_makes_another_node() {
        let from = UniqueAddress::new("mem://A@h.test:10".parse().unwrap(), Uid::new(u64::MAX));
        let limits = Limits { max_message: 7 };
        let welcome = Welcome { version: 1, from: from.clone(), limits, registry: 0 };
        let mut bytes = Vec::new();
        encode_pdu(&ControlPdu::Welcome(welcome), &mut bytes).unwrap();
        let mut refused = 0;
        for bit in 0..8 * bytes.len() {
            let mut garbled = bytes.clone();
            garbled[bit / 8] ^= 1 << (bit % 8);
            match decode_pdu::<ControlPdu>(&garbled) {
                Ok(ControlPdu::Welcome(welcome)) => assert_eq!(welcome.from, from, "bit {bit}"),
                Ok(_) | Err(_) => refused += 1,
            }
        }
        assert!(refused > 8 * 30, "{refused}");
    }
}
