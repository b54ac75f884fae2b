#[derive(serde::Serialize, serde::Deserialize, tellwire::RemoteMessage)]
#[remote(manifest = "AddItem", codec = tellwire::codec::Bincode)]
struct AddItem;

fn main() {}
