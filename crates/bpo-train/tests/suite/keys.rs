//! A key that changes nothing is a key that lies: every key of a recipe is tried with another value.
use std::collections::BTreeSet;

use bpo_data::Prompt;
use bpo_store::RunDir;
use bpo_train::{Inputs, Observer, Outcome, Recipe, Stage, TrainRows, run};
use serde_json::{Map, Value, json};

use crate::{
    tiny::{chat_tokenizer, edit, inputs, inputs_of_pairs, recipe},
    trial::{each, trial_on},
};

/// Keys that name what the program reads for [`Inputs`]; `tests/cli/recipes.rs` tries them.
const READ_BY_THE_PROGRAM: [&str; 9] =
    ["model", "dtype", "tokenizer", "adapter", "prompts", "references", "bad_lines", "annotator", "sampler"];
/// Keys that change no outcome, only what [`keys_of_speed_and_saving_change_what_they_name`] looks at, and memory, which
/// `tests/cli/train.rs` reads.
const OF_SPEED_AND_SAVING: [&str; 3] = ["save_steps", "per_device_eval_batch_size", "gradient_checkpointing"];

/// A key, what else has to be set for it to act, and another value.
fn cases() -> Vec<(&'static str, Value, Value)> {
    let alone = || json!({});
    let ensemble = json!({"ensemble_size": 3, "collection_phases": "T"});
    let four = json!({"samples_per_prompt": 4, "pair_selection": "best_random"});
    let ucb = json!({"ensemble_size": 3, "samples_per_prompt": 6, "pair_selection": "ucb_sec_ucb", "max_steps": 5});
    let ema = json!({"reference": "ema", "ref_model_sync_steps": 1});
    let passes = json!({"per_device_train_batch_size": 20, "max_steps": 4, "collection_phases": 2});
    let long = json!({"max_prompt_length": 4});
    vec![
        ("pairs", alone(), json!("pairs")),
        ("apply_chat_template", alone(), json!(true)),
        ("seed", alone(), json!(7)),
        ("loss_type", alone(), json!("hinge")),
        ("loss_weights", alone(), json!([0.5])),
        ("beta", alone(), json!(0.5)),
        ("label_smoothing", alone(), json!(0.2)),
        ("ipo_length_norm", json!({"loss_type": "ipo"}), json!(false)),
        ("discopop_tau", json!({"loss_type": "discopop"}), json!(0.5)),
        ("f_divergence_type", alone(), json!("js_divergence")),
        ("f_alpha_divergence_coef", json!({"f_divergence_type": "alpha_divergence"}), json!(0.1)),
        ("ld_alpha", alone(), json!(0.5)),
        ("use_weighting", alone(), json!(true)),
        ("optune_beta2", alone(), json!(1.0)),
        ("selm_alpha", alone(), json!(0.1)),
        ("missing_eos_penalty", alone(), json!(0.5)),
        ("collection_phases", alone(), json!("T")),
        ("reference", alone(), json!("initial")),
        ("ref_model_mixup_alpha", ema.clone(), json!(0.1)),
        ("ref_model_sync_steps", ema, json!(2)),
        ("ensemble_size", alone(), json!(2)),
        ("ensemble_merge", ensemble, json!("peft_linear")),
        ("max_steps", alone(), json!(4)),
        ("num_train_epochs", json!({"max_steps": 0}), json!(0.2)),
        ("per_device_train_batch_size", alone(), json!(2)),
        ("gradient_accumulation_steps", alone(), json!(2)),
        ("samples_per_prompt", four.clone(), json!(3)),
        ("pair_selection", four, json!("best_worst")),
        ("ucb_gamma", ucb, json!(5.0)),
        ("ties", alone(), json!("first")),
        ("regenerate_fraction", passes, json!(0.5)),
        ("max_new_tokens", alone(), json!(4)),
        ("min_new_tokens", alone(), json!(5)),
        ("max_prompt_length", json!({"truncation": "left_prompt"}), json!(3)),
        ("truncation", long, json!("left_prompt")),
        ("temperature", alone(), json!(0.5)),
        ("top_k", alone(), json!(3)),
        ("top_p", alone(), json!(0.5)),
        ("min_p", alone(), json!(0.3)),
        ("use_peft", alone(), json!(false)),
        ("lora_r", alone(), json!(2)),
        ("lora_alpha", alone(), json!(8.0)),
        ("lora_dropout", alone(), json!(0.2)),
        ("lora_target_modules", alone(), json!(["q_proj"])),
        ("use_rslora", alone(), json!(true)),
        ("learning_rate", alone(), json!(0.01)),
        ("lr_scheduler_type", alone(), json!("constant")),
        ("warmup_ratio", alone(), json!(0.5)),
        ("weight_decay", alone(), json!(0.1)),
        ("adam_beta1", alone(), json!(0.5)),
        ("adam_beta2", alone(), json!(0.9)),
        ("adam_epsilon", alone(), json!(0.1)),
        ("max_grad_norm", alone(), json!(0.01)),
        ("eval_size", alone(), json!(2)),
        ("eval_temperature", alone(), json!(0.0)),
        ("eval_strategy", alone(), json!("phase")),
        ("eval_steps", alone(), json!(1)),
    ]
}

