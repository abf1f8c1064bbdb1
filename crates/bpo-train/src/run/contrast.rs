//! What training did to completions that people are shown: their tokens under the trained policy.
use std::cmp::Ordering;

use bpo_annotate::Verdict;
use bpo_data::Group;
use serde::{Deserialize, Serialize};

use super::{Run, evaluations::Evaluations};
use crate::{
    Drawn, Error, Evaluation, TrainPrompt,
    collect::{SAMPLED, recorded_choices},
    evaluate::pack,
    token_logps,
};

/// What the journal calls it.
const CONTRAST: &str = "eval/contrast";
/// Held-out prompts and phases of which something is shown.
const SHOWN: [usize; 2] = [3, 8];

/// Log-probs of tokens under the trained policy, nats.
#[derive(Debug, Serialize, Deserialize)]
struct Contrast {
    /// Of the start's responses to the first held-out prompts.
    held_out: Vec<Vec<f32>>,
    /// Of the first judged pair of each phase, or of several neighbouring phases.
    pairs: Vec<JudgedPair>,
}

#[derive(Debug, Serialize, Deserialize)]
struct JudgedPair {
    step: u64,
    /// Place among the step's prompts.
    place: usize,
    /// Of both completions, as they were compared.
    logps: Vec<Vec<f32>>,
}

/// A judged pair as it was recorded.
pub(crate) struct Recorded {
    step: u64,
    /// Place among the step's prompts.
    place: usize,
    /// Of the prompt.
    prompt: Vec<u32>,
    /// Of both completions.
    tokens: [Vec<u32>; 2],
}

/// A prompt with completions that are to be scored.
struct Shown<'a> {
    prompt: &'a [u32],
    completions: Vec<&'a [u32]>,
}

impl Evaluations<'_> {
    /// Records it, once all steps are done; `pairs` are judged pairs of training, where there are such.
    pub fn record_contrast(&mut self, before: &Evaluation, pairs: Vec<Recorded>) -> Result<(), Error> {
        if self.journal.contains(self.total, CONTRAST) {
            return Ok(());
        }
        let held_out = self.prompts.iter().zip(&before.responses).take(SHOWN[0]).map(|(eval, drawn)| Shown {
            prompt: &eval.prompt.ids,
            completions: drawn.samples.iter().take(1).map(|sample| sample.tokens.as_slice()).collect(),
        });
        let judged = pairs.iter().map(|Recorded { prompt, tokens, .. }| Shown {
            prompt,
            completions: tokens.iter().map(Vec::as_slice).collect(),
        });
        let mut logps = self.trained_logps(&held_out.chain(judged).collect::<Vec<_>>())?.into_iter();
        let held_out = logps.by_ref().take(self.prompts.len().min(SHOWN[0])).flatten().collect();
        let scored = pairs.iter().zip(logps);
        let pairs = scored.map(|(of, logps)| JudgedPair { step: of.step, place: of.place, logps }).collect();
        let contrast = Contrast { held_out, pairs };
        self.journal.once(self.total, CONTRAST, || Ok::<_, Error>(contrast)).map(drop)
    }

    /// The log-probs of all tokens, `[shown][completions][tokens]`.
    fn trained_logps(&self, shown: &[Shown<'_>]) -> Result<Vec<Vec<Vec<f32>>>, Error> {
        let policy = self.state.ensemble.policy()?.policy.model(self.base)?;
        let (pad, batch) = (self.tokenizer.pad_id().unwrap_or(0), self.recipe.per_device_eval_batch_size);
        let mut all = Vec::with_capacity(shown.len());
        for shown in shown.chunks(batch) {
            let groups: Vec<Group<'_>> =
                shown.iter().map(|one| Group { prompt: one.prompt, completions: one.completions.clone() }).collect();
            let mut logps = token_logps(&policy, &pack(&policy, &groups, pad)?)?.into_iter();
            all.extend(shown.iter().map(|one| logps.by_ref().take(one.completions.len()).collect::<Vec<_>>()));
        }
        Ok(all)
    }
}

impl Run<'_> {
    /// The first pair with a preference of each phase.
    pub(super) fn first_pairs(&mut self) -> Result<Vec<Recorded>, Error> {
        let together = self.schedule.phases().div_ceil(SHOWN[1] as u64).max(1);
        let (mut pairs, mut last) = (Vec::new(), None);
        for step in 0..self.total {
            let group = self.schedule.phase(step) / together;
            if last == Some(group) {
                continue;
            }
            let Some(choices) = recorded_choices(&mut self.journal, step)? else { continue };
            let Some(recorded) = self.journal.get(step, SAMPLED)? else { continue };
            let drawn: Vec<Drawn> = serde_json::from_slice(&recorded).map_err(|e| Error::Data(e.to_string()))?;
            for (place, (drawn, choice)) in drawn.iter().zip(&choices).enumerate() {
                let is_decided = matches!(choice.verdict, Verdict::First | Verdict::Second);
                let tokens = |of: usize| Some(drawn.samples.get(choice.pair[of])?.tokens.clone());
                let (true, Some(first), Some(second)) = (is_decided, tokens(0), tokens(1)) else { continue };
                if let Some(prompt) = self.prompt(drawn.prompt)? {
                    pairs.push(Recorded { step, place, prompt: prompt.ids, tokens: [first, second] });
                    last = Some(group);
                    break;
                }
            }
        }
        Ok(pairs)
    }

    /// The training prompt of an id: they lie in the order of their ids.
    fn prompt(&self, id: usize) -> Result<Option<TrainPrompt>, Error> {
        let mut range = 0..self.prompts.len();
        while !range.is_empty() {
            let middle = range.start + range.len() / 2;
            let prompt = self.prompts.get(middle)?;
            match prompt.id.cmp(&id) {
                Ordering::Equal => return Ok(Some(prompt)),
                Ordering::Less => range.start = middle + 1,
                Ordering::Greater => range.end = middle,
            }
        }
        Ok(None)
    }
}
