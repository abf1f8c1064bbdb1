//! Sampling by a server: its completions become those of the behaviour, with log-probs that are the behaviour's.
use std::collections::HashMap;

use bpo_data::{Group, Tokenizer};
use bpo_model::Decoder;
use bpo_sampler::GenerateConfig;
use bpo_service::{Asked, Drawing, Finish, Format, PromptForm, Sampler};
use bpo_store::RowFile;

use crate::{
    Drawn, Error, Observer, Origin, Sample, Stage, TrainPrompt, Trainable,
    collect::{Streams, request},
    evaluate::pack,
    token_logps,
};

/// Completions of which trusted log-probs are checked, at every step.
const CHECKED: usize = 4;
/// Nats per token: two precisions of one model differ by less.
const STRANGE_GAP: f64 = 0.5;

/// A server that samples in the place of the behaviour.
#[derive(Debug)]
pub struct Remote {
    sampler: Sampler,
    /// The step at which the behaviour was taken that the server has.
    published: Option<u64>,
    has_warned: bool,
}

/// A completion before its log-probs are settled.
struct Raw {
    tokens: Vec<u32>,
    eos: bool,
    text: String,
    retokenised: bool,
    theirs: Option<Vec<f32>>,
}

/// The text that a server reads `ids` from, without what its tokenizer puts in front itself if it `adds` that. `None`
/// where the text would be read as other ids, as when a user's message spells a control token.
fn readable(tokenizer: &Tokenizer, ids: &[u32], adds: bool) -> Result<Option<String>, Error> {
    let ids = if adds { ids.strip_prefix(tokenizer.prefix()).unwrap_or(ids) } else { ids };
    let text = tokenizer.decode_raw(ids)?;
    Ok((tokenizer.encode_with_specials(&text)? == ids).then_some(text))
}

impl Remote {
    /// Around a server.
    pub fn new(sampler: Sampler) -> Self {
        Self { sampler, published: None, has_warned: false }
    }

    /// The server.
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    fn sends_text(&self) -> bool {
        self.sampler.config().prompt_form() == PromptForm::Text
    }

    /// vLLM is told to add nothing; others put BOS in front of a text.
    fn adds_prefix(&self) -> bool {
        self.sampler.config().format != Format::Vllm
    }

    /// The prompts that can be sent as text, if that is how they are sent, put into `kept`, and what is to be said about
    /// the others.
    ///
    /// # Errors
    /// From the files of rows.
    pub(crate) fn readable(
        &self,
        tokenizer: &Tokenizer,
        prompts: RowFile<TrainPrompt>,
        mut kept: RowFile<TrainPrompt>,
    ) -> Result<(RowFile<TrainPrompt>, Option<String>), Error> {
        if !self.sends_text() {
            return Ok((prompts, None));
        }
        for prompt in prompts.iter() {
            let prompt = prompt?;
            if matches!(readable(tokenizer, &prompt.ids, self.adds_prefix()), Ok(Some(_))) {
                kept.push(&prompt)?;
            }
        }
        let dropped = prompts.len() - kept.len();
        let note = (dropped > 0).then(|| {
            format!(
                "{dropped} prompts left out: as text the server would read them as other tokens, which `prompt = \"ids\"` \
                 of the sampler avoids where the server takes ids"
            )
        });
        Ok((kept, note))
    }

    /// Has the server load the behaviour's adapter, unless it has that of this step.
    ///
    /// # Errors
    /// [`Error::Service`]; [`Error::Model`] for an adapter that cannot be written.
    pub fn follow(&mut self, behaviour: &Trainable, taken_at: u64, base_name: &str) -> Result<(), Error> {
        if !self.sampler.config().publishes() || self.published == Some(taken_at) {
            return Ok(());
        }
        if let Some(adapter) = behaviour.adapter() {
            self.sampler.publish(&adapter.to_peft(base_name)?, taken_at)?;
            self.published = Some(taken_at);
        }
        Ok(())
    }

