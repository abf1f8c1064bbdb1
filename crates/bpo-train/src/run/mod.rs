//! Online preference optimisation. Read [`Run::step`] first: it is the paper's Algorithm 1.
mod contrast;
mod ending;
mod evaluations;
mod gather;

use std::time::Instant;

use bpo_annotate::{AbstainQuota, Annotator};
use bpo_data::{ReferenceRow, Rows, Tokenizer};
use bpo_model::{Adapter, Decoder};
use bpo_store::{Checkpoints, Journal, MetricsLog, RowFile, RunDir};
use serde_json::{Map, Value, json};

use crate::{
    Error, EvalPrompt, LearningRate, Observer, Recipe, Reference, RefreshSchedule, Report, Scored, Stage, TrainPrompt,
    TrainRows, Trainable,
    collect::{self, Collected, Pair},
    dataset::{Prepared, prepare},
    ensemble::{Ensemble, Member},
    numerics::{self, not_finite},
    prospect,
    remote::Remote,
    replay::Replay,
    state::{Resumed, Snapshot, State},
    step_metrics::{Clock, Trained, describe_collection, peak_rss_mib},
    update::{Batch, Criterion, Losses},
};

pub(crate) use evaluations::Evaluations;

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
    pub references: Option<Rows<ReferenceRow>>,
    /// Who prefers.
    pub annotator: Box<dyn Annotator + Send>,
    /// Who samples, where that is a server.
    pub sampler: Option<bpo_service::Sampler>,
    /// Tokenizer files written beside a fully fine-tuned model: name and bytes.
    pub companions: Vec<(String, Vec<u8>)>,
}

/// How a run ended; `R` is what it came to.
#[derive(Debug)]
pub enum Outcome<R = Report> {
    /// All steps are done; the result is in the run directory.
    Finished(Box<R>),
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
    match run.complete(observer) {
        Err(Error::Interrupted) => {
            run.state.save(&mut run.checkpoints)?;
            Ok(Outcome::Interrupted(run.state.step))
        }
        // An annotator or a server that is mended later finds every step that was done before it failed.
        Err(error @ (Error::Abstentions { .. } | Error::Annotator(_) | Error::Service(_) | Error::Gap { .. })) => {
            run.state.save(&mut run.checkpoints)?;
            Err(error)
        }
        done => Ok(Outcome::Finished(Box::new(done?))),
    }
}

