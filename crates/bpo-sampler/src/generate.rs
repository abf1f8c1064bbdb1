use crate::{CausalLm, Error, Generation, Sampling, StreamKey};

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
    /// Completions decoded together, at least 1: bounds the memory of keys and values.
    pub batch_size: usize,
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
        if self.batch_size == 0 {
            return Err(Error::BadParameter { name: "batch_size", value: 0.0, requirement: "must be at least 1" });
        }
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

/// Samples every request's completions, `config.batch_size` rows at a time: each prompt is read once for all its
/// samples, rows that finish leave the batch and waiting prompts enter. See [`Generation`] to have them one by one.
///
/// Returns one list per request, one completion per key. `progress` is called with the number of
/// unfinished completions after every token.
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
    let mut generation = Generation::new(model, requests, config)?;
    while generation.advance()? {
        progress(generation.unfinished());
    }
    let completions =
        |request: &Request<'_>| request.samples.iter().filter_map(|_| generation.next_finished()).collect();
    Ok(requests.iter().map(completions).collect())
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use burn::tensor::{Device, Tensor, TensorData};

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

        fn prefill(&self, prompts: &[&[u32]]) -> (Vec<u32>, Tensor<2>) {
            let states: Vec<u32> = prompts.iter().map(|p| p.iter().sum()).collect();
            let logits = tensor(&states);
            (states, logits)
        }

        fn step(&self, cache: &mut Vec<u32>, tokens: &[u32]) -> Tensor<2> {
            assert_eq!(cache.len(), tokens.len());
            cache.iter_mut().zip(tokens).for_each(|(state, token)| *state += token + 1);
            tensor(cache)
        }

        fn append(&self, cache: &mut Vec<u32>, from: &Vec<u32>, rows: &[usize], _: usize) {
            cache.extend(rows.iter().map(|&row| from[row]));
        }

        fn swap_remove(&self, cache: &mut Vec<u32>, row: usize) {
            cache.swap_remove(row);
        }
    }

    fn key(prompt: u64, slot: u64) -> StreamKey {
        StreamKey { seed: 3, step: 1, prompt, slot }
    }

    fn config() -> GenerateConfig {
        GenerateConfig {
            max_new_tokens: 9,
            min_new_tokens: 0,
            batch_size: 8,
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
        let prompts: Vec<Vec<u32>> = (0..9).map(|p| vec![p % 5 + 1; p as usize % 3 + 1]).collect();
        for samples in [1, 3, 7] {
            let requests = requests(&prompts, samples);
            let sampled = |batch_size| {
                let config = GenerateConfig { batch_size, ..config() };
                generate(&Table, &requests, &config, |_| {}).unwrap()
            };
            let alone = sampled(1);
            for batch_size in [2, 3, 5, 16, 100] {
                assert_eq!(sampled(batch_size), alone, "{samples} samples of each prompt, {batch_size} rows");
            }
            let lengths: Vec<usize> = alone.iter().flatten().map(|c| c.tokens.len()).collect();
            assert!(lengths.iter().any(|&l| l < 9) && lengths.contains(&9), "rows must finish apart: {lengths:?}");
        }
    }

    /// Counts what is asked of a [`Table`].
    #[derive(Default)]
    struct Counting {
        read: Cell<usize>,
        passes: Cell<usize>,
        rows: RefCell<Vec<usize>>,
    }

    impl CausalLm for Counting {
        type Cache = Vec<u32>;

        fn vocab_size(&self) -> usize {
            VOCAB
        }

        fn context(&self) -> usize {
            Table.context()
        }

        fn prefill(&self, prompts: &[&[u32]]) -> (Vec<u32>, Tensor<2>) {
            self.read.set(self.read.get() + prompts.len());
            self.passes.set(self.passes.get() + 1);
            Table.prefill(prompts)
        }

        fn step(&self, cache: &mut Vec<u32>, tokens: &[u32]) -> Tensor<2> {
            self.rows.borrow_mut().push(tokens.len());
            Table.step(cache, tokens)
        }

        fn append(&self, cache: &mut Vec<u32>, from: &Vec<u32>, rows: &[usize], room: usize) {
            Table.append(cache, from, rows, room);
        }

        fn swap_remove(&self, cache: &mut Vec<u32>, row: usize) {
            Table.swap_remove(cache, row);
        }
    }

    #[test]
    fn a_prompt_is_read_once_and_the_batch_stays_full_while_prompts_wait() {
        let prompts: Vec<Vec<u32>> = (0..60).map(|p| vec![p % 6 + 1]).collect();
        let model = Counting::default();
        let config = GenerateConfig { batch_size: 16, ..config() };
        let completions = generate(&model, &requests(&prompts, 2), &config, |_| {}).unwrap();
        assert_eq!(model.read.get(), 60);
        assert!(model.passes.get() < 30, "{} passes", model.passes.get());
        let (rows, tokens) = (model.rows.borrow(), completions.iter().flatten().map(|c| c.tokens.len()).sum::<usize>());
        // First tokens come from the prompts' passes; every other one is a row of a step.
        assert_eq!(rows.iter().sum::<usize>(), tokens - 120);
        // A pass waits for 16 · √(2/9) = 8 free rows.
        let waiting = &rows[..rows.iter().rposition(|&rows| rows == 16).unwrap()];
        assert!(waiting.iter().all(|&rows| rows > 8), "{rows:?}");
    }

    #[test]
    fn completions_are_handed_out_in_order_as_they_finish() {
        let prompts: Vec<Vec<u32>> = (0..30).map(|p| vec![p % 6 + 1; p as usize % 4 + 1]).collect();
        let (requests, config) = (requests(&prompts, 2), GenerateConfig { batch_size: 4, ..config() });
        let mut generation = Generation::new(&Table, &requests, &config).unwrap();
        let (mut completions, mut early) = (Vec::new(), 0);
        while generation.advance().unwrap() {
            early += usize::from(generation.unfinished() > 0 && !completions.is_empty());
            completions.extend(std::iter::from_fn(|| generation.next_finished()));
        }
        assert!(early > 0);
        assert_eq!(generation.settled(), 60 * 9);
        assert_eq!(completions, generate(&Table, &requests, &config, |_| {}).unwrap().concat());
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
