//! Which candidates make a pair, and what becomes of ties.
use bpo_annotate::{TieRule, Verdict};
use bpo_data::{Group, padded};
use bpo_model::{AdapterMerge, merge_adapters};
use bpo_sampler::{Candidates, MemberRanks, PairSelection, Pick, Second};
use bpo_store::RowFile;
use bpo_train::{Choice, Drawn, Inputs, Recipe, Silent, TrainPrompt, TrainRows, Trainable, prepare, sequence_logps};
use serde_json::json;

use crate::{
    tiny::{Comparing, adapter, inputs, inputs_with_references, liking, model, recipe, scoring, tokenizer},
    trial::{Trial, distance, each, trial, trial_on},
};

fn four() -> Recipe {
    Recipe { samples_per_prompt: 4, max_steps: 3, eval_size: 0, ..recipe() }
}

/// Every prompt's completions with what was said about them.
fn judged(trial: &Trial) -> Vec<(Drawn, Choice)> {
    trial.drawn().into_iter().flatten().zip(trial.choices().into_iter().flatten()).collect()
}

fn all_judged(recipe: &Recipe, check: impl Fn(&Drawn, &Choice)) {
    let judged = judged(&trial(recipe));
    assert_eq!(judged.len(), 24);
    assert!(judged.iter().filter(|(_, choice)| choice.verdict != Verdict::Tie).count() > 8);
    judged.iter().for_each(|(drawn, choice)| check(drawn, choice));
}

/// Index of the first of the largest values.
fn argmax(values: &[f64]) -> usize {
    (0..values.len()).rev().max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap()
}

#[test]
fn the_best_is_compared_with_the_worst_of_all_samples() {
    all_judged(&Recipe { pair_selection: PairSelection::BestWorst, ..four() }, |drawn, choice| {
        let scores: Vec<f64> = drawn.samples.iter().map(|sample| liking(&sample.text)).collect();
        assert_eq!(choice.scores, scores.iter().map(|score| Some(*score)).collect::<Vec<_>>());
        if scores.iter().all(|score| *score == scores[0]) {
            assert_eq!(choice.verdict, Verdict::Tie);
        } else {
            let worst: Vec<f64> = scores.iter().map(|score| -score).collect();
            assert_eq!((choice.pair, &choice.verdict), ([argmax(&scores), argmax(&worst)], &Verdict::First));
        }
    });
}

#[test]
fn the_best_may_be_compared_with_any_that_scores_lower() {
    let mut seconds = [0; 4];
    let trial = trial(&Recipe { pair_selection: PairSelection::BestRandom, max_steps: 6, ..four() });
    for (_, choice) in judged(&trial).iter().filter(|(_, choice)| choice.verdict == Verdict::First) {
        assert!(choice.score(choice.pair[0]) > choice.score(choice.pair[1]));
        seconds[choice.pair[1]] += 1;
    }
    assert!(seconds.iter().all(|count| *count > 0), "{seconds:?}");
}

/// TRL's rule, before the best and the worst are looked for.
#[test]
fn a_completion_that_was_cut_is_scored_less_the_penalty() {
    let penalised = Recipe { missing_eos_penalty: Some(0.75), ..four() };
    let expected = |drawn: &Drawn| -> Vec<f64> {
        let score = |sample: &bpo_train::Sample| liking(&sample.text) - if sample.eos { 0.0 } else { 0.75 };
        drawn.samples.iter().map(score).collect()
    };
    all_judged(&Recipe { pair_selection: PairSelection::BestWorst, ..penalised.clone() }, |drawn, choice| {
        let scores = expected(drawn);
        assert_eq!(choice.scores, scores.iter().map(|score| Some(*score)).collect::<Vec<_>>());
        assert!(scores.iter().all(|score| *score <= scores[choice.pair[0]] && *score >= scores[choice.pair[1]]));
    });
    all_judged(&Recipe { samples_per_prompt: 2, ..penalised }, |drawn, choice| {
        let scores = expected(drawn);
        assert_eq!(choice.verdict, Verdict::of_scores(scores[0], scores[1]));
        assert_eq!([choice.score(0), choice.score(1)], [Some(scores[0]), Some(scores[1])]);
    });
}

#[test]
fn an_annotator_that_only_compares_ranks_by_wins() {
    let best_worst = Recipe { pair_selection: PairSelection::BestWorst, ..four() };
    let compared = trial_on(&best_worst, Inputs { annotator: Box::new(Comparing), ..inputs() });
    let scored = judged(&trial(&best_worst));
    for ((_, ours), (_, theirs)) in judged(&compared).iter().zip(&scored).take(8) {
        assert_eq!((ours.pair, &ours.verdict, ours.scores.len()), (theirs.pair, &theirs.verdict, 0));
    }
}

