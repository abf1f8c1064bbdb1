//! The run itself: texts in, a policy of higher value out.
use std::time::Instant;

use bpo_annotate::Annotator;
use bpo_data::{OutcomeRow, PromptOrder, ReferenceRow, Rows, Tokenizer};
use bpo_model::{Adapter, Decoder};
use bpo_store::{Checkpoints, Journal, MetricsLog, RowFile, RunDir};
use serde_json::{Map, Value, json};

use super::{
    Item,
    outcome_model::predicted,
    start,
    texts::{Scale, Text, Texts, texts},
};
use crate::{
    CausalEstimator, CausalForm, CausalRecipe, CollectionPhases, Error, EvalPrompt, LearningRate, Observer, Outcome,
    Recipe, RefreshSchedule, Report, Stage, Trainable,
    evaluate::pack,
    export::export,
    run::Evaluations,
    state::{Resumed, State},
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
    pub rows: Rows<OutcomeRow>,
    /// Held-out prompts with reference texts.
    pub references: Option<Rows<ReferenceRow>>,
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
    match run.complete(observer) {
        Err(Error::Interrupted) => {
            run.state.save(&mut run.checkpoints)?;
            Ok(Outcome::Interrupted(run.state.step))
        }
        // An annotator is asked before a step changes anything: what is saved is the end of the last one.
        Err(error @ (Error::Abstentions { .. } | Error::Annotator(_))) => {
            run.state.save(&mut run.checkpoints)?;
            Err(error)
        }
        done => Ok(Outcome::Finished(Box::new(done?))),
    }
}

pub(super) struct Run<'a> {
    pub(super) recipe: &'a CausalRecipe,
    pub(super) dir: &'a RunDir,
    pub(super) shared: Recipe,
    pub(super) base: Decoder,
    base_name: String,
    companions: Vec<(String, Vec<u8>)>,
    pub(super) tokenizer: Tokenizer,
    pub(super) annotator: Box<dyn Annotator + Send>,
    pub(super) rate: LearningRate,
    order: PromptOrder,
    pub(super) texts: RowFile<Text>,
    /// Scores of the texts under the policy that wrote them (official: under the start).
    pub(super) logging: Vec<f32>,
    pub(super) scale: Scale,
    eval: Vec<EvalPrompt>,
    total: u64,
    /// The policy before step 0.
    pub(super) initial: Trainable,
    pub(super) state: State,
    pub(super) journal: Journal,
    checkpoints: Checkpoints,
    metrics: MetricsLog,
}

