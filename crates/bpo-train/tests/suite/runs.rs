use std::{cell::Cell, path::Path};

use bpo_annotate::{Item, Scored, scorer_from};
use bpo_data::{BadLines, Rows};
use bpo_store::RunDir;
use bpo_train::{Error, Inputs, Observer, Outcome, Recipe, Reference, Report, Silent, Stage, TrainRows, run};
use serde_json::{Map, Value, json};

use crate::tiny::{edit, inputs, recipe};

fn complete(recipe: &Recipe, dir: &Path) -> Box<Report> {
    match run(recipe, inputs(), &RunDir::open(dir).unwrap(), &mut Silent).unwrap() {
        Outcome::Finished(report) => report,
        Outcome::Interrupted(step) => panic!("interrupted after {step}"),
    }
}

pub fn metrics(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The trained weights, whichever kind they are.
pub fn trained(dir: &Path) -> Vec<u8> {
    let adapter = std::fs::read(dir.join("adapter/adapter_model.safetensors"));
    adapter.or_else(|_| std::fs::read(dir.join("model/model.safetensors"))).unwrap()
}

/// Ends a run after some steps, politely or by a panic in the middle of a stage.
pub struct Until {
    steps: u64,
    panics: bool,
    seen: Cell<u64>,
}

impl Until {
    /// Ends after `steps` steps.
    pub fn after(steps: u64, panics: bool) -> Self {
        Self { steps, panics, seen: Cell::new(0) }
    }
}

impl Observer for Until {
    fn begin(&mut self, stage: Stage, _: u64) {
        let late = matches!(stage, Stage::Train | Stage::Evaluate | Stage::Read) && self.seen.get() >= self.steps;
        assert!(!(self.panics && late), "killed");
    }
    fn advance(&mut self, _: u64) {}
    fn end(&mut self) {}
    fn step(&mut self, _: u64, _: u64, _: &Map<String, Value>) {
        self.seen.set(self.seen.get() + 1);
    }
    fn note(&mut self, _: &str) {}
    fn interrupted(&self) -> bool {
        !self.panics && self.seen.get() >= self.steps
    }
}

#[test]
fn a_run_learns_what_the_annotator_likes() {
    let dir = tempfile::tempdir().unwrap();
    let report = complete(&Recipe { max_steps: 40, eval_size: 20, ..recipe() }, &dir.path().join("run"));
    let [before, after] = report.scores.unwrap();
    assert!(after.mean > before.mean + 0.3, "{before:?} {after:?}");
    assert!(report.win_rate.unwrap().mean > 0.6, "{:?}", report.win_rate);
    assert!(report.kl.unwrap() > 0.0);
}

#[test]
fn bpo_measures_against_the_behaviour_and_online_dpo_against_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let run = |reference, name: &str| {
        let path = dir.path().join(name);
        complete(&Recipe { reference, eval_size: 0, ..recipe() }, &path);
        metrics(&path)
    };
    let (bpo, online) = (run(Reference::Behaviour, "bpo"), run(Reference::Initial, "online"));
    // 12 steps, F = 3: refreshed before steps 0, 4, 8, where the policy is its own reference.
    let ln2 = 2f64.ln();
    // A step whose pairs all tie has no loss.
    let losses = |metrics: &[Value]| -> Vec<(usize, Value, f64)> {
        let loss = |(step, m): (usize, &Value)| Some((step, m.clone(), m["loss"].as_f64()?));
        metrics.iter().enumerate().filter_map(loss).collect()
    };
    assert!(losses(&bpo).len() > 8 && losses(&online).len() > 8);
    for (step, metrics, loss) in losses(&bpo) {
        let at_start = (loss - ln2).abs() < 1e-4;
        assert_eq!(at_start, step % 4 == 0, "step {step}: {metrics}");
        assert_eq!(metrics.get("collect/logp_gap").is_some(), step % 4 == 0);
    }
    for (step, metrics, loss) in losses(&online) {
        assert_eq!((loss - ln2).abs() < 1e-4, step == 0, "step {step}: {metrics}");
    }
    for gap in bpo.iter().filter_map(|metrics| metrics["collect/logp_gap"].as_f64()) {
        assert!(gap < 1e-4, "sampled and re-scored log-probs differ by {gap}");
    }
}

