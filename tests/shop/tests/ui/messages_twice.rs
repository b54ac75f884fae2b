use tellwire::codec::Bincode;

#[derive(serde::Serialize, serde::Deserialize)]
struct AddItem;

tellwire::remote_messages! {
    table SHOP, codec = Bincode;
    "shop.v1.AddItem" => AddItem,
    "shop.v2.AddItem" => AddItem,
}

fn main() {}
