use tellwire::codec::Bincode;

#[derive(serde::Serialize, serde::Deserialize, tellwire::RemoteMessage)]
#[remote(manifest = "shop.v1.AddItem", codec = Bincode, codecs(Bincode))]
struct AddItem;

fn main() {}
