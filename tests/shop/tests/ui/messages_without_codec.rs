#[derive(serde::Serialize, serde::Deserialize)]
struct AddItem;

tellwire::remote_messages! {
    table SHOP;
    "shop.v1.AddItem" => AddItem,
}

fn main() {}
