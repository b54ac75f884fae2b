#[derive(serde::Serialize, serde::Deserialize, tellwire::RemoteMessage)]
#[remote(manifest = "shop.v1.AddItem", codecs())]
struct AddItem;

fn main() {}