    /// Samples `streams.slots` completions per prompt at the server, as [`collect::sample`](crate::collect::sample) does
    /// here. Their log-probs are those of `policy`, which the server is to serve, computed here; or, with `trust_logps`,
    /// the server's own, of which a few are checked.
    ///
    /// # Errors
    /// [`Error::Service`], [`Error::Gap`], and from scoring.
    pub(crate) fn sample(
        &mut self,
        policy: &Decoder,
        tokenizer: &Tokenizer,
        prompts: &[&TrainPrompt],
        (config, streams): (&GenerateConfig, Streams),
        (stage, observer): (Stage, &mut dyn Observer),
    ) -> Result<Vec<Drawn>, Error> {
        let mut seen = HashMap::new();
        let mut seeds = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let request = request(prompt, streams, &mut seen);
            seeds.push(request.samples.iter().map(|key| key.seed31()).collect());
        }
        let ids: Vec<&[u32]> = prompts.iter().map(|prompt| prompt.ids.as_slice()).collect();
        let sampled = self.completions(policy, tokenizer, (&ids, &seeds), config, (stage, observer))?;
        let drawn = |(prompt, samples): (&&TrainPrompt, _)| Drawn { prompt: prompt.id, samples };
        Ok(prompts.iter().zip(sampled).map(drawn).collect())
    }

    /// Completions of prompts, `[prompts]`, one for each of a prompt's `seeds`.
    ///
    /// # Errors
    /// As for a run: [`Error::Service`], [`Error::Gap`], [`Error::Data`] for a prompt that cannot be sent as text, and
    /// from scoring.
    pub fn completions(
        &mut self,
        policy: &Decoder,
        tokenizer: &Tokenizer,
        (prompts, seeds): (&[&[u32]], &[Vec<u32>]),
        config: &GenerateConfig,
        (stage, observer): (Stage, &mut dyn Observer),
    ) -> Result<Vec<Vec<Sample>>, Error> {
        let texts = prompts.iter().map(|ids| self.text(tokenizer, ids)).collect::<Result<Vec<String>, Error>>()?;
        let context = policy.config().max_position_embeddings;
        let mut asked = Vec::new();
        for ((ids, text), seeds) in prompts.iter().zip(&texts).zip(seeds) {
            let room = context.saturating_sub(ids.len());
            asked.extend(seeds.iter().map(|&seed| Asked { ids, text, seed, room }));
        }
        observer.begin(stage, (asked.len() * config.max_new_tokens) as u64);
        let each = config.max_new_tokens as u64;
        let drawn = self.sampler.draw(&asked, &drawing(config, tokenizer), |done| observer.advance(done as u64 * each));
        observer.end();
        let mut raw = drawn?.into_iter().map(|drawn| retokenised(drawn, tokenizer, config.max_new_tokens));
        let raw: Vec<Vec<Raw>> =
            seeds.iter().map(|seeds| raw.by_ref().take(seeds.len()).collect()).collect::<Result<_, Error>>()?;
        let samples = self.scored(policy, tokenizer, prompts, raw, config.batch_size)?;
        self.check_gaps(&samples, observer)?;
        Ok(samples)
    }

    fn text(&self, tokenizer: &Tokenizer, ids: &[u32]) -> Result<String, Error> {
        if !self.sends_text() {
            return Ok(String::new());
        }
        readable(tokenizer, ids, self.adds_prefix())?.ok_or_else(|| {
            let shown: String = tokenizer.decode(ids).unwrap_or_default().chars().take(60).collect();
            Error::Data(format!(
                "a prompt cannot be sent as text: the server would read it as other tokens, as when it spells a control \
                 token; where the server takes ids, set `prompt = \"ids\"` of the sampler ({shown:?})"
            ))
        })
    }

    /// Settles log-probs: the server's where they are trusted and there, else those of `policy`.
    fn scored(
        &self,
        policy: &Decoder,
        tokenizer: &Tokenizer,
        prompts: &[&[u32]],
        raw: Vec<Vec<Raw>>,
        batch_size: usize,
    ) -> Result<Vec<Vec<Sample>>, Error> {
        let trusts = self.sampler.config().trust_logps;
        let is_trusted = |raw: &Raw| {
            trusts && !raw.retokenised && raw.theirs.as_ref().is_some_and(|theirs| theirs.len() == raw.tokens.len())
        };
        let mut checked = 0;
        let mut wanted = Vec::new();
        for (prompt, samples) in raw.iter().enumerate() {
            for (slot, sample) in samples.iter().enumerate() {
                let is_checked = is_trusted(sample) && checked < CHECKED && !sample.tokens.is_empty();
                checked += usize::from(is_checked);
                if is_checked || !is_trusted(sample) {
                    wanted.push((prompt, slot));
                }
            }
        }
        let pad = tokenizer.pad_id().unwrap_or(0);
        let mut ours: HashMap<(usize, usize), Vec<f32>> = HashMap::new();
        for places in wanted.chunks(batch_size.max(1)) {
            let mut groups: Vec<(usize, Group<'_>)> = Vec::new();
            for &(prompt, slot) in places {
                let tokens = raw[prompt][slot].tokens.as_slice();
                match groups.last_mut() {
                    Some((last, group)) if *last == prompt => group.completions.push(tokens),
                    _ => groups.push((prompt, Group { prompt: prompts[prompt], completions: vec![tokens] })),
                }
            }
            let groups: Vec<Group<'_>> = groups.into_iter().map(|(_, group)| group).collect();
            let logps = token_logps(policy, &pack(policy, &groups, pad)?)?;
            ours.extend(places.iter().copied().zip(logps));
        }
        let settled = |(prompt, samples): (usize, Vec<Raw>)| {
            let settle = |(slot, sample): (usize, Raw)| {
                let trusted = is_trusted(&sample);
                settled(sample, ours.remove(&(prompt, slot)), trusted)
            };
            samples.into_iter().enumerate().map(settle).collect()
        };
        Ok(raw.into_iter().enumerate().map(settled).collect())
    }

    /// Refuses trusted log-probs that are not the policy's, and says once where the others are far from them.
    fn check_gaps(&mut self, samples: &[Vec<Sample>], observer: &mut dyn Observer) -> Result<(), Error> {
        let gaps = samples.iter().flatten().filter_map(|sample| sample.origin?.logp_gap).map(f64::from);
        let gaps: Vec<f64> = gaps.collect();
        if gaps.is_empty() {
            return Ok(());
        }
        let gap = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let config = self.sampler.config();
        if config.trust_logps && gap > config.max_logp_gap {
            return Err(Error::Gap { gap, limit: config.max_logp_gap });
        }
        if gap > STRANGE_GAP && !self.has_warned {
            self.has_warned = true;
            observer.note(&format!(
                "the server's log-probs differ from those computed here by {gap:.2} nats a token: does it serve the same \
                 model, with the same adapter?"
            ));
        }
        Ok(())
    }
}

