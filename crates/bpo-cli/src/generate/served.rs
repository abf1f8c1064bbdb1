//! `bpo generate --sampler`: a server samples, the model scores.
use std::time::Instant;

use bpo_data::Tokenizer;
use bpo_model::Adapter;
use bpo_sampler::{Completion, FinishReason, GenerateConfig};
use bpo_service::Format;
use bpo_store::RowFile;
use bpo_train::{Observer, Remote, Sample, Stage, Trainable};
use serde_json::{Map, Value};

use super::{Asked, GenerateArgs, Printer, Throughput, prompts::windows};
use crate::{args::Globals, failure::Failure, progress::Progress, sampler};

/// Samples at the server, `--batch-size` prompts at a time, and prints.
pub fn run(
    args: &GenerateArgs,
    globals: &Globals,
    named: &str,
    (tokenizer, asked): (&Tokenizer, &RowFile<Asked>),
    settings: &GenerateConfig,
) -> Result<(), Failure> {
    let config = sampler::parse_flag(named)?;
    // llama.cpp's server has the adapters that it was started with, and a request says which act.
    let names_one = config.format == Format::LlamaCpp && config.extra_body.contains_key("lora");
    if args.adapter.is_some() && !config.publishes() && !names_one {
        return Err(Failure::usage(
            "--adapter: the server has to load it too; set `publish_dir` of --sampler where it can (format vllm, sglang, \
             transformers), or start llama.cpp's server with --lora and name it: `extra_body = { lora = [{ id = 0, scale \
             = 1.0 }] }`",
        ));
    }
    let mut remote = Remote::new(sampler::build(&config, &args.model)?);
    let device = globals.device()?;
    let decoder = args.model.load_with_adapter(args.adapter.as_deref(), &device, args.dtype)?;
    if let Some(adapter) = args.adapter.as_ref().filter(|_| config.publishes()) {
        let adapter = Trainable::Lora(Adapter::from_dir(adapter, &device)?);
        remote.follow(&adapter, 0, &args.model.base_name())?;
    }
    let progress = globals.progress();
    progress.say(&format!("sampler: {}", remote.sampler().name()));
    let mut printer = Printer::new(args, tokenizer);
    let (began, mut tokens, mut notes) = (Instant::now(), 0, Notes(&progress));
    for asked in windows(asked, args.batch_size as usize) {
        let asked = asked?;
        let ids: Vec<&[u32]> = asked.iter().map(|asked| asked.ids.as_slice()).collect();
        let seeds: Vec<Vec<u32>> = asked
            .iter()
            .map(|asked| args.request(asked).samples.into_iter().map(|key| key.seed31()).collect())
            .collect();
        let sampled = remote.completions(&decoder, tokenizer, (&ids, &seeds), settings, (Stage::Sample, &mut notes))?;
        for (asked, samples) in asked.iter().zip(sampled) {
            for (slot, sample) in samples.into_iter().enumerate() {
                tokens += sample.tokens.len();
                let Sample { tokens, logps, eos, origin, .. } = sample;
                let finish = if eos { FinishReason::Eos } else { FinishReason::Length };
                printer.print(asked, slot as u32, &Completion { tokens, logps, finish }, origin)?;
            }
        }
    }
    let completions = asked.len() * args.samples as usize;
    progress.say(&Throughput { completions, tokens, seconds: began.elapsed().as_secs_f64() }.told(args.json));
    Ok(())
}

/// What is worth a line, and nothing else.
struct Notes<'a>(&'a Progress);

impl Observer for Notes<'_> {
    fn begin(&mut self, _: Stage, _: u64) {}
    fn advance(&mut self, _: u64) {}
    fn end(&mut self) {}
    fn step(&mut self, _: u64, _: u64, _: &Map<String, Value>) {}
    fn note(&mut self, line: &str) {
        self.0.say(line);
    }
}
