//! Losses through whole runs: what couples pairs sees all of a step's, and what has two names is one thing.
use bpo_annotate::TieRule;
use bpo_model::Adapter;
use bpo_store::RunDir;
use bpo_train::{FDivergenceType, Inputs, OneOrMany, Outcome, Recipe, Reference, Silent, run};
use burn::tensor::Device;
use serde_json::json;

use crate::{
    runs::Until,
    tiny::{adapter, inputs, inputs_of_pairs, model, recipe},
    trial::{close, distance, each, trial, trial_on, values},
};

/// Two steps of six pairs. With an ε far above the gradients an update is the gradient times a constant, so that
/// weights show its size and not its sign alone.
fn linear() -> Recipe {
    Recipe {
        max_steps: 2,
        per_device_train_batch_size: 6,
        gradient_accumulation_steps: 1,
        ties: TieRule::First,
        reference: Reference::Initial,
        beta: 0.5,
        learning_rate: 1.0,
        adam_epsilon: 10.0,
        max_grad_norm: 0.0,
        eval_size: 0,
        lora_r: 3,
        lora_alpha: 6.0,
        ..recipe()
    }
}

fn given() -> Inputs {
    Inputs { adapters: vec![adapter(&model(json!({})), &["all-linear"])], ..inputs() }
}

/// The weights after a first step of DPO and a second of `recipe`. Where the policy equals its reference some losses
/// have a kink, and on which side of it a pair lies is a matter of rounding; after the first step it has left it.
fn after(recipe: &Recipe) -> Vec<f32> {
    let dir = tempfile::tempdir().unwrap();
    let begun = run(&linear(), given(), &RunDir::open(dir.path()).unwrap(), &mut Until::after(1, false)).unwrap();
    assert!(matches!(begun, Outcome::Interrupted(1)));
    let done = run(recipe, given(), &RunDir::open(dir.path()).unwrap(), &mut Silent).unwrap();
    assert!(matches!(done, Outcome::Finished(_)));
    values(&Adapter::from_dir(&dir.path().join("adapter"), &Device::flex()).unwrap())
}

fn with(loss: &str) -> Recipe {
    Recipe { loss_type: loss.into(), ..linear() }
}

fn sum(losses: &[&str], weights: &[f64]) -> Recipe {
    let losses = losses.iter().map(|loss| (*loss).to_string()).collect();
    Recipe { loss_type: OneOrMany::Many(losses), loss_weights: Some(weights.to_vec()), ..linear() }
}

/// How far `recipe` moves the weights: what differences are measured by.
fn moved(recipe: &Recipe) -> f32 {
    let start = after(&Recipe { learning_rate: 0.0, ..recipe.clone() });
    distance(&after(recipe), &start)
}

#[test]
fn an_update_does_not_depend_on_how_a_step_is_cut_into_micro_batches() {
    let names = ["sigmoid", "ipo", "aot", "aot_unpaired", "kto_pair", "sft", "aql", "aqfl", "dbaql", "dbaql_old"];
    let mean = with("expr: softplus(-beta*(rho - mean(rho)/2))");
    let mut recipes: Vec<Recipe> = names.iter().map(|name| with(name)).chain([mean]).collect();
    recipes.push(sum(&["sigmoid", "sft"], &[1.0, 0.5]));
    recipes.push(Recipe { selm_alpha: Some(0.5), ..with("aot") });
    recipes.push(Recipe { ld_alpha: Some(0.3), ..with("kto_pair") });
    recipes.push(Recipe { use_weighting: true, ..with("kto_pair") });
    each(&recipes, |recipe| {
        let (whole, size) = (after(recipe), moved(recipe));
        assert!(size > 1e-3, "{}: moved by {size}", recipe.loss_type);
        for (batch, batches) in [(3, 2), (2, 3), (1, 6)] {
            let cut =
                Recipe { per_device_train_batch_size: batch, gradient_accumulation_steps: batches, ..recipe.clone() };
            let apart = distance(&after(&cut), &whole);
            assert!(apart < 2e-4 * size, "{} in {batches} batches of {batch}: {apart} of {size}", recipe.loss_type);
        }
    });
}

#[test]
fn a_step_with_fewer_pairs_than_the_loss_needs_trains_nothing_and_counts_them() {
    for (loss, needs_two) in
        [("aqfl", true), ("dbaql", true), ("expr: softplus(-rho/(1 + std(rho)))", true), ("aot", false)]
    {
        let recipe = Recipe { per_device_train_batch_size: 1, ..with(loss) };
        let trial = trial(&recipe);
        let dropped = trial.report.dropped.get("too few for the loss").copied();
        assert_eq!(dropped, needs_two.then_some(2), "{loss}");
        assert_eq!(trial.report.pairs, if needs_two { 0 } else { 2 });
        assert_eq!(trial.metric("loss").len(), if needs_two { 0 } else { 2 });
        let start = crate::trial::trial(&Recipe { learning_rate: 0.0, ..recipe });
        assert_eq!(trial.weights() == start.weights(), needs_two, "{loss}");
    }
}

