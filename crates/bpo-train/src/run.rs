//! Online preference optimisation. Read [`Run::step`] first: it is the paper's Algorithm 1.
use std::time::Instant;

use bpo_annotate::{Annotator, Judgement};
use bpo_data::{Group, PromptRow, ReferenceRow, Tokenizer, packed};
use bpo_loss::{Objective, PairLogps};
use bpo_model::{Adapter, Decoder, WeightDtype, write_model};
use bpo_sampler::GenerateConfig;
use bpo_store::{Checkpoints, Journal, MetricsLog, RunDir};
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::{Map, Value, json};

use crate::{
    Drawn, Error, EvalPrompt, Evaluation, Evaluator, Gradients, Interval, LearningRate, Observer, Recipe, Reference,
    RefreshSchedule, Report, SamplePair, Scored, Stage, TrainPrompt, Trainable, backward, bootstrap_mean,
    collect::{self, AbstainQuota, Pair, Streams},
    dataset::{Prepared, prepare},
    evaluate::{longest, win_rate, wins_by_score},
    score::host,
    sequence_logps,
    state::{Behaviour, State},
    step_metrics::{Trained, describe_collection, peak_rss_mib, rounded},
};

/// What a run works on, read and ready.
pub struct Inputs {
    /// The frozen base (for full fine-tuning: the start).
    pub base: Decoder,
    /// What `base_model_name_or_path` shall say in the written adapter.
    pub base_name: String,
    /// An adapter to start from.
    pub adapter: Option<Adapter>,
    /// Text ↔ ids.
    pub tokenizer: Tokenizer,
    /// Prompts.
    pub prompts: Vec<PromptRow>,
    /// Held-out prompts with reference texts.
    pub references: Option<Vec<ReferenceRow>>,
    /// Who prefers.
    pub annotator: Box<dyn Annotator + Send>,
    /// Tokenizer files written beside a fully fine-tuned model: name and bytes.
    pub companions: Vec<(String, Vec<u8>)>,
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// All steps are done; the trained policy is in the run directory.
    Finished(Box<Report>),
    /// Stopped by the observer after this many steps; the same command goes on.
    Interrupted(u64),
}

/// Runs, or continues, what `recipe` says in `run`, and leaves the trained policy there.
///
/// # Errors
/// [`Error`]; whatever is durable in the run directory stays, and the same call goes on from it.
pub fn run(recipe: &Recipe, inputs: Inputs, dir: &RunDir, observer: &mut dyn Observer) -> Result<Outcome, Error> {
    recipe.validate()?;
    let mut run = Run::open(recipe, inputs, dir, observer)?;
    match run.complete(dir, observer) {
        Err(Error::Interrupted) => {
            run.state.save(&mut run.checkpoints)?;
            Ok(Outcome::Interrupted(run.state.step))
        }
        done => Ok(Outcome::Finished(Box::new(done?))),
    }
}

struct Run<'a> {
    recipe: &'a Recipe,
    base: Decoder,
    base_name: String,
    companions: Vec<(String, Vec<u8>)>,
    tokenizer: Tokenizer,
    annotator: Box<dyn Annotator + Send>,
    objective: Objective,
    schedule: RefreshSchedule,
    rate: LearningRate,
    order: bpo_data::PromptOrder,
    prompts: Vec<TrainPrompt>,
    eval: Vec<EvalPrompt>,
    total: u64,
    /// The policy before step 0.
    initial: Trainable,
    state: State,
    journal: Journal,
    checkpoints: Checkpoints,
    metrics: MetricsLog,
    quota: AbstainQuota,
}

