use tellwire::codec::Bincode;

#[derive(serde::Serialize, serde::Deserialize)]
struct AddItem;

tellwire::remote_messages! {
    table SHOP, codec = Bincode;
    "shop.v1.AddItem" => AddItem { format = Bincode },
}

fn main() {}
