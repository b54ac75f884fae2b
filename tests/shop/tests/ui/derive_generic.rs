#[derive(serde::Serialize, serde::Deserialize, tellwire::RemoteMessage)]
#[remote(manifest = "shop.v1.Page", codec = tellwire::codec::Bincode)]
struct Page<T> {
    items: Vec<T>,
}

fn main() {}
