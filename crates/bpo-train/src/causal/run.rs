//! The run itself: texts in, a policy of higher value out.
use std::time::Instant;

use bpo_annotate::{Annotator, Item as Asked};
use bpo_data::{Layout, OutcomeRow, PromptOrder, ReferenceRow, Tokenizer};
use bpo_loss::ImportanceMetrics;
use bpo_model::{Adapter, Decoder, Parameters};
use bpo_sampler::{GenerateConfig, Sampling};
use bpo_store::{Checkpoints, Journal, MetricsLog, RunDir};
use serde_json::{Map, Value, json};

use super::{
    Item, joined, layout,
    losses::{Batch, Losses},
    split, start,
    texts::{Scale, Text, Texts, texts},
};
use crate::{
    CausalEstimator, CausalForm, CausalRecipe, Drawn, Error, EvalPrompt, Evaluation, Evaluator, Gradients, Interval,
    LearningRate, Observer, Outcome, Recipe, Report, Sample, SamplePair, Stage, TrainPrompt, Trainable, bootstrap_mean,
    collect::{self, Streams},
    evaluate::{win_rate, wins_by_score},
    run::{export, mixed},
    state::State,
    step_metrics::{peak_rss_mib, rounded},
};

/// What a causal run works on, read and ready.
pub struct CausalInputs {
    /// The frozen base (for full fine-tuning: the start).
    pub base: Decoder,
    /// What `base_model_name_or_path` shall say in the written adapter.
    pub base_name: String,
    /// An adapter to start from.
    pub adapter: Option<Adapter>,
    /// Text ↔ ids.
    pub tokenizer: Tokenizer,
    /// Texts with outcomes.
    pub rows: Vec<OutcomeRow>,
    /// Held-out prompts with reference texts.
    pub references: Option<Vec<ReferenceRow>>,
    /// Who scores in evaluation; with `dr` also ĝ.
    pub annotator: Box<dyn Annotator + Send>,
    /// Tokenizer files written beside a fully fine-tuned model: name and bytes.
    pub companions: Vec<(String, Vec<u8>)>,
}

/// Runs, or continues, causal preference optimisation in `dir`, and leaves the trained policy there.
///
/// # Errors
/// [`Error`]; whatever is durable in the run directory stays, and the same call goes on from it.
pub fn causal(
    recipe: &CausalRecipe,
    inputs: CausalInputs,
    dir: &RunDir,
    observer: &mut dyn Observer,
) -> Result<Outcome, Error> {
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

pub(super) struct Run<'a> {
    recipe: &'a CausalRecipe,
    shared: Recipe,
    base: Decoder,
    base_name: String,
    companions: Vec<(String, Vec<u8>)>,
    tokenizer: Tokenizer,
    annotator: Box<dyn Annotator + Send>,
    rate: LearningRate,
    order: PromptOrder,
    texts: Vec<Text>,
    /// Scores of the texts under the policy that wrote them (official: under the start).
    logging: Vec<f32>,
    scale: Scale,
    eval: Vec<EvalPrompt>,
    total: u64,
    /// The policy before step 0.
    initial: Trainable,
    state: State,
    journal: Journal,
    checkpoints: Checkpoints,
    metrics: MetricsLog,
}

