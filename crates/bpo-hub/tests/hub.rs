//! Fetching from a hub that this test plays: what is asked for, what is kept, what is told.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod server;

use std::{
    fs,
    path::{Path, PathBuf},
};

use bpo_hub::{Error, Fetched, Hub, Token, Watch};
use server::{COMMIT, Content};
use tempfile::TempDir;

/// Remembers what it was told.
#[derive(Default)]
struct Told {
    lines: Vec<String>,
    at: u64,
}

impl Watch for Told {
    fn begin(&mut self, file: &str, bytes: u64) {
        self.lines.push(format!("{file} {bytes}"));
    }

    fn at(&mut self, bytes: u64) {
        self.at = bytes;
    }

    fn end(&mut self) {}

    fn note(&mut self, text: &str) {
        self.lines.push(text.to_owned());
    }
}

struct Setting {
    server: server::Hub,
    cache: TempDir,
}

impl Setting {
    fn new(content: Content) -> Self {
        Self { server: server::Hub::start(content), cache: tempfile::tempdir().unwrap() }
    }

    fn hub(&self) -> Hub {
        Hub { endpoint: self.server.url.clone(), token: None, cache: self.cache.path().to_owned(), offline: false }
    }

    fn fetch(&self, hub: &Hub, id: &str) -> Result<Fetched, Error> {
        hub.fetch(&id.parse().unwrap(), &mut Told::default())
    }

    fn refused(&self, hub: &Hub, id: &str, words: &[&str]) {
        let error = self.fetch(hub, id).unwrap_err().to_string();
        for word in words.iter().chain(&[id]) {
            assert!(error.contains(word), "`{word}` is not in: {error}");
        }
    }

    fn repository(&self) -> PathBuf {
        self.cache.path().join("models--own--model")
    }
}

