//! Which files make a model, and where they come from.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cache::Repository;
use crate::client::{Absent, Client};
use crate::download::download;
use crate::{Error, Hub, Id, Watch};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// What a model may have beside its weights.
const OPTIONAL: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
];
/// The longest index that is read, in bytes.
const LONGEST_INDEX: u64 = 64 << 20;
/// The most shards of a model.
const MOST_SHARDS: usize = 1 << 12;

/// A model in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The folder of the snapshot, or the one file that was asked for.
    pub path: PathBuf,
    /// The commit that the revision is.
    pub commit: String,
}

impl Hub {
    /// Brings a model into the cache, as far as it is not there.
    ///
    /// A revision that is a commit and is whole in the cache is not asked for again; any other is looked up. Where the
    /// hub cannot be reached, what the cache has of the revision is used, with a note.
    ///
    /// # Errors
    /// [`Error`] says what to set, or what to put where.
    pub fn fetch(&self, id: &Id, watch: &mut dyn Watch) -> Result<Fetched, Error> {
        let repository = Repository::new(&self.cache, id);
        let cached = cached(&repository, id);
        if self.offline {
            return cached.map_err(|what| Error::Offline { id: id.to_string(), what, cache: self.cache.clone() });
        }
        if let Ok(fetched) = &cached
            && id.is_pinned()
        {
            return Ok(fetched.clone());
        }
        match self.download(id, &repository, watch) {
            Ok(fetched) => Ok(fetched),
            Err(Absent::Other(error)) => Err(error),
            Err(Absent::File) => Err(missing(id, CONFIG)),
            Err(Absent::Broken(error)) => {
                cached.map(|fetched| fallen_back(id, fetched, &error.to_string(), watch)).map_err(|_| error)
            }
            Err(Absent::Hub(reason)) => match cached {
                Ok(fetched) => {
                    let why = format!("{} cannot be reached ({reason})", self.endpoint);
                    Ok(fallen_back(id, fetched, &why, watch))
                }
                Err(what) => {
                    let (id, endpoint, cache) = (id.to_string(), self.endpoint.clone(), self.cache.clone());
                    Err(Error::Unreachable { id, endpoint, reason, what, cache })
                }
            },
        }
    }

    fn download(&self, id: &Id, repository: &Repository, watch: &mut dyn Watch) -> Result<Fetched, Absent> {
        let client = Client::new(self, id);
        let first = id.file.as_deref().unwrap_or(CONFIG);
        let head = client.head(id.revision(), first).map_err(|absent| match absent {
            Absent::File => Absent::Other(missing(id, first)),
            other => other,
        })?;
        let commit = head.commit.clone();
        let mut fetch = |file: &str| -> Result<(), Absent> {
            if repository.snapshot(&commit).join(file).is_file() {
                return Ok(());
            }
            let head = if file == first { head.clone() } else { client.head(&commit, file)? };
            download(&client, repository, file, &head, watch)?;
            repository.link(&commit, file, &head.etag).map_err(Absent::Other)
        };
        fetch(first)?;
        if id.file.is_none() {
            for file in OPTIONAL {
                optional(fetch(file))?;
            }
            if !optional(fetch(WEIGHTS))? {
                if !optional(fetch(INDEX))? {
                    return Err(Absent::Other(missing(id, WEIGHTS)));
                }
                let index = repository.snapshot(&commit).join(INDEX);
                let shards = shards(&index).map_err(|reason| Absent::Other(client.reply(INDEX, reason)))?;
                shards.iter().try_for_each(|shard| fetch(shard))?;
            }
        }
        repository.remember(id, &commit).map_err(Absent::Other)?;
        let folder = repository.snapshot(&commit);
        Ok(Fetched { path: id.file.as_ref().map_or(folder.clone(), |file| folder.join(file)), commit })
    }
}

/// The model of an earlier day, with a note that it is.
fn fallen_back(id: &Id, fetched: Fetched, why: &str, watch: &mut dyn Watch) -> Fetched {
    watch.note(&format!("{why}; {id} is what the cache has of it, commit {}", fetched.commit));
    fetched
}

/// Whether a file was there to be fetched.
fn optional(fetched: Result<(), Absent>) -> Result<bool, Absent> {
    match fetched {
        Ok(()) => Ok(true),
        Err(Absent::File) => Ok(false),
        Err(other) => Err(other),
    }
}

fn missing(id: &Id, file: &str) -> Error {
    let hint = match file {
        CONFIG => "; is it a model? (adapters and GGUF repositories have none: owner/name/file.gguf names a GGUF file)",
        WEIGHTS => " and no index of shards; pickled weights are never read: convert them to safetensors",
        _ => "",
    };
    Error::NoFile { id: id.to_string(), file: file.to_owned(), hint }
}

/// The model by what the cache has, or what is missing.
fn cached(repository: &Repository, id: &Id) -> Result<Fetched, String> {
    let commit = repository.commit(id).ok_or_else(|| format!("the revision {}", id.revision()))?;
    let folder = repository.snapshot(&commit);
    let has = |file: &str| folder.join(file).is_file();
    let needed = |file: &str| if has(file) { Ok(()) } else { Err(file.to_owned()) };
    if let Some(file) = &id.file {
        needed(file)?;
        return Ok(Fetched { path: folder.join(file), commit });
    }
    needed(CONFIG)?;
    if !has(WEIGHTS) {
        let index = folder.join(INDEX);
        let shards = if has(INDEX) { shards(&index)? } else { return Err(WEIGHTS.to_owned()) };
        shards.iter().try_for_each(|shard| needed(shard))?;
    }
    Ok(Fetched { path: folder, commit })
}

/// The shards that an index names: plain file names only.
fn shards(index: &Path) -> Result<BTreeSet<String>, String> {
    let length = fs::metadata(index).map_err(|error| error.to_string())?.len();
    if length > LONGEST_INDEX {
        return Err(format!("it has {length} bytes; {LONGEST_INDEX} at most are read"));
    }
    let bytes = fs::read(index).map_err(|error| error.to_string())?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let map = value.get("weight_map").and_then(Value::as_object).ok_or("it has no weight_map")?;
    let shards: Option<BTreeSet<String>> = map.values().map(|shard| shard.as_str().map(str::to_owned)).collect();
    let shards = shards.ok_or("its weight_map holds what is no text")?;
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_plain = |shard: &str| {
        shard.ends_with(".safetensors") && !shard.starts_with('.') && shard.len() <= 255 && shard.bytes().all(letter)
    };
    match shards.iter().find(|shard| !is_plain(shard)) {
        Some(shard) => Err(format!("\"{}\" is no name of a shard", shard.chars().take(64).collect::<String>())),
        None if shards.len() > MOST_SHARDS => Err(format!("{} shards; {MOST_SHARDS} at most", shards.len())),
        None => Ok(shards),
    }
}
