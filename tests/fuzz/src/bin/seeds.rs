//! Writes the seeds of each target into its corpus: `cargo run --bin seeds`.

use std::path::Path;
use std::{fs, io};

fn main() -> io::Result<()> {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, _) in tellwire_fuzz::TARGETS {
        let corpus = corpora.join(name);
        fs::create_dir_all(&corpus)?;
        for (number, seed) in tellwire_fuzz::seeds(name).iter().enumerate() {
            fs::write(corpus.join(format!("seed-{number:02}")), seed)?;
        }
    }
    Ok(())
}
