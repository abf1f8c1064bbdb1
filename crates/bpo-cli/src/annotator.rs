//! Annotators as a recipe names them: the built-in lexicon and local reward models come from here.
use std::path::{Path, PathBuf};

use bpo_annotate::{Annotator, AnnotatorConfig, Error, Item, Parts, Scorer, scorer_from};
use bpo_data::{Message, PairIds, Prompt, Tokenizer};
use bpo_model::SequenceClassifier;
use burn::tensor::Device;
use serde::Deserialize;

use crate::{embedded, failure::Failure, progress::Progress, recipe};

/// Responses scored at once by a reward model.
const BATCH: usize = 16;

/// The annotator of `config`; a reward model computes on `device`.
pub fn build(config: &AnnotatorConfig, device: &Device) -> Result<Box<dyn Annotator + Send>, Failure> {
    Ok(config.build(&mut Local { device: device.clone() })?)
}

/// The annotator that a flag names.
pub fn from_flag(text: &str, device: &Device) -> Result<Box<dyn Annotator + Send>, Failure> {
    build(&parse_flag(text)?, device)
}

/// The settings that a flag names: those of a recipe (`FILE.toml`), or what `--set annotator=…` would mean.
pub fn parse_flag(text: &str) -> Result<AnnotatorConfig, Failure> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Only {
        annotator: AnnotatorConfig,
    }
    if text.ends_with(".toml") {
        let mut table = recipe::read("", Some(Path::new(text)))?;
        table.retain(|key, _| key == "annotator");
        if table.is_empty() {
            return Err(Failure::usage(format!("--annotator: {text} has no `annotator`")));
        }
        return Ok(recipe::parse::<Only>(&table, text)?.annotator);
    }
    let table = recipe::load("", None, &[format!("annotator={text}")])?;
    Ok(recipe::parse::<Only>(&table, "--annotator")?.annotator)
}

/// Says what an annotator did, a line each, if it has anything to say.
pub fn tell(annotator: &(impl Annotator + ?Sized), progress: &Progress) {
    annotator.statistics().lines().iter().for_each(|line| progress.say(line));
}

/// An environment variable that may hold a key.
#[allow(clippy::disallowed_methods, reason = "a key comes from the environment and from nowhere else")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

struct Local {
    device: Device,
}

impl Parts for Local {
    fn embedded_lexicon(&self) -> &[u8] {
        embedded::LEXICON
    }

    fn environment(&self, name: &str) -> Option<String> {
        variable(name)
    }

    fn cache_folder(&self) -> Option<PathBuf> {
        let folder = |name| std::env::var_os(name).filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let caches = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
        Some(caches.join("bpo").join("answers"))
    }

    fn reward_model(&mut self, folder: &Path) -> Result<Box<dyn Scorer + Send>, Error> {
        let refuse = |reason: String| Error::Load { name: folder.display().to_string(), reason };
        let model = SequenceClassifier::from_dir(folder, &self.device).map_err(|e| refuse(e.to_string()))?;
        let tokenizer = Tokenizer::from_dir(folder).map_err(|e| refuse(e.to_string()))?;
        let vocab = model.vocab_size();
        if tokenizer.vocab_size() > vocab {
            let ids = tokenizer.vocab_size();
            return Err(refuse(format!("its tokenizer has {ids} ids, its vocabulary {vocab} entries")));
        }
        let score = move |items: &[Item]| score(&model, &tokenizer, items);
        Ok(Box::new(scorer_from(folder.display().to_string(), score)))
    }
}

fn score(model: &SequenceClassifier, tokenizer: &Tokenizer, items: &[Item]) -> Result<Vec<f64>, String> {
    let mut scores = Vec::with_capacity(items.len());
    for chunk in items.chunks(BATCH) {
        let rows: Result<Vec<PairIds>, bpo_data::Error> =
            chunk.iter().map(|item| reward_ids(model, tokenizer, &item.prompt, &item.response)).collect();
        let rows = rows.map_err(|error| error.to_string())?;
        let rows: Vec<_> = rows.iter().map(|row| (row.ids.as_slice(), row.types.as_slice())).collect();
        scores.extend(model.typed_scores(&rows).map_err(|error| error.to_string())?.into_iter().map(f64::from));
    }
    Ok(scores)
}

/// What a reward model reads. An encoder: prompt and response as a pair, in which a prompt that is too long loses its
/// beginning. A decoder: the prompt as a user's turn where there is a chat template, else as it is, then the response
/// (ended with EOS after a template, as a conversation is).
fn reward_ids(
    model: &SequenceClassifier,
    tokenizer: &Tokenizer,
    prompt: &str,
    response: &str,
) -> Result<PairIds, bpo_data::Error> {
    if model.reads_pairs() {
        return tokenizer.encode_pair(prompt, response, model.longest());
    }
    let chat = tokenizer.has_chat_template();
    let prompt = if chat { Prompt::Messages(vec![Message::new("user", prompt)]) } else { Prompt::Text(prompt.into()) };
    let mut ids = tokenizer.encode_prompt(&prompt)?;
    ids.extend(tokenizer.encode_completion(response, chat)?);
    Ok(PairIds { ids, types: Vec::new() })
}
