#[derive(serde::Serialize, serde::Deserialize, tellwire::RemoteMessage)]
#[remote(manifest = "shop.v1.Add Item", codec = tellwire::codec::Bincode)]
struct AddItem;

fn main() {}
