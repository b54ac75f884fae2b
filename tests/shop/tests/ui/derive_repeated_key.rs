#[derive(serde::Serialize, serde::Deserialize, tellwire::RemoteMessage)]
#[remote(manifest = "shop.v1.AddItem", codec = tellwire::codec::Bincode)]
#[remote(manifest = "shop.v2.AddItem")]
struct AddItem;

fn main() {}
