//! The outcome model ĝ of the doubly robust estimator: an annotator that gives scores.
use bpo_annotate::{Annotator, Item as Asked};
use bpo_store::Journal;

use super::{Item, run::Run, texts::Text};
use crate::{
    CausalForm, Drawn, Error, Observer, Sample, Stage, TrainPrompt,
    collect::{self, Streams},
};

/// Why a text does not train.
const NO_SCORE: &str = "no score";
/// Texts asked about before anything is concluded from how many have no score.
const ENOUGH: usize = 20;

impl Run<'_> {
    /// Completions of the texts' prompts with ĝ: from the policy (textbook), or one for good from the start (official).
    pub(super) fn sampled<'t>(
        &mut self,
        step: u64,
        texts: &'t [(usize, Text)],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Item<'t>>, Error> {
        let trained = self.policy()?;
        let (generator, stream) = match self.recipe.causal_form {
            CausalForm::Textbook => (&trained, step),
            CausalForm::Official => (&self.initial, 0),
        };
        let streams = Streams { seed: self.recipe.seed, step: stream, slots: self.recipe.samples_per_prompt as u64 };
        let prompts: Vec<&TrainPrompt> = texts.iter().map(|(_, text)| &text.prompt).collect();
        let config = self.shared.generate_config(&self.tokenizer, 1.0);
        let (base, tokenizer) = (&self.base, &self.tokenizer);
        let drawn: Vec<Drawn> = self.journal.once(step, "sampled", || {
            let model = generator.model(base)?;
            collect::sample(&model, tokenizer, &prompts, (&config, streams), (Stage::Sample, observer))
        })?;
        let asked: Vec<Asked> = prompts
            .iter()
            .zip(&drawn)
            .flat_map(|(prompt, drawn)| drawn.samples.iter().map(|s| Asked::new(prompt.text.as_str(), s.text.as_str())))
            .collect();
        let annotator = &mut self.annotator;
        let scores = self.journal.once(step, "judged", || scored(annotator.as_mut(), &asked))?;
        let unscored = scores.iter().filter(|score| score.is_none()).count();
        if unscored > 0 {
            *self.state.counters.dropped.entry(NO_SCORE.into()).or_default() += unscored as u64;
        }
        let mut scores = scores.into_iter();
        let pairs = |drawn: Drawn| -> Vec<(Sample, f64)> {
            drawn
                .samples
                .into_iter()
                .zip(scores.by_ref())
                .filter_map(|(sample, score)| Some((sample, score?)))
                .collect()
        };
        let samples: Vec<_> = drawn.into_iter().map(pairs).collect();
        let mut items: Vec<Item<'t>> =
            texts.iter().zip(samples).map(|((index, text), samples)| Item { text, index: *index, samples }).collect();
        if self.recipe.causal_form == CausalForm::Official {
            items.retain(|item| !item.samples.is_empty());
        }
        Ok(items)
    }
}

/// The texts with ĝ: of the row, else of the annotator. Those without either are left out.
pub(super) fn predicted(
    mut texts: Vec<Text>,
    annotator: &mut dyn Annotator,
    journal: &mut Journal,
) -> Result<Vec<Text>, Error> {
    let asked: Vec<Asked> = texts
        .iter()
        .filter(|text| text.predicted.is_none())
        .map(|text| Asked::new(text.prompt.text.as_str(), text.written.as_str()))
        .collect();
    if !asked.is_empty() {
        let mut scores = journal.once(0, "predicted", || scored(annotator, &asked))?.into_iter();
        for text in texts.iter_mut().filter(|text| text.predicted.is_none()) {
            text.predicted = scores.next().flatten();
        }
    }
    texts.retain(|text| text.predicted.is_some());
    Ok(texts)
}

/// A score for each, `None` where there is none. Too many of those, a tenth of enough or all, are an error: it leaves
/// the journal, so that they are asked about again.
fn scored(annotator: &mut dyn Annotator, asked: &[Asked]) -> Result<Vec<Option<f64>>, Error> {
    let scores = annotator.score(asked).transpose()?;
    let scores = scores.ok_or_else(|| {
        Error::Recipe("causal_estimator = \"dr\" needs an annotator that gives scores: it is the outcome model".into())
    })?;
    let scores: Vec<Option<f64>> = scores.into_iter().map(|score| score.is_finite().then_some(score)).collect();
    let (judged, abstained) = (scores.len(), scores.iter().filter(|score| score.is_none()).count());
    if abstained == judged || (judged >= ENOUGH && 10 * abstained > judged) {
        return Err(Error::Abstentions { abstained, judged, reason: NO_SCORE.into() });
    }
    Ok(scores)
}