impl<'a> Run<'a> {
    fn open(recipe: &'a Recipe, inputs: Inputs, dir: &RunDir, observer: &mut dyn Observer) -> Result<Self, Error> {
        let Inputs { base, base_name, adapter, tokenizer, prompts, references, annotator, companions } = inputs;
        let context = base.config().max_position_embeddings;
        let Prepared { train: prompts, eval, notes } = prepare(recipe, &tokenizer, context, prompts, references)?;
        notes.iter().for_each(|note| observer.note(note));
        let initial = match (recipe.use_peft, adapter) {
            (true, Some(mut adapter)) => {
                refuse_another_shape(recipe, &adapter)?;
                adapter.config.lora_dropout = recipe.lora_dropout;
                Trainable::Lora(adapter)
            }
            (true, None) => Trainable::Lora(Adapter::new(&base, recipe.lora(), recipe.seed)?),
            (false, _) => Trainable::Full(base.parameters()),
        };
        let total = recipe.steps(prompts.len());
        let schedule = RefreshSchedule::new(recipe.collection_phases, total);
        let mut checkpoints = dir.checkpoints()?;
        let latest = checkpoints.latest()?;
        for set in checkpoints.quarantined() {
            let path = set.path.display();
            observer.note(&format!("a damaged checkpoint (step {}) was set aside: {path}", set.step));
        }
        let start = State::new(initial.clone(), recipe.adamw());
        let state = match &latest {
            Some(checkpoint) => State::load(&start, checkpoint, recipe.adamw(), &base.device())?,
            None => start,
        };
        let journal = dir.journal()?;
        if state.step > 0 || !journal.is_empty() {
            observer.note(&format!("continuing after step {} of {total}", state.step));
        }
        observer.note(&describe(recipe, &initial, total, &schedule));
        let metrics = dir.metrics(latest.map(|checkpoint| checkpoint.step))?;
        Ok(Self {
            objective: recipe.objective()?,
            rate: recipe.rate(total),
            order: bpo_data::PromptOrder::new(prompts.len(), recipe.seed),
            recipe,
            base,
            base_name,
            companions,
            tokenizer,
            annotator,
            schedule,
            prompts,
            eval,
            total,
            initial,
            state,
            journal,
            checkpoints,
            metrics,
            quota: AbstainQuota::default(),
        })
    }

    /// All that is left: the steps between two evaluations.
    fn complete(&mut self, dir: &RunDir, observer: &mut dyn Observer) -> Result<Report, Error> {
        let before = self.evaluation(0, "eval/start", observer)?;
        while self.state.step < self.total {
            if observer.interrupted() {
                return Err(Error::Interrupted);
            }
            let metrics = self.step(observer)?;
            self.metrics.append(&Value::Object(metrics.clone()))?;
            observer.step(self.state.step, self.total, &metrics);
            if self.state.step.is_multiple_of(self.recipe.save_steps) || self.state.step == self.total {
                self.state.save(&mut self.checkpoints)?;
            }
        }
        let after = self.evaluation(self.total, "eval/end", observer)?;
        self.finish(dir, before, after)
    }

    /// Online BPO (Xu et al. 2024, arXiv:2406.12168, Algorithm 1). One step, one line per stage.
    fn step(&mut self, observer: &mut dyn Observer) -> Result<Map<String, Value>, Error> {
        let (step, started) = (self.state.step, Instant::now());
        if self.schedule.due(step) {
            self.state.behaviour = Behaviour { policy: self.state.policy.clone(), taken_at: step };
        }
        let order = self.order.at(step, self.recipe.prompts_per_step());
        let chosen: Vec<TrainPrompt> = order.into_iter().map(|index| self.prompts[index].clone()).collect();
        let prompts: Vec<&TrainPrompt> = chosen.iter().collect();
        let drawn = self.sampled(step, &prompts, observer)?;
        let sampled = started.elapsed();
        let judgements = self.judged(step, &prompts, &drawn, observer)?;
        let judged = started.elapsed();
        let (pairs, dropped) = collect::pairs(&prompts, &drawn, &judgements)?;
        let trained = self.train(step, &pairs, observer)?;
        let seconds =
            [sampled, judged - sampled, started.elapsed() - judged, started.elapsed()].map(|t| t.as_secs_f64());

        self.state.counters.pairs += pairs.len() as u64;
        for reason in &dropped {
            *self.state.counters.dropped.entry(reason.clone()).or_default() += 1;
        }
        self.state.step += 1;
        let mut metrics = Map::new();
        metrics.insert("step".into(), json!(self.state.step));
        metrics.insert("phase".into(), json!(self.schedule.phase(step)));
        metrics.insert("behaviour/taken_at".into(), json!(self.state.behaviour.taken_at));
        trained.describe(&mut metrics);
        describe_collection(&drawn, &judgements, pairs.len(), &mut metrics);
        for (name, seconds) in ["time/sample", "time/judge", "time/train", "time/step"].into_iter().zip(seconds) {
            metrics.insert(name.into(), json!(rounded(seconds)));
        }
        if let Some(mebibytes) = peak_rss_mib() {
            metrics.insert("memory/peak_rss_mib".into(), json!(mebibytes));
        }
        Ok(metrics)
    }