/// Config, tokenizer and weights of 40,000 bytes.
fn model() -> Content {
    let weights: Vec<u8> = (0..40_000_u32).map(|index| (index * 7 % 251) as u8).collect();
    let files = [("config.json", b"{}".to_vec()), ("tokenizer.json", b"[]".to_vec()), ("model.safetensors", weights)];
    let others = [("pytorch_model.bin", vec![1; 9]), ("README.md", vec![2; 9]), ("q/model.gguf", vec![3; 99])];
    let files = files.into_iter().chain(others).map(|(name, bytes)| (name.to_owned(), bytes)).collect();
    Content { files, ..Content::default() }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

#[test]
fn a_model_is_fetched_into_pythons_layout_and_nothing_that_is_not_needed() {
    let setting = Setting::new(model());
    let mut told = Told::default();
    let fetched = setting.hub().fetch(&"own/model".parse().unwrap(), &mut told).unwrap();
    assert_eq!(fetched.commit, COMMIT);
    assert_eq!(fetched.path, setting.repository().join("snapshots").join(COMMIT));
    assert_eq!(names(&fetched.path), ["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(fs::read(fetched.path.join("model.safetensors")).unwrap(), model().files["model.safetensors"]);
    assert_eq!(fs::read_to_string(setting.repository().join("refs/main")).unwrap(), COMMIT);
    assert_eq!(names(&setting.repository().join("blobs")).len(), 3);
    #[cfg(unix)]
    assert!(fs::read_link(fetched.path.join("config.json")).unwrap().starts_with("../../blobs"));
    assert_eq!(told.lines, ["config.json 2", "tokenizer.json 2", "model.safetensors 40000"]);
    assert_eq!(told.at, 40_000);
    let asked = setting.server.asked();
    assert!(asked.iter().all(|line| !line.contains("pytorch_model.bin") && !line.contains("README")), "{asked:?}");
    assert!(
        asked[1..]
            .iter()
            .all(|line| line.contains(COMMIT) || line.contains("main/config.json") || line.contains("store")),
        "one commit: {asked:?}"
    );
}

#[test]
fn what_is_there_is_not_fetched_again_and_a_commit_is_not_even_asked_for() {
    let setting = Setting::new(model());
    let first = setting.fetch(&setting.hub(), "own/model").unwrap();
    setting.server.asked();
    assert_eq!(setting.fetch(&setting.hub(), "own/model").unwrap(), first);
    let asked = setting.server.asked();
    assert!(asked.iter().all(|line| line.starts_with("HEAD")), "{asked:?}");
    assert_eq!(setting.fetch(&setting.hub(), &format!("own/model@{COMMIT}")).unwrap(), first);
    assert_eq!(setting.server.asked(), [""; 0]);
    setting.fetch(&setting.hub(), "own/model@refs/pr/1").unwrap();
    assert!(setting.repository().join("refs/refs/pr/1").is_file());
}

#[test]
fn offline_uses_the_cache_and_says_what_is_missing_without_asking() {
    let setting = Setting::new(model());
    let offline = Hub { offline: true, ..setting.hub() };
    setting.refused(&offline, "own/model", &["HF_HUB_OFFLINE", "revision main"]);
    let fetched = setting.fetch(&setting.hub(), "own/model").unwrap();
    setting.server.asked();
    assert_eq!(setting.fetch(&offline, "own/model").unwrap(), fetched);
    fs::remove_file(fetched.path.join("model.safetensors")).unwrap();
    setting.refused(&offline, "own/model", &["model.safetensors"]);
    assert_eq!(setting.server.asked(), [""; 0]);
}

#[test]
fn a_hub_that_is_away_leaves_what_the_cache_has() {
    let setting = Setting::new(model());
    let away = Hub { endpoint: "http://127.0.0.1:9".into(), ..setting.hub() };
    setting.refused(&away, "own/model", &["127.0.0.1:9", "cannot be reached", "HF_ENDPOINT"]);
    let fetched = setting.fetch(&setting.hub(), "own/model").unwrap();
    let mut told = Told::default();
    assert_eq!(away.fetch(&"own/model".parse().unwrap(), &mut told).unwrap(), fetched);
    assert!(told.lines[0].contains("cannot be reached") && told.lines[0].contains(COMMIT), "{:?}", told.lines);
}

#[test]
fn a_broken_download_goes_on_where_it_ended() {
    for ignores_ranges in [false, true] {
        let setting = Setting::new(Content { breaks_after: Some(15_000), ignores_ranges, ..model() });
        let fetched = setting.fetch(&setting.hub(), "own/model").unwrap();
        assert_eq!(fs::read(fetched.path.join("model.safetensors")).unwrap(), model().files["model.safetensors"]);
        let asked = setting.server.asked();
        let continued = asked.iter().any(|line| line.starts_with("GET store/model.safetensors from 1"));
        assert!(continued, "{asked:?}");
        assert!(names(&setting.repository().join("blobs")).iter().all(|name| !name.ends_with("incomplete")));
    }
}

#[test]
fn a_download_that_breaks_for_good_says_how_far_it_came_and_goes_on_later() {
    let setting = Setting::new(Content { ends_at: Some(15_000), ..model() });
    let error = setting.fetch(&setting.hub(), "own/model").unwrap_err().to_string();
    let words = ["own/model: ", "model.safetensors broke at 15000 of 40000 bytes", "the same command goes on"];
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
    let again = Setting { server: server::Hub::start(model()), ..setting };
    again.fetch(&again.hub(), "own/model").unwrap();
    assert!(again.server.asked().contains(&"GET store/model.safetensors from 15000".to_owned()));
}

#[test]
fn bytes_that_are_not_those_of_the_hash_are_thrown_away() {
    let setting = Setting::new(Content { last_byte: Some(0), ..model() });
    let error = setting.fetch(&setting.hub(), "own/model").unwrap_err();
    assert!(matches!(&error, Error::Altered { file, .. } if file == "model.safetensors"), "{error}");
    let left = names(&setting.repository().join("blobs"));
    assert_eq!(left.len(), 2, "config and tokenizer alone are kept: {left:?}");
    let again = Setting { server: server::Hub::start(model()), ..setting };
    let fetched = again.fetch(&again.hub(), "own/model").unwrap();
    assert_eq!(fs::read(fetched.path.join("model.safetensors")).unwrap(), model().files["model.safetensors"]);
}

#[test]
fn what_an_earlier_run_left_is_continued() {
    let setting = Setting::new(model());
    let first = setting.fetch(&setting.hub(), "own/model").unwrap();
    let link = first.path.join("model.safetensors");
    let blob = fs::canonicalize(&link).unwrap();
    let whole = fs::read(&blob).unwrap();
    fs::remove_file(&link).unwrap();
    fs::remove_file(&blob).unwrap();
    fs::write(blob.with_extension("incomplete"), &whole[..12_345]).unwrap();
    setting.server.asked();
    setting.fetch(&setting.hub(), "own/model").unwrap();
    assert_eq!(fs::read(&link).unwrap(), whole);
    assert!(setting.server.asked().contains(&"GET store/model.safetensors from 12345".to_owned()));
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_its_store() {
    let setting = Setting::new(Content { locked: Some(("hf_canary".into(), 401)), ..model() });
    setting.refused(&setting.hub(), "own/model", &["401", "set HF_TOKEN", "licence"]);
    let with = |token: &str| Hub { token: Token::new(token), ..setting.hub() };
    setting.refused(&with("hf_other"), "own/model", &["check HF_TOKEN"]);
    setting.server.asked();
    setting.fetch(&with("hf_canary"), "own/model").unwrap();
    for line in setting.server.asked() {
        assert_eq!(line.contains(" auth"), !line.contains("store"), "{line}");
    }
    assert!(!format!("{:?}", with("hf_canary")).contains("canary"));
    assert!(Token::new(" \n").is_none() && Token::new("a b").is_none());
    let gated = Setting::new(Content { locked: Some(("hf_canary".into(), 403)), ..model() });
    gated.refused(&gated.hub(), "own/model", &["403", "licence", "HF_TOKEN"]);
}

#[test]
fn a_model_a_revision_and_a_file_that_are_not_there_are_told_apart() {
    let setting = Setting::new(model());
    setting.refused(&setting.hub(), "own/model@v9", &["404", "revision"]);
    setting.refused(&setting.hub(), "own/model/no.gguf", &["no.gguf"]);
    let error = setting.fetch(&setting.hub(), "own/other").unwrap_err();
    assert!(matches!(error, Error::Unknown { status: 404, .. }), "{error}");
    let mut bare = model();
    bare.files.remove("model.safetensors");
    let setting = Setting::new(bare.clone());
    setting.refused(&setting.hub(), "own/model", &["model.safetensors", "pickled"]);
    bare.files.remove("config.json");
    let setting = Setting::new(bare);
    setting.refused(&setting.hub(), "own/model", &["config.json", "owner/name/file.gguf"]);
}

#[test]
fn one_file_of_a_model_is_fetched_alone() {
    let setting = Setting::new(model());
    let fetched = setting.fetch(&setting.hub(), "own/model/q/model.gguf").unwrap();
    assert_eq!(fetched.path, setting.repository().join("snapshots").join(COMMIT).join("q/model.gguf"));
    assert_eq!(fs::read(&fetched.path).unwrap(), [3; 99]);
    assert_eq!(names(&setting.repository().join("blobs")).len(), 1);
    let offline = Hub { offline: true, ..setting.hub() };
    assert_eq!(setting.fetch(&offline, "own/model/q/model.gguf").unwrap(), fetched);
}

#[test]
fn shards_come_by_their_index_which_leads_nowhere_else() {
    let sharded = |index: &str| {
        let mut content = model();
        content.files.remove("model.safetensors");
        content.files.insert("model.safetensors.index.json".into(), index.as_bytes().to_vec());
        for shard in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] {
            content.files.insert(shard.into(), shard.as_bytes().to_vec());
        }
        Setting::new(content)
    };
    let good = r#"{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;
    let setting = sharded(good);
    let fetched = setting.fetch(&setting.hub(), "own/model").unwrap();
    assert_eq!(
        fs::read(fetched.path.join("model-00002-of-00002.safetensors")).unwrap(),
        b"model-00002-of-00002.safetensors"
    );
    let offline = Hub { offline: true, ..setting.hub() };
    assert_eq!(setting.fetch(&offline, "own/model").unwrap(), fetched);
    fs::remove_file(fetched.path.join("model-00002-of-00002.safetensors")).unwrap();
    setting.refused(&offline, "own/model", &["model-00002-of-00002.safetensors"]);
    for shard in ["../../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", ".safetensors", "x.bin", ""] {
        let setting = sharded(&format!(r#"{{"weight_map":{{"a":"{shard}"}}}}"#));
        setting.refused(&setting.hub(), "own/model", &["no name of a shard"]);
        assert!(!names(setting.cache.path()).iter().any(|name| name.contains('x')));
    }
    for index in ["", "[]", r#"{"weight_map":3}"#, r#"{"weight_map":{"a":1}}"#] {
        let setting = sharded(index);
        setting.refused(&setting.hub(), "own/model", &["model.safetensors.index.json"]);
    }
}

#[test]
fn a_server_that_is_no_hub_makes_no_paths() {
    let odd = |commit: Option<&str>, etag: Option<&str>| {
        let content = Content { commit: commit.map(str::to_owned), etag: etag.map(str::to_owned), ..model() };
        let setting = Setting::new(content);
        setting.refused(&setting.hub(), "own/model", &[if commit.is_some() { "x-repo-commit" } else { "etag" }]);
        assert!(fs::read_dir(setting.cache.path()).unwrap().next().is_none());
    };
    for commit in ["../../../x", "main", ""] {
        odd(Some(commit), None);
    }
    for etag in ["\"../../x\"", "\"\""] {
        odd(None, Some(etag));
    }
}

#[test]
fn a_model_that_was_renamed_is_found_under_its_new_name() {
    let renamed = Some(("old/name".to_owned(), "own/model".to_owned()));
    let setting = Setting::new(Content { renamed, ..model() });
    let fetched = setting.fetch(&setting.hub(), "old/name").unwrap();
    assert!(fetched.path.starts_with(setting.cache.path().join("models--old--name")));
    assert_eq!(names(&fetched.path).len(), 3);
}
