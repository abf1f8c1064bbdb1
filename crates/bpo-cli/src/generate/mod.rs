//! `bpo generate`: samples completions of prompts.
mod print;
mod prompts;

use std::{
    ops::Range,
    path::PathBuf,
    time::{Duration, Instant},
};

use bpo_data::Tokenizer;
use bpo_sampler::{GenerateConfig, Request, Sampling, StreamKey};
use clap::{ArgGroup, Args};

use self::{
    print::Printer,
    prompts::{Asked, read},
};
use crate::{args::Globals, failure::Failure, source::ModelSource};

const EXAMPLES: &str = "\
The same seed draws the same tokens, whatever the batch size.

Examples:
  bpo generate --model embedded --prompt 'A small owl named Otto was at the beach.'
  bpo generate --model ./SmolLM2-135M-Instruct --prompts prompts.jsonl --greedy --json";

/// Sample completions of prompts
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, group(ArgGroup::new("asked").required(true).args(["prompt", "prompts"])))]
pub struct GenerateArgs {
    /// Language model: a Hugging Face directory, or `embedded`
    #[arg(long, value_name = "DIR")]
    pub model: ModelSource,
    /// PEFT adapter of the model
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Tokenizer [default: the model's]
    #[arg(long, value_name = "PATH")]
    pub tokenizer: Option<PathBuf>,
    /// One prompt; a user's message where the model has a chat template
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Prompts, JSONL or a JSON array, gzipped or not; `embedded` is the story model's
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// Continue --prompt as plain text also where the model has a chat template
    #[arg(long, conflicts_with = "prompts")]
    pub raw: bool,
    /// Cut completions after this many tokens
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_new_tokens: u32,
    /// Draw no end-of-sequence token before this many tokens
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub min_new_tokens: u32,
    /// Always the most probable token
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p", "min_p"])]
    pub greedy: bool,
    /// Divides the logits; 0 is greedy
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    pub temperature: f64,
    /// Keep the K most probable tokens; 0 keeps all
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub top_k: usize,
    /// Keep the most probable tokens up to this mass
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub top_p: f64,
    /// Keep tokens at least this times as probable as the most probable one
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub min_p: f64,
    /// Completions of each prompt
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub samples: u32,
    /// Seed of everything random
    #[arg(long, value_name = "S", default_value_t = 42)]
    pub seed: u64,
    /// Completions sampled at once
    #[arg(long, value_name = "B", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: u32,
    /// One JSON object per completion
    #[arg(long)]
    pub json: bool,
}

impl GenerateArgs {
    fn sampling(&self) -> Sampling {
        if self.greedy {
            return Sampling::greedy();
        }
        Sampling { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p, min_p: self.min_p }
    }

    fn config(&self, tokenizer: &Tokenizer) -> GenerateConfig {
        GenerateConfig {
            max_new_tokens: self.max_new_tokens as usize,
            min_new_tokens: self.min_new_tokens as usize,
            sampling: self.sampling(),
            eos_ids: tokenizer.eos_ids().to_vec(),
            sampled_vocab: Some(tokenizer.vocab_size()),
        }
    }

    fn request<'a>(&self, part: &Part<'a>) -> Request<'a> {
        let key = |slot| StreamKey { seed: self.seed, step: 0, prompt: part.asked.id as u64, slot };
        Request { prompt: &part.asked.ids, samples: part.slots.clone().map(u64::from).map(key).collect() }
    }
}

/// Some of the completions of one prompt.
pub struct Part<'a> {
    asked: &'a Asked,
    slots: Range<u32>,
}

/// What is sampled together: `samples` completions of each prompt, in order, at most `rows` at once.
fn batches(asked: &[Asked], samples: u32, rows: u32) -> impl Iterator<Item = Vec<Part<'_>>> {
    let mut prompts = asked.iter();
    let mut left = prompts.next().map(|asked| Part { asked, slots: 0..samples });
    std::iter::from_fn(move || {
        let (mut batch, mut room) = (Vec::new(), rows);
        while room > 0
            && let Some(part) = left.take()
        {
            let end = part.slots.end.min(part.slots.start.saturating_add(room));
            room -= end - part.slots.start;
            left = match end < part.slots.end {
                true => Some(Part { asked: part.asked, slots: end..part.slots.end }),
                false => prompts.next().map(|asked| Part { asked, slots: 0..samples }),
            };
            batch.push(Part { asked: part.asked, slots: part.slots.start..end });
        }
        (!batch.is_empty()).then_some(batch)
    })
}

/// Samples and prints.
pub fn run(args: &GenerateArgs, globals: &Globals) -> Result<(), Failure> {
    args.sampling().validate()?;
    if args.min_new_tokens > args.max_new_tokens {
        let (min, max) = (args.min_new_tokens, args.max_new_tokens);
        return Err(Failure::usage(format!("--min-new-tokens {min} is above --max-new-tokens {max}")));
    }
    let config = args.model.load_config()?;
    let tokenizer = args.model.load_matching_tokenizer(args.tokenizer.as_deref(), &config)?;
    let asked = read(args, &tokenizer, config.max_position_embeddings)?;
    let decoder = args.model.load_with_adapter(args.adapter.as_deref(), &globals.device()?)?;
    let decoder = if args.adapter.is_some() { decoder.merged() } else { decoder };
    let settings = args.config(&tokenizer);
    let progress = globals.progress();
    let mut stage = progress.stage("sampling", asked.len() * args.samples as usize, "completions");
    let mut printer = Printer::new(args, &tokenizer);
    let (mut before, mut tokens, mut spent) = (0, 0, Duration::ZERO);
    for batch in batches(&asked, args.samples, args.batch_size) {
        let requests: Vec<Request<'_>> = batch.iter().map(|part| args.request(part)).collect();
        let rows = batch.iter().map(|part| part.slots.len()).sum::<usize>();
        let started = Instant::now();
        let sampled = bpo_sampler::generate(&decoder, &requests, &settings, |left| stage.set(before + rows - left))?;
        spent += started.elapsed();
        tokens += sampled.iter().flatten().map(|completion| completion.tokens.len()).sum::<usize>();
        before += rows;
        stage.hidden(|| printer.print(&batch, &sampled))?;
    }
    stage.finish();
    let seconds = spent.as_secs_f64();
    progress.say(&format!("{tokens} tokens in {seconds:.3} s ({:.1}/s)", tokens as f64 / seconds.max(1e-9)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use bpo_data::Prompt;

    use super::*;

    #[test]
    fn no_batch_is_larger_than_asked_for_and_none_is_left_out() {
        let asked: Vec<Asked> =
            (0..3).map(|id| Asked { id, prompt: Prompt::Text(String::new()), ids: vec![1] }).collect();
        for (samples, rows) in [(1, 1), (1, 2), (5, 2), (2, 5), (7, 16), (20_000, 16)] {
            let batches: Vec<Vec<Part<'_>>> = batches(&asked, samples, rows).collect();
            let sizes: Vec<u32> = batches.iter().map(|b| b.iter().map(|part| part.slots.len() as u32).sum()).collect();
            assert!(sizes.iter().rev().skip(1).all(|&size| size == rows), "{samples} {rows}: {sizes:?}");
            let all: Vec<(usize, u32)> = batches
                .iter()
                .flatten()
                .flat_map(|part| part.slots.clone().map(|slot| (part.asked.id, slot)))
                .collect();
            let expected: Vec<(usize, u32)> = (0..3).flat_map(|id| (0..samples).map(move |slot| (id, slot))).collect();
            assert_eq!(all, expected);
        }
    }
}