struct Run<'a> {
    recipe: &'a Recipe,
    dir: &'a RunDir,
    base: Decoder,
    base_name: String,
    companions: Vec<(String, Vec<u8>)>,
    tokenizer: Tokenizer,
    annotator: Box<dyn Annotator + Send>,
    remote: Option<Remote>,
    criterion: Criterion,
    schedule: RefreshSchedule,
    rate: LearningRate,
    order: bpo_data::PromptOrder,
    prompts: RowFile<TrainPrompt>,
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
    fn open(recipe: &'a Recipe, inputs: Inputs, dir: &'a RunDir, observer: &mut dyn Observer) -> Result<Self, Error> {
        let Inputs { base, base_name, adapters, tokenizer, rows, references, mut annotator, sampler, companions } =
            inputs;
        let base = base.with_gradient_checkpointing(recipe.gradient_checkpointing);
        let context = base.config().max_position_embeddings;
        let prepared = prepare(recipe, &tokenizer, context, rows, references.as_ref(), dir.rows(), observer)?;
        let Prepared { train: mut prompts, eval, mut notes } = prepared;
        let remote = sampler.map(Remote::new);
        if let Some(remote) = &remote {
            let (readable, note) = remote.readable(&tokenizer, prompts, dir.rows())?;
            prompts = readable;
            notes.extend(note);
        }
        if prompts.is_empty() {
            return Err(Error::Data("no prompt is left that a server can be sent as text".into()));
        }
        notes.iter().for_each(|note| observer.note(note));
        let total = recipe.steps(prompts.len());
        let schedule = RefreshSchedule::new(recipe.collection_phases, total);
        let start = State::new(members(recipe, &base, adapters)?, recipe.reference.is_tracked())?;
        let initial = start.behaviour.policy.clone();
        let Resumed { state, checkpoints, from } = start.resumed(dir, recipe.adamw(), &base.device(), observer)?;
        let mut journal = dir.journal()?;
        collect::check_reach(&journal, state.step, dir.path(), recipe.records_steps())?;
        if state.step > 0 || !journal.is_empty() {
            observer.note(&format!("continuing after step {} of {total}", state.step));
        }
        recipe.check_annotator(annotator.score(&[]).is_some())?;
        let criterion = recipe.criterion()?;
        let trainable = state.ensemble.members.iter().map(|member| member.policy.parameters().count()).sum();
        let slope = criterion.objective.slope_at_the_reference(&base.device())?;
        prospect::describe(recipe, &schedule, total, trainable, slope).iter().for_each(|line| observer.note(line));
        let replay = Replay::restored(recipe.regenerate_fraction, &schedule, &mut journal, state.step)?;
        let quota = collect::restored_quota(&mut journal, state.step)?;
        let metrics = dir.metrics(from)?;
        Ok(Self {
            criterion,
            rate: recipe.rate(total),
            order: bpo_data::PromptOrder::new(prompts.len(), recipe.seed),
            recipe,
            dir,
            base,
            base_name,
            companions,
            tokenizer,
            annotator,
            remote,
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
            quota,
        })
    }

    /// All that is left: the steps between two evaluations.
    fn complete(&mut self, observer: &mut dyn Observer) -> Result<Report, Error> {
        let before = self.evaluations().first(observer)?;
        while self.state.step < self.total {
            if observer.interrupted() {
                return Err(Error::Interrupted);
            }
            if self.evaluations().are_due() {
                self.evaluations().next(&before, observer)?;
            }
            let metrics = self.whole_step(observer)?;
            self.metrics.append(&Value::Object(metrics.clone()))?;
            observer.step(self.state.step, self.total, &metrics);
            if self.state.step.is_multiple_of(self.recipe.save_steps) || self.state.step == self.total {
                self.state.save(&mut self.checkpoints)?;
            }
        }
        let end = self.evaluations().next(&before, observer)?;
        self.finish(before, end, observer)
    }

    /// A step, or the state before it: one that is interrupted, or whose annotator fails, is resumed from its beginning,
    /// its records being kept. What it changes up to the last place where that can happen are the snapshots; the policy
    /// and its optimiser, which are larger, are not held a second time.
    fn whole_step(&mut self, observer: &mut dyn Observer) -> Result<Map<String, Value>, Error> {
        let before = (self.state.behaviour.clone(), self.state.reference.clone());
        let done = self.step(observer);
        if done.is_err() {
            (self.state.behaviour, self.state.reference) = before;
        }
        done
    }

    /// Online BPO (Xu et al. 2024, arXiv:2406.12168, Algorithm 1). One step, one line per stage.
    fn step(&mut self, observer: &mut dyn Observer) -> Result<Map<String, Value>, Error> {
        let (step, mut clock) = (self.state.step, Clock::default());
        self.refresh(step)?; // behaviour ← policy, when the schedule says so
        let prompts = self.prompts_at(step)?;
        let collected = self.collected(step, &prompts, &mut clock, observer)?; // sampled, judged, journalled
        let (pairs, dropped) = self.pairs(&prompts, &collected)?;
        pairs.first().into_iter().for_each(|pair| observer.pair(step, pair.shown()));
        let trained = self.train(step, &pairs, observer)?; // against the reference; one update
        clock.lap("time/train");
        self.state.counters.count(&collected, step, pairs.len(), dropped);
        self.state.step += 1;
        self.describe(step, &trained, &collected, &pairs, clock)
    }

    fn prompts_at(&self, step: u64) -> Result<Vec<TrainPrompt>, Error> {
        let order = self.order.at(step, self.recipe.prompts_per_step());
        Ok(self.prompts.some(order)?)
    }

    /// The step's preferences, and why other pairs are none.
    fn pairs<'p>(
        &self,
        prompts: &'p [TrainPrompt],
        collected: &'p [Collected],
    ) -> Result<(Vec<Pair<'p>>, Vec<String>), Error> {
        let (mut pairs, mut dropped) = collect::pairs(prompts, collected, self.recipe.selm_alpha.is_some())?;
        if pairs.len() < self.criterion.objective.min_pairs() {
            dropped.extend(pairs.drain(..).map(|_| "too few for the loss".to_string()));
        }
        Ok((pairs, dropped))
    }

    fn describe(
        &self,
        step: u64,
        trained: &Trained,
        collected: &[Collected],
        pairs: &[Pair<'_>],
        clock: Clock,
    ) -> Result<Map<String, Value>, Error> {
        let mut metrics = Map::new();
        metrics.insert("step".into(), json!(step + 1));
        metrics.insert("phase".into(), json!(self.schedule.phase(step)));
        metrics.insert("behaviour/taken_at".into(), json!(self.state.behaviour.taken_at));
        trained.describe(&mut metrics);
        self.describe_ensemble(&mut metrics)?;
        describe_collection(collected, step, pairs, &mut metrics);
        clock.describe(&mut metrics);
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
                if let Some((what, rows)) = numerics::found(batch.pairs, scored, &batch.reference, losses) {
                    return Err(not_finite(self.dir, step, what, rows));
                }
                let fresh = exact && batch.pairs.iter().all(|pair| pair.at == step);
                trained.add(index, scored, losses, self.recipe.beta, batch.sampled.as_deref().filter(|_| fresh));
                trained.add_divergence(scored, &batch.reference);
                done += 1;
                observer.advance(done);
                Ok(())
            };
            gradients.push(self.criterion.backward(&member.policy, &self.base, &batches, seed, each)?);
        }
        observer.end();
        let updating = Instant::now();
        let updated = self.state.ensemble.update(&gradients, trained.rate);
        let norms = updated.map_err(|what| not_finite(self.dir, step, what, numerics::of_pairs(pairs)))?;
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
        Batch::new(pairs, pad, recorded, &self.base, || Ok(reference.model(&self.base)?))
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
}

/// The members before step 0: from the given adapters, or new ones with a seed each.
pub(crate) fn members(recipe: &Recipe, base: &Decoder, adapters: Vec<Adapter>) -> Result<Ensemble, Error> {
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

/// One number of three (SplitMix64's finaliser).
pub(crate) fn mixed(seed: u64, step: u64, index: u64) -> u64 {
    let mut x = seed ^ step.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ index.wrapping_mul(0xD1B5_4A32_D192_ED03);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
