#[derive(serde::Serialize, serde::Deserialize, tellwire::RemoteMessage)]
#[remote(manifest = "shop.v1.AddItem", codec = Bincod)]
struct AddItem;

fn main() {}
