//! A run that is stopped anywhere, politely or not, ends as if it had not been.
use std::panic::{AssertUnwindSafe, catch_unwind};

use bpo_annotate::TieRule;
use bpo_model::AdapterMerge;
use bpo_sampler::PairSelection;
use bpo_store::RunDir;
use bpo_train::{
    CollectionPhases, FDivergenceType, Inputs, Interrupt, Observer, Outcome, Recipe, Reference, Silent, Stage, run,
};
use serde_json::{Map, Value};

use crate::{
    runs::Until,
    tiny::{Comparing, few, inputs, inputs_of_pairs, inputs_with_references, recipe},
    trial::{each, outcome},
};

struct Kind {
    name: &'static str,
    recipe: Recipe,
    inputs: fn() -> Inputs,
}

/// Eight steps, checkpoints after the third and sixth.
fn short() -> Recipe {
    Recipe { max_steps: 8, save_steps: 3, per_device_train_batch_size: 2, max_new_tokens: 6, eval_size: 3, ..recipe() }
}

fn of_prompts(name: &'static str, recipe: Recipe) -> Kind {
    Kind { name, recipe, inputs }
}

/// Ends `kind` after `steps` steps, by a panic or politely, and goes on.
fn is_resumed(kind: &Kind, whole: &str, steps: u64, panics: bool) {
    let dir = tempfile::tempdir().unwrap();
    let cut = catch_unwind(AssertUnwindSafe(|| {
        let dir = RunDir::open(dir.path()).unwrap();
        run(&kind.recipe, (kind.inputs)(), &dir, &mut Until::after(steps, panics)).unwrap()
    }));
    let expected = match &cut {
        Ok(Outcome::Interrupted(step)) => !panics && *step == steps,
        Ok(Outcome::Finished(_)) => false,
        Err(_) => panics,
    };
    assert!(expected, "{}: not cut after {steps} steps", kind.name);
    let again = run(&kind.recipe, (kind.inputs)(), &RunDir::open(dir.path()).unwrap(), &mut Silent).unwrap();
    assert!(matches!(again, Outcome::Finished(_)));
    assert!(outcome(dir.path()) == whole, "{}: cut after {steps} steps", kind.name);
}

fn all_are_resumed(kinds: &[Kind]) {
    each(kinds, |kind| {
        let dir = tempfile::tempdir().unwrap();
        run(&kind.recipe, (kind.inputs)(), &RunDir::open(dir.path()).unwrap(), &mut Silent).unwrap();
        let whole = outcome(dir.path());
        // Politely before the first step, between checkpoints and, where there is one, in the last evaluation; killed
        // in a step that trains and in the last evaluation.
        for (steps, panics) in [(0, false), (4, false), (8, false), (5, true), (8, true)] {
            if steps < 8 || panics || kind.recipe.eval_size > 0 {
                is_resumed(kind, &whole, steps, panics);
            }
        }
    });
}

#[test]
fn plain_runs_end_in_the_same_bytes() {
    let every_step = CollectionPhases::EveryStep;
    all_are_resumed(&[
        of_prompts("lora", short()),
        of_prompts("dropout", Recipe { lora_dropout: 0.1, ..short() }),
        of_prompts("full", Recipe { use_peft: false, learning_rate: 1e-3, ..short() }),
        of_prompts("online DPO", Recipe { reference: Reference::Initial, ..short() }),
        of_prompts("on-policy", Recipe { collection_phases: every_step, ..short() }),
        of_prompts("evaluated on the way", Recipe { eval_steps: 2, ..short() }),
        Kind {
            name: "without scores",
            recipe: Recipe { eval_steps: 4, ..short() },
            inputs: || Inputs { annotator: Box::new(Comparing), ..inputs() },
        },
        Kind { name: "pairs of a file", recipe: of_pairs(short()), inputs: inputs_of_pairs },
    ]);
}

fn of_pairs(recipe: Recipe) -> Recipe {
    Recipe { pairs: Some("pairs".into()), ..recipe }
}

#[test]
fn references_that_move_end_in_the_same_bytes() {
    let ema = Recipe { reference: Reference::Ema, ref_model_mixup_alpha: 0.3, ref_model_sync_steps: 2, ..short() };
    all_are_resumed(&[
        of_prompts("ema", ema.clone()),
        of_prompts("ema of full weights", Recipe { use_peft: false, learning_rate: 1e-3, ..ema.clone() }),
        of_prompts("ema of an ensemble", Recipe { ensemble_size: 2, ..ema }),
        of_prompts("every:3", Recipe { reference: Reference::Every(3), ..short() }),
        of_prompts("every:3 of an ensemble", Recipe { ensemble_size: 2, reference: Reference::Every(3), ..short() }),
    ]);
}

#[test]
fn ensembles_end_in_the_same_bytes() {
    let three = Recipe { ensemble_size: 3, collection_phases: CollectionPhases::EveryStep, ..short() };
    let merged = |ensemble_merge| Recipe { ensemble_merge, ..three.clone() };
    let phases = CollectionPhases::Count(3);
    all_are_resumed(&[
        of_prompts("mean", three.clone()),
        of_prompts("dropout", Recipe { lora_dropout: 0.1, ..three.clone() }),
        of_prompts("concat", merged(AdapterMerge::Concat)),
        of_prompts("svd", merged(AdapterMerge::Svd(2))),
        of_prompts("svd in phases", Recipe { collection_phases: phases, ..merged(AdapterMerge::Svd(1)) }),
        of_prompts("peft_linear", merged(AdapterMerge::PeftLinear)),
        of_prompts("rank-stabilised", Recipe { use_rslora: true, ..three.clone() }),
    ]);
}

