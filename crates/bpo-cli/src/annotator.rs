//! Annotators as a recipe names them: the built-in lexicon, local reward models, judges and rankers come
//! from here.
mod judge;
mod ranker;

use std::path::{Path, PathBuf};

use bpo_annotate::{
    Annotator, AnnotatorConfig, Error, Item, LocalModel, PairScorer, PairTemplate, Parts, Scorer, scorer_from,
};
use bpo_data::{PairIds, Tokenizer};
use bpo_model::SequenceClassifier;
use bpo_train::reward_ids;
use burn::tensor::Device;
use serde::Deserialize;

use crate::{embedded, failure::Failure, hub, progress::Progress, recipe};

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
    Ok(recipe::of_flag::<Only>("annotator", text)?.annotator)
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

    fn judge_model(&mut self, folder: &Path) -> Result<Box<dyn LocalModel + Send>, Error> {
        Ok(Box::new(judge::Engine::load(folder, &self.device)?))
    }

    fn pair_ranker(
        &mut self,
        folder: &Path,
        template: PairTemplate,
        is_own: bool,
    ) -> Result<Box<dyn PairScorer + Send>, Error> {
        Ok(Box::new(ranker::Ranker::load(folder, template, is_own, &self.device)?))
    }

    fn reward_model(&mut self, path: &Path) -> Result<Box<dyn Scorer + Send>, Error> {
        let refuse = |reason: String| Error::Load { name: path.display().to_string(), reason };
        let folder = &hub::local(path).map_err(|failure| refuse(failure.text()))?;
        let model = SequenceClassifier::from_dir(folder, &self.device).map_err(|e| refuse(e.to_string()))?;
        let tokenizer = Tokenizer::from_dir(folder).map_err(|e| refuse(e.to_string()))?;
        let vocab = model.vocab_size();
        if tokenizer.vocab_size() > vocab {
            let ids = tokenizer.vocab_size();
            return Err(refuse(format!("its tokenizer has {ids} ids, its vocabulary {vocab} entries")));
        }
        let score = move |items: &[Item]| score(&model, &tokenizer, items);
        Ok(Box::new(scorer_from(path.display().to_string(), score)))
    }
}

fn score(model: &SequenceClassifier, tokenizer: &Tokenizer, items: &[Item]) -> Result<Vec<f64>, String> {
    let mut scores = Vec::with_capacity(items.len());
    for chunk in items.chunks(BATCH) {
        let ids = |item: &Item| reward_ids(model, tokenizer, &item.prompt, &item.response, model.longest());
        let rows: Result<Vec<PairIds>, bpo_train::Error> = chunk.iter().map(ids).collect();
        let rows = rows.map_err(|error| error.to_string())?;
        let rows: Vec<_> = rows.iter().map(|row| (row.ids.as_slice(), row.types.as_slice())).collect();
        scores.extend(model.typed_scores(&rows).map_err(|error| error.to_string())?.into_iter().map(f64::from));
    }
    Ok(scores)
}
