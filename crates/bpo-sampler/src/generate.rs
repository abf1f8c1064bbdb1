use burn::tensor::Tensor;

use crate::{Admissible, CausalLm, Draw, Error, Sampling, StreamKey, TokenStream};

/// One prompt and the random stream of each of its samples.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Prompt token ids, at least one.
    pub prompt: &'a [u32],
    /// One completion is sampled per key.
    pub samples: Vec<StreamKey>,
}

/// When and how to sample.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateConfig {
    /// Completions are cut after this many tokens.
    pub max_new_tokens: usize,
    /// No EOS token is admissible before this many were sampled (a context that is full still cuts). Recorded
    /// log-probs stay those of the whole distribution.
    pub min_new_tokens: usize,
    /// Choice of the next token.
    pub sampling: Sampling,
    /// Sampling one of these ends a completion; the token is part of it.
    pub eos_ids: Vec<u32>,
    /// Ids at and above this are never sampled (rows that only pad the embedding matrix).
    pub sampled_vocab: Option<usize>,
}

impl GenerateConfig {
    /// Checks the parameters' domains.
    ///
    /// # Errors
    /// [`Error::BadParameter`] naming the key.
    pub fn validate(&self) -> Result<(), Error> {
        if self.min_new_tokens > self.max_new_tokens {
            let (name, value) = ("min_new_tokens", self.min_new_tokens as f64);
            return Err(Error::BadParameter { name, value, requirement: "must not be above max_new_tokens" });
        }
        self.sampling.validate()
    }
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// An end-of-sequence token was sampled; it is the last token.
    Eos,
    /// It reached `max_new_tokens` or the model's context. No EOS is invented for it.
    Length,
}

/// A sampled completion: train on these ids as they are, never on their re-tokenised text.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Sampled ids, EOS included if sampled.
    pub tokens: Vec<u32>,
    /// log π(token | prompt, tokens before it) of every token under the sampling policy itself
    /// (temperature 1, unfiltered): in BPO this is the reference, for free.
    pub logps: Vec<f32>,
    /// Why it ended.
    pub finish: FinishReason,
}

impl Completion {
    /// Σ log-probs, added in f64.
    pub fn logp(&self) -> f64 {
        self.logps.iter().map(|&l| f64::from(l)).sum()
    }
}

