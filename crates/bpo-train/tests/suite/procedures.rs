//! SELM, OPTune, pairs of a file, evaluations on the way.
use std::collections::{BTreeMap, BTreeSet, HashMap};

use bpo_annotate::{TieRule, Verdict};
use bpo_data::{Group, padded};
use bpo_train::{CollectionPhases, Inputs, Recipe, Reference, TrainPrompt, TrainRows, Trainable, sequence_logps};
use serde_json::json;

use crate::{
    selection::prompts,
    tiny::{Comparing, adapter, edit, few, inputs, inputs_of_pairs, model, pairs, recipe, scoring},
    trial::{Trial, refusal, trial, trial_on},
};

/// As in [`crate::losses`]: updates show the size of a gradient.
fn linear() -> Recipe {
    Recipe {
        max_steps: 1,
        eval_size: 0,
        learning_rate: 1.0,
        adam_epsilon: 10.0,
        max_grad_norm: 0.0,
        lora_r: 3,
        lora_alpha: 6.0,
        ..recipe()
    }
}

fn selm() -> Recipe {
    Recipe { pairs: Some("pairs".into()), selm_alpha: Some(1.0), beta: 1.0, ..linear() }
}

fn given(inputs: Inputs) -> Inputs {
    Inputs { adapters: vec![adapter(&model(json!({})), &["all-linear"])], ..inputs }
}

/// Σ log-probs of the greedy responses of the first step, under what `trial` trained.
fn greedy_logp(trial: &Trial, prompts: &[TrainPrompt]) -> f64 {
    let policy = Trainable::Lora(trial.adapter("adapter")).model(&model(json!({}))).unwrap();
    let logp = |drawn: &bpo_train::Drawn| {
        let prompt = prompts.iter().find(|prompt| prompt.id == drawn.prompt).unwrap();
        let group = Group { prompt: &prompt.ids, completions: vec![&drawn.samples[0].tokens] };
        f64::from(sequence_logps(&policy, &padded(&[group], 0).unwrap()).unwrap().sums[0])
    };
    trial.drawn()[0].iter().map(logp).sum()
}

#[test]
fn selm_makes_its_greedy_response_less_likely_and_one_that_is_in_the_pair_too() {
    for (rows, pairs) in [(pairs(), true), (inputs().rows, false)] {
        let pairs = pairs.then(|| "pairs".into());
        let recipe = Recipe { pairs, ties: TieRule::First, learning_rate: 0.05, ..selm() };
        let prompts = prompts(&recipe, rows.clone());
        let after = |alpha| {
            let recipe = Recipe { selm_alpha: Some(alpha), ..recipe.clone() };
            trial_on(&recipe, given(Inputs { rows: rows.clone(), ..inputs() }))
        };
        let trials = [0.0, 1.0, 2.0].map(after);
        let [none, one, two] = [0, 1, 2].map(|index| greedy_logp(&trials[index], &prompts));
        assert!(one < none - 0.01 && two < one - 0.01, "{none} {one} {two}");
        // Linear in α while steps are small.
        assert!(((none - two) / (none - one) - 2.0).abs() < 0.2, "{none} {one} {two}");
        // At the reference the bonus is 0 and the loss is DPO's: only the gradient differs.
        let losses = trials.map(|trial| trial.metric("loss")[0]);
        assert!(losses.iter().all(|loss| (loss - 2f64.ln()).abs() < 1e-4), "{losses:?}");
    }
}

