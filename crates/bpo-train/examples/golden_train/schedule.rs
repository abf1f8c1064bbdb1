//! Refreshes, behaviour versions and learning rates by step.
use bpo_train::{LearningRate, LrScheduler, RefreshSchedule};
use serde_json::Value;

use crate::golden::{Check, cases, name, numbers};

pub fn check(golden: &Value, found: &mut Check) -> Result<(), String> {
    cases(golden)?.iter().try_for_each(|case| check_case(case, found))
}

fn check_case(case: &Value, found: &mut Check) -> Result<(), String> {
    found.case();
    let (case_name, inputs, expected) = (name(case), &case["inputs"], &case["expected"]);
    let number = |key: &str| inputs[key].as_f64().ok_or_else(|| format!("{case_name}: no \"{key}\""));
    let (prompts, per_step) = (number("num_prompts")? as u64, number("acc_steps")? as u64);
    let max_step = (number("num_epoch")? * prompts as f64 / per_step as f64) as u64;
    let batches = prompts.div_ceil(per_step);
    let refreshes = RefreshSchedule::every(number("sampling_update_step")? as u64, batches);
    let rate = LearningRate { peak: number("lr")?, scheduler: LrScheduler::Linear, warmup: 0, total: max_step };
    let due: Vec<u64> = (0..batches).filter(|&step| refreshes.due(step)).collect();
    let last = prompts - batches.saturating_sub(1) * per_step;
    for (what, got) in [
        ("max_step", max_step),
        ("batches", batches),
        ("num_refreshes", refreshes.phases()),
        ("last_batch_pairs", last),
    ] {
        found.same(what, case_name, &Some(got), &expected[what].as_u64());
    }
    found.same("num_refreshes", case_name, &(due.len() as u64), &refreshes.phases());
    elided(found, case_name, &due, &expected["refresh_steps"]);
    let versions = numbers(&expected["behaviour_version_at_step"]);
    let phases: Vec<f64> = (0..batches).map(|step| refreshes.phase(step) as f64).take(versions.len()).collect();
    found.close("behaviour_version_at_step", case_name, &phases, &versions, 0.5);
    // In units of the peak, or any rate would be right.
    let share = |rates: &Value| numbers(rates).iter().map(|lr| lr / rate.peak).collect::<Vec<f64>>();
    let rates: Vec<f64> = (0..batches).map(|step| rate.at(step) / rate.peak).collect();
    let (first, last) = (share(&expected["lr_at_step_first5"]), share(&expected["lr_at_last3"]));
    found.close("lr_at_step_first5", case_name, &rates[..first.len().min(rates.len())], &first, 1e-14);
    found.close("lr_at_last3", case_name, &rates[rates.len().saturating_sub(last.len())..], &last, 1e-14);
    Ok(())
}

/// A list whose middle may be left out: a string stands where.
fn elided(found: &mut Check, case: &str, got: &[u64], expected: &Value) {
    let parts: Vec<&[Value]> = expected.as_array().map_or(vec![], |all| all.split(Value::is_string).collect());
    let numbers = |part: &[Value]| part.iter().filter_map(Value::as_u64).collect::<Vec<u64>>();
    match parts.as_slice() {
        [head, tail] if head.len() + tail.len() <= got.len() => {
            found.same("refresh_steps", case, &got[..head.len()].to_vec(), &numbers(head));
            found.same("refresh_steps", case, &got[got.len() - tail.len()..].to_vec(), &numbers(tail));
        }
        _ => {
            found.same("refresh_steps", case, &got.to_vec(), &parts.concat().iter().filter_map(Value::as_u64).collect())
        }
    }
}