fn drawing(config: &GenerateConfig, tokenizer: &Tokenizer) -> Drawing {
    let sampling = &config.sampling;
    Drawing {
        max_new_tokens: config.max_new_tokens,
        min_new_tokens: config.min_new_tokens,
        temperature: sampling.temperature,
        top_k: sampling.top_k,
        top_p: sampling.top_p,
        min_p: sampling.min_p,
        eos_ids: config.eos_ids.clone(),
        vocab: config.sampled_vocab.unwrap_or(tokenizer.vocab_size()),
    }
}

/// The server's ids, or those of its text, which may be others than it sampled.
fn retokenised(drawn: bpo_service::Drawn, tokenizer: &Tokenizer, most: usize) -> Result<Raw, Error> {
    let bpo_service::Drawn { text, ids, logps, finish, .. } = drawn;
    if let Some(tokens) = ids {
        let text = tokenizer.decode(&tokens)?;
        return Ok(Raw { eos: finish == Finish::Stop, tokens, text, retokenised: false, theirs: logps });
    }
    let mut tokens = tokenizer.encode_completion(&text, finish == Finish::Stop)?;
    // More tokens than were sampled: what is too much is cut, and what was cut has no EOS.
    let is_cut = tokens.len() > most;
    tokens.truncate(most);
    let text = if is_cut { tokenizer.decode(&tokens)? } else { text };
    Ok(Raw { eos: finish == Finish::Stop && !is_cut, tokens, text, retokenised: true, theirs: logps })
}

fn settled(raw: Raw, ours: Option<Vec<f32>>, is_trusted: bool) -> Sample {
    let Raw { tokens, eos, text, retokenised, theirs } = raw;
    let logp_gap = theirs.as_deref().zip(ours.as_deref()).and_then(|(theirs, ours)| gap(theirs, ours, eos));
    let logps = match (is_trusted, theirs, ours) {
        (true, Some(theirs), _) => theirs,
        (_, _, ours) => ours.unwrap_or_default(),
    };
    Sample { tokens, logps, eos, text, origin: Some(Origin { retokenised, rescored: !is_trusted, logp_gap }) }
}

/// Mean absolute difference per token. A server that leaves EOS out has a log-prob less; any other number of them belongs
/// to other tokens.
fn gap(theirs: &[f32], ours: &[f32], eos: bool) -> Option<f32> {
    let is_comparable = theirs.len() == ours.len() || (eos && theirs.len() + 1 == ours.len());
    let sum: f64 = theirs.iter().zip(ours).map(|(a, b)| f64::from((a - b).abs())).sum();
    (is_comparable && !theirs.is_empty() && sum.is_finite()).then(|| (sum / theirs.len() as f64) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(theirs: Option<Vec<f32>>, retokenised: bool) -> Raw {
        Raw { tokens: vec![5, 6, 2], eos: true, text: "x".into(), retokenised, theirs }
    }

    #[test]
    fn log_probs_are_ours_unless_the_servers_are_trusted() {
        let (theirs, ours) = (vec![-1.0, -2.0, -3.0], vec![-1.5, -2.0, -3.25]);
        let sample = settled(raw(Some(theirs.clone()), false), Some(ours.clone()), false);
        assert_eq!(sample.logps, ours);
        assert_eq!(sample.origin, Some(Origin { retokenised: false, rescored: true, logp_gap: Some(0.25) }));
        let sample = settled(raw(Some(theirs.clone()), false), Some(ours), true);
        assert_eq!((sample.logps, sample.origin.unwrap().rescored), (theirs.clone(), false));
        let unchecked = settled(raw(Some(theirs.clone()), false), None, true);
        assert_eq!((unchecked.logps, unchecked.origin.unwrap().logp_gap), (theirs, None));
    }

    #[test]
    fn a_gap_is_of_the_same_tokens_or_there_is_none() {
        assert_eq!(gap(&[-1.0, -2.0], &[-1.5, -2.0, -9.0], true), Some(0.25));
        assert_eq!(gap(&[-1.0, -2.0], &[-1.5, -2.0, -9.0], false), None);
        assert_eq!(gap(&[-1.0], &[-1.5, -2.0, -9.0], true), None);
        assert_eq!(gap(&[-1.0], &[f32::NEG_INFINITY], false), None);
        assert_eq!(gap(&[], &[], false), None);
    }
}