#[test]
fn selm_ranks_a_greedy_response_with_the_two_of_the_data() {
    let recipe = Recipe { max_steps: 4, collection_phases: CollectionPhases::Count(1), ..selm() };
    // Whichever is nearest to nine letters.
    let score = |text: &str| -(text.len() as f64 - 9.0).abs();
    let trial = trial_on(&recipe, Inputs { annotator: scoring(score), ..given(inputs_of_pairs()) });
    let prompts = prompts(&recipe, pairs());
    let mut seen = [0; 3];
    for (drawn, choice) in trial.drawn().iter().flatten().zip(trial.choices().iter().flatten()) {
        let prompt = prompts.iter().find(|prompt| prompt.id == drawn.prompt).unwrap();
        let texts = [&drawn.samples[0].text, &prompt.given[0].text, &prompt.given[1].text];
        assert_eq!((drawn.samples.len(), choice.scores.len()), (1, 3));
        let scores = texts.map(|text| score(text));
        assert_eq!(choice.scores, scores.map(Some));
        let best = |index: &usize| scores.iter().all(|score| scores[*index] >= *score);
        let worst = |index: &usize| scores.iter().all(|score| scores[*index] <= *score);
        assert!(best(&choice.pair[0]) && worst(&choice.pair[1]) && choice.verdict == Verdict::First, "{scores:?}");
        choice.pair.iter().for_each(|index| seen[*index] += 1);
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    assert_eq!(trial.report.sampled, 32);
}

/// Responses that depend on a random stream would differ from seed to seed.
#[test]
fn selms_response_is_greedy_and_comes_from_the_phases_policy() {
    let texts = |seed, phases| -> Vec<HashMap<usize, String>> {
        let recipe = Recipe { seed, max_steps: 10, collection_phases: CollectionPhases::Count(phases), ..selm() };
        let of_step = |drawn: Vec<bpo_train::Drawn>| {
            drawn.into_iter().map(|drawn| (drawn.prompt, drawn.samples[0].text.clone())).collect()
        };
        trial_on(&recipe, given(inputs_of_pairs())).drawn().into_iter().map(of_step).collect()
    };
    let all = |steps: Vec<HashMap<usize, String>>| -> BTreeMap<usize, String> { steps.into_iter().flatten().collect() };
    let (ours, theirs) = (all(texts(1, 1)), all(texts(2, 1)));
    assert_eq!(ours.len(), 40);
    assert_eq!(ours, theirs);
    assert_ne!(all(texts(1, 10)), ours, "a refreshed policy answers otherwise");
}

/// Sixteen prompts, eight in a step: a pass every two steps, and a phase in each.
fn optune() -> Recipe {
    Recipe {
        regenerate_fraction: 0.3,
        max_steps: 8,
        collection_phases: CollectionPhases::Count(4),
        eval_size: 0,
        learning_rate: 0.005,
        ..recipe()
    }
}

#[test]
fn optune_answers_the_prompts_of_the_lowest_scores_anew_and_keeps_the_other_pairs() {
    let trial = trial_on(&optune(), few(16));
    let (drawn, choices) = (trial.drawn(), trial.choices());
    // ⌊0.3 · 16⌋ = 4 of 16 in each of three phases.
    assert_eq!(drawn.iter().map(Vec::len).collect::<Vec<_>>()[..2], [8, 8]);
    assert_eq!(trial.report.sampled, 2 * (16 + 3 * 4));
    assert_eq!(trial.metric("collect/reused").iter().sum::<f64>(), 3.0 * 12.0);
    // Score and step of every prompt's pair.
    let mut latest: BTreeMap<usize, (f64, usize)> = BTreeMap::new();
    for phase in 0..4 {
        let steps = 2 * phase..2 * phase + 2;
        let mut fresh: BTreeMap<usize, (f64, usize)> = BTreeMap::new();
        for step in steps {
            for (drawn, choice) in drawn[step].iter().zip(&choices[step]) {
                let score = (choice.score(0).unwrap() + choice.score(1).unwrap()) / 2.0;
                fresh.insert(drawn.prompt, (score, step));
            }
        }
        if phase > 0 {
            let mut ranked: Vec<(usize, (f64, usize))> = latest.iter().map(|(prompt, pair)| (*prompt, *pair)).collect();
            ranked.sort_by(|(_, a), (_, b)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let mut lowest: Vec<usize> = ranked[..4].iter().map(|(prompt, _)| *prompt).collect();
            lowest.sort_unstable();
            assert_eq!(fresh.keys().copied().collect::<Vec<_>>(), lowest, "phase {phase}");
        }
        latest.extend(fresh);
    }
    // All sixteen prompts train in every pass, ties aside.
    let trained = trial.report.pairs + trial.report.dropped.values().sum::<u64>();
    assert_eq!(trained, 64);
}

#[test]
fn prompts_of_equal_scores_take_turns() {
    let inputs = Inputs { annotator: scoring(|_| 1.0), ..few(16) };
    let trial = trial_on(&Recipe { ties: TieRule::First, ..optune() }, inputs);
    let renewed: BTreeSet<usize> = trial.drawn()[2..].iter().flatten().map(|drawn| drawn.prompt).collect();
    assert_eq!(renewed.len(), 3 * 4, "{renewed:?}");
}

/// Two phases of four passes each over eight prompts.
#[test]
fn a_prompt_is_answered_anew_once_in_a_phase() {
    let long = Recipe { regenerate_fraction: 0.5, collection_phases: CollectionPhases::Count(2), ..optune() };
    let answered: Vec<usize> = trial_on(&long, few(8)).drawn().iter().map(Vec::len).collect();
    assert_eq!(answered, [8, 0, 0, 0, 4, 0, 0, 0]);
}

#[test]
fn all_prompts_are_answered_anew_at_1() {
    let trial = trial_on(&Recipe { regenerate_fraction: 1.0, ..optune() }, few(16));
    assert_eq!(trial.report.sampled, 2 * 64);
    assert_eq!(trial.metric("collect/reused"), [0.0; 0]);
}

/// A kept pair was sampled by an older policy: it is measured against that one's recorded log-probs.
#[test]
fn kept_pairs_are_measured_against_the_policy_that_sampled_them() {
    let still = Recipe { regenerate_fraction: 0.01, optune_beta2: None, ..optune() };
    let trial = trial_on(&still, few(16));
    assert_eq!(trial.report.sampled, 32);
    let ln2 = 2f64.ln();
    let losses = trial.metric("loss");
    assert!((losses[0] - ln2).abs() < 1e-5);
    // The behaviour is refreshed before steps 2, 4 and 6; the pairs are not.
    assert!(losses[1..].iter().all(|loss| (loss - ln2).abs() > 1e-4), "{losses:?}");
}

#[test]
fn optune_weighs_a_pair_by_how_far_its_scores_are_apart() {
    let first = |optune_beta2| trial(&Recipe { optune_beta2, max_steps: 1, eval_size: 0, ..recipe() });
    let plain = first(None);
    let gaps: Vec<f64> = plain.choices()[0]
        .iter()
        .map(|choice| (choice.score(0).unwrap() - choice.score(1).unwrap()).abs())
        .filter(|gap| *gap > 0.0)
        .collect();
    for beta2 in [0.0, 0.7, 5.0] {
        let weights = gaps.iter().map(|gap| 1.0 / (1.0 + (-beta2 * gap).exp()));
        let expected = 2f64.ln() * weights.sum::<f64>() / gaps.len() as f64;
        let loss = first(Some(beta2)).metric("loss")[0];
        assert!((loss - expected).abs() < 1e-4, "{beta2}: {loss} {expected}");
    }
    let weights = |recipe: Recipe| trial_on(&recipe, given(inputs())).weights();
    let optune = |optune_beta2| Recipe { optune_beta2, ..linear() };
    assert_ne!(weights(optune(Some(0.7))), weights(optune(None)));
}

#[test]
fn a_weight_by_scores_needs_scores() {
    let inputs = Inputs { annotator: Box::new(Comparing), ..inputs() };
    let refused = refusal(&Recipe { optune_beta2: Some(1.0), max_steps: 1, ..recipe() }, inputs);
    assert!(refused.contains("optune_beta2 needs an annotator that gives scores"), "{refused}");
}

#[test]
fn pairs_of_a_file_are_trained_on_as_they_are() {
    let recipe =
        Recipe { pairs: Some("pairs".into()), max_steps: 10, eval_size: 0, reference: Reference::Initial, ..recipe() };
    let trial = trial_on(&recipe, inputs_of_pairs());
    assert_eq!((trial.drawn().len(), trial.choices().len()), (0, 0), "the journal holds no samples");
    assert_eq!((trial.report.sampled, trial.report.pairs), (0, 80));
    assert!(trial.notes.iter().any(|note| note.contains("40 training pairs")), "{:?}", trial.notes);
    let accuracies = trial.metric("rewards/accuracies");
    assert!(accuracies[5..].iter().all(|share| *share > 0.8), "{accuracies:?}");
    // What is chosen in the file gains, also when the annotator would have it otherwise.
    let TrainRows::Pairs(mut rows) = pairs() else { panic!("pairs") };
    edit(&mut rows, |rows| rows.iter_mut().for_each(|row| std::mem::swap(&mut row.chosen, &mut row.rejected)));
    let swapped = trial_on(&recipe, Inputs { rows: TrainRows::Pairs(rows), ..inputs() });
    let margins = swapped.metric("rewards/margins");
    assert!(margins[9] > 0.1 && swapped.metric("logps/chosen")[9] > swapped.metric("logps/chosen")[0], "{margins:?}");
}

#[test]
fn phases_are_evaluated_where_they_begin() {
    use bpo_train::EvalStrategy::{No, Phase};
    let phases = CollectionPhases::Count(3);
    let recipe = Recipe { eval_strategy: Phase, collection_phases: phases, max_steps: 7, eval_size: 4, ..recipe() };
    let steps = |recipe: &Recipe| trial(recipe).report.curve.iter().map(|point| point.step).collect::<Vec<_>>();
    assert_eq!(steps(&recipe), [0, 3, 5, 7]);
    assert_eq!(steps(&Recipe { eval_strategy: No, ..recipe.clone() }), [0, 7]);
    let idle = Recipe { eval_steps: 2, ..recipe }.validate().unwrap_err().to_string();
    assert!(idle.contains("eval_steps") && idle.contains("eval_strategy"), "{idle}");
}

#[test]
fn the_curve_has_the_evaluations_on_the_way() {
    let recipe = Recipe { eval_steps: 3, max_steps: 7, eval_size: 4, ..recipe() };
    let ours = trial(&recipe);
    let steps: Vec<u64> = ours.report.curve.iter().map(|point| point.step).collect();
    assert_eq!(steps, [0, 3, 6, 7]);
    assert!(ours.report.curve[0].win_rate.is_none() && ours.report.curve[0].kl.is_none());
    assert!(ours.report.curve[1..].iter().all(|point| point.win_rate.is_some() && point.kl.is_some()));
    // They change nothing: not the weights, not the ends.
    let without = trial(&Recipe { eval_steps: 0, ..recipe.clone() });
    assert!(ours.bytes() == without.bytes());
    assert_eq!(without.report.curve.len(), 2);
    assert_eq!(json!(ours.report.scores), json!(without.report.scores));
    // The point after three steps is the policy of that moment: with a constant rate, a run of three ends there.
    let constant = |max_steps| Recipe {
        max_steps,
        lr_scheduler_type: bpo_train::LrScheduler::Constant,
        collection_phases: CollectionPhases::Count(1),
        ..recipe.clone()
    };
    let (long, short) = (trial(&constant(7)), trial(&constant(3)));
    assert_eq!(json!(long.report.curve[1]), json!(short.report.curve[1]));
    // Wins of an annotator without scores are asked for at every point.
    let compared = trial_on(&recipe, Inputs { annotator: Box::new(Comparing), ..inputs() });
    assert!(compared.report.curve[1..].iter().all(|point| point.win_rate.is_some()));
}