#[test]
fn every_loss_trains_adapters_and_whole_models() {
    let dir = tempfile::tempdir().unwrap();
    for loss in ["sigmoid", "hinge", "ipo"] {
        for use_peft in [true, false] {
            let path = dir.path().join(format!("{loss}-{use_peft}"));
            let recipe = Recipe {
                loss_type: loss.into(),
                use_peft,
                max_steps: 3,
                eval_size: 2,
                learning_rate: 1e-3,
                ..recipe()
            };
            let report = complete(&recipe, &path);
            assert_eq!(report.output, if use_peft { "adapter" } else { "model" });
            assert!(path.join(&report.output).is_dir() && path.join("finished.json").is_file());
        }
    }
}

#[test]
fn an_annotator_that_abstains_too_often_stops_the_run_and_its_answers_are_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    let recipe = Recipe { eval_size: 0, ..recipe() };
    complete(&recipe, &whole);
    let mut left = 3 * recipe.prompts_per_step();
    let tiring = scorer_from("tires", move |items: &[Item]| {
        let awake = left > 0;
        left = left.saturating_sub(items.len() / 2);
        let liking = |item: &Item| item.response.split_whitespace().filter(|word| *word == "w0").count() as f64;
        Ok(items.iter().map(|item| if awake { liking(item) } else { f64::NAN }).collect())
    });
    let inputs = Inputs { annotator: Box::new(Scored(tiring)), ..inputs() };
    let error = run(&recipe, inputs, &RunDir::open(&cut).unwrap(), &mut Silent).unwrap_err();
    assert!(matches!(error, Error::Abstentions { .. }), "{error}");
    complete(&recipe, &cut);
    assert!(trained(&whole) == trained(&cut));
}

#[test]
fn a_prompt_that_comes_twice_in_a_step_is_sampled_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut inputs = inputs();
    let TrainRows::Prompts(prompts) = &mut inputs.rows else { panic!("prompts") };
    edit(prompts, |prompts| prompts.truncate(1));
    let recipe = Recipe { eval_size: 0, max_steps: 1, ..recipe() };
    run(&recipe, inputs, &RunDir::open(&dir.path().join("run")).unwrap(), &mut Silent).unwrap();
    let distinct = metrics(&dir.path().join("run"))[0]["collect/distinct"].as_f64().unwrap();
    assert!(distinct > 0.8, "{distinct} of the samples are distinct");
}

#[test]
fn an_update_that_is_not_finite_leaves_no_checkpoint_behind() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = Recipe { weight_decay: 1e300, eval_size: 0, save_steps: 1, ..recipe() };
    let path = dir.path().join("run");
    let error = run(&recipe, inputs(), &RunDir::open(&path).unwrap(), &mut Silent).unwrap_err();
    assert!(matches!(error, Error::NonFinite { step: 0, .. }), "{error}");
    let saved = std::fs::read_dir(path.join("checkpoints")).map(|entries| entries.count()).unwrap_or(0);
    assert_eq!(saved, 0);
}

/// What is read from a file, and kept on disk, is what is held.
#[test]
fn rows_of_a_file_train_as_rows_in_memory_do() {
    let dir = tempfile::tempdir().unwrap();
    let (held, read) = (dir.path().join("held"), dir.path().join("read"));
    complete(&recipe(), &held);
    let file = dir.path().join("prompts.jsonl");
    let mut lines = Vec::new();
    let TrainRows::Prompts(rows) = inputs().rows else { panic!("prompts") };
    rows.each(|row| {
        lines.push(json!({"prompt": row.prompt}).to_string());
        Ok::<_, bpo_data::Error>(())
    })
    .unwrap();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let rows = TrainRows::Prompts(Rows::of_file(&file, BadLines::Stop).unwrap().0);
    let done = run(&recipe(), Inputs { rows, ..inputs() }, &RunDir::open(&read).unwrap(), &mut Silent).unwrap();
    assert!(matches!(done, Outcome::Finished(_)));
    assert!(trained(&held) == trained(&read));
}
