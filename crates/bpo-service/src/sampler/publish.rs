//! Adapters on their way to a server.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::{Format, Sampler};
use crate::{Error, Exchange, Failure};

/// An adapter that the server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// What the server calls it: the step it was taken at and a hash of its bytes.
    pub name: String,
    /// Where it lies.
    pub folder: PathBuf,
}

impl Sampler {
    /// Writes an adapter as a PEFT folder below `publish_dir`, has the server load it, and samples from it from now on.
    /// What was published before by this sampler is unloaded and deleted.
    ///
    /// # Errors
    /// [`Error::Config`] without a `publish_dir`, [`Error::Write`], [`Error::Refused`].
    pub fn publish(&mut self, files: &[(&str, Vec<u8>)], step: u64) -> Result<&Published, Error> {
        let Some(root) = self.config.publish_dir.clone() else {
            return Err(Error::Config("`publish_dir` is not set".into()));
        };
        let mut hasher = blake3::Hasher::new();
        for (name, bytes) in files {
            hasher.update(name.as_bytes()).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        }
        let name = format!("bpo-{step:06}-{}", &hasher.finalize().to_hex()[..10]);
        let folder = root.join(&name);
        if !folder.is_dir() {
            self.write(&root, &folder, files)?;
        }
        let seen = self.config.server_dir.as_deref().unwrap_or(&root).join(&name);
        let seen = seen.to_string_lossy().into_owned();
        self.load(&name, &seen)?;
        self.adapter = Some(if self.config.format == Format::Transformers { seen } else { name.clone() });
        let old = self.published.replace(Published { name: name.clone(), folder: folder.clone() });
        if let Some(old) = old.filter(|old| old.name != name) {
            // One that stays behind costs memory there and space here, and nothing else.
            let _ = self.unload(&old.name);
            let _ = fs::remove_dir_all(&old.folder);
        }
        Ok(self.published.get_or_insert(Published { name, folder }))
    }

    /// In a folder of another name first: a server never sees half an adapter.
    fn write(&self, root: &Path, folder: &Path, files: &[(&str, Vec<u8>)]) -> Result<(), Error> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Write { path, source }
        };
        let draft = root.join(format!(".draft-{}", std::process::id()));
        fs::create_dir_all(&draft).map_err(failed(&draft))?;
        for (name, bytes) in files {
            let path = draft.join(name);
            let mut file = fs::File::create(&path).map_err(failed(&path))?;
            file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed(&path))?;
        }
        for (name, from) in &self.companions {
            let path = draft.join(name);
            // The same file under another name, where that is possible: weights are large.
            fs::hard_link(from, &path).or_else(|_| fs::copy(from, &path).map(|_| ())).map_err(failed(&path))?;
        }
        fs::rename(&draft, folder).map_err(failed(folder))
    }

    fn load(&self, name: &str, path: &str) -> Result<(), Error> {
        let (url, body) = match self.config.format {
            Format::Vllm => {
                (self.config.url.below("/load_lora_adapter"), json!({"lora_name": name, "lora_path": path}))
            }
            Format::Sglang => {
                (self.config.url.root().below("/load_lora_adapter"), json!({"lora_name": name, "lora_path": path}))
            }
            // It loads what a request names.
            _ => return Ok(()),
        };
        match self.told(&url, &body).reply {
            Ok(_) => Ok(()),
            // A run that goes on finds what it had published.
            Err(Failure::Status { told, .. }) if told.to_lowercase().contains("already") => Ok(()),
            Err(failure) => {
                let status = failure.refused().map(|(status, _)| status);
                let hint = match (self.config.format, status) {
                    (Format::Vllm, Some(404 | 405)) => {
                        "; vLLM loads adapters when it was started with --enable-lora and \
                         VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
                    }
                    (Format::Sglang, Some(_)) => "; SGLang loads adapters when it was started with --enable-lora",
                    _ => "",
                };
                let reason = format!("it does not load the adapter {path}: {failure}{hint}");
                Err(Error::Refused { url, status: status.filter(|status| !matches!(status, 404 | 405)), reason })
            }
        }
    }

    fn unload(&self, name: &str) -> Exchange {
        let url = match self.config.format {
            Format::Sglang => self.config.url.root().below("/unload_lora_adapter"),
            _ => self.config.url.below("/unload_lora_adapter"),
        };
        match self.config.format {
            Format::Transformers => Exchange { reply: Err(Failure::TimedOut), tries: 0, bytes: 0 },
            _ => self.told(&url, &json!({"lora_name": name})),
        }
    }

    fn told(&self, url: &str, body: &Value) -> Exchange {
        let deadline = Instant::now() + self.patience.question;
        self.client.exchange(url, body, (&self.patience, deadline), u64::from, || false)
    }
}