/// Two members that differ from the start, their merge, and the members' ranks of all candidates of a first step,
/// each scored by itself.
#[test]
fn a_selection_by_members_reads_the_ranks_of_their_implicit_rewards() {
    let base = model(json!({}));
    let first = adapter(&base, &["all-linear"]);
    let second = first.with_weights(first.weights().map(|_, weight| weight.clone() * weight * -2.0));
    let adapters = vec![first, second];
    let merged = merge_adapters(&[&adapters[0], &adapters[1]], &[0.5; 2], AdapterMerge::Mean).unwrap().adapter;
    let selections = [
        PairSelection::UcbSecUcb,
        PairSelection::UcbMeanUcb,
        PairSelection::UcbRef,
        PairSelection::UcbLcb,
        PairSelection::UcbRand,
        PairSelection::UpperBound,
        PairSelection::LowerBound,
    ];
    each(&selections, |&pair_selection| {
        let by_members = Recipe {
            pair_selection,
            ucb_gamma: 0.3,
            ensemble_size: 2,
            max_steps: 1,
            lora_r: 3,
            lora_alpha: 6.0,
            ..four()
        };
        let trial = trial_on(&by_members, Inputs { adapters: adapters.clone(), ..inputs_with_references() });
        let prompts = prompts(&by_members, inputs_with_references().rows);
        let mut judged = judged(&trial);
        assert_eq!(judged.len(), 8);
        for (drawn, choice) in &mut judged {
            let prompt = prompts.iter().find(|prompt| prompt.id == drawn.prompt).unwrap();
            let logps = |policy: &bpo_model::Adapter| -> Vec<f64> {
                let model = Trainable::Lora(policy.clone()).model(&base).unwrap();
                let completions = drawn.samples.iter().map(|sample| sample.tokens.as_slice()).collect();
                let layout = padded(&[Group { prompt: &prompt.ids, completions }], 0).unwrap();
                sequence_logps(&model, &layout).unwrap().sums.iter().map(|sum| f64::from(*sum)).collect()
            };
            let anchor = logps(&merged);
            let reward = |policy| logps(policy).iter().zip(&anchor).map(|(logp, anchor)| logp - anchor).collect();
            let rewards: Vec<Vec<f64>> = adapters.iter().map(reward).collect();
            is_selected(pair_selection, &MemberRanks::new(&rewards, 0.3).unwrap(), drawn, choice);
        }
    });
}

/// Whether `choice` is one the rule can make; random picks may be any of those it draws from.
fn is_selected(selection: PairSelection, ranks: &MemberRanks, drawn: &Drawn, choice: &Choice) {
    let scores: Vec<f64> = drawn.samples.iter().map(|sample| liking(&sample.text)).collect();
    let candidates = Candidates { count: 4, members: Some(ranks), scores: Some(&scores) };
    let possible: Vec<[usize; 2]> = (0..12)
        .filter_map(|pick| selection.select(&candidates, |n| pick % n))
        .map(|pick| match pick {
            Pick { first, second: Second::Candidate(second) } => [first, second],
            Pick { first, .. } => [first, 4],
        })
        .collect();
    assert!(possible.contains(&choice.pair), "{selection}: {:?} is not in {possible:?}", choice.pair);
}

/// The training prompts of a run.
pub fn prompts(recipe: &Recipe, rows: TrainRows) -> Vec<TrainPrompt> {
    let prepared = prepare(recipe, &tokenizer(), 64, rows, None, RowFile::temporary(), &mut Silent).unwrap();
    prepared.train.iter().collect::<Result<_, _>>().unwrap()
}

#[test]
fn only_the_two_that_are_compared_are_judged() {
    let by_members = Recipe { pair_selection: PairSelection::UcbSecUcb, ensemble_size: 2, ..four() };
    for (_, choice) in judged(&trial(&by_members)) {
        let scored: Vec<usize> = (0..4).filter(|&candidate| choice.score(candidate).is_some()).collect();
        let mut pair = choice.pair.to_vec();
        pair.sort_unstable();
        assert_eq!(scored, pair);
    }
}

#[test]
fn a_tie_is_dropped_or_goes_to_the_first_or_the_second() {
    let after = |ties| {
        let linear =
            Recipe { learning_rate: 1.0, adam_epsilon: 10.0, max_grad_norm: 0.0, max_steps: 1, ties, ..recipe() };
        trial_on(&Recipe { eval_size: 0, ..linear }, Inputs { annotator: scoring(|_| 1.0), ..inputs() })
    };
    let [dropped, first, second] = [TieRule::Drop, TieRule::First, TieRule::Second].map(after);
    let start = dropped.weights();
    assert_eq!((dropped.report.pairs, dropped.report.dropped["tie"]), (0, 8));
    for (trial, verdict) in [(&first, Verdict::First), (&second, Verdict::Second)] {
        assert_eq!((trial.report.pairs, trial.report.dropped.len()), (8, 0));
        assert!(trial.choices()[0].iter().all(|choice| choice.verdict == verdict && choice.pair == [0, 1]));
    }
    // At ρ = 0 the two gradients are opposites.
    let (first, second) = (first.weights(), second.weights());
    let mirrored: Vec<f32> = start.iter().zip(&second).map(|(start, second)| 2.0 * start - second).collect();
    let moved = distance(&first, &start);
    assert!(moved > 1e-4 && distance(&first, &mirrored) < 1e-3 * moved, "{moved}");
}

/// Ties among all four candidates have no best and no worst: the rule decides between the first two.
#[test]
fn a_tie_of_all_candidates_is_one_too() {
    for (ties, trains) in [(TieRule::Drop, false), (TieRule::First, true)] {
        let recipe = Recipe { ties, pair_selection: PairSelection::BestWorst, ..four() };
        let trial = trial_on(&recipe, Inputs { annotator: scoring(|_| 1.0), ..inputs() });
        // Identical completions are dropped whatever the rule.
        let drawn = trial.drawn();
        let differ = drawn.iter().flatten().filter(|drawn| drawn.samples[0].text != drawn.samples[1].text);
        assert_eq!(trial.report.pairs, if trains { differ.count() as u64 } else { 0 });
        assert!(judged(&trial).iter().all(|(_, choice)| choice.pair == [0, 1]));
    }
}
