//! A recipe that cannot work, or has a key that nothing reads, is refused before anything is sampled.
use bpo_annotate::TieRule;
use bpo_model::AdapterMerge;
use bpo_sampler::PairSelection;
use bpo_train::{FDivergenceType, Inputs, OneOrMany, Recipe, Reference, TrainRows};
use serde_json::{Value, json};

use crate::{
    tiny::{adapter, edit, inputs, inputs_of_pairs, model, recipe},
    trial::{each, refusal, trial},
};

fn ensemble(pair_selection: PairSelection) -> Recipe {
    Recipe { pair_selection, ensemble_size: 2, ..recipe() }
}

fn of_pairs() -> Recipe {
    Recipe { pairs: Some("pairs".into()), ..recipe() }
}

fn losses(names: &[&str]) -> OneOrMany<String> {
    OneOrMany::Many(names.iter().map(|name| (*name).to_string()).collect())
}

/// Recipes and what their refusal says.
fn refused() -> Vec<(Recipe, &'static str)> {
    let (best_worst, ucb) = (PairSelection::BestWorst, PairSelection::UcbLcb);
    vec![
        // Losses.
        (Recipe { loss_type: "dpo".into(), ..recipe() }, "loss_type"),
        (Recipe { loss_type: "expr: rho +".into(), ..recipe() }, "column 6"),
        (Recipe { loss_type: losses(&[]), ..recipe() }, "loss_type names 0 losses"),
        (Recipe { loss_weights: Some(vec![1.0, 2.0]), ..recipe() }, "loss_type names 1 losses, loss_weights has 2"),
        (Recipe { loss_weights: Some(vec![f64::NAN]), ..recipe() }, "loss_weights = NaN: must be finite"),
        (Recipe { beta: 0.0, ..recipe() }, "beta = 0: must be"),
        (Recipe { label_smoothing: 0.5, ..recipe() }, "label_smoothing = 0.5: must lie in [0, 0.5)"),
        (Recipe { label_smoothing: 0.1, loss_type: "ipo".into(), ..recipe() }, "label_smoothing = 0.1: only sigmoid"),
        (Recipe { discopop_tau: 0.0, loss_type: "discopop".into(), ..recipe() }, "discopop_tau = 0: must be"),
        (Recipe { f_divergence_type: FDivergenceType::ForwardKl, loss_type: "aot".into(), ..recipe() }, "aot"),
        (
            Recipe {
                f_divergence_type: FDivergenceType::AlphaDivergence,
                f_alpha_divergence_coef: f64::INFINITY,
                ..recipe()
            },
            "f_alpha_divergence_coef = inf: must be",
        ),
        (Recipe { loss_type: "aot".into(), use_weighting: true, ..recipe() }, "aot are not by pair"),
        (Recipe { loss_type: "sft".into(), ld_alpha: Some(0.5), ..recipe() }, "ld_alpha is for losses of log-ratios"),
        (Recipe { selm_alpha: Some(0.1), ld_alpha: Some(0.5), ..recipe() }, "ld_alpha cannot be combined"),
        (
            Recipe { ensemble_size: 2, pair_selection: PairSelection::UcbMeanUcb, ..recipe() },
            "ucb_mean_ucb needs samples_per_prompt",
        ),
        (Recipe { ties: TieRule::First, ..of_pairs() }, "ties has no effect"),
        (Recipe { temperature: 0.5, ..of_pairs() }, "temperature has no effect"),
        (Recipe { use_weighting: true, loss_type: "sft".into(), ..recipe() }, "use_weighting needs a loss of pairs"),
        // Counts.
        (Recipe { per_device_train_batch_size: 0, ..recipe() }, "per_device_train_batch_size must be at least 1"),
        (Recipe { gradient_accumulation_steps: 0, ..recipe() }, "gradient_accumulation_steps must be at least 1"),
        (Recipe { per_device_eval_batch_size: 0, ..recipe() }, "per_device_eval_batch_size must be at least 1"),
        (Recipe { max_new_tokens: 0, ..recipe() }, "max_new_tokens must be at least 1"),
        (Recipe { min_new_tokens: 9, ..recipe() }, "min_new_tokens = 9 must not be above max_new_tokens = 8"),
        (Recipe { max_prompt_length: 0, ..recipe() }, "max_prompt_length must be at least 1"),
        (Recipe { lora_r: 0, ..recipe() }, "lora_r must be at least 1"),
        (Recipe { ensemble_size: 0, ..recipe() }, "ensemble_size must be at least 1"),
        (Recipe { save_steps: 0, ..recipe() }, "save_steps must be at least 1"),
        (Recipe { ref_model_sync_steps: 0, ..recipe() }, "ref_model_sync_steps must be at least 1"),
        (Recipe { samples_per_prompt: 1, ..recipe() }, "samples_per_prompt = 1: a pair needs 2"),
        (Recipe { max_steps: 0, num_train_epochs: 0.0, ..recipe() }, "max_steps and num_train_epochs are both 0"),
        // Numbers.
        (Recipe { learning_rate: -1.0, ..recipe() }, "learning_rate = -1 must be a finite number, 0 or above"),
        (Recipe { learning_rate: 1.5, ..recipe() }, "learning_rate = 1.5: above 1"),
        (Recipe { weight_decay: f64::NAN, ..recipe() }, "weight_decay = NaN must be"),
        (Recipe { max_grad_norm: -1.0, ..recipe() }, "max_grad_norm = -1 must be"),
        (Recipe { num_train_epochs: f64::INFINITY, ..recipe() }, "num_train_epochs = inf must be"),
        (Recipe { adam_epsilon: -1.0, ..recipe() }, "adam_epsilon = -1 must be"),
        (Recipe { ucb_gamma: -1.0, ..ensemble(ucb) }, "ucb_gamma = -1 must be"),
        (Recipe { optune_beta2: Some(-1.0), ..recipe() }, "optune_beta2 = -1 must be"),
        (Recipe { selm_alpha: Some(-1.0), ..recipe() }, "selm_alpha = -1 must be"),
        (Recipe { ld_alpha: Some(-1.0), ..recipe() }, "ld_alpha = -1 must be"),
        (Recipe { missing_eos_penalty: Some(f64::NAN), ..recipe() }, "missing_eos_penalty = NaN must be"),
        (Recipe { lora_dropout: 1.0, ..recipe() }, "lora_dropout = 1 must lie in [0, 1)"),
        (Recipe { warmup_ratio: -0.1, ..recipe() }, "warmup_ratio = -0.1 must lie in"),
        (Recipe { adam_beta1: 1.0, ..recipe() }, "adam_beta1 = 1 must lie in"),
        (Recipe { adam_beta2: 1.0, ..recipe() }, "adam_beta2 = 1 must lie in"),
        (Recipe { regenerate_fraction: 0.0, ..recipe() }, "regenerate_fraction = 0 must lie in (0, 1]"),
        (Recipe { ref_model_mixup_alpha: 1.5, ..recipe() }, "ref_model_mixup_alpha = 1.5 must lie in (0, 1]"),
        // Sampling.
        (Recipe { temperature: 0.0, ..recipe() }, "temperature = 0 samples the same completion twice"),
        (Recipe { temperature: -1.0, ..recipe() }, "temperature"),
        (Recipe { eval_temperature: f64::NAN, ..recipe() }, "temperature"),
        (Recipe { top_p: 0.0, ..recipe() }, "top_p"),
        (Recipe { min_p: 2.0, ..recipe() }, "min_p"),
        // Procedures that do not go together.
        (Recipe { use_peft: false, ensemble_size: 2, ..recipe() }, "ensemble_size needs use_peft = true"),
        (Recipe { use_peft: false, adapter: Some("a".into()), ..recipe() }, "adapter has no effect"),
        (Recipe { pair_selection: ucb, ..recipe() }, "pair_selection by members needs ensemble_size"),
        (Recipe { pair_selection: best_worst, ..of_pairs() }, "pair_selection has no effect"),
        (Recipe { pair_selection: best_worst, selm_alpha: Some(0.1), ..recipe() }, "pair_selection has no effect"),
        (Recipe { regenerate_fraction: 0.5, ..of_pairs() }, "regenerate_fraction has no effect with pairs"),
        (Recipe { optune_beta2: Some(1.0), ..of_pairs() }, "optune_beta2 needs scores, and the pairs of a file"),
        (Recipe { regenerate_fraction: 0.5, selm_alpha: Some(0.1), ..recipe() }, "regenerate_fraction cannot be"),
        (Recipe { regenerate_fraction: 0.5, ..ensemble(ucb) }, "regenerate_fraction cannot be combined"),
        (
            Recipe { reference: Reference::Ema, ensemble_merge: AdapterMerge::Svd(2), ..ensemble(best_worst) },
            "reference = \"ema\" averages factors, and those of ensemble_merge = \"svd:R\" turn",
        ),
        // Keys that nothing reads.
        (Recipe { discopop_tau: 0.1, ..recipe() }, "discopop_tau has no effect: it needs loss_type discopop"),
        (Recipe { f_alpha_divergence_coef: 0.7, ..recipe() }, "f_alpha_divergence_coef has no effect: it needs f_div"),
        (Recipe { ipo_length_norm: false, ..recipe() }, "ipo_length_norm has no effect: it needs loss_type ipo"),
        (Recipe { ref_model_mixup_alpha: 0.7, ..recipe() }, "ref_model_mixup_alpha has no effect: it needs reference"),
        (Recipe { ref_model_sync_steps: 7, ..recipe() }, "ref_model_sync_steps has no effect: it needs reference"),
        (
            Recipe { ensemble_merge: AdapterMerge::Concat, ..recipe() },
            "ensemble_merge has no effect: it needs ensemble",
        ),
        (Recipe { ucb_gamma: 2.0, ..recipe() }, "ucb_gamma has no effect: it needs a pair_selection by members"),
        (Recipe { samples_per_prompt: 3, ..of_pairs() }, "samples_per_prompt has no effect: it needs no pairs"),
        (Recipe { missing_eos_penalty: Some(1.0), ..of_pairs() }, "missing_eos_penalty has no effect: it needs"),
        (Recipe { samples_per_prompt: 3, ..recipe() }, "samples_per_prompt above 2 needs a pair_selection"),
        // Against the model.
        (Recipe { max_new_tokens: 64, ..recipe() }, "max_new_tokens = 64 leaves no room for a prompt"),
        (Recipe { lora_target_modules: vec!["nope".into()], ..recipe() }, "nope"),
        (Recipe { lora_target_modules: Vec::new(), ..recipe() }, "lora_target_modules is empty"),
        (Recipe { max_prompt_length: 1, ..recipe() }, "no prompt is left"),
        (Recipe { apply_chat_template: true, ..recipe() }, "apply_chat_template: the tokenizer has no chat template"),
    ]
}

