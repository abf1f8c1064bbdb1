//! Online preference optimisation. Read [`Run::step`] first: it is the paper's Algorithm 1.
use std::time::Instant;

use bpo_annotate::Annotator;
use bpo_data::{ReferenceRow, Tokenizer};
use bpo_model::{Adapter, Decoder, WeightDtype, write_model};
use bpo_sampler::{GenerateConfig, MemberRanks, PairSelection, StreamKey};
use bpo_store::{Checkpoints, Journal, MetricsLog, RunDir};
use serde_json::{Map, Value, json};

use crate::{
    CurvePoint, Drawn, Error, EvalPrompt, Evaluation, Evaluator, Interval, LearningRate, Observer, Recipe, Reference,
    RefreshSchedule, Report, SamplePair, Scored, Stage, TrainPrompt, TrainRows, Trainable, bootstrap_mean,
    choice::{Choice, Judge, Question},
    collect::{self, AbstainQuota, Collected, Pair, Streams, candidates},
    dataset::{Prepared, prepare},
    ensemble::{Ensemble, Member},
    evaluate::{win_rate, wins_by_score},
    prospect,
    replay::Replay,
    state::{Snapshot, State},
    step_metrics::{Trained, describe_collection, peak_rss_mib, rounded},
    update::{Batch, Criterion, Losses},
};

/// What a run works on, read and ready.
pub struct Inputs {
    /// The frozen base (for full fine-tuning: the start).
    pub base: Decoder,
    /// What `base_model_name_or_path` shall say in the written adapter.
    pub base_name: String,
    /// Adapters to start from, one for each member; none starts from new ones.
    pub adapters: Vec<Adapter>,
    /// Text ↔ ids.
    pub tokenizer: Tokenizer,
    /// Prompts or preference pairs.
    pub rows: TrainRows,
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
    criterion: Criterion,
    schedule: RefreshSchedule,
    rate: LearningRate,
    order: bpo_data::PromptOrder,
    prompts: Vec<TrainPrompt>,
    eval: Vec<EvalPrompt>,
    total: u64,
    /// The policy before step 0.
    initial: Trainable,
    state: State,
    replay: Replay,
    journal: Journal,
    checkpoints: Checkpoints,
    metrics: MetricsLog,
    quota: AbstainQuota,
}

