//! Models of the Hugging Face hub by name: where the environment says they are kept, and how a download is shown.
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use bpo_hub::{Fetched, Hub, Id, Token, Watch};

use crate::{
    failure::Failure,
    progress::{Progress, Stage},
};

/// Bytes of a step of the progress that is shown.
const STEP: u64 = 1 << 20;

/// How downloads are shown; nothing, until [`show_on`] says otherwise.
static PROGRESS: OnceLock<Progress> = OnceLock::new();

/// Shows downloads on `progress`.
pub fn show_on(progress: Progress) {
    // A second call is one of the same program.
    let _ = PROGRESS.set(progress);
}

/// A model by its name, fetched when it is first needed.
#[derive(Debug, Clone)]
pub struct HubModel {
    /// Its name.
    pub id: Id,
    fetched: Arc<OnceLock<Fetched>>,
}

impl PartialEq for HubModel {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for HubModel {}

/// What a text names on the hub, if nothing of that name is here.
pub fn named(text: &str) -> Option<HubModel> {
    named_beside(text, Path::new("."))
}

/// As [`named`], for a text in a file of the folder `base`.
pub fn named_beside(text: &str, base: &Path) -> Option<HubModel> {
    let id = text.parse().ok().filter(|_| !base.join(text).exists())?;
    Some(HubModel { id, fetched: Arc::default() })
}

impl HubModel {
    /// Where it is, fetched if need be.
    pub fn fetched(&self) -> Result<&Fetched, Failure> {
        if let Some(fetched) = self.fetched.get() {
            return Ok(fetched);
        }
        let quiet = Progress::Quiet;
        let mut shown = Shown { progress: PROGRESS.get().unwrap_or(&quiet), stage: None, told: 0 };
        let fetched = hub()?.fetch(&self.id, &mut shown).map_err(|error| {
            Failure::input(format!(
                "{error}\n(a model of the hub, for there is nothing of the name \"{}\" here)",
                self.id
            ))
        })?;
        Ok(self.fetched.get_or_init(|| fetched))
    }
}

/// The folder of a model that may be one of the hub, which is fetched.
pub fn local(path: &Path) -> Result<PathBuf, Failure> {
    match path.to_str().and_then(named) {
        Some(model) => Ok(model.fetched()?.path.clone()),
        None => Ok(path.to_owned()),
    }
}

/// The hub as the environment has it, by the names of Python's `huggingface_hub`.
fn hub() -> Result<Hub, Failure> {
    let text = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let folder = |name: &str| text(name).map(PathBuf::from);
    let home = || {
        let caches = folder("XDG_CACHE_HOME").or_else(|| Some(std::env::home_dir()?.join(".cache")));
        folder("HF_HOME").or_else(|| Some(caches?.join("huggingface")))
    };
    let cache = folder("HF_HUB_CACHE").or_else(|| Some(home()?.join("hub")));
    let cache =
        cache.ok_or_else(|| Failure::usage("there is no place for models of the hub: set HF_HOME to a folder"))?;
    let words = |name: &str| text(name).map(|value| value.to_string_lossy().into_owned());
    let endpoint = words("HF_ENDPOINT").unwrap_or_else(|| Hub::ENDPOINT.to_owned());
    let is_set =
        |name: &str| words(name).is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&&*value.to_uppercase()));
    let token = match words("HF_TOKEN") {
        Some(token) => Some(
            Token::new(&token)
                .ok_or_else(|| Failure::usage("HF_TOKEN is no token: it has spaces in it, or other letters"))?,
        ),
        None if is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN") => None,
        None => kept(folder("HF_TOKEN_PATH").or_else(|| Some(home()?.join("token"))))?,
    };
    let offline = is_set("HF_HUB_OFFLINE") || is_set("TRANSFORMERS_OFFLINE");
    Ok(Hub { endpoint: endpoint.trim_end_matches('/').to_owned(), token, cache, offline })
}

/// The token that `hf auth login` keeps in a file, if it did.
fn kept(path: Option<PathBuf>) -> Result<Option<Token>, Failure> {
    const LONGEST: u64 = 1 << 12;
    let Some(file) = path.as_ref().and_then(|path| File::open(path).ok()) else { return Ok(None) };
    let mut text = String::new();
    let read = file.take(LONGEST).read_to_string(&mut text).map(|_| Token::new(&text));
    match read {
        Ok(None) if text.trim().is_empty() => Ok(None),
        Ok(Some(token)) => Ok(Some(token)),
        Ok(None) | Err(_) => Err(Failure::usage(format!(
            "{} holds no token: log in again with `hf auth login`, or set HF_TOKEN",
            path.unwrap_or_default().display()
        ))),
    }
}

/// One stage for each file.
struct Shown<'a> {
    progress: &'a Progress,
    stage: Option<Stage>,
    /// Steps that the stage has been told of.
    told: u64,
}

impl Watch for Shown<'_> {
    fn begin(&mut self, file: &str, bytes: u64) {
        // Small files are there before anything could be shown.
        self.stage = (bytes > STEP).then(|| {
            self.progress.say(&format!("fetching {file}, {} MiB", bytes / STEP));
            self.progress.stage("fetching", (bytes / STEP) as usize, "MiB")
        });
        self.told = 0;
    }

    fn at(&mut self, bytes: u64) {
        let steps = bytes / STEP;
        if let Some(stage) = &mut self.stage
            && steps > self.told
        {
            stage.advance((steps - self.told) as usize);
            self.told = steps;
        }
    }

    fn end(&mut self) {
        if let Some(stage) = self.stage.take() {
            stage.finish();
        }
    }

    fn note(&mut self, text: &str) {
        self.progress.say(&format!("note: {text}"));
    }
}
