#[derive(serde::Serialize, serde::Deserialize, tellwire::RemoteMessage)]
struct AddItem;

fn main() {}
