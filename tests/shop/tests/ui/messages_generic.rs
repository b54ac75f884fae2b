use tellwire::codec::Bincode;

#[derive(serde::Serialize, serde::Deserialize)]
struct Page<T> {
    items: Vec<T>,
}

tellwire::remote_messages! {
    table SHOP, codec = Bincode;
    "shop.v1.Page" => Page,
}

fn main() {}
