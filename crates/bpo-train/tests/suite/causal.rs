//! Causal preference optimisation on the tiny model: learning, resuming, micro-batches, refusals.
use std::path::Path;

use bpo_annotate::{Annotator, Comparison, Item, Judgement, Scored, Verdict, scorer_from};
use bpo_data::{OutcomeRow, Prompt, Rows};
use bpo_store::RunDir;
use bpo_train::{CausalEstimator, CausalForm, CausalInputs, CausalRecipe, Error, Outcome, Report, Silent, causal};
use serde_json::{Value, json};

use crate::{
    runs::{Until, metrics, trained},
    tiny::{annotator, edit, model, tokenizer},
};

/// Texts of pseudo-random words; the outcome counts the `w0` among them.
fn outcomes(with_prompts: bool) -> impl Iterator<Item = OutcomeRow> {
    let row = move |id: usize| {
        let words: Vec<String> = (0..5).map(|k| format!("w{}", (id * (k + 3) + k * k) % 7)).collect();
        OutcomeRow {
            line: id + 1,
            prompt: with_prompts.then(|| Prompt::Text(format!("w{} w{}", id % 19, id / 3))),
            completion: words.join(" "),
            outcome: words.iter().filter(|word| *word == "w0").count() as f64,
            predicted_outcome: None,
            logging_logp: None,
        }
    };
    (0..48).map(row)
}

fn rows(with_prompts: bool) -> Rows<OutcomeRow> {
    outcomes(with_prompts).collect()
}

fn inputs() -> CausalInputs {
    CausalInputs {
        base: model(json!({})),
        base_name: "tiny".into(),
        adapter: None,
        tokenizer: tokenizer(),
        rows: rows(true),
        references: None,
        annotator: annotator(),
        companions: Vec::new(),
    }
}

fn recipe() -> CausalRecipe {
    CausalRecipe {
        max_steps: 8,
        per_device_train_batch_size: 4,
        gradient_accumulation_steps: 2,
        max_new_tokens: 8,
        lora_r: 4,
        learning_rate: 0.02,
        self_normalised: true,
        save_steps: 3,
        eval_size: 4,
        eval_steps: 3,
        ..CausalRecipe::default()
    }
}

fn complete_with(recipe: &CausalRecipe, inputs: CausalInputs, dir: &Path) -> Box<Report> {
    match causal(recipe, inputs, &RunDir::open(dir).unwrap(), &mut Silent).unwrap() {
        Outcome::Finished(report) => report,
        Outcome::Interrupted(step) => panic!("interrupted after {step}"),
    }
}

fn complete(recipe: &CausalRecipe, dir: &Path) -> Box<Report> {
    complete_with(recipe, inputs(), dir)
}