/// Samples every request's completions in one batch: each prompt is read once for all its samples,
/// and rows that finish leave the batch.
///
/// Returns one list per request, one completion per key. `progress` is called with the number of
/// unfinished rows after every token.
///
/// # Errors
/// [`Error`] for an empty, over-long or out-of-vocabulary prompt, a bad parameter, or logits that are
/// not finite.
pub fn generate<M: CausalLm>(
    model: &M,
    requests: &[Request<'_>],
    config: &GenerateConfig,
    mut progress: impl FnMut(usize),
) -> Result<Vec<Vec<Completion>>, Error> {
    config.validate()?;
    check(model, requests)?;
    let mut batch = Batch::new(requests, config, model.context());
    if batch.live.is_empty() || config.max_new_tokens == 0 {
        return Ok(batch.finish());
    }
    let prompts: Vec<&[u32]> = requests.iter().map(|request| request.prompt).collect();
    let (mut cache, logits) = model.prefill(&prompts, batch.longest_budget());
    // The first tokens are drawn from one row per prompt; only rows that go on get a cache row of their own.
    let owners: Vec<usize> = batch.rows.iter().map(|row| row.request).collect();
    let first = batch.draw(&host(logits)?, &owners)?;
    let kept = batch.keep_unfinished();
    let mut next: Vec<u32> = kept.iter().map(|&row| first[row]).collect();
    model.select(&mut cache, &kept.iter().map(|&row| owners[row]).collect::<Vec<_>>());
    loop {
        progress(batch.unfinished());
        if batch.unfinished() == 0 {
            return Ok(batch.finish());
        }
        if batch.worth_compacting() {
            let kept = batch.keep_unfinished();
            model.select(&mut cache, &kept);
            next = kept.iter().map(|&row| next[row]).collect();
        }
        let logits = host(model.step(&mut cache, &next))?;
        let rows: Vec<usize> = (0..next.len()).collect();
        next = batch.draw(&logits, &rows)?;
    }
}

fn check<M: CausalLm>(model: &M, requests: &[Request<'_>]) -> Result<(), Error> {
    let (vocab, context) = (model.vocab_size(), model.context());
    for (prompt, request) in requests.iter().enumerate() {
        let length = request.prompt.len();
        if length == 0 {
            return Err(Error::EmptyPrompt { prompt });
        }
        if length >= context {
            return Err(Error::PromptTooLong { prompt, length, context });
        }
        if let Some(&token) = request.prompt.iter().find(|&&token| token as usize >= vocab) {
            return Err(Error::TokenOutOfVocabulary { prompt, token, vocab });
        }
    }
    Ok(())
}

/// Logits on the host.
struct HostLogits {
    values: Vec<f32>,
    vocab: usize,
}

/// One transfer per token for the whole batch.
fn host(logits: Tensor<2>) -> Result<HostLogits, Error> {
    let vocab = logits.dims()[1];
    let values = logits.try_into_vec_as().map_err(|error| Error::Unreadable(error.to_string()))?;
    Ok(HostLogits { values, vocab })
}

struct Row {
    request: usize,
    budget: usize,
    stream: TokenStream,
    tokens: Vec<u32>,
    logps: Vec<f32>,
    finish: Option<FinishReason>,
}

struct Batch<'a> {
    config: &'a GenerateConfig,
    requests: usize,
    rows: Vec<Row>,
    /// Rows of the cache, as indices into `rows`; finished ones stay until `compact`.
    live: Vec<usize>,
}

impl<'a> Batch<'a> {
    fn new(requests: &[Request<'_>], config: &'a GenerateConfig, context: usize) -> Self {
        let mut rows = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            let budget = config.max_new_tokens.min(context - request.prompt.len());
            rows.extend(request.samples.iter().map(|key| Row {
                request: index,
                budget,
                stream: key.stream(),
                tokens: Vec::new(),
                logps: Vec::new(),
                finish: None,
            }));
        }
        let live = (0..rows.len()).collect();
        Self { config, requests: requests.len(), rows, live }
    }

    /// Draws the next token of every live row from its row of `logits`; a finished row repeats its last.
    fn draw(&mut self, logits: &HostLogits, logit_rows: &[usize]) -> Result<Vec<u32>, Error> {
        let below = self.config.sampled_vocab.unwrap_or(logits.vocab).min(logits.vocab);
        let mut next = Vec::with_capacity(self.live.len());
        for (&index, &logit_row) in self.live.iter().zip(logit_rows) {
            let row = &mut self.rows[index];
            if row.finish.is_none() {
                let too_short = row.tokens.len() < self.config.min_new_tokens;
                let barred = if too_short { self.config.eos_ids.as_slice() } else { &[] };
                let admissible = Admissible { below, barred };
                let start = logit_row * logits.vocab;
                let draw = logits
                    .values
                    .get(start..start + logits.vocab)
                    .and_then(|logits| self.config.sampling.draw(logits, admissible, &mut row.stream))
                    .ok_or(Error::NonFiniteLogits { prompt: row.request, position: row.tokens.len() })?;
                row.push(draw, &self.config.eos_ids);
            }
            next.push(row.tokens.last().copied().unwrap_or_default());
        }
        Ok(next)
    }

    /// Tokens that the row with the most room may sample.
    fn longest_budget(&self) -> usize {
        self.rows.iter().map(|row| row.budget).max().unwrap_or(0)
    }

    fn unfinished(&self) -> usize {
        self.live.iter().filter(|&&row| self.rows[row].finish.is_none()).count()
    }

    /// Whether enough rows have finished to repay copying the rest of the cache.
    fn worth_compacting(&self) -> bool {
        let finished = self.live.len() - self.unfinished();
        finished > 0 && finished * 4 >= self.live.len()
    }

    /// Forgets finished rows; returns which of the live ones stay.
    fn keep_unfinished(&mut self) -> Vec<usize> {
        let rows = &self.rows;
        let kept: Vec<usize> = (0..self.live.len()).filter(|&i| rows[self.live[i]].finish.is_none()).collect();
        self.live = kept.iter().map(|&i| self.live[i]).collect();
        kept
    }

    fn finish(self) -> Vec<Vec<Completion>> {
        let mut completions: Vec<Vec<Completion>> = (0..self.requests).map(|_| Vec::new()).collect();
        for row in self.rows {
            let finish = row.finish.unwrap_or(FinishReason::Length);
            completions[row.request].push(Completion { tokens: row.tokens, logps: row.logps, finish });
        }
        completions
    }
}

impl Row {
    fn push(&mut self, draw: Draw, eos_ids: &[u32]) {
        self.tokens.push(draw.token);
        self.logps.push(draw.logp);
        if eos_ids.contains(&draw.token) {
            self.finish = Some(FinishReason::Eos);
        } else if self.tokens.len() >= self.budget {
            self.finish = Some(FinishReason::Length);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// The logits after a row depend on its sum of tokens only: exact whatever the batch is.
    struct Table;

    const VOCAB: usize = 7;

    fn logits(state: u32) -> Vec<f32> {
        (0..VOCAB as u32).map(|v| f32::from(((state * 31 + v * 17) % 11) as u8) / 3.0).collect()
    }

    fn tensor(states: &[u32]) -> Tensor<2> {
        let values: Vec<f32> = states.iter().flat_map(|&s| logits(s)).collect();
        Tensor::from_data(TensorData::new(values, [states.len(), VOCAB]), &Device::flex())
    }

    impl CausalLm for Table {
        type Cache = Vec<u32>;

        fn vocab_size(&self) -> usize {
            VOCAB
        }

        fn context(&self) -> usize {
            12
        }

        fn prefill(&self, prompts: &[&[u32]], _: usize) -> (Vec<u32>, Tensor<2>) {
            let states: Vec<u32> = prompts.iter().map(|p| p.iter().sum()).collect();
            let logits = tensor(&states);
            (states, logits)
        }

        fn step(&self, cache: &mut Vec<u32>, tokens: &[u32]) -> Tensor<2> {
            assert_eq!(cache.len(), tokens.len());
            cache.iter_mut().zip(tokens).for_each(|(state, token)| *state += token + 1);
            tensor(cache)
        }

        fn select(&self, cache: &mut Vec<u32>, rows: &[usize]) {
            *cache = rows.iter().map(|&r| cache[r]).collect();
        }
    }

    fn key(prompt: u64, slot: u64) -> StreamKey {
        StreamKey { seed: 3, step: 1, prompt, slot }
    }

    fn config() -> GenerateConfig {
        GenerateConfig {
            max_new_tokens: 9,
            min_new_tokens: 0,
            sampling: Sampling::default(),
            eos_ids: vec![0],
            sampled_vocab: None,
        }
    }

    fn requests(prompts: &[Vec<u32>], samples: u64) -> Vec<Request<'_>> {
        prompts
            .iter()
            .enumerate()
            .map(|(i, prompt)| Request { prompt, samples: (0..samples).map(|slot| key(i as u64, slot)).collect() })
            .collect()
    }

    #[test]
    fn what_is_drawn_never_depends_on_the_batch() {
        let prompts: Vec<Vec<u32>> = (0..6).map(|p| vec![p + 1, p % 3 + 1]).collect();
        let together = generate(&Table, &requests(&prompts, 3), &config(), |_| {}).unwrap();
        for (request, expected) in requests(&prompts, 3).into_iter().zip(&together) {
            for (slot, expected) in expected.iter().enumerate() {
                let alone = Request { prompt: request.prompt, samples: vec![request.samples[slot]] };
                assert_eq!(&generate(&Table, &[alone], &config(), |_| {}).unwrap()[0][0], expected);
            }
        }
        let lengths: Vec<usize> = together.iter().flatten().map(|c| c.tokens.len()).collect();
        assert!(lengths.iter().any(|&l| l < 9) && lengths.contains(&9), "rows must finish apart: {lengths:?}");
    }

    #[test]
    fn recorded_log_probs_are_the_models_own() {
        let prompts = vec![vec![2, 5]];
        let completion = generate(&Table, &requests(&prompts, 1), &config(), |_| {}).unwrap().remove(0).remove(0);
        let mut state = 7;
        for (token, logp) in completion.tokens.iter().zip(&completion.logps) {
            let row = logits(state);
            let sum: f64 = row.iter().map(|&z| f64::from(z).exp()).sum();
            assert!((f64::from(row[*token as usize]) - sum.ln() - f64::from(*logp)).abs() < 1e-5);
            state += token + 1;
        }
    }

    #[test]
    fn eos_ends_a_completion_and_is_kept_while_a_cut_one_gets_none() {
        let prompts: Vec<Vec<u32>> = (0..20).map(|p| vec![p % 6 + 1]).collect();
        for completion in generate(&Table, &requests(&prompts, 2), &config(), |_| {}).unwrap().into_iter().flatten() {
            let eos = completion.tokens.iter().position(|&t| t == 0);
            match completion.finish {
                FinishReason::Eos => assert_eq!(eos, Some(completion.tokens.len() - 1)),
                FinishReason::Length => assert_eq!((eos, completion.tokens.len()), (None, 9)),
            }
        }
    }

    #[test]
    fn no_completion_ends_by_eos_before_min_new_tokens() {
        let prompts: Vec<Vec<u32>> = (0..20).map(|p| vec![p % 6 + 1]).collect();
        let shortest = |min_new_tokens| {
            let config = GenerateConfig { min_new_tokens, ..config() };
            let completions = generate(&Table, &requests(&prompts, 2), &config, |_| {}).unwrap();
            let ended = |c: &&Completion| c.finish == FinishReason::Eos;
            completions.iter().flatten().filter(ended).map(|c| c.tokens.len()).min()
        };
        // The token after the bound may be EOS.
        assert_eq!([shortest(0), shortest(1), shortest(5), shortest(9)], [Some(1), Some(2), Some(6), None]);
        let above = GenerateConfig { min_new_tokens: 10, ..config() };
        let refused = generate(&Table, &requests(&prompts, 1), &above, |_| {}).unwrap_err();
        assert_eq!(refused.to_string(), "min_new_tokens = 10: must not be above max_new_tokens");
    }

    #[test]
    fn the_context_bounds_prompt_plus_completion() {
        let prompts = vec![vec![1; 11], vec![1; 4]];
        let config = GenerateConfig { eos_ids: vec![], ..config() };
        let completions = generate(&Table, &requests(&prompts, 1), &config, |_| {}).unwrap();
        assert_eq!([completions[0][0].tokens.len(), completions[1][0].tokens.len()], [1, 8]);
        let long = vec![vec![1; 12]];
        let error = generate(&Table, &requests(&long, 1), &config, |_| {}).unwrap_err();
        assert_eq!(error, Error::PromptTooLong { prompt: 0, length: 12, context: 12 });
    }

    #[test]
    fn padded_vocabulary_rows_are_never_sampled() {
        let prompts: Vec<Vec<u32>> = (0..40).map(|p| vec![p % 6 + 1]).collect();
        let config = GenerateConfig { sampled_vocab: Some(3), eos_ids: vec![], ..config() };
        let completions = generate(&Table, &requests(&prompts, 1), &config, |_| {}).unwrap();
        assert!(completions.iter().flatten().all(|c| c.tokens.iter().all(|&t| t < 3)));
    }
}