    fn sampled(
        &mut self,
        step: u64,
        prompts: &[&TrainPrompt],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Drawn>, Error> {
        let streams = Streams { seed: self.recipe.seed, step, slots: self.recipe.samples_per_prompt as u64 };
        let config = self.generate_config(self.recipe.temperature);
        let (behaviour, base, tokenizer) = (&self.state.behaviour.policy, &self.base, &self.tokenizer);
        let eval_batch = self.recipe.per_device_eval_batch_size;
        self.journal.once(step, "sampled", || {
            let policy = behaviour.model(base)?;
            let batch = (streams, eval_batch);
            collect::sample(&policy, tokenizer, prompts, &config, batch, (Stage::Sample, observer))
        })
    }

    fn judged(
        &mut self,
        step: u64,
        prompts: &[&TrainPrompt],
        drawn: &[Drawn],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Judgement>, Error> {
        let (annotator, penalty, quota) = (&mut self.annotator, self.recipe.missing_eos_penalty, &mut self.quota);
        self.journal.once(step, "judged", || {
            observer.begin(Stage::Judge, drawn.len() as u64);
            let judgements = collect::judge(annotator, prompts, drawn, penalty, observer)?;
            observer.end();
            quota.count(&judgements)?;
            Ok(judgements)
        })
    }

    /// Gradients over the step's pairs in micro-batches, then one update. The loss is the mean over all
    /// pairs of the step, however they are cut into micro-batches.
    fn train(&mut self, step: u64, pairs: &[Pair<'_>], observer: &mut dyn Observer) -> Result<Trained, Error> {
        let mut trained = Trained::at(self.rate.at(step));
        if pairs.is_empty() {
            return Ok(trained);
        }
        let refreshed = self.state.behaviour.taken_at == step && !self.state.policy.has_dropout();
        let mut gradients = Gradients::default();
        let size = self.recipe.per_device_train_batch_size;
        observer.begin(Stage::Train, pairs.len().div_ceil(size) as u64);
        for (index, micro) in pairs.chunks(size).enumerate() {
            if self.state.policy.has_dropout() {
                self.base.device().seed(mixed(self.recipe.seed, step, index as u64));
            }
            let batch = Batch::of(micro, self.tokenizer.pad_id().unwrap_or(0))?;
            let reference = self.reference(&batch)?; // ← the behaviour's own log-probs: this makes it BPO
            let (policy, leaves) = self.state.policy.tracked(&self.base)?;
            let mut losses = Losses::default();
            let (scored, mut grads) = backward(&policy, &batch.layout, |scored| {
                losses = self.losses(scored, &reference, pairs.len(), step, micro)?;
                Ok(losses.slopes.clone())
            })?;
            gradients.add(&leaves, &mut grads);
            let sampled = refreshed.then_some(batch.sampled.as_slice());
            trained.add(&scored, &reference, losses.total, self.objective.beta, sampled);
            observer.advance(index as u64 + 1);
        }
        observer.end();
        let updating = Instant::now();
        trained.grad_norm =
            self.state.update(&gradients, trained.rate).map_err(|what| non_finite(step, what, pairs))?;
        trained.optimizer_seconds = updating.elapsed().as_secs_f64();
        Ok(trained)
    }

    /// Σ log-probs of every sequence under the reference. The behaviour's came with the samples: no
    /// forward pass, no second model.
    fn reference(&self, batch: &Batch) -> Result<Vec<f32>, Error> {
        match self.recipe.reference {
            Reference::Behaviour => Ok(batch.sampled.clone()),
            Reference::Initial => Ok(sequence_logps(&self.initial.model(&self.base)?, &batch.layout)?.sums),
        }
    }

    /// The losses of a micro-batch and dL/d(Σ log-prob) of its sequences, L being the mean over `pairs`.
    fn losses(
        &self,
        scored: &Scored,
        reference: &[f32],
        pairs: usize,
        step: u64,
        micro: &[Pair<'_>],
    ) -> Result<Losses, Error> {
        let device = self.base.device().autodiff();
        let side = |values: &[f32], side: usize| -> Tensor<1> { vector(values.iter().skip(side).step_by(2), &device) };
        let lengths: Vec<f32> = scored.lengths.iter().map(|&length| length as f32).collect();
        let (chosen, rejected) = (side(&scored.sums, 0).require_grad(), side(&scored.sums, 1).require_grad());
        let policy =
            PairLogps::new(chosen.clone(), rejected.clone())?.with_lengths(side(&lengths, 0), side(&lengths, 1))?;
        let reference = PairLogps::new(side(reference, 0), side(reference, 1))?;
        let losses = self.objective.losses(&policy, &reference)?;
        let values = host(&losses.clone().inner())?;
        let gradients = (losses.sum() / pairs as f64).backward();
        let slope = |leaf: &Tensor<1>| leaf.grad(&gradients).map_or_else(|| Ok(vec![0.0; micro.len()]), |g| host(&g));
        let (chosen, rejected) = (slope(&chosen)?, slope(&rejected)?);
        let slopes: Vec<f32> =
            chosen.into_iter().zip(rejected).flat_map(|(chosen, rejected)| [chosen, rejected]).collect();
        if values.iter().chain(&slopes).any(|value| !value.is_finite()) || slopes.len() != scored.sums.len() {
            return Err(non_finite(step, "the loss", micro));
        }
        Ok(Losses { total: values.iter().map(|&loss| f64::from(loss)).sum(), slopes })
    }

    fn generate_config(&self, temperature: f64) -> GenerateConfig {
        GenerateConfig {
            max_new_tokens: self.recipe.max_new_tokens,
            sampling: self.recipe.sampling(temperature),
            eos_ids: self.tokenizer.eos_ids().to_vec(),
            sampled_vocab: Some(self.tokenizer.vocab_size()),
        }
    }

    fn evaluation(&mut self, step: u64, kind: &str, observer: &mut dyn Observer) -> Result<Evaluation, Error> {
        let evaluator = Evaluator {
            prompts: &self.eval,
            tokenizer: &self.tokenizer,
            generate: self.generate_config(self.recipe.eval_temperature),
            batch: self.recipe.per_device_eval_batch_size,
            seed: self.recipe.seed,
        };
        let (annotator, base, initial, policy) = (&mut self.annotator, &self.base, &self.initial, &self.state.policy);
        self.journal.once(step, kind, || {
            let start = initial.model(base)?;
            if step == 0 {
                return evaluator.evaluate(&start, None, annotator, observer);
            }
            evaluator.evaluate(&policy.model(base)?, Some(&start), annotator, observer)
        })
    }

    fn finish(&mut self, dir: &RunDir, before: Evaluation, after: Evaluation) -> Result<Report, Error> {
        let output = export(dir, &self.state.policy, &self.base, &self.base_name, &self.companions)?;
        let seed = self.recipe.seed;
        let (start, end): (Vec<&str>, Vec<&str>) = (before.texts().collect(), after.texts().collect());
        let prompts: Vec<&str> = self.eval.iter().map(|eval| eval.prompt.text.as_str()).collect();
        let wins: Vec<Option<f64>> = match (&after.scores, &before.scores) {
            (Some(ours), Some(theirs)) => wins_by_score(ours, theirs),
            _ => {
                self.journal.once(self.total, "eval/wins", || win_rate(&mut self.annotator, &prompts, &end, &start))?
            }
        };
        let both = |of: &dyn Fn(&Evaluation) -> Option<Interval>| Some([of(&before)?, of(&after)?]);
        let report = Report {
            steps: self.total,
            pairs: self.state.counters.pairs,
            dropped: self.state.counters.dropped.clone(),
            annotator: self.annotator.name(),
            eval_prompts: self.eval.len(),
            scores: both(&|evaluation| evaluation.mean_score(seed)),
            reference_win_rate: both(&|evaluation| evaluation.reference_win_rate(seed)),
            win_rate: bootstrap_mean(&wins.into_iter().flatten().collect::<Vec<_>>(), seed),
            kl: after.kl,
            length: [before.mean_length(), after.mean_length()],
            distinct: [before.distinct(), after.distinct()],
            samples: SamplePair::first(&prompts, &before, &after),
            output,
        };
        let value = serde_json::to_value(&report).map_err(|e| Error::Data(e.to_string()))?;
        dir.mark_finished(&value)?;
        Ok(report)
    }
}

/// Writes what was trained into the run: a PEFT folder `adapter/`, or a Hugging Face folder `model/` in
/// f32, training's own precision.
pub(crate) fn export(
    dir: &RunDir,
    policy: &Trainable,
    base: &Decoder,
    base_name: &str,
    companions: &[(String, Vec<u8>)],
) -> Result<String, Error> {
    let (folder, files): (&str, [(&str, Vec<u8>); 2]) = match policy {
        Trainable::Lora(adapter) => ("adapter", adapter.to_peft(base_name)?),
        Trainable::Full(_) => ("model", write_model(&policy.model(base)?, WeightDtype::F32)?),
    };
    for (name, bytes) in &files {
        dir.write(&format!("{folder}/{name}"), bytes)?;
    }
    if folder == "model" {
        for (name, bytes) in companions {
            dir.write(&format!("model/{name}"), bytes)?;
        }
    }
    Ok(folder.into())
}

/// Pairs laid out for scoring; sequence 2i is pair i's chosen completion, 2i + 1 its rejected one.
struct Batch {
    layout: bpo_data::Layout,
    /// Σ log-probs recorded while sampling, `[sequences]`.
    sampled: Vec<f32>,
}

impl Batch {
    fn of(pairs: &[Pair<'_>], pad: u32) -> Result<Self, Error> {
        let groups: Vec<Group<'_>> = pairs.iter().map(Pair::group).collect();
        let layout = packed(&groups, pad, longest(&groups))?;
        let sampled = pairs.iter().flat_map(|pair| [pair.chosen.logp(), pair.rejected.logp()]).collect();
        Ok(Self { layout, sampled })
    }
}

#[derive(Debug, Clone, Default)]
struct Losses {
    /// Σ over the micro-batch's pairs.
    total: f64,
    /// `[sequences]`.
    slopes: Vec<f32>,
}

/// An adapter to start from brings its own shape: LoRA keys that say otherwise would have no effect.
fn refuse_another_shape(recipe: &Recipe, adapter: &Adapter) -> Result<(), Error> {
    let (asked, default, has) = (recipe.lora(), Recipe::default().lora(), &adapter.config);
    let differs = [
        ("lora_r", asked.r != default.r && asked.r != has.r),
        ("lora_alpha", asked.lora_alpha != default.lora_alpha && asked.lora_alpha != has.lora_alpha),
        ("use_rslora", asked.use_rslora != default.use_rslora && asked.use_rslora != has.use_rslora),
        ("lora_target_modules", asked.target_modules != default.target_modules),
    ];
    match differs.into_iter().find(|(_, differs)| *differs) {
        Some((key, _)) => Err(Error::Recipe(format!("{key} has no effect: the adapter it starts from has its own"))),
        None => Ok(()),
    }
}

fn describe(recipe: &Recipe, initial: &Trainable, total: u64, schedule: &RefreshSchedule) -> String {
    let reference = match recipe.reference {
        Reference::Behaviour => "the behaviour policy (BPO)",
        Reference::Initial => "the initial policy (online DPO)",
    };
    format!(
        "{} loss, beta {}; reference: {reference}; {} collection phases in {total} steps; {} trainable parameters",
        recipe.loss_type,
        recipe.beta,
        schedule.phases(),
        initial.parameters().count()
    )
}

fn non_finite(step: u64, what: &str, pairs: &[Pair<'_>]) -> Error {
    let prompts = pairs.iter().map(|pair| pair.prompt.id).collect();
    Error::NonFinite { step, what: what.into(), prompts }
}

fn vector<'v>(values: impl Iterator<Item = &'v f32>, device: &Device) -> Tensor<1> {
    let values: Vec<f32> = values.copied().collect();
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}

/// One number of three (SplitMix64's finaliser).
pub(crate) fn mixed(seed: u64, step: u64, index: u64) -> u64 {
    let mut x = seed ^ step.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ index.wrapping_mul(0xD1B5_4A32_D192_ED03);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