/// Every estimator there is, with what it needs.
fn estimators() -> [(&'static str, CausalRecipe); 5] {
    let dr = CausalRecipe { causal_estimator: CausalEstimator::Dr, ..recipe() };
    let official = CausalRecipe { causal_form: CausalForm::Official, self_normalised: false, ..recipe() };
    [
        ("self-normalised", recipe()),
        ("ipw", CausalRecipe { self_normalised: false, ratio_clip: Some([0.0, 3.0]), ..recipe() }),
        ("dr", CausalRecipe { samples_per_prompt: 2, ..dr }),
        ("official", official.clone()),
        ("official-dr", CausalRecipe { causal_estimator: CausalEstimator::Dr, ..official }),
    ]
}

#[test]
fn every_textbook_estimator_raises_the_outcome() {
    let dir = tempfile::tempdir().unwrap();
    for (name, recipe) in estimators().into_iter().take(3) {
        let recipe = CausalRecipe { max_steps: 40, eval_size: 20, ..recipe };
        let inputs = CausalInputs { references: Some(references()), ..inputs() };
        let report = complete_with(&recipe, inputs, &dir.path().join(name));
        let [before, after] = report.scores.unwrap();
        assert!(after.mean > before.mean + 0.3, "{name}: {before:?} {after:?}");
        assert!(report.kl.unwrap() > 0.0 && report.pairs == 40 * 8, "{name}");
    }
}

fn references() -> Rows<bpo_data::ReferenceRow> {
    let row = |id: usize| bpo_data::ReferenceRow {
        line: id + 1,
        prompt: Some(Prompt::Text(format!("w{} w1 w2", id % 20))),
        text: "w1".into(),
    };
    (0..20).map(row).collect()
}

#[test]
fn a_lower_outcome_can_be_the_better_one() {
    let dir = tempfile::tempdir().unwrap();
    for (name, recipe) in estimators().into_iter().take(3) {
        let recipe = CausalRecipe { higher_outcome_better: false, max_steps: 40, eval_size: 20, ..recipe };
        let inputs = CausalInputs { references: Some(references()), ..inputs() };
        let [before, after] = complete_with(&recipe, inputs, &dir.path().join(name)).scores.unwrap();
        assert!(after.mean <= before.mean, "{name}: {before:?} {after:?}");
    }
}

#[test]
fn an_interrupted_or_killed_causal_run_ends_in_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let dropout = ("dropout", CausalRecipe { lora_dropout: 0.1, ..recipe() });
    let full = ("full", CausalRecipe { use_peft: false, learning_rate: 1e-3, ..recipe() });
    for (kind, recipe) in estimators().into_iter().chain([dropout, full]) {
        let whole = dir.path().join(format!("whole-{kind}"));
        complete(&recipe, &whole);
        for (steps, panics) in [(0, false), (4, false), (5, true), (7, true)] {
            let path = dir.path().join(format!("{kind}-{steps}-{panics}"));
            let mut until = Until::after(steps, panics);
            let first = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                causal(&recipe, inputs(), &RunDir::open(&path).unwrap(), &mut until).unwrap()
            }));
            assert_eq!(first.is_err(), panics);
            complete(&recipe, &path);
            assert!(trained(&whole) == trained(&path), "{kind}, cut after {steps}");
            let losses = |dir: &Path| metrics(dir).iter().map(|m| m["loss"].to_string()).collect::<Vec<_>>();
            assert_eq!(losses(&whole), losses(&path));
        }
    }
}

/// Self-normalised ratios and batch softmaxes couple all texts of a step: cutting it must not change that.
#[test]
fn estimates_do_not_depend_on_the_micro_batches() {
    let dir = tempfile::tempdir().unwrap();
    for (name, recipe) in estimators() {
        // With ε = 1 Adam does not make whole steps of rounding where a gradient is 0.
        let recipe = CausalRecipe { max_steps: 4, eval_size: 0, adam_epsilon: 1.0, ..recipe };
        let losses = |batch, accumulation| {
            let path = dir.path().join(format!("{name}-{batch}"));
            let cut = CausalRecipe {
                per_device_train_batch_size: batch,
                gradient_accumulation_steps: accumulation,
                ..recipe.clone()
            };
            complete(&cut, &path);
            metrics(&path).iter().map(|m| m["loss"].as_f64().unwrap()).collect::<Vec<f64>>()
        };
        let (whole, cut) = (losses(8, 1), losses(2, 4));
        for (whole, cut) in whole.iter().zip(&cut) {
            assert!((whole - cut).abs() < 2e-3 * whole.abs().max(1.0), "{name}: {whole} {cut}");
        }
    }
}

/// At the start the policy is the logging policy: every ratio is 1.
#[test]
fn the_first_step_weighs_all_texts_alike() {
    let dir = tempfile::tempdir().unwrap();
    complete(&CausalRecipe { max_steps: 1, eval_size: 0, ..recipe() }, dir.path());
    let first = &metrics(dir.path())[0];
    let number = |key: &str| first[key].as_f64().unwrap();
    assert!((number("causal/effective_samples") - 8.0).abs() < 1e-3 && (number("causal/max_ratio") - 1.0).abs() < 1e-3);
    assert!((number("causal/value_ipw") - number("causal/outcome_mean")).abs() < 1e-3, "{first}");
}

#[test]
fn a_logging_log_prob_of_the_row_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let mut inputs = inputs();
    edit(&mut inputs.rows, |rows| {
        for row in rows {
            row.logging_logp = Some(-500.0);
        }
    });
    let recipe = CausalRecipe { max_steps: 1, eval_size: 0, ..recipe() };
    complete_with(&recipe, inputs, dir.path());
    assert!(metrics(dir.path())[0]["causal/max_ratio"].as_f64().unwrap() > 1e100);
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut inputs = inputs();
    edit(&mut inputs.rows, |rows| {
        for row in rows {
            row.logging_logp = Some(-500.0);
        }
    });
    let recipe = CausalRecipe { self_normalised: false, eval_size: 0, save_steps: 1, ..recipe() };
    let error = causal(&recipe, inputs, &RunDir::open(dir.path()).unwrap(), &mut Silent).unwrap_err();
    assert!(matches!(error, Error::NonFinite { step: 0, .. }), "{error}");
    let saved = std::fs::read_dir(dir.path().join("checkpoints")).map(|entries| entries.count()).unwrap_or(0);
    assert_eq!(saved, 0);
}