#[test]
fn what_cannot_work_is_refused_by_its_key() {
    each(&refused(), |(recipe, words)| {
        let inputs = if recipe.pairs.is_some() { inputs_of_pairs() } else { inputs() };
        let told = refusal(recipe, inputs);
        assert!(told.contains(words), "`{words}` is not in: {told}");
    });
}

#[test]
fn adapters_to_start_from_must_fit_the_ensemble_and_the_recipe() {
    let given =
        |count: usize| Inputs { adapters: vec![adapter(&model(json!({})), &["all-linear"]); count], ..inputs() };
    let of_rank_3 = Recipe { lora_r: 3, lora_alpha: 6.0, ..recipe() };
    for (recipe, count, words) in [
        (of_rank_3.clone(), 2, "ensemble_size = 1, but 2 adapters"),
        (Recipe { ensemble_size: 3, ..of_rank_3.clone() }, 1, "ensemble_size = 3, but 1 adapters"),
        (Recipe { lora_r: 4, ..of_rank_3.clone() }, 1, "lora_r has no effect: the adapter"),
        (Recipe { lora_alpha: 5.0, ..of_rank_3.clone() }, 1, "lora_alpha has no effect"),
        (Recipe { use_rslora: true, ..of_rank_3.clone() }, 1, "use_rslora has no effect"),
        (Recipe { lora_target_modules: vec!["q_proj".into()], ..of_rank_3 }, 1, "lora_target_modules has no effect"),
    ] {
        let told = refusal(&recipe, given(count));
        assert!(told.contains(words), "`{words}` is not in: {told}");
    }
}

