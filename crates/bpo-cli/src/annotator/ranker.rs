//! Encoders that read both responses at once.
use std::path::Path;

use bpo_annotate::{Comparison, Error, PairScorer, PairTemplate};
use bpo_data::{PairIds, Tokenizer};
use bpo_model::{PairClassifier, PairMarks};
use burn::tensor::Device;

/// Pairs scored at once.
const BATCH: usize = 8;
/// Tokens of PairRM's rows, and of the prompt with its marks, as its authors cut them.
const LONGEST: usize = 2048;
const LONGEST_SOURCE: usize = 1224;

/// A ranker with what makes its rows.
pub struct Ranker {
    name: String,
    model: PairClassifier,
    tokenizer: Tokenizer,
    template: PairTemplate,
}

impl Ranker {
    /// Loads a ranker from its folder; `is_own` says whether the settings named the template.
    pub fn load(folder: &Path, template: PairTemplate, is_own: bool, device: &Device) -> Result<Self, Error> {
        let name = folder.display().to_string();
        let refuse = |reason: String| Error::Load { name: name.clone(), reason };
        let model = PairClassifier::from_dir(folder, device).map_err(|error| refuse(error.to_string()))?;
        let tokenizer = Tokenizer::from_dir(folder).map_err(|error| refuse(error.to_string()))?;
        if tokenizer.vocab_size() > model.vocab_size() {
            let (ids, vocab) = (tokenizer.vocab_size(), model.vocab_size());
            return Err(refuse(format!("its tokenizer has {ids} ids, its vocabulary {vocab} entries")));
        }
        if is_own && model.marks().is_some() {
            return Err(refuse("`template` has no effect on PairRM, which has tokens for prompt and responses".into()));
        }
        Ok(Self { name, model, tokenizer, template })
    }

    /// What the model reads; `None` where a response would have to be cut by the other one's length.
    fn ids(&self, pair: &Comparison) -> Result<Option<PairIds>, String> {
        let told = |error: bpo_data::Error| error.to_string();
        if let Some(marks) = self.model.marks() {
            return self.marked(pair, marks).map(Some).map_err(told);
        }
        let both = self.template.render(&pair.prompt, &pair.first, &pair.second).map_err(|error| error.to_string())?;
        let longest = self.model.longest();
        let alone = self.tokenizer.encode_pair("", &both, None).map_err(told)?;
        if alone.ids.len() > longest {
            return Ok(None);
        }
        self.tokenizer.encode_pair(&pair.prompt, &both, Some(longest)).map(Some).map_err(told)
    }

    /// `[CLS] <|source|> … [SEP] [CLS] <|candidate1|> … [SEP] [CLS] <|candidate2|> … [SEP]`, each cut at its end.
    fn marked(&self, pair: &Comparison, marks: PairMarks) -> Result<PairIds, bpo_data::Error> {
        let frame = self.tokenizer.encode_pair("", "", None)?.ids;
        let (open, close) = (frame.first().copied(), frame.last().copied());
        let part = |mark: u32, text: &str, longest: usize| -> Result<Vec<u32>, bpo_data::Error> {
            let mut ids = self.tokenizer.encode(text)?;
            ids.truncate(longest.saturating_sub(3));
            Ok(open.into_iter().chain([mark]).chain(ids).chain(close).collect())
        };
        let room = LONGEST.min(self.model.longest());
        let mut ids = part(marks.source, &pair.prompt, LONGEST_SOURCE.min(room / 2))?;
        let each = (room - ids.len()) / 2;
        ids.extend(part(marks.first, &pair.first, each)?);
        ids.extend(part(marks.second, &pair.second, each)?);
        Ok(PairIds { ids, types: Vec::new() })
    }
}

impl PairScorer for Ranker {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn logits(&mut self, pairs: &[Comparison]) -> Result<Vec<f64>, String> {
        let rows = pairs.iter().map(|pair| self.ids(pair)).collect::<Result<Vec<Option<PairIds>>, String>>()?;
        let mut logits = vec![f64::NAN; pairs.len()];
        let mut places: Vec<(usize, &PairIds)> =
            rows.iter().enumerate().filter_map(|(place, row)| Some((place, row.as_ref()?))).collect();
        places.sort_by_key(|(_, row)| row.ids.len());
        for batch in places.chunks(BATCH) {
            let ids: Vec<_> = batch.iter().map(|(_, row)| (row.ids.as_slice(), row.types.as_slice())).collect();
            let scores = self.model.logits(&ids).map_err(|error| error.to_string())?;
            batch.iter().zip(scores).for_each(|((place, _), score)| logits[*place] = f64::from(score));
        }
        Ok(logits)
    }
}
