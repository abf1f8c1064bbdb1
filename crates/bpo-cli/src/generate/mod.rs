//! `bpo generate`: samples completions of prompts.
mod print;
mod prompts;
mod served;

use std::{path::PathBuf, time::Instant};

use bpo_data::Tokenizer;
use bpo_model::Dtype;
use bpo_sampler::{GenerateConfig, Generation, Request, Sampling, StreamKey};
use clap::{ArgGroup, Args};

use self::{
    print::Printer,
    prompts::{Asked, read, windows},
};
use crate::{args::Globals, failure::Failure, source::ModelSource};

/// Prompts that are in memory at a time: enough that the batch is full nearly always.
const WINDOW: usize = 4096;

const EXAMPLES: &str = "\
The same seed draws the same tokens, whatever the batch size.

Examples:
  bpo generate --model embedded --prompt 'A small owl named Otto was at the beach.'
  bpo generate --model ./SmolLM2-135M-Instruct --prompts prompts.jsonl --greedy --json
  bpo generate --model ./SmolLM2-135M-Instruct --prompt Hello --sampler http://127.0.0.1:8000/v1";

/// Sample completions of prompts
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, group(ArgGroup::new("asked").required(true).args(["prompt", "prompts"])))]
pub struct GenerateArgs {
    /// Language model: a Hugging Face directory, a GGUF file, a name on the hub, or `embedded`
    #[arg(long, value_name = "DIR")]
    pub model: ModelSource,
    /// PEFT adapter of the model
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// What the weights are kept in: auto (a bfloat16 file as it is, where that loses nothing), float32 or bfloat16
    #[arg(long, value_name = "DTYPE", default_value = "auto")]
    pub dtype: Dtype,
    /// Tokenizer [default: the model's]
    #[arg(long, value_name = "PATH")]
    pub tokenizer: Option<PathBuf>,
    /// One prompt; a user's message where the model has a chat template
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Prompts, JSONL or a JSON array, gzipped or not, or Parquet; `embedded` is the story model's
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
    /// Completions decoded together
    #[arg(long, value_name = "B", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: u32,
    /// Sample at a server instead: its address up to and with /v1, a TOML table, or a recipe (FILE.toml); docs/samplers.md.
    /// --model, which it is to serve, computes the log-probs
    #[arg(long, value_name = "SAMPLER")]
    pub sampler: Option<String>,
    /// One JSON object per completion; the totals on standard error are one too
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
            batch_size: self.batch_size as usize,
            sampling: self.sampling(),
            eos_ids: tokenizer.eos_ids().to_vec(),
            sampled_vocab: Some(tokenizer.vocab_size()),
        }
    }

    fn request<'a>(&self, asked: &'a Asked) -> Request<'a> {
        let key = |slot| StreamKey { seed: self.seed, step: 0, prompt: asked.id as u64, slot };
        Request { prompt: &asked.ids, samples: (0..u64::from(self.samples)).map(key).collect() }
    }
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
    let settings = args.config(&tokenizer);
    if let Some(sampler) = &args.sampler {
        return served::run(args, globals, sampler, (&tokenizer, &asked), &settings);
    }
    let decoder = args.model.load_with_adapter(args.adapter.as_deref(), &globals.device()?, args.dtype)?;
    let decoder = decoder.for_sampling();
    let progress = globals.progress();
    let (total, mut printer) = (asked.len() * args.samples as usize, Printer::new(args, &tokenizer));
    let mut stage = progress.stage("sampling", total, "completions");
    let (began, mut tokens, mut before) = (Instant::now(), 0, 0);
    for asked in windows(&asked, WINDOW) {
        let asked = asked?;
        let requests: Vec<Request<'_>> = asked.iter().map(|asked| args.request(asked)).collect();
        let mut generation = Generation::new(&decoder, &requests, &settings)?;
        let mut places = asked.iter().flat_map(|asked| (0..args.samples).map(move |slot| (asked, slot)));
        before += generation.unfinished();
        while generation.advance()? {
            stage.set(before - generation.unfinished());
            while let Some(completion) = generation.next_finished()
                && let Some((asked, slot)) = places.next()
            {
                tokens += completion.tokens.len();
                stage.hidden(|| printer.print(asked, slot, &completion, None))?;
            }
        }
    }
    stage.finish();
    progress.say(&Throughput { completions: total, tokens, seconds: began.elapsed().as_secs_f64() }.told(args.json));
    Ok(())
}

/// How much was sampled in which time: the last line on standard error.
struct Throughput {
    completions: usize,
    tokens: usize,
    seconds: f64,
}

impl Throughput {
    fn told(&self, as_json: bool) -> String {
        let Self { completions, tokens, seconds } = *self;
        let rate = tokens as f64 / seconds.max(1e-9);
        if as_json {
            let told = serde_json::json!({
                "completions": completions, "tokens": tokens, "seconds": seconds, "tokens_per_second": rate,
            });
            return told.to_string();
        }
        format!("{completions} completions, {tokens} tokens in {seconds:.1} s ({rate:.1} tokens/s)")
    }
}