impl<'a> Run<'a> {
    fn open(
        recipe: &'a CausalRecipe,
        inputs: CausalInputs,
        dir: &RunDir,
        observer: &mut dyn Observer,
    ) -> Result<Self, Error> {
        let CausalInputs { base, base_name, adapter, tokenizer, rows, references, mut annotator, companions } = inputs;
        let (shared, context) = (recipe.as_recipe(), base.config().max_position_embeddings);
        let Texts { train: mut texts, eval, notes } = texts(recipe, &tokenizer, context, &rows, references)?;
        notes.iter().for_each(|note| observer.note(note));
        let initial = start(recipe, &base, adapter)?;
        let mut checkpoints = dir.checkpoints()?;
        let latest = checkpoints.latest()?;
        for set in checkpoints.quarantined() {
            let path = set.path.display();
            observer.note(&format!("a damaged checkpoint (step {}) was set aside: {path}", set.step));
        }
        let mut fresh = State::new(initial.clone(), shared.adamw());
        fresh.behaviour.policy = initial.with_parameters(Parameters::new());
        let state = match &latest {
            Some(checkpoint) => State::load(&fresh, checkpoint, shared.adamw(), &base.device())?,
            None => fresh,
        };
        let mut journal = dir.journal()?;
        if recipe.causal_estimator == CausalEstimator::Dr {
            let all = texts.len();
            texts = predicted(texts, annotator.as_mut(), &mut journal)?;
            if texts.len() < all {
                observer.note(&format!("{} texts are left out: the outcome model has no score", all - texts.len()));
            }
        }
        let logging = journal.once(0, "logging", || logging(recipe, &base, &initial, &texts, &tokenizer, observer))?;
        let scale = Scale::of(&texts)?;
        let total = shared.steps(texts.len());
        observer.note(&describe(recipe, &texts, &scale, &initial, total));
        if state.step > 0 {
            observer.note(&format!("continuing after step {} of {total}", state.step));
        }
        let metrics = dir.metrics(latest.map(|checkpoint| checkpoint.step))?;
        Ok(Self {
            rate: shared.rate(total),
            order: PromptOrder::new(texts.len(), recipe.seed),
            recipe,
            shared,
            base,
            base_name,
            companions,
            tokenizer,
            annotator,
            texts,
            logging,
            scale,
            eval,
            total,
            initial,
            state,
            journal,
            checkpoints,
            metrics,
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

    /// One step up the estimated value: the next texts, with `dr` samples of their prompts, one update.
    fn step(&mut self, observer: &mut dyn Observer) -> Result<Map<String, Value>, Error> {
        let (step, started) = (self.state.step, Instant::now());
        let chosen = self.order.at(step, self.shared.prompts_per_step());
        let texts: Vec<(usize, Text)> = chosen.into_iter().map(|index| (index, self.texts[index].clone())).collect();
        let items = match self.recipe.causal_estimator {
            CausalEstimator::Ipw => texts.iter().map(|(index, text)| item(*index, text, Vec::new())).collect(),
            CausalEstimator::Dr => self.sampled(step, &texts, observer)?,
        };
        let sampled = started.elapsed().as_secs_f64();
        let mut metrics = Map::new();
        metrics.insert("step".into(), json!(step + 1));
        self.train(step, &items, &mut metrics, observer)?;
        self.describe_samples(&items, &mut metrics);
        metrics.insert("time/sample".into(), json!(rounded(sampled)));
        metrics.insert("time/step".into(), json!(rounded(started.elapsed().as_secs_f64())));
        if let Some(mebibytes) = peak_rss_mib() {
            metrics.insert("memory/peak_rss_mib".into(), json!(mebibytes));
        }
        self.state.counters.pairs += items.len() as u64;
        self.state.step += 1;
        Ok(metrics)
    }

    /// Completions of the texts' prompts with ĝ: from the policy (textbook), or one for good from the start (official).
    fn sampled<'t>(
        &mut self,
        step: u64,
        texts: &'t [(usize, Text)],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Item<'t>>, Error> {
        let (generator, stream) = match self.recipe.causal_form {
            CausalForm::Textbook => (&self.state.policy, step),
            CausalForm::Official => (&self.initial, 0),
        };
        let streams = Streams { seed: self.recipe.seed, step: stream, slots: self.recipe.samples_per_prompt as u64 };
        let prompts: Vec<&TrainPrompt> = texts.iter().map(|(_, text)| &text.prompt).collect();
        let config = generate_config(&self.shared, &self.tokenizer, Sampling::default());
        let (base, tokenizer, batch) = (&self.base, &self.tokenizer, self.recipe.per_device_eval_batch_size);
        let drawn: Vec<Drawn> = self.journal.once(step, "sampled", || {
            let model = generator.model(base)?;
            collect::sample(&model, tokenizer, &prompts, &config, (streams, batch), (Stage::Sample, observer))
        })?;
        let asked: Vec<Asked> = prompts
            .iter()
            .zip(&drawn)
            .flat_map(|(prompt, drawn)| drawn.samples.iter().map(|s| Asked::new(prompt.text.as_str(), s.text.as_str())))
            .collect();
        let annotator = &mut self.annotator;
        let scores = self.journal.once(step, "judged", || scored(annotator.as_mut(), &asked))?;
        let unscored = scores.iter().filter(|score| score.is_none()).count();
        if unscored > 0 {
            *self.state.counters.dropped.entry("no score".into()).or_default() += unscored as u64;
        }
        let mut scores = scores.into_iter();
        let pairs = |drawn: Drawn| -> Vec<(Sample, f64)> {
            drawn
                .samples
                .into_iter()
                .zip(scores.by_ref())
                .filter_map(|(sample, score)| Some((sample, score?)))
                .collect()
        };
        let samples: Vec<_> = drawn.into_iter().map(pairs).collect();
        let mut items: Vec<Item<'t>> =
            texts.iter().zip(samples).map(|((index, text), samples)| item(*index, text, samples)).collect();
        if self.recipe.causal_form == CausalForm::Official {
            items.retain(|item| !item.samples.is_empty());
        }
        match items.iter().map(|item| item.samples.len()).sum::<usize>() {
            0 => Err(Error::Abstentions { abstained: unscored, judged: unscored, reason: "no score".into() }),
            _ => Ok(items),
        }
    }

    /// Gradients over the step's texts in micro-batches, then one update. Estimates are over all of them together,
    /// however they are cut: with several micro-batches a pass without gradients comes first.
    fn train(
        &mut self,
        step: u64,
        items: &[Item<'_>],
        metrics: &mut Map<String, Value>,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let (form, pad) = (self.recipe.causal_form, self.tokenizer.pad_id().unwrap_or(0));
        let layouts: Vec<Layout> = items
            .chunks(self.recipe.per_device_train_batch_size)
            .map(|micro| layout(&micro.iter().map(Item::group).collect::<Vec<_>>(), pad))
            .collect::<Result<_, _>>()?;
        let batch = self.batch(items)?;
        let (mut evaluated, mut slopes) = (None, Vec::new());
        if layouts.len() > 1 {
            let mut scores = Vec::new();
            for (index, layout) in layouts.iter().enumerate() {
                self.seed_dropout(step, index);
                scores.extend(form.scores(&self.state.policy.tracked(&self.base)?.0, layout)?);
            }
            let (losses, texts) = self.losses(step, items, &batch, &scores)?;
            slopes = joined(items, &losses);
            evaluated = Some((losses.value, texts));
        }
        observer.begin(Stage::Train, layouts.len() as u64);
        let (mut gradients, mut at) = (Gradients::default(), 0);
        for (index, layout) in layouts.iter().enumerate() {
            self.seed_dropout(step, index);
            let (policy, leaves) = self.state.policy.tracked(&self.base)?;
            let mut found = form.backward(&policy, layout, |scores| {
                if evaluated.is_none() {
                    let (losses, texts) = self.losses(step, items, &batch, scores)?;
                    slopes = joined(items, &losses);
                    evaluated = Some((losses.value, texts));
                }
                Ok(slopes[at..at + scores.len()].to_vec())
            })?;
            gradients.add(&leaves, &mut found);
            at += layout.sequences;
            observer.advance(index as u64 + 1);
        }
        observer.end();
        let rate = self.rate.at(step);
        let norm = self.state.update(&gradients, rate).map_err(|what| non_finite(step, what, items))?;
        let (loss, texts) = evaluated.unwrap_or_default();
        metrics.insert("loss".into(), json!(loss));
        metrics.insert("grad_norm".into(), json!(norm));
        metrics.insert("learning_rate".into(), json!(rate));
        self.describe(items, &texts, &batch, metrics);
        Ok(())
    }

    fn seed_dropout(&self, step: u64, micro: usize) {
        if self.state.policy.has_dropout() {
            self.base.device().seed(mixed(self.recipe.seed, step, micro as u64));
        }
    }

    /// The losses at the policy's scores of all sequences of `items`, and the scores of the texts among them.
    fn losses(
        &self,
        step: u64,
        items: &[Item<'_>],
        batch: &Batch,
        scores: &[f32],
    ) -> Result<(Losses, Vec<f32>), Error> {
        let (texts, samples) = split(items, scores);
        let losses = batch.losses(self.recipe, (&texts, &samples), &self.base.device())?;
        let mut slopes = losses.texts.iter().chain(&losses.samples);
        if !losses.value.is_finite() || !slopes.all(|slope| slope.is_finite()) {
            return Err(non_finite(step, "the loss", items));
        }
        Ok((losses, texts))
    }

    /// What the losses read beside the policy's scores.
    fn batch(&self, items: &[Item<'_>]) -> Result<Batch, Error> {
        let predicted = items.iter().map(|item| item.text.predicted);
        let drawn = match (self.recipe.causal_form, self.recipe.causal_estimator) {
            (CausalForm::Official, CausalEstimator::Dr) => self.start_scores(items)?,
            _ => Vec::new(),
        };
        Ok(Batch {
            logging: items.iter().map(|item| self.logging[item.index]).collect(),
            outcomes: items.iter().map(|item| self.scaled(item.text.outcome)).collect(),
            predicted: predicted.map(|predicted| predicted.map_or(0.0, |predicted| self.scaled(predicted))).collect(),
            drawn,
            drawn_predicted: items.iter().flat_map(|item| &item.samples).map(|(_, g)| self.scaled(*g)).collect(),
            rows: self.texts.len(),
        })
    }

    /// The official form's scores of the samples under the start.
    fn start_scores(&self, items: &[Item<'_>]) -> Result<Vec<f32>, Error> {
        let pad = self.tokenizer.pad_id().unwrap_or(0);
        let model = self.initial.model(&self.base)?;
        let mut scores = Vec::new();
        for micro in items.chunks(self.recipe.per_device_train_batch_size) {
            let layout = layout(&micro.iter().map(Item::group).collect::<Vec<_>>(), pad)?;
            scores.extend(split(micro, &self.recipe.causal_form.scores(&model, &layout)?).1);
        }
        Ok(scores)
    }

    /// An outcome as the losses see it. The official form has its own sign.
    fn scaled(&self, outcome: f64) -> f32 {
        let value = if self.recipe.standardise_outcomes { self.scale.standardised(outcome) } else { outcome };
        let lowers = self.recipe.causal_form == CausalForm::Textbook && !self.recipe.higher_outcome_better;
        (if lowers { -value } else { value }) as f32
    }

    /// What the ratios amount to; outcomes in their own unit.
    fn describe(&self, items: &[Item<'_>], texts: &[f32], batch: &Batch, metrics: &mut Map<String, Value>) {
        let outcomes: Vec<f64> = items.iter().map(|item| item.text.outcome).collect();
        let importance = ImportanceMetrics::of(texts, &batch.logging, &outcomes);
        let mut insert = |name: &str, value: f64| drop(metrics.insert(name.into(), json!(value)));
        insert("causal/outcome_mean", outcomes.iter().sum::<f64>() / outcomes.len() as f64);
        insert("causal/value_self_normalised", importance.value_self_normalised);
        insert("causal/effective_samples", importance.effective_samples);
        // Scores of raw logits have no ratios of their own, only relative ones.
        if self.recipe.causal_form == CausalForm::Textbook {
            insert("causal/value_ipw", importance.value_ipw);
            insert("causal/max_ratio", importance.max_ratio);
        }
    }

    fn describe_samples(&self, items: &[Item<'_>], metrics: &mut Map<String, Value>) {
        let samples: Vec<&(Sample, f64)> = items.iter().flat_map(|item| &item.samples).collect();
        if samples.is_empty() {
            return;
        }
        let mean = |value: &dyn Fn(&(Sample, f64)) -> f64| {
            samples.iter().map(|sample| value(sample)).sum::<f64>() / samples.len() as f64
        };
        metrics.insert("objective/scores".into(), json!(mean(&|(_, score)| *score)));
        metrics.insert("collect/length".into(), json!(mean(&|(sample, _)| sample.tokens.len() as f64)));
        let distinct = collect::distinct(samples.iter().map(|(sample, _)| sample.text.as_str()));
        metrics.insert("collect/distinct".into(), json!(distinct));
    }

    fn evaluation(&mut self, step: u64, kind: &str, observer: &mut dyn Observer) -> Result<Evaluation, Error> {
        let sampling = self.shared.sampling(self.recipe.eval_temperature);
        let evaluator = Evaluator {
            prompts: &self.eval,
            tokenizer: &self.tokenizer,
            generate: generate_config(&self.shared, &self.tokenizer, sampling),
            batch: self.recipe.per_device_eval_batch_size,
            seed: self.recipe.seed,
        };
        let (annotator, base, initial, policy) = (&mut self.annotator, &self.base, &self.initial, &self.state.policy);
        self.journal.once(step, kind, || {
            let start = initial.model(base)?;
            if kind == "eval/start" {
                return evaluator.evaluate(&start, None, annotator, observer);
            }
            evaluator.evaluate(&policy.model(base)?, Some(&start), annotator, observer)
        })
    }

    fn finish(&mut self, dir: &RunDir, before: Evaluation, after: Evaluation) -> Result<Report, Error> {
        let output = export(dir, &self.state.policy, &self.base, &self.base_name, &self.companions)?;
        let seed = self.recipe.seed;
        let (old, new): (Vec<&str>, Vec<&str>) = (before.texts().collect(), after.texts().collect());
        let prompts: Vec<&str> = self.eval.iter().map(|eval| eval.prompt.text.as_str()).collect();
        let wins: Vec<Option<f64>> = match (&after.scores, &before.scores) {
            (Some(ours), Some(theirs)) => wins_by_score(ours, theirs),
            _ => self.journal.once(self.total, "eval/wins", || win_rate(&mut self.annotator, &prompts, &new, &old))?,
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

fn item(index: usize, text: &Text, samples: Vec<(Sample, f64)>) -> Item<'_> {
    Item { text, index, samples }
}

/// The texts with ĝ: of the row, else of the annotator. Those without either are left out.
fn predicted(mut texts: Vec<Text>, annotator: &mut dyn Annotator, journal: &mut Journal) -> Result<Vec<Text>, Error> {
    let asked: Vec<Asked> = texts
        .iter()
        .filter(|text| text.predicted.is_none())
        .map(|text| Asked::new(text.prompt.text.as_str(), text.written.as_str()))
        .collect();
    if !asked.is_empty() {
        let mut scores = journal.once(0, "predicted", || scored(annotator, &asked))?.into_iter();
        for text in texts.iter_mut().filter(|text| text.predicted.is_none()) {
            text.predicted = scores.next().flatten();
        }
    }
    texts.retain(|text| text.predicted.is_some());
    match texts.is_empty() {
        true => Err(Error::Data("the outcome model has no score for any text".into())),
        false => Ok(texts),
    }
}

fn scored(annotator: &mut dyn Annotator, asked: &[Asked]) -> Result<Vec<Option<f64>>, Error> {
    let scores = annotator.score(asked).transpose()?;
    let scores = scores.ok_or_else(|| {
        Error::Recipe("causal_estimator = \"dr\" needs an annotator that gives scores: it is the outcome model".into())
    })?;
    Ok(scores.into_iter().map(|score| score.is_finite().then_some(score)).collect())
}

/// Scores of the texts under the policy that wrote them: by the row where it says so, else under the start.
fn logging(
    recipe: &CausalRecipe,
    base: &Decoder,
    initial: &Trainable,
    texts: &[Text],
    tokenizer: &Tokenizer,
    observer: &mut dyn Observer,
) -> Result<Vec<f32>, Error> {
    let (model, size) = (initial.model(base)?, recipe.per_device_train_batch_size);
    let mut scores = Vec::with_capacity(texts.len());
    observer.begin(Stage::Train, texts.len().div_ceil(size) as u64);
    for micro in texts.chunks(size) {
        let groups: Vec<_> = micro.iter().map(Text::group).collect();
        scores.extend(recipe.causal_form.scores(&model, &layout(&groups, tokenizer.pad_id().unwrap_or(0))?)?);
        observer.advance((scores.len() / size) as u64);
    }
    observer.end();
    if recipe.causal_form == CausalForm::Textbook {
        for (score, text) in scores.iter_mut().zip(texts) {
            *score = text.logging_logp.map_or(*score, |logp| logp as f32);
        }
    }
    Ok(scores)
}

fn generate_config(shared: &Recipe, tokenizer: &Tokenizer, sampling: Sampling) -> GenerateConfig {
    GenerateConfig {
        max_new_tokens: shared.max_new_tokens,
        sampling,
        eos_ids: tokenizer.eos_ids().to_vec(),
        sampled_vocab: Some(tokenizer.vocab_size()),
    }
}

fn non_finite(step: u64, what: &str, items: &[Item<'_>]) -> Error {
    let prompts = items.iter().map(|item| item.text.prompt.id).collect();
    Error::NonFinite { step, what: what.into(), prompts }
}

fn describe(recipe: &CausalRecipe, texts: &[Text], scale: &Scale, initial: &Trainable, total: u64) -> String {
    let estimator = match recipe.causal_estimator {
        CausalEstimator::Ipw => "inverse propensity weighting",
        CausalEstimator::Dr => "doubly robust",
    };
    let form = match recipe.causal_form {
        CausalForm::Textbook => "textbook form",
        CausalForm::Official => "the authors' code's form",
    };
    format!(
        "{estimator}, {form}; {} texts, outcomes {:.3} ± {:.3}; {total} steps; {} trainable parameters",
        texts.len(),
        scale.mean,
        scale.deviation,
        initial.parameters().count()
    )
}
