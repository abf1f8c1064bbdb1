//! Checks the rules for chosen and rejected against golden files of schema `bpo-golden-annotation`.
//!
//! `cargo run --release -p bpo-annotate --example golden_annotate -- annotation.json`
#![allow(missing_docs, clippy::print_stdout)]

use std::process::ExitCode;

use bpo_annotate::{Comparison, Judgement, Ranking, TieRule, Verdict, lowest_fraction, missing_eos_penalty};
use serde_json::{Value, json};

#[path = "../../../tests/golden/mod.rs"]
#[allow(dead_code, reason = "each example uses its part")]
mod golden;

use golden::{Check, cases, name, numbers};

fn main() -> ExitCode {
    golden::run("bpo-annotate", |golden, found| cases(golden)?.iter().try_for_each(|case| check(case, found)))
}

/// The rule of a case follows from what it is given.
fn check(case: &Value, found: &mut Check) -> Result<(), String> {
    found.case();
    let inputs = &case["inputs"];
    let got = match inputs {
        _ if inputs.get("first_has_eos").is_some() => trl_online_dpo(inputs),
        _ if inputs.get("first").is_some() => bpo_reward_model(inputs),
        _ if inputs.get("ranks").is_some() => selm(inputs)?,
        _ if inputs.get("samples").is_some() => bpo_duplicates(inputs),
        _ if inputs.get("rewards").is_some() => optune(inputs),
        _ => return Err(format!("{}: no rule reads these inputs: {inputs}", name(case))),
    };
    for (field, expected) in case["expected"].as_object().ok_or("no \"expected\"")? {
        match got.get(field) {
            Some(got) if is_real(expected) => found.close(field, name(case), &numbers(got), &numbers(expected), 1e-15),
            Some(got) => found.same(field, name(case), got, expected),
            None => return Err(format!("{}: nothing computes {field}", name(case))),
        }
    }
    Ok(())
}

/// Whether a value holds numbers with a fraction, as scores and weights do and indices do not.
fn is_real(value: &Value) -> bool {
    value.as_array().and_then(|values| values.first()).unwrap_or(value).is_f64()
}

fn bpo_reward_model(inputs: &Value) -> Value {
    json!({ "chosen_is_first": chosen_is_first(&numbers(&inputs["first"]), &numbers(&inputs["second"]), TieRule::Second) })
}

fn trl_online_dpo(inputs: &Value) -> Value {
    let penalty = inputs["missing_eos_penalty"].as_f64().unwrap_or(0.0);
    let rewards = |side: &str| -> Vec<f64> {
        let ended = rows(&inputs[format!("{side}_has_eos")]).iter().map(|ended| ended == &json!(true));
        let score = |(score, ended)| missing_eos_penalty(score, ended, penalty);
        numbers(&inputs[side]).into_iter().zip(ended).map(score).collect()
    };
    let (first, second) = (rewards("first"), rewards("second"));
    let chosen_is_first = chosen_is_first(&first, &second, TieRule::First);
    json!({ "rewards_first": first, "rewards_second": second, "chosen_is_first": chosen_is_first })
}

fn chosen_is_first(first: &[f64], second: &[f64], ties: TieRule) -> Vec<bool> {
    let judgements = first.iter().zip(second).map(|(&first, &second)| Judgement::of_scores(first, second));
    judgements.map(|judgement| judgement.settled(ties).verdict == Verdict::First).collect()
}

fn selm(inputs: &Value) -> Result<Value, String> {
    let pair = |ranks: &Value| {
        let ranks = numbers(ranks).into_iter().map(|rank| rank as u32);
        Ranking::of_ranks(ranks).pair().ok_or_else(|| "all ranks are equal".to_string())
    };
    let (chosen, rejected): (Vec<usize>, Vec<usize>) =
        rows(&inputs["ranks"]).iter().map(pair).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    Ok(json!({ "chosen": chosen, "rejected": rejected }))
}

fn bpo_duplicates(inputs: &Value) -> Value {
    let kept = |samples: &Value| {
        let [first, second] = [0, 1].map(|index| samples[index].as_str().unwrap_or_default().to_string());
        !Comparison { prompt: String::new(), first, second }.is_identical()
    };
    let kept: Vec<bool> = rows(&inputs["samples"]).iter().map(kept).collect();
    json!({ "pairs": kept.iter().filter(|kept| **kept).count(), "kept": kept })
}

fn optune(inputs: &Value) -> Value {
    let rewards: Vec<Vec<f64>> = rows(&inputs["rewards"]).iter().map(numbers).collect();
    let mean = |rewards: &Vec<f64>| rewards.iter().sum::<f64>() / rewards.len() as f64;
    let means: Vec<f64> = rewards.iter().map(mean).collect();
    let regenerate = lowest_fraction(&means, inputs["rho"].as_f64().unwrap_or(0.0));
    json!({ "regenerate": regenerate })
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
