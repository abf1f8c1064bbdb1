//! The folder of a model of the hub: from the cache that Python shares, and fetched where it may be.
//!
//!     cargo run --release -p bpo-hub --example folder_of_a_model -- HuggingFaceTB/SmolLM2-135M-Instruct CACHE_DIR
//!
//! Without a name it makes a cache as `huggingface_hub` would have left it, and finds the model there without asking anyone.
#![allow(clippy::print_stdout, reason = "an example tells what it does")]
#![allow(clippy::disallowed_methods, reason = "another program made the cache")]

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use bpo_hub::{Hub, Id, Watch};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Says when a file begins.
struct Told;

impl Watch for Told {
    fn begin(&mut self, file: &str, bytes: u64) {
        println!("{file}: {bytes} bytes");
    }
    fn at(&mut self, _: u64) {}
    fn end(&mut self) {}
    fn note(&mut self, text: &str) {
        println!("{text}");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    if let (Some(name), Some(cache)) = (words.next(), words.next()) {
        let hub = Hub { endpoint: Hub::ENDPOINT.into(), token: None, cache: PathBuf::from(cache), offline: false };
        println!("{}", hub.fetch(&name.parse()?, &mut Told)?.path.display());
        return Ok(());
    }
    let cache = std::env::temp_dir().join(format!("folder-of-a-model-{}", std::process::id()));
    let model = cache.join("models--someone--tiny");
    let snapshot = model.join("snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot)?;
    fs::create_dir_all(model.join("refs"))?;
    fs::write(model.join("refs/main"), COMMIT)?;
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::write(snapshot.join(file), "{}")?;
    }
    let hub = Hub { endpoint: Hub::ENDPOINT.into(), token: None, cache: cache.clone(), offline: true };
    let id: Id = "someone/tiny".parse()?;
    let found = hub.fetch(&id, &mut Told)?;
    println!("{} of {} lies in {}", found.commit, id.repository, found.path.display());
    assert_eq!((found.commit.as_str(), found.path), (COMMIT, snapshot));
    fs::remove_dir_all(&cache)?;
    Ok(())
}
