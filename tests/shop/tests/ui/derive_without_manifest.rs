#[derive(serde::Serialize, serde::Deserialize, tellwire::RemoteMessage)]
#[remote(codec = tellwire::codec::Bincode)]
struct AddItem;

fn main() {}