#[test]
fn selm_and_optune_end_in_the_same_bytes() {
    let selm = Recipe { selm_alpha: Some(0.1), ..short() };
    // Twelve prompts, four in a step: an epoch every three steps.
    let optune = Recipe { regenerate_fraction: 0.4, optune_beta2: Some(2.0), eval_size: 0, ..short() };
    let each_step = CollectionPhases::EveryStep;
    all_are_resumed(&[
        of_prompts("SELM on prompts", selm.clone()),
        Kind { name: "SELM on pairs", recipe: of_pairs(selm), inputs: inputs_of_pairs },
        Kind { name: "OPTune", recipe: optune.clone(), inputs: || few(12) },
        Kind {
            name: "OPTune at every step",
            recipe: Recipe { collection_phases: each_step, ..optune.clone() },
            inputs: || few(10),
        },
        Kind { name: "OPTune within a step", recipe: optune, inputs: || few(3) },
    ]);
}

#[test]
fn every_pair_selection_ends_in_the_same_bytes() {
    let four = Recipe { samples_per_prompt: 4, ..short() };
    let selected = |pair_selection| Recipe { pair_selection, ..four.clone() };
    let by_members = |pair_selection| Recipe { ensemble_size: 2, ..selected(pair_selection) };
    let penalised = Recipe { missing_eos_penalty: Some(0.5), ties: TieRule::First, ..short() };
    all_are_resumed(&[
        of_prompts("best_worst", selected(PairSelection::BestWorst)),
        of_prompts("best_random", selected(PairSelection::BestRandom)),
        of_prompts("ucb_sec_ucb", by_members(PairSelection::UcbSecUcb)),
        of_prompts("ucb_mean_ucb", by_members(PairSelection::UcbMeanUcb)),
        of_prompts("ucb_lcb", by_members(PairSelection::UcbLcb)),
        of_prompts("ucb_rand", by_members(PairSelection::UcbRand)),
        of_prompts("upper_bound", by_members(PairSelection::UpperBound)),
        of_prompts("lower_bound", by_members(PairSelection::LowerBound)),
        Kind { name: "ucb_ref", recipe: by_members(PairSelection::UcbRef), inputs: inputs_with_references },
        of_prompts("penalised", penalised),
    ]);
}

#[test]
fn losses_of_every_shape_end_in_the_same_bytes() {
    let loss = |name: &str| Recipe { loss_type: name.into(), ..short() };
    let forward_kl = FDivergenceType::ForwardKl;
    all_are_resumed(&[
        of_prompts("aot", loss("aot")),
        of_prompts("kto_pair", loss("kto_pair")),
        of_prompts("sft", loss("sft")),
        of_prompts("aqfl", loss("aqfl")),
        of_prompts("expression", loss("expr: softplus(-beta*(rho - mean(rho)))")),
        of_prompts("WPO", Recipe { use_weighting: true, ..short() }),
        of_prompts("LD-DPO", Recipe { ld_alpha: Some(0.3), ..short() }),
        of_prompts("forward KL", Recipe { f_divergence_type: forward_kl, ..short() }),
    ]);
}

/// Asks for an end as the `wanted`th stage of a run begins.
struct Asking {
    interrupt: Interrupt,
    wanted: usize,
    begun: usize,
}

impl Observer for Asking {
    fn begin(&mut self, _: Stage, _: u64) {
        if self.begun == self.wanted {
            self.interrupt.ask();
        }
        self.begun += 1;
    }
    fn advance(&mut self, _: u64) {}
    fn end(&mut self) {}
    fn step(&mut self, _: u64, _: u64, _: &Map<String, Value>) {}
    fn note(&mut self, _: &str) {}
    fn interrupted(&self) -> bool {
        self.interrupt.is_asked()
    }
}

/// A step that is left between two of its stages is resumed from its beginning: whatever it had refreshed or moved, it
/// refreshes and moves once.
#[test]
fn interrupted_in_every_stage_runs_end_in_the_same_bytes() {
    let ema = Recipe { reference: Reference::Ema, ref_model_mixup_alpha: 0.3, ref_model_sync_steps: 1, ..short() };
    let optune = Recipe { regenerate_fraction: 0.4, eval_size: 0, ..short() };
    let kinds = [
        of_prompts("on-policy", Recipe { collection_phases: CollectionPhases::EveryStep, eval_steps: 3, ..short() }),
        of_prompts("ema of an ensemble", Recipe { ensemble_size: 2, ..ema }),
        Kind { name: "OPTune", recipe: optune, inputs: || few(12) },
    ];
    each(&kinds, |kind| {
        let dir = tempfile::tempdir().unwrap();
        run(&kind.recipe, (kind.inputs)(), &RunDir::open(dir.path()).unwrap(), &mut Silent).unwrap();
        let whole = outcome(dir.path());
        for wanted in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let mut asking = Asking { interrupt: Interrupt::default(), wanted, begun: 0 };
            let ended = {
                let dir = RunDir::open(dir.path()).unwrap();
                run(&kind.recipe, (kind.inputs)(), &dir, &mut asking).unwrap()
            };
            if !asking.interrupt.is_asked() {
                assert!(wanted > 20 && matches!(ended, Outcome::Finished(_)), "{}: {wanted} stages", kind.name);
                break;
            }
            // Nothing is asked after the last stage of all.
            if matches!(ended, Outcome::Interrupted(_)) {
                let dir = RunDir::open(dir.path()).unwrap();
                let again = run(&kind.recipe, (kind.inputs)(), &dir, &mut Silent).unwrap();
                assert!(matches!(again, Outcome::Finished(_)));
            }
            assert!(outcome(dir.path()) == whole, "{}: interrupted in stage {wanted}", kind.name);
        }
    });
}
