#[derive(serde::Serialize, serde::Deserialize, tellwire::RemoteMessage)]
#[remote(
    manifest = "shop.v2.AddItem",
    codec = tellwire::codec::Bincode,
    until_understood("shop.AddItem" => AddItemV1)
)]
struct AddItem;

fn main() {}