impl<'a> Run<'a> {
    fn open(
        recipe: &'a CausalRecipe,
        inputs: CausalInputs,
        dir: &'a RunDir,
        observer: &mut dyn Observer,
    ) -> Result<Self, Error> {
        let CausalInputs { base, base_name, adapter, tokenizer, rows, references, mut annotator, companions } = inputs;
        let base = base.with_gradient_checkpointing(recipe.gradient_checkpointing);
        let (shared, context) = (recipe.as_recipe(), base.config().max_position_embeddings);
        let found = texts(recipe, &tokenizer, context, &rows, references.as_ref(), (Some(dir), &mut *observer))?;
        let Texts { train: mut texts, eval, notes } = found;
        notes.iter().for_each(|note| observer.note(note));
        let initial = start(recipe, &base, adapter)?;
        let start = State::solo(initial.clone(), shared.adamw());
        let Resumed { state, checkpoints, from } = start.resumed(dir, shared.adamw(), &base.device(), observer)?;
        let metrics = dir.metrics(from)?;
        let mut journal = dir.journal()?;
        if recipe.causal_estimator == CausalEstimator::Dr {
            let all = texts.len();
            texts = predicted(&texts, annotator.as_mut(), &mut journal, dir.rows())?;
            if texts.len() < all {
                observer.note(&format!("{} texts are left out: the outcome model has no score", all - texts.len()));
            }
        }
        let logging = journal.once(0, "logging", || logging(recipe, &base, &initial, &texts, &tokenizer, observer))?;
        let outcomes: Vec<f64> = texts.iter().map(|text| Ok(text?.outcome)).collect::<Result<_, Error>>()?;
        let scale = Scale::of(&outcomes)?;
        let total = shared.steps(texts.len());
        observer.note(&describe(recipe, texts.len(), &scale, &initial, total));
        if state.step > 0 {
            observer.note(&format!("continuing after step {} of {total}", state.step));
        }
        Ok(Self {
            rate: shared.rate(total),
            order: PromptOrder::new(texts.len(), recipe.seed),
            recipe,
            dir,
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

    /// All that is left: the steps, and the evaluations before, after and between them.
    fn complete(&mut self, observer: &mut dyn Observer) -> Result<Report, Error> {
        let before = self.evaluations().first(observer)?;
        while self.state.step < self.total {
            if observer.interrupted() {
                return Err(Error::Interrupted);
            }
            if self.evaluations().are_due() {
                self.evaluations().next(&before, observer)?;
            }
            let metrics = self.step(observer)?;
            self.metrics.append(&Value::Object(metrics.clone()))?;
            observer.step(self.state.step, self.total, &metrics);
            if self.state.step.is_multiple_of(self.recipe.save_steps) || self.state.step == self.total {
                self.state.save(&mut self.checkpoints)?;
            }
        }
        let (after, end) = self.evaluations().next(&before, observer)?;
        let curve = self.evaluations().curve(&before, end, observer)?;
        self.evaluations().record_contrast(&before, Vec::new())?;
        let output = export(self.dir, "", &self.policy()?, &self.base, &self.base_name, &self.companions)?;
        self.evaluations().report([&before, &after], curve, output)
    }

    fn evaluations(&mut self) -> Evaluations<'_> {
        Evaluations {
            recipe: &self.shared,
            schedule: RefreshSchedule::new(CollectionPhases::Count(1), self.total),
            dir: self.dir,
            base: &self.base,
            tokenizer: &self.tokenizer,
            annotator: self.annotator.as_mut(),
            journal: &mut self.journal,
            prompts: &self.eval,
            initial: &self.initial,
            state: &self.state,
            total: self.total,
        }
    }

    /// One step up the estimated value: the next texts, with `dr` samples of their prompts, one update.
    fn step(&mut self, observer: &mut dyn Observer) -> Result<Map<String, Value>, Error> {
        let (step, started) = (self.state.step, Instant::now());
        let chosen = self.order.at(step, self.shared.prompts_per_step());
        let text = |index| Ok((index, self.texts.get(index)?));
        let texts = chosen.into_iter().map(text).collect::<Result<Vec<(usize, Text)>, Error>>()?;
        let items = match self.recipe.causal_estimator {
            CausalEstimator::Ipw => {
                texts.iter().map(|(index, text)| Item { text, index: *index, samples: Vec::new() }).collect()
            }
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

    /// The trained policy.
    pub(super) fn policy(&self) -> Result<Trainable, Error> {
        Ok(self.state.ensemble.policy()?.policy)
    }
}

/// Scores of the texts under the policy that wrote them: by the row where it says so, else under the start.
fn logging(
    recipe: &CausalRecipe,
    base: &Decoder,
    initial: &Trainable,
    texts: &RowFile<Text>,
    tokenizer: &Tokenizer,
    observer: &mut dyn Observer,
) -> Result<Vec<f32>, Error> {
    let (model, size) = (initial.model(base)?, recipe.per_device_train_batch_size);
    let mut scores = Vec::with_capacity(texts.len());
    observer.begin(Stage::Train, texts.len().div_ceil(size) as u64);
    let mut all = texts.iter();
    loop {
        let micro: Vec<Text> = all.by_ref().take(size).collect::<Result<_, _>>()?;
        if micro.is_empty() {
            break;
        }
        let groups: Vec<_> = micro.iter().map(Text::group).collect();
        let layout = pack(base, &groups, tokenizer.pad_id().unwrap_or(0))?;
        for (text, score) in micro.iter().zip(recipe.causal_form.scores(&model, &layout)?) {
            let known = text.logging_logp.filter(|_| recipe.causal_form == CausalForm::Textbook);
            scores.push(known.map_or(score, |logp| logp as f32));
        }
        observer.advance((scores.len() / size) as u64);
    }
    observer.end();
    Ok(scores)
}

fn describe(recipe: &CausalRecipe, texts: usize, scale: &Scale, initial: &Trainable, total: u64) -> String {
    let estimator = match recipe.causal_estimator {
        CausalEstimator::Ipw => "inverse propensity weighting",
        CausalEstimator::Dr => "doubly robust",
    };
    let form = match recipe.causal_form {
        CausalForm::Textbook => "textbook form",
        CausalForm::Official => "the authors' code's form",
    };
    format!(
        "{estimator}, {form}; {texts} texts, outcomes {:.3} ± {:.3}; {total} steps; {} trainable parameters",
        scale.mean,
        scale.deviation,
        initial.parameters().count()
    )
}
