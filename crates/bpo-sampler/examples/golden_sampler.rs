//! Checks pair selection against golden files of schema `bpo-golden-pairs`.
//!
//! `cargo run --release -p bpo-sampler --example golden_sampler -- pair_selection.json`
#![allow(missing_docs, clippy::print_stdout)]

use std::process::ExitCode;

use bpo_sampler::{Candidates, MemberRanks, PairSelection, Pick, Second, best_worst};
use serde_json::{Value, json};

#[path = "../../../tests/golden/mod.rs"]
#[allow(dead_code, reason = "each example uses its part")]
mod golden;

use golden::{Check, cases, name, numbers};

fn main() -> ExitCode {
    golden::run("bpo-sampler", |golden, found| cases(golden)?.iter().try_for_each(|case| check(case, found)))
}

/// A statistic of the members' ranks, `[candidates]`.
type Statistic = fn(&MemberRanks) -> &[f64];
/// Pairs of candidates whose order by scores agrees or not.
type Pairs = fn(&MemberRanks, &[f64]) -> Vec<(usize, usize)>;

/// One prompt of a case.
struct Prompt {
    members: MemberRanks,
    scores: Vec<f64>,
    count: usize,
}

impl Prompt {
    fn all(inputs: &Value) -> Result<Vec<Self>, String> {
        let members = inputs["member_rewards"].as_array().ok_or("no \"member_rewards\"")?;
        let gamma = inputs["gamma"].as_f64().ok_or("no \"gamma\"")?;
        let prompts = members.first().and_then(Value::as_array).map_or(0, Vec::len);
        let prompt = |prompt: usize| {
            let rewards: Vec<Vec<f64>> = members.iter().map(|member| numbers(&member[prompt])).collect();
            let members = MemberRanks::new(&rewards, gamma).map_err(|error| error.to_string())?;
            let scored = members.mean().len();
            let count = inputs["num_candidates"][prompt].as_u64().map_or(scored, |count| count as usize);
            Ok(Self { members, scores: numbers(&inputs["rm_rewards"][prompt]), count })
        };
        (0..prompts).map(prompt).collect()
    }

    fn select(&self, rule: PairSelection, below: impl FnMut(usize) -> usize) -> Option<Pick> {
        let candidates = Candidates { count: self.count, members: Some(&self.members), scores: Some(&self.scores) };
        rule.select(&candidates, below)
    }

    /// What a rule draws from, in the order of the draws; nothing when it draws nothing.
    fn pool(&self, rule: PairSelection) -> Vec<Second> {
        let mut size = 0;
        self.select(rule, |n| {
            size = n;
            0
        });
        (0..size).filter_map(|draw| self.select(rule, |_| draw)).map(|pick| pick.second).collect()
    }
}

fn check(case: &Value, found: &mut Check) -> Result<(), String> {
    found.case();
    let (case_name, expected) = (name(case), &case["expected"]);
    let prompts = Prompt::all(&case["inputs"])?;
    let each = |of: Statistic| -> Vec<f64> { prompts.iter().flat_map(|prompt| of(&prompt.members)).copied().collect() };
    let statistics: [(&str, Statistic); 4] = [
        ("mean_rank", MemberRanks::mean),
        ("std_rank", MemberRanks::std),
        ("ucb", MemberRanks::ucb),
        ("lcb", MemberRanks::lcb),
    ];
    for (what, of) in statistics {
        found.close(what, case_name, &each(of), &numbers(&expected[what]), 1e-15);
    }
    let members = case["inputs"]["member_rewards"].as_array().map_or(0, Vec::len);
    let ranks: Vec<Vec<&[usize]>> = (0..members)
        .map(|member| prompts.iter().map(|prompt| prompt.members.ranks()[member].as_slice()).collect())
        .collect();
    found.same("ranks", case_name, &json!(ranks), &expected["ranks"]);
    for (mode, expected) in expected["modes"].as_object().into_iter().flatten() {
        check_mode(
            mode.parse().map_err(|error: bpo_sampler::Error| error.to_string())?,
            case_name,
            &prompts,
            expected,
            found,
        );
    }
    check_scores(case_name, &prompts, expected, found);
    Ok(())
}

fn check_mode(rule: PairSelection, case: &str, prompts: &[Prompt], expected: &Value, found: &mut Check) {
    let picks: Vec<(usize, Pick)> =
        prompts.iter().enumerate().filter_map(|(i, prompt)| Some((i, prompt.select(rule, |_| 0)?))).collect();
    let second = |prompt: usize, second: Second| match second {
        Second::Candidate(index) => json!(index),
        Second::Reference => json!(format!("L{prompt}")),
    };
    let pools: Vec<Vec<Value>> = prompts
        .iter()
        .enumerate()
        .map(|(i, prompt)| prompt.pool(rule).into_iter().map(|of| second(i, of)).collect::<Vec<_>>())
        .filter(|pool| !pool.is_empty())
        .collect();
    let seconds: Vec<Value> = picks.iter().map(|(prompt, pick)| second(*prompt, pick.second)).collect();
    let got = [
        ("prompt_index", json!(picks.iter().map(|(prompt, _)| prompt).collect::<Vec<_>>())),
        ("first", json!(picks.iter().map(|(_, pick)| pick.first).collect::<Vec<_>>())),
        ("second", json!(seconds)),
        ("fallback_pools_when_first_equals_second", json!(pools)),
        ("second_random_pool", json!(pools)),
    ];
    for (field, got) in &got {
        if let Some(expected) = expected.get(field) {
            found.same(&format!("{rule} {field}"), case, got, expected);
        }
    }
}

fn check_scores(case: &str, prompts: &[Prompt], expected: &Value, found: &mut Check) {
    let extremes: Vec<Value> = prompts
        .iter()
        .map(|prompt| {
            // Where all scores tie, the file names the first candidate twice.
            let pair = best_worst(&prompt.scores);
            let (chosen, rejected) = pair.unwrap_or_default();
            json!({ "chosen": chosen, "rejected": rejected, "degenerate": pair.is_none() })
        })
        .collect();
    let pairs = |of: Pairs| -> Value {
        json!(prompts.iter().map(|prompt| of(&prompt.members, &prompt.scores)).collect::<Vec<_>>())
    };
    let got = [
        ("best_vs_worst", json!(extremes)),
        ("upper_bound_candidate_pairs", pairs(MemberRanks::disputed)),
        ("lower_bound_candidate_pairs", pairs(MemberRanks::agreed)),
    ];
    for (field, got) in &got {
        if let Some(expected) = expected.get(field) {
            found.same(field, case, got, expected);
        }
    }
}
