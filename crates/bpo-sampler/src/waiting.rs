//! Which prompts are read when. What decides is lengths and what was sampled, never time, so that the same requests
//! always make the same batches.
//!
//! A pass of the model costs a fixed amount, reading its weights, plus an amount per token. Decoding N rows pays the
//! fixed part once per N tokens; reading prompts pays it once per pass. Reading a prompt as soon as one row is free
//! pays it once per completion; waiting for m free rows pays it once per m completions, but meanwhile m/2 of the N rows
//! are missing from every decoding pass. With completions of L tokens both losses are equal, and their sum smallest, at
//! m = N·√(2/L).
use std::{cmp::Reverse, collections::VecDeque};

use crate::{GenerateConfig, Request};

/// Padded tokens per pass: far more than cost as much as the fixed part, yet few enough that what the pass holds
/// in memory stays small.
const PASS_TOKENS: usize = 2048;
/// Prompts are sorted by length among those of this many full batches, so that passes are padded little while
/// completions still come in about the order of their requests.
const SORTED_BATCHES: usize = 4;

/// A prompt that has not been read.
#[derive(Debug, Clone, Copy)]
struct Prompt {
    request: usize,
    length: usize,
    samples: usize,
}

/// The prompts that have not been read, in the order they will be.
#[derive(Debug)]
pub(crate) struct Waiting {
    prompts: VecDeque<Prompt>,
    /// Their completions.
    samples: usize,
    /// Free rows that are worth a pass.
    refill: usize,
}

impl Waiting {
    pub fn new(requests: &[Request<'_>], config: &GenerateConfig) -> Self {
        let prompt = |(request, asked): (usize, &Request<'_>)| Prompt {
            request,
            length: asked.prompt.len(),
            samples: asked.samples.len(),
        };
        let mut prompts: Vec<Prompt> = requests.iter().enumerate().map(prompt).filter(|p| p.samples > 0).collect();
        sort_by_length(&mut prompts, SORTED_BATCHES.saturating_mul(config.batch_size));
        let length = config.max_new_tokens as f64;
        let refill = (config.batch_size as f64 * (2.0 / length).sqrt()).ceil() as usize;
        let samples = prompts.iter().map(|prompt| prompt.samples).sum();
        Self { prompts: prompts.into(), samples, refill: refill.clamp(1, config.batch_size) }
    }

    /// Whether `free` rows are worth a pass: enough of them, or all that is left fits.
    pub fn is_due(&self, free: usize) -> bool {
        self.samples > 0 && free >= self.refill.min(self.samples)
    }

    /// The requests whose prompts are read in one pass for `free` rows; the samples of the last may exceed them.
    pub fn next_pass(&mut self, free: usize) -> Vec<usize> {
        let (mut pass, mut samples, mut longest) = (Vec::new(), 0, 0);
        while samples < free
            && let Some(prompt) = self.prompts.front()
        {
            longest = prompt.length.max(longest);
            if !pass.is_empty() && longest * (pass.len() + 1) > PASS_TOKENS {
                break;
            }
            samples += prompt.samples;
            pass.push(prompt.request);
            self.prompts.pop_front();
        }
        self.samples -= samples;
        pass
    }
}

/// Longest first among prompts of `window` completions at a time: short ones fill the gaps that long ones leave, and
/// memory is at its peak at once, not at the end.
fn sort_by_length(mut prompts: &mut [Prompt], window: usize) {
    while !prompts.is_empty() {
        let mut samples = 0;
        let open = |prompt: &&Prompt| {
            samples += prompt.samples;
            samples <= window
        };
        let size = prompts.iter().take_while(open).count().max(1);
        let (sorted, rest) = prompts.split_at_mut(size);
        sorted.sort_by_key(|prompt| Reverse(prompt.length));
        prompts = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Sampling, StreamKey};

    fn waiting(lengths: &[usize], samples: usize, batch_size: usize, max_new_tokens: usize) -> Waiting {
        let config = GenerateConfig {
            max_new_tokens,
            min_new_tokens: 0,
            batch_size,
            sampling: Sampling::default(),
            eos_ids: vec![],
            sampled_vocab: None,
        };
        let prompts: Vec<Vec<u32>> = lengths.iter().map(|&length| vec![1; length]).collect();
        let samples = vec![StreamKey { seed: 0, step: 0, prompt: 0, slot: 0 }; samples];
        let requests: Vec<Request<'_>> =
            prompts.iter().map(|prompt| Request { prompt, samples: samples.clone() }).collect();
        Waiting::new(&requests, &config)
    }

    #[test]
    fn prompts_of_similar_length_are_read_together() {
        let mut waiting = waiting(&[3, 9, 4, 8, 1, 1], 2, 2, 8);
        // Four prompts have the completions of four batches of two; the others follow.
        assert_eq!(waiting.next_pass(3), [1, 3]);
        assert_eq!(waiting.next_pass(4), [2, 0]);
        assert_eq!(waiting.next_pass(9), [4, 5]);
        assert!(!waiting.is_due(9));
    }

    #[test]
    fn a_pass_waits_for_free_rows_unless_all_that_is_left_fits() {
        // 32 · √(2/128) = 4.
        let mut waiting = waiting(&[5; 40], 1, 32, 128);
        assert_eq!(waiting.next_pass(32).len(), 32);
        assert_eq!([3, 4].map(|free| waiting.is_due(free)), [false, true]);
        waiting.next_pass(6);
        assert_eq!([1, 2].map(|free| waiting.is_due(free)), [false, true]);
    }

    #[test]
    fn a_pass_holds_a_bounded_number_of_tokens_but_at_least_a_prompt() {
        let mut waiting = waiting(&[5000, 1000, 1000, 1000], 1, 8, 8);
        let passes: Vec<usize> = std::iter::repeat_with(|| waiting.next_pass(8).len()).take(3).collect();
        assert_eq!(passes, [1, 2, 1]);
    }
}