/// Two recipes whose updates are the same up to rounding.
fn agree(ours: &Recipe, theirs: &Recipe) -> bool {
    let size = moved(ours);
    assert!(size > 1e-3, "{}: moved by {size}", ours.loss_type);
    close(&after(ours), &after(theirs), 2e-4 * size)
}

#[test]
fn an_expression_is_the_loss_it_writes_out() {
    let written = [
        ("sigmoid", "expr: softplus(-beta*rho)"),
        ("hinge", "expr: relu(1 - beta*rho)"),
        ("ipo", "expr: square(lc/len_c - lr/len_r - 1/(2*beta))"),
        ("aot", "expr: softplus(-beta*(sort(pc - pr) - sort(pc - lc - pr + lr)))"),
        ("cell", "expr: l = beta*rho; 0.5*exp(-l) + 0.5*softplus(-l)"),
        ("padll", "expr: 0.9*where(rho < 0, 0.5, 1)*softplus(-beta*rho)"),
    ];
    each(&written, |(name, text)| assert!(agree(&with(name), &with(text)), "{name}"));
    assert!(!agree(&with("sigmoid"), &with("expr: softplus(-0.9*beta*rho)")));
}

#[test]
fn weights_add_losses_up() {
    assert!(after(&sum(&["sigmoid", "hinge"], &[1.0, 0.0])) == after(&with("sigmoid")));
    assert!(agree(&sum(&["ipo", "ipo"], &[0.25, 0.75]), &with("ipo")));
    assert!(agree(&sum(&["sigmoid", "cell"], &[0.0, 1.0]), &with("cell")));
    assert!(!agree(&sum(&["sigmoid", "hinge"], &[1.0, 1.0]), &with("sigmoid")));
    // Without weights all are 1.
    let plain = Recipe { loss_weights: None, ..sum(&["sigmoid", "hinge"], &[]) };
    assert!(after(&plain) == after(&sum(&["sigmoid", "hinge"], &[1.0, 1.0])));
}

#[test]
fn f_divergences_meet_where_they_are_the_same() {
    let alpha = |f_alpha_divergence_coef| Recipe {
        f_divergence_type: FDivergenceType::AlphaDivergence,
        f_alpha_divergence_coef,
        ..with("sigmoid")
    };
    let of = |f_divergence_type| Recipe { f_divergence_type, ..with("sigmoid") };
    let [reverse, forward, js] =
        [FDivergenceType::ReverseKl, FDivergenceType::ForwardKl, FDivergenceType::JsDivergence].map(of);
    assert!(agree(&alpha(1.0), &reverse) && agree(&alpha(0.0), &forward));
    assert!(!agree(&forward, &reverse) && !agree(&js, &reverse) && !agree(&alpha(0.5), &reverse));
}

#[test]
fn ld_dpo_at_1_is_dpo_and_below_it_the_longer_end_weighs_less() {
    let ld = |ld_alpha| Recipe { ld_alpha, ..with("sigmoid") };
    assert!(after(&ld(Some(1.0))) == after(&ld(None)));
    assert!(!agree(&ld(Some(0.5)), &ld(None)) && !agree(&ld(Some(0.5)), &ld(Some(0.0))));
    // Log-probs are logged as the loss reads them: without the ends they are higher.
    let logged = |ld_alpha| trial(&ld(ld_alpha)).metric("logps/chosen")[0];
    assert!(logged(Some(0.0)) > logged(Some(0.5)) && logged(Some(0.5)) > logged(None));
    // The reference's ends weigh as much as the policy's: where the two are equal, so are the sums.
    let loss = trial(&ld(Some(0.0))).metric("loss")[0];
    assert!((loss - 2f64.ln()).abs() < 1e-5, "{loss}");
}

#[test]
fn wpo_weighs_the_loss_by_how_likely_the_policy_is_to_write_the_pair() {
    let loss = |use_weighting, loss: &str| trial(&Recipe { use_weighting, ..with(loss) }).metric("loss")[0];
    // All pairs have the loss log 2 in the first step, so what is left is the mean weight.
    let weight = loss(true, "sigmoid") / loss(false, "sigmoid");
    assert!(weight > 0.0 && (weight - 1.0).abs() > 0.05, "{weight}");
    assert!((loss(true, "hinge") / loss(false, "hinge") - weight).abs() < 1e-5);
    let weighted = Recipe { use_weighting: true, ..with("sigmoid") };
    assert!(!agree(&weighted, &with("sigmoid")));
}

/// Weights of pairs of a file are the same weights.
#[test]
fn procedures_of_the_loss_train_on_pairs_of_a_file_too() {
    let of_pairs =
        Recipe { pairs: Some("pairs".into()), ties: TieRule::Drop, lora_r: 16, lora_alpha: 32.0, ..linear() };
    let plain = trial_on(&of_pairs, inputs_of_pairs()).weights();
    let variants = [
        Recipe { ld_alpha: Some(0.2), ..of_pairs.clone() },
        Recipe { use_weighting: true, ..of_pairs.clone() },
        Recipe { f_divergence_type: FDivergenceType::ForwardKl, ..of_pairs.clone() },
        Recipe { loss_type: "sft".into(), ..of_pairs.clone() },
    ];
    each(&variants, |recipe| assert!(trial_on(recipe, inputs_of_pairs()).weights() != plain, "{recipe:?}"));
}
