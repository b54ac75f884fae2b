use tellwire::codec::Bincode;

#[derive(serde::Serialize, serde::Deserialize)]
struct AddItem;

tellwire::remote_messages! {
    table SHOP, codec = Bincode;
    "AddItem" => AddItem,
}

fn main() {}
