//! Sampling from a model of your own: here the letters that follow one another in a text, counted.
//!
//!     cargo run --release -p bpo-sampler --example your_own_model -- 'some text to imitate'
#![allow(clippy::print_stdout, reason = "an example tells what it does")]

use bpo_sampler::{CausalLm, Error, GenerateConfig, Request, Sampling, StreamKey, generate};
use burn::tensor::{Device, Tensor, TensorData};

const TEXT: &str = "the cat sat on the mat and the rat ate the hat that the cat had sat on. ";

/// log of how often letter j follows letter i; a full stop ends a text.
struct Letters {
    letters: Vec<char>,
    logits: Vec<Vec<f32>>,
}

impl Letters {
    fn of(text: &str) -> Self {
        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        letters.dedup();
        let index = |letter| letters.iter().position(|known| *known == letter).unwrap_or(0);
        let mut counts = vec![vec![0.01f32; letters.len()]; letters.len()];
        for (one, next) in text.chars().zip(text.chars().skip(1)) {
            counts[index(one)][index(next)] += 1.0;
        }
        let logits = counts.iter().map(|row| row.iter().map(|count| count.ln()).collect()).collect();
        Self { letters, logits }
    }

    fn rows(&self, last: &[u32]) -> Tensor<2> {
        let values: Vec<f32> = last.iter().flat_map(|&letter| self.logits[letter as usize].clone()).collect();
        Tensor::from_data(TensorData::new(values, [last.len(), self.letters.len()]), &Device::flex())
    }

    fn ids(&self, text: &str) -> Vec<u32> {
        text.chars().filter_map(|c| self.letters.iter().position(|known| *known == c)).map(|id| id as u32).collect()
    }
}

impl CausalLm for Letters {
    /// What has to be remembered of each row: its last letter.
    type Cache = Vec<u32>;

    fn vocab_size(&self) -> usize {
        self.letters.len()
    }

    fn context(&self) -> usize {
        256
    }

    fn prefill(&self, prompts: &[&[u32]]) -> (Vec<u32>, Tensor<2>) {
        let last: Vec<u32> = prompts.iter().filter_map(|prompt| prompt.last().copied()).collect();
        let logits = self.rows(&last);
        (last, logits)
    }

    fn step(&self, cache: &mut Vec<u32>, tokens: &[u32]) -> Tensor<2> {
        *cache = tokens.to_vec();
        self.rows(tokens)
    }

    fn append(&self, cache: &mut Vec<u32>, from: &Vec<u32>, rows: &[usize], _room: usize) {
        cache.extend(rows.iter().map(|&row| from[row]));
    }

    fn swap_remove(&self, cache: &mut Vec<u32>, row: usize) {
        cache.swap_remove(row);
    }
}

fn main() -> Result<(), Error> {
    let model = Letters::of(&std::env::args().nth(1).unwrap_or_else(|| TEXT.into()));
    let prompt = model.ids("th");
    let prompt = if prompt.is_empty() { vec![0] } else { prompt };
    let key = |slot| StreamKey { seed: 42, step: 0, prompt: 0, slot };
    let config = GenerateConfig {
        max_new_tokens: 40,
        min_new_tokens: 0,
        batch_size: 2, // rows that finish make room for those that wait
        sampling: Sampling { temperature: 0.8, ..Sampling::default() },
        eos_ids: model.ids("."),
        sampled_vocab: None,
    };
    let request = Request { prompt: &prompt, samples: (0..4).map(key).collect() };
    let drawn = generate(&model, std::slice::from_ref(&request), &config, |_| {})?;
    for completion in &drawn[0] {
        let text: String = completion.tokens.iter().map(|&id| model.letters[id as usize]).collect();
        println!("th{text:<42} {:?}, log-prob {:.1}", completion.finish, completion.logps.iter().sum::<f32>());
    }
    // The same key draws the same letters, alone or among others.
    let alone = generate(&model, &[Request { samples: vec![key(3)], ..request }], &config, |_| {})?;
    assert_eq!(alone[0][0].tokens, drawn[0][3].tokens);
    Ok(())
}
