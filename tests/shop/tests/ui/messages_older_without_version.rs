use tellwire::codec::Bincode;

#[derive(serde::Serialize, serde::Deserialize)]
struct AddItem;

#[derive(serde::Serialize, serde::Deserialize)]
struct AddItemV1;

impl From<&AddItem> for AddItemV1 {
    fn from(_: &AddItem) -> Self {
        Self
    }
}

tellwire::remote_messages! {
    table SHOP, codec = Bincode;
    "shop.v2.AddItem" => AddItem { until understood "AddItem" => AddItemV1 },
}

fn main() {}
