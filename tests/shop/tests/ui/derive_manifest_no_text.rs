#[derive(serde::Serialize, serde::Deserialize, tellwire::RemoteMessage)]
#[remote(manifest = shop.v1.AddItem, codec = tellwire::codec::Bincode)]
struct AddItem;

fn main() {}