impl<'a> Run<'a> {
    fn open(recipe: &'a Recipe, inputs: Inputs, dir: &RunDir, observer: &mut dyn Observer) -> Result<Self, Error> {
        let Inputs { base, base_name, adapters, tokenizer, rows, references, annotator, companions } = inputs;
        let context = base.config().max_position_embeddings;
        let Prepared { train: prompts, eval, notes } = prepare(recipe, &tokenizer, context, rows, references)?;
        notes.iter().for_each(|note| observer.note(note));
        let total = recipe.steps(prompts.len());
        let schedule = RefreshSchedule::new(recipe.collection_phases, total);
        let mut checkpoints = dir.checkpoints()?;
        let latest = checkpoints.latest()?;
        for set in checkpoints.quarantined() {
            let path = set.path.display();
            observer.note(&format!("a damaged checkpoint (step {}) was set aside: {path}", set.step));
        }
        let start = State::new(members(recipe, &base, adapters)?, recipe.reference.is_tracked())?;
        let initial = start.behaviour.policy.clone();
        let state = match &latest {
            Some(checkpoint) => start.restored(checkpoint, recipe.adamw(), &base.device())?,
            None => start,
        };
        let mut journal = dir.journal()?;
        if state.step > 0 || !journal.is_empty() {
            observer.note(&format!("continuing after step {} of {total}", state.step));
        }
        let criterion = recipe.criterion()?;
        let trainable = state.ensemble.members.iter().map(|member| member.policy.parameters().count()).sum();
        let slope = criterion.objective.slope_at_the_reference(&base.device())?;
        prospect::describe(recipe, &schedule, total, trainable, slope).iter().for_each(|line| observer.note(line));
        let replay = Replay::restored(recipe.regenerate_fraction, &schedule, &mut journal, state.step)?;
        let metrics = dir.metrics(latest.map(|checkpoint| checkpoint.step))?;
        Ok(Self {
            criterion,
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
            replay,
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
            if self.is_evaluated(self.state.step) {
                self.evaluation(self.state.step, "eval/between", observer)?;
            }
            let metrics = self.step(observer)?;
            self.metrics.append(&Value::Object(metrics.clone()))?;
            observer.step(self.state.step, self.total, &metrics);
            if self.state.step.is_multiple_of(self.recipe.save_steps) || self.state.step == self.total {
                self.state.save(&mut self.checkpoints)?;
            }
        }
        let after = self.evaluation(self.total, "eval/end", observer)?;
        self.finish(dir, before, after, observer)
    }

    /// Online BPO (Xu et al. 2024, arXiv:2406.12168, Algorithm 1). One step, one line per stage.
    fn step(&mut self, observer: &mut dyn Observer) -> Result<Map<String, Value>, Error> {
        let (step, started) = (self.state.step, Instant::now());
        self.refresh(step)?;
        let order = self.order.at(step, self.recipe.prompts_per_step());
        let chosen: Vec<TrainPrompt> = order.into_iter().map(|index| self.prompts[index].clone()).collect();
        let prompts: Vec<&TrainPrompt> = chosen.iter().collect();
        let asked: Vec<bool> = prompts.iter().map(|prompt| self.replay.wants(prompt)).collect();
        let wanted: Vec<&TrainPrompt> = prompts.iter().zip(&asked).filter(|(_, a)| **a).map(|(p, _)| *p).collect();
        let drawn = self.sampled(step, &wanted, observer)?;
        let sampled = started.elapsed();
        let choices = self.judged(step, &wanted, &drawn, observer)?;
        let judged = started.elapsed();
        let fresh = drawn.into_iter().zip(choices).map(|(drawn, choice)| Collected { drawn, choice, at: step });
        let collected = self.replay.completed(&prompts, &asked, fresh.collect());
        let (mut pairs, mut dropped) = collect::pairs(&prompts, &collected, self.recipe.selm_alpha.is_some())?;
        if pairs.len() < self.criterion.objective.min_pairs() {
            dropped.extend(pairs.drain(..).map(|_| "too few for the loss".to_string()));
        }
        let trained = self.train(step, &pairs, observer)?;
        let seconds =
            [sampled, judged - sampled, started.elapsed() - judged, started.elapsed()].map(|t| t.as_secs_f64());

        let counters = &mut self.state.counters;
        counters.pairs += pairs.len() as u64;
        counters.sampled +=
            collected.iter().filter(|c| c.at == step).map(|c| c.drawn.samples.len() as u64).sum::<u64>();
        for reason in &dropped {
            *counters.dropped.entry(reason.clone()).or_default() += 1;
        }
        self.state.step += 1;
        let mut metrics = Map::new();
        metrics.insert("step".into(), json!(self.state.step));
        metrics.insert("phase".into(), json!(self.schedule.phase(step)));
        metrics.insert("behaviour/taken_at".into(), json!(self.state.behaviour.taken_at));
        trained.describe(&mut metrics);
        self.describe_ensemble(&mut metrics)?;
        describe_collection(&collected, step, pairs.len(), &mut metrics);
        for (name, seconds) in ["time/sample", "time/judge", "time/train", "time/step"].into_iter().zip(seconds) {
            metrics.insert(name.into(), json!(rounded(seconds)));
        }
        if let Some(mebibytes) = peak_rss_mib() {
            metrics.insert("memory/peak_rss_mib".into(), json!(mebibytes));
        }
        Ok(metrics)
    }

    /// Behaviour ← policy when the schedule says so; and the reference, where it follows a rule of its own.
    fn refresh(&mut self, step: u64) -> Result<(), Error> {
        let refreshes = self.schedule.due(step);
        let moves = step > 0 && self.recipe.reference.moves_at(step, self.recipe.ref_model_sync_steps);
        if !refreshes && !moves {
            return Ok(());
        }
        let merged = self.state.ensemble.policy()?;
        let policy = Snapshot { policy: merged.policy, taken_at: step, merge_error: merged.error };
        if let Some(reference) = self.state.reference.as_mut().filter(|_| moves) {
            *reference = match self.recipe.reference {
                Reference::Ema => Snapshot {
                    policy: reference.policy.moved_towards(&policy.policy, self.recipe.ref_model_mixup_alpha),
                    ..policy.clone()
                },
                _ => policy.clone(),
            };
        }
        if refreshes {
            self.state.behaviour = policy;
            self.replay.begin_phase();
        }
        Ok(())
    }

    fn sampled(
        &mut self,
        step: u64,
        prompts: &[&TrainPrompt],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Drawn>, Error> {
        let recipe = self.recipe;
        if recipe.pairs.is_some() && recipe.selm_alpha.is_none() {
            return Ok(prompts.iter().map(|prompt| Drawn { prompt: prompt.id, samples: Vec::new() }).collect());
        }
        let slots = if recipe.pairs.is_some() { 0 } else { recipe.samples_per_prompt as u64 };
        let (greedy, config) = (self.generate_config(0.0), self.generate_config(recipe.temperature));
        let (behaviour, base, tokenizer) = (&self.state.behaviour.policy, &self.base, &self.tokenizer);
        let streams = |slots| (Streams { seed: recipe.seed, step, slots }, recipe.per_device_eval_batch_size);
        self.journal.once(step, "sampled", || {
            let policy = behaviour.model(base)?;
            let mut draw = |config: &GenerateConfig, slots| {
                collect::sample(&policy, tokenizer, prompts, config, streams(slots), (Stage::Sample, &mut *observer))
            };
            let mut drawn = if slots > 0 { draw(&config, slots)? } else { Vec::new() };
            if recipe.selm_alpha.is_some() {
                drawn = collect::joined(draw(&greedy, 1)?, drawn);
            }
            Ok(drawn)
        })
    }

    fn judged(
        &mut self,
        step: u64,
        prompts: &[&TrainPrompt],
        drawn: &[Drawn],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Choice>, Error> {
        let recipe = self.recipe;
        if recipe.pairs.is_some() && recipe.selm_alpha.is_none() {
            return Ok(vec![Choice::given(); drawn.len()]);
        }
        let selection = match recipe.selm_alpha {
            Some(_) => PairSelection::BestWorst,
            None => recipe.pair_selection,
        };
        let (annotator, quota, ensemble, base) =
            (&mut self.annotator, &mut self.quota, &self.state.ensemble, &self.base);
        let pad = self.tokenizer.pad_id().unwrap_or(0);
        self.journal.once(step, "judged", || {
            observer.begin(Stage::Judge, drawn.len() as u64);
            let members = match selection.needs_members() {
                true => ensemble.rewards(base, prompts, drawn, recipe.beta, pad)?.into_iter().map(Some).collect(),
                false => vec![None; drawn.len()],
            };
            let mut questions = Vec::with_capacity(drawn.len());
            for ((prompt, drawn), rewards) in prompts.iter().zip(drawn).zip(members) {
                questions.push(Question {
                    prompt,
                    candidates: candidates(prompt, drawn),
                    members: rewards.map(|rewards| MemberRanks::new(&rewards, recipe.ucb_gamma)).transpose()?,
                    key: StreamKey { seed: recipe.seed, step, prompt: prompt.id as u64, slot: PICKS },
                });
            }
            let mut judge = Judge {
                annotator: annotator.as_mut(),
                selection,
                ties: recipe.ties,
                missing_eos_penalty: recipe.missing_eos_penalty,
            };
            let choices = judge.judge(&questions, observer)?;
            observer.end();
            quota.count(&choices)?;
            Ok(choices)
        })
    }

    /// Gradients of every member over the step's pairs in micro-batches, then one update of each. The loss is the mean
    /// over all pairs of the step, however they are cut into micro-batches. Members share pairs and reference.
    fn train(&mut self, step: u64, pairs: &[Pair<'_>], observer: &mut dyn Observer) -> Result<Trained, Error> {
        let mut trained = Trained::at(self.rate.at(step));
        if pairs.is_empty() {
            return Ok(trained);
        }
        let members = &self.state.ensemble.members;
        let exact = members.len() == 1 && !members[0].policy.has_dropout() && self.state.behaviour.taken_at == step;
        let size = self.recipe.per_device_train_batch_size;
        let batches: Result<Vec<Batch<'_>>, Error> = pairs.chunks(size).map(|pairs| self.batch(pairs)).collect();
        let batches = batches?;
        observer.begin(Stage::Train, (batches.len() * members.len()) as u64);
        let (mut gradients, mut done) = (Vec::with_capacity(members.len()), 0);
        for (index, member) in members.iter().enumerate() {
            let seed = |batch: u64| mixed(self.recipe.seed, step, batch ^ ((index as u64) << 32));
            let each = |batch: &Batch<'_>, scored: &Scored, losses: &Losses| {
                if !losses.are_finite() {
                    return Err(non_finite(step, "the loss", batch.pairs));
                }
                let fresh = exact && batch.pairs.iter().all(|pair| pair.at == step);
                trained.add(index, scored, losses, self.recipe.beta, fresh.then(|| batch.sampled()).as_deref());
                trained.add_divergence(scored, &batch.reference);
                done += 1;
                observer.advance(done);
                Ok(())
            };
            gradients.push(self.criterion.backward(&member.policy, &self.base, &batches, seed, each)?);
        }
        observer.end();
        let updating = Instant::now();
        let norms =
            self.state.ensemble.update(&gradients, trained.rate).map_err(|what| non_finite(step, what, pairs))?;
        trained.grad_norm = norms.iter().sum::<f64>() / norms.len() as f64;
        trained.optimizer_seconds = updating.elapsed().as_secs_f64();
        Ok(trained)
    }

    /// Pairs with their reference's log-probs. The behaviour's came with the samples: no forward pass, no second model.
    fn batch<'p>(&self, pairs: &'p [Pair<'p>]) -> Result<Batch<'p>, Error> {
        let recorded = self.recipe.reference == Reference::Behaviour; // ← the behaviour's own: this makes it BPO
        let reference = match (&self.state.reference, self.recipe.reference) {
            (Some(tracked), _) => &tracked.policy,
            (None, Reference::Initial) => &self.initial,
            (None, _) => &self.state.behaviour.policy,
        };
        let pad = self.tokenizer.pad_id().unwrap_or(0);
        Batch::new(pairs, pad, recorded, || Ok(reference.model(&self.base)?))
    }

    fn describe_ensemble(&self, metrics: &mut Map<String, Value>) -> Result<(), Error> {
        if let Some(reference) = &self.state.reference {
            metrics.insert("reference/taken_at".into(), json!(reference.taken_at));
        }
        if let Some(spread) = self.state.ensemble.spread()? {
            metrics.insert("ensemble/spread".into(), json!(spread));
        }
        if self.state.ensemble.members.len() > 1 {
            metrics.insert("ensemble/merge_error".into(), json!(self.state.behaviour.merge_error));
        }
        Ok(())
    }

    fn generate_config(&self, temperature: f64) -> GenerateConfig {
        GenerateConfig {
            max_new_tokens: self.recipe.max_new_tokens,
            sampling: self.recipe.sampling(temperature),
            eos_ids: self.tokenizer.eos_ids().to_vec(),
            sampled_vocab: Some(self.tokenizer.vocab_size()),
        }
    }

    /// Whether the policy is evaluated after `step` steps, between start and end.
    fn is_evaluated(&self, step: u64) -> bool {
        let every = self.recipe.eval_steps;
        every > 0 && step > 0 && step < self.total && step.is_multiple_of(every)
    }

    fn evaluation(&mut self, step: u64, kind: &str, observer: &mut dyn Observer) -> Result<Evaluation, Error> {
        let evaluator = Evaluator {
            prompts: &self.eval,
            tokenizer: &self.tokenizer,
            generate: self.generate_config(self.recipe.eval_temperature),
            batch: self.recipe.per_device_eval_batch_size,
            seed: self.recipe.seed,
        };
        let (annotator, base, initial) = (&mut self.annotator, &self.base, &self.initial);
        let ensemble = &self.state.ensemble;
        self.journal.once(step, kind, || {
            let start = initial.model(base)?;
            if step == 0 {
                return evaluator.evaluate(&start, None, annotator, observer);
            }
            evaluator.evaluate(&ensemble.policy()?.policy.model(base)?, Some(&start), annotator, observer)
        })
    }

    /// Wins of an evaluation over the start.
    fn wins(&mut self, step: u64, before: &Evaluation, after: &Evaluation) -> Result<Option<Interval>, Error> {
        let wins: Vec<Option<f64>> = match (&after.scores, &before.scores) {
            (Some(ours), Some(theirs)) => wins_by_score(ours, theirs),
            _ => {
                let prompts: Vec<&str> = self.eval.iter().map(|eval| eval.prompt.text.as_str()).collect();
                let (start, end): (Vec<&str>, Vec<&str>) = (before.texts().collect(), after.texts().collect());
                self.journal.once(step, "eval/wins", || win_rate(&mut self.annotator, &prompts, &end, &start))?
            }
        };
        Ok(bootstrap_mean(&wins.into_iter().flatten().collect::<Vec<_>>(), self.recipe.seed))
    }

    /// All evaluations of the run, in order.
    fn curve(
        &mut self,
        before: &Evaluation,
        after: &Evaluation,
        observer: &mut dyn Observer,
    ) -> Result<Vec<CurvePoint>, Error> {
        let seed = self.recipe.seed;
        let mut curve = vec![CurvePoint::of(0, before, None, seed)];
        for step in (1..self.total).filter(|&step| self.is_evaluated(step)).collect::<Vec<_>>() {
            // Recorded when it was made.
            let between = self.evaluation(step, "eval/between", observer)?;
            let wins = self.wins(step, before, &between)?;
            curve.push(CurvePoint::of(step, &between, wins, seed));
        }
        let wins = self.wins(self.total, before, after)?;
        curve.push(CurvePoint::of(self.total, after, wins, seed));
        Ok(curve)
    }

    fn finish(
        &mut self,
        dir: &RunDir,
        before: Evaluation,
        after: Evaluation,
        observer: &mut dyn Observer,
    ) -> Result<Report, Error> {
        let curve = self.curve(&before, &after, observer)?;
        let policy = self.state.ensemble.policy()?.policy;
        let output = export(dir, "", &policy, &self.base, &self.base_name, &self.companions)?;
        if self.state.ensemble.members.len() > 1 {
            for (index, member) in self.state.ensemble.members.iter().enumerate() {
                let folder = format!("members/{index}/");
                export(dir, &folder, &member.policy, &self.base, &self.base_name, &self.companions)?;
            }
        }
        let prompts: Vec<&str> = self.eval.iter().map(|eval| eval.prompt.text.as_str()).collect();
        let samples = SamplePair::first(&prompts, &before, &after);
        let report = Report::of(&self.state.counters, self.annotator.name(), self.eval.len(), curve, samples, output);
        let value = serde_json::to_value(&report).map_err(|e| Error::Data(e.to_string()))?;
        dir.mark_finished(&value)?;
        Ok(report)
    }
}

/// Slot of the random stream that picks pairs: none that samples.
const PICKS: u64 = u64::MAX;

/// The members before step 0: from the given adapters, or new ones with a seed each.
fn members(recipe: &Recipe, base: &Decoder, adapters: Vec<Adapter>) -> Result<Ensemble, Error> {
    let member = |policy| Member::new(policy, recipe.adamw());
    let given = adapters.len();
    if given > 0 && given != recipe.ensemble_size {
        let size = recipe.ensemble_size;
        return Err(Error::Recipe(format!(
            "ensemble_size = {size}, but {given} adapters to start from: members that start equal stay equal"
        )));
    }
    let policies: Result<Vec<Trainable>, Error> = if !recipe.use_peft {
        Ok(vec![Trainable::Full(base.parameters())])
    } else if given > 0 {
        adapters.into_iter().map(|adapter| started_from(recipe, adapter)).collect()
    } else {
        let seed = |index: u64| if index == 0 { recipe.seed } else { mixed(recipe.seed, u64::MAX, index) };
        let adapter = |index| Ok(Trainable::Lora(Adapter::new(base, recipe.lora(), seed(index))?));
        (0..recipe.ensemble_size as u64).map(adapter).collect()
    };
    Ok(Ensemble::new(policies?.into_iter().map(member).collect(), recipe.ensemble_merge))
}

fn started_from(recipe: &Recipe, mut adapter: Adapter) -> Result<Trainable, Error> {
    refuse_another_shape(recipe, &adapter)?;
    adapter.config.lora_dropout = recipe.lora_dropout;
    Ok(Trainable::Lora(adapter))
}

/// Writes what was trained into the run, below `inside`: a PEFT folder `adapter/`, or a Hugging Face folder `model/` in
/// f32, training's own precision.
pub(crate) fn export(
    dir: &RunDir,
    inside: &str,
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
        dir.write(&format!("{inside}{folder}/{name}"), bytes)?;
    }
    if folder == "model" {
        for (name, bytes) in companions {
            dir.write(&format!("{inside}model/{name}"), bytes)?;
        }
    }
    Ok(folder.into())
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

fn non_finite(step: u64, what: &str, pairs: &[Pair<'_>]) -> Error {
    let prompts = pairs.iter().map(|pair| pair.prompt.id).collect();
    Error::NonFinite { step, what: what.into(), prompts }
}

/// One number of three (SplitMix64's finaliser).
pub(crate) fn mixed(seed: u64, step: u64, index: u64) -> u64 {
    let mut x = seed ^ step.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ index.wrapping_mul(0xD1B5_4A32_D192_ED03);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
