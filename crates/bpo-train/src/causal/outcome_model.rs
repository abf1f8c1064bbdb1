//! The outcome model ĝ of the doubly robust estimator: an annotator that gives scores.
use bpo_annotate::{Annotator, Item as Asked};
use bpo_store::{Journal, RowFile};

use super::{Item, run::Run, texts::Text};
use crate::{
    CausalForm, Drawn, Error, Observer, Sample, Stage, TrainPrompt,
    collect::{self, Streams},
};

/// Why a text does not train.
const NO_SCORE: &str = "no score";
/// Texts asked about before anything is concluded from how many have no score.
const ENOUGH: usize = 20;
/// Texts asked about at once.
const ASKED: usize = 1024;

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

/// The texts with ĝ, put into `kept`: of the row, else of the annotator. Those without either are left out.
pub(super) fn predicted(
    texts: &RowFile<Text>,
    annotator: &mut dyn Annotator,
    journal: &mut Journal,
    mut kept: RowFile<Text>,
) -> Result<RowFile<Text>, Error> {
    let mut is_asked = false;
    for text in texts.iter() {
        is_asked |= text?.predicted.is_none();
    }
    let scores = match is_asked {
        true => journal.once(0, "predicted", || scores_of(texts, annotator))?,
        false => Vec::new(),
    };
    let mut scores = scores.into_iter();
    for text in texts.iter() {
        let mut text = text?;
        text.predicted = text.predicted.or_else(|| scores.next().flatten());
        if text.predicted.is_some() {
            kept.push(&text)?;
        }
    }
    Ok(kept)
}

/// Scores of the texts whose rows have none, as [`scored`] gives them.
fn scores_of(texts: &RowFile<Text>, annotator: &mut dyn Annotator) -> Result<Vec<Option<f64>>, Error> {
    let mut unknown = texts.iter().filter(|text| text.as_ref().map_or(true, |text| text.predicted.is_none()));
    let mut scores = Vec::new();
    loop {
        let asked =
            unknown.by_ref().take(ASKED).map(|text| text.map(|text| Asked::new(text.prompt.text, text.written)));
        let asked: Vec<Asked> = asked.collect::<Result<_, _>>()?;
        if asked.is_empty() {
            return checked(scores);
        }
        scores.extend(unchecked(annotator, &asked)?);
    }
}

/// A score for each, `None` where there is none. Too many of those, a tenth of enough or all, are an error: it leaves
/// the journal, so that they are asked about again.
fn scored(annotator: &mut dyn Annotator, asked: &[Asked]) -> Result<Vec<Option<f64>>, Error> {
    checked(unchecked(annotator, asked)?)
}

fn unchecked(annotator: &mut dyn Annotator, asked: &[Asked]) -> Result<Vec<Option<f64>>, Error> {
    let scores = annotator.score(asked).transpose()?;
    let scores = scores.ok_or_else(|| {
        Error::Recipe("causal_estimator = \"dr\" needs an annotator that gives scores: it is the outcome model".into())
    })?;
    Ok(scores.into_iter().map(|score| score.is_finite().then_some(score)).collect())
}

fn checked(scores: Vec<Option<f64>>) -> Result<Vec<Option<f64>>, Error> {
    let (judged, abstained) = (scores.len(), scores.iter().filter(|score| score.is_none()).count());
    if abstained == judged || (judged >= ENOUGH && 10 * abstained > judged) {
        return Err(Error::Abstentions { abstained, judged, reason: NO_SCORE.into() });
    }
    Ok(scores)
}
