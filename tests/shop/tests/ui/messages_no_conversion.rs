use tellwire::codec::Bincode;

#[derive(serde::Serialize, serde::Deserialize)]
struct AddItem;

#[derive(serde::Serialize, serde::Deserialize)]
struct AddItemV1;

tellwire::remote_messages! {
    table SHOP, codec = Bincode;
    "shop.v2.AddItem" => AddItem,
    "shop.v1.AddItem" => AddItemV1 as AddItem,
}

fn main() {}