/// All keys of a recipe, as it says itself when it is given one that it does not know.
fn known() -> BTreeSet<String> {
    let refused = serde_json::from_value::<Recipe>(json!({"no_such_key": 0})).unwrap_err().to_string();
    let (_, known) = refused.split_once("expected one of").unwrap();
    known.split('`').skip(1).step_by(2).map(str::to_string).collect()
}

fn short() -> Recipe {
    Recipe {
        max_steps: 3,
        per_device_train_batch_size: 3,
        gradient_accumulation_steps: 1,
        max_new_tokens: 6,
        collection_phases: bpo_train::CollectionPhases::Count(2),
        eval_size: 3,
        ..recipe()
    }
}

fn set(recipe: &Recipe, values: &Value) -> Recipe {
    let mut table = serde_json::to_value(recipe).unwrap();
    values.as_object().unwrap().iter().for_each(|(key, value)| table[key] = value.clone());
    serde_json::from_value(table).unwrap()
}

/// A tokenizer with a chat template, and some prompts that are longer than others.
fn inputs_of(recipe: &Recipe) -> Inputs {
    let mut inputs = if recipe.pairs.is_some() { inputs_of_pairs() } else { inputs() };
    if let TrainRows::Prompts(prompts) = &mut inputs.rows {
        edit(prompts, |prompts| {
            for row in prompts.iter_mut().step_by(2) {
                row.prompt = Prompt::Text(format!("{} w4 w5 w6 w7", row.prompt.text()));
            }
        });
    }
    Inputs { tokenizer: chat_tokenizer(), ..inputs }
}

#[test]
fn every_key_changes_the_outcome() {
    let cases = cases();
    let tried = cases.iter().map(|(key, ..)| *key).chain(READ_BY_THE_PROGRAM).chain(OF_SPEED_AND_SAVING);
    assert_eq!(tried.map(str::to_string).collect::<BTreeSet<_>>(), known(), "a key is not tried, or is no longer one");
    let unchanged = trial_on(&short(), inputs_of(&short())).outcome();
    assert_eq!(unchanged, trial_on(&short(), inputs_of(&short())).outcome());
    each(&cases, |(key, companions, value)| {
        let without = set(&short(), companions);
        let with = set(&without, &json!({ *key: value }));
        assert!(without != with, "{key}: the value is the one it has");
        let outcome = |recipe: &Recipe| trial_on(recipe, inputs_of(recipe)).outcome();
        let before = if without == short() { unchanged.clone() } else { outcome(&without) };
        assert!(before != outcome(&with), "{key} = {value} changes nothing");
    });
}

/// Counts the passes in which a run samples.
#[derive(Default)]
struct Sampled {
    is_sampling: bool,
    passes: usize,
}

impl Observer for Sampled {
    fn begin(&mut self, stage: Stage, _: u64) {
        self.is_sampling = stage == Stage::Sample;
    }
    fn advance(&mut self, _: u64) {
        self.passes += usize::from(self.is_sampling);
    }
    fn end(&mut self) {}
    fn step(&mut self, _: u64, _: u64, _: &Map<String, Value>) {}
    fn note(&mut self, _: &str) {}
}

#[test]
fn keys_of_speed_and_saving_change_what_they_name() {
    let of = |values: Value| {
        let (recipe, dir, mut sampled) = (set(&short(), &values), tempfile::tempdir().unwrap(), Sampled::default());
        let outcome = run(&recipe, inputs_of(&recipe), &RunDir::open(dir.path()).unwrap(), &mut sampled).unwrap();
        assert!(matches!(outcome, Outcome::Finished(_)));
        let kept = std::fs::read_dir(dir.path().join("checkpoints")).unwrap().count();
        (kept, sampled.passes, std::fs::read(dir.path().join("adapter/adapter_model.safetensors")).unwrap())
    };
    let base = of(json!({}));
    let often = of(json!({"save_steps": 1}));
    assert!(often.0 > base.0 && often.2 == base.2, "{} {} checkpoints are kept", often.0, base.0);
    assert!(of(json!({"gradient_checkpointing": true})).2 == base.2, "layers computed twice came out different");
    let alone = of(json!({"per_device_eval_batch_size": 1}));
    // Three steps of three prompts, two completions of up to six tokens each: decoded together, or one by one.
    assert!(base.1 <= 18 && alone.1 > 2 * base.1, "{} passes, or {}", base.1, alone.1);
}