#[test]
fn a_reference_text_that_a_selection_needs_is_missed_with_its_line() {
    let mut inputs = inputs();
    let TrainRows::Prompts(prompts) = &mut inputs.rows else { panic!("prompts") };
    edit(prompts, |prompts| {
        prompts.iter_mut().filter(|row| row.line != 7).for_each(|row| row.reference = Some("w1".into()));
    });
    let told = refusal(&ensemble(PairSelection::UcbRef), inputs);
    assert!(told.contains("prompts, line 7: pair_selection ucb_ref needs a reference text"), "{told}");
}

/// What a type can check is refused where the recipe is read.
#[test]
fn values_of_another_kind_are_refused_with_what_there_is() {
    let cases: [(&str, Value, &str); 12] = [
        ("reference", json!("every:0"), "every:N"),
        ("reference", json!("sft"), "behaviour"),
        ("collection_phases", json!(0), "collection_phases must be a whole number from 1 or \"T\""),
        ("ensemble_merge", json!("svd:0"), "from 1"),
        ("ensemble_merge", json!("median"), "peft_linear"),
        ("pair_selection", json!("ucb"), "ucb_sec_ucb"),
        ("ties", json!("keep"), "drop"),
        ("f_divergence_type", json!("kl"), "reverse_kl"),
        ("lr_scheduler_type", json!("step"), "cosine"),
        ("truncation", json!("right"), "left_prompt"),
        ("samples_per_prompt", json!(-1), "-1"),
        ("betta", json!(0.1), "beta"),
    ];
    for (key, value, words) in cases {
        let refused = serde_json::from_value::<Recipe>(json!({ key: value })).unwrap_err().to_string();
        assert!(refused.contains(words), "{key}: `{words}` is not in: {refused}");
    }
}

/// The table above would refuse anything if the recipe it is made of were refused.
#[test]
fn what_the_refused_recipes_are_made_of_works() {
    trial(&Recipe { max_steps: 1, eval_size: 0, ..recipe() });
    trial(&Recipe { max_steps: 1, eval_size: 0, ..ensemble(PairSelection::UcbLcb) });
}