#[test]
fn texts_without_prompts_are_trained_and_evaluated_from_bos() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = CausalRecipe { max_steps: 30, eval_size: 20, ..recipe() };
    let report = complete_with(&recipe, CausalInputs { rows: rows(false), ..inputs() }, dir.path());
    let [before, after] = report.scores.unwrap();
    assert!(report.eval_prompts == 20 && after.mean > before.mean, "{before:?} {after:?}");
    assert!(report.distinct[0] > 0.8, "{:?}", report.distinct);
}

#[test]
fn an_outcome_model_that_is_right_leaves_no_residual_and_rows_may_bring_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = CausalRecipe { causal_estimator: CausalEstimator::Dr, max_steps: 2, eval_size: 0, ..recipe() };
    let asked = std::sync::Arc::new(std::sync::Mutex::new(0));
    let count = std::sync::Arc::clone(&asked);
    let scorer = scorer_from("counts", move |items: &[Item]| {
        *count.lock().unwrap() += items.len();
        Ok(vec![0.0; items.len()])
    });
    let mut inputs = CausalInputs { annotator: Box::new(Scored(scorer)), ..inputs() };
    edit(&mut inputs.rows, |rows| {
        for row in rows {
            row.predicted_outcome = Some(row.outcome);
        }
    });
    complete_with(&recipe, inputs, dir.path());
    assert_eq!(*asked.lock().unwrap(), 2 * 8, "only the samples are asked about");
    let norms: Vec<f64> = metrics(dir.path()).iter().map(|m: &Value| m["grad_norm"].as_f64().unwrap()).collect();
    assert!(norms.iter().all(|norm| *norm < 1e-4), "{norms:?}");
}

/// Its answers of a failed step are not recorded, so that a better day continues the run.
#[test]
fn an_outcome_model_without_scores_stops_the_run_and_is_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    let recipe = CausalRecipe { causal_estimator: CausalEstimator::Dr, eval_size: 0, ..recipe() };
    complete(&recipe, &whole);
    let mut left = rows(true).len() + 3 * 8;
    let tiring = scorer_from("tires", move |items: &[Item]| {
        let awake = left >= items.len();
        left = left.saturating_sub(items.len());
        let liking = |item: &Item| item.response.split_whitespace().filter(|word| *word == "w0").count() as f64;
        Ok(items.iter().map(|item| if awake { liking(item) } else { f64::NAN }).collect())
    });
    let inputs = CausalInputs { annotator: Box::new(Scored(tiring)), ..inputs() };
    let error = causal(&recipe, inputs, &RunDir::open(&cut).unwrap(), &mut Silent).unwrap_err();
    assert!(matches!(error, Error::Abstentions { .. }), "{error}");
    complete(&recipe, &cut);
    assert!(trained(&whole) == trained(&cut));
}

/// Has verdicts and no scores.
struct OnlyCompares;

impl Annotator for OnlyCompares {
    fn name(&self) -> String {
        "compares".into()
    }

    fn compare(&mut self, batch: &[Comparison]) -> Result<Vec<Judgement>, bpo_annotate::Error> {
        Ok(vec![Judgement::of(Verdict::First); batch.len()])
    }
}

#[test]
fn a_causal_run_that_cannot_work_is_refused_by_its_reason() {
    let flat =
        || CausalInputs { rows: outcomes(true).map(|row| OutcomeRow { outcome: 2.0, ..row }).collect(), ..inputs() };
    let compares = CausalInputs { annotator: Box::new(OnlyCompares), ..inputs() };
    let cases: [(CausalRecipe, CausalInputs, &str); 3] = [
        (recipe(), flat(), "nothing to learn"),
        (CausalRecipe { max_prompt_length: 1, ..recipe() }, inputs(), "no prompt is left"),
        (CausalRecipe { causal_estimator: CausalEstimator::Dr, ..recipe() }, compares, "annotator that gives scores"),
    ];
    for (recipe, inputs, word) in cases {
        let dir = tempfile::tempdir().unwrap();
        let error = causal(&recipe, inputs, &RunDir::open(dir.path()).unwrap(), &mut Silent).unwrap_err();
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
}
