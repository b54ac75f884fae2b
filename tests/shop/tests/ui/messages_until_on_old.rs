use tellwire::codec::Bincode;

#[derive(serde::Serialize, serde::Deserialize)]
struct AddItem;

#[derive(serde::Serialize, serde::Deserialize)]
struct AddItemV1;

impl From<AddItemV1> for AddItem {
    fn from(_: AddItemV1) -> Self {
        Self
    }
}

tellwire::remote_messages! {
    table SHOP, codec = Bincode;
    "shop.v1.AddItem" => AddItemV1 as AddItem { until understood "shop.v0.AddItem" => AddItem },
}

fn main() {}
