use serde_json::Value;

use super::bpo::{arg, bpo, bpo_reading, file, fixture};

const PROMPTS: &str =
    "{\"prompt\":\"Once upon a time\"}\n{\"prompt\":\"The dog\"}\n{\"prompt\":\"Lily and Tom went\"}\n";

fn generate(extra: &[&str]) -> Option<(Vec<Value>, std::path::PathBuf)> {
    let model = fixture("stories260K")?;
    let (_dir, prompts) = file("prompts.jsonl", PROMPTS);
    let fixed = ["generate", "--model", arg(&model), "--prompts", arg(&prompts), "--json", "--max-new-tokens", "12"];
    Some((bpo(&[&fixed, extra].concat()).rows(), model.clone()))
}

#[test]
fn a_seed_draws_the_same_tokens_in_any_batch() {
    let Some((one, _)) = generate(&["--samples", "2", "--seed", "7"]) else { return };
    let (again, _) = generate(&["--samples", "2", "--seed", "7", "--batch-size", "1"]).unwrap();
    let (other, _) = generate(&["--samples", "2", "--seed", "8"]).unwrap();
    let ids = |rows: &[Value]| rows.iter().map(|row| row["response_ids"].clone()).collect::<Vec<_>>();
    assert_eq!(one.len(), 6);
    assert_eq!(ids(&one), ids(&again));
    assert_ne!(ids(&one), ids(&other));
    let order: Vec<(u64, u64)> =
        one.iter().map(|row| (row["id"].as_u64().unwrap(), row["slot"].as_u64().unwrap())).collect();
    assert_eq!(order, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]);
}

#[test]
fn samples_of_one_prompt_may_be_in_several_batches() {
    let slots = |extra: &[&str]| {
        let (rows, _) = generate(&[&["--samples", "5"], extra].concat())?;
        Some(rows.iter().map(|row| (row["slot"].clone(), row["response_ids"].clone())).collect::<Vec<_>>())
    };
    let Some(one) = slots(&[]) else { return };
    assert_eq!(one, slots(&["--batch-size", "2"]).unwrap());
}

#[test]
fn recorded_log_probs_are_those_that_score_gives() {
    let Some((rows, model)) = generate(&["--top-k", "5", "--temperature", "0.7"]) else { return };
    let input: String = rows.iter().map(|row| format!("{row}\n")).collect();
    let scored = bpo_reading(&input, &["score", "--model", arg(&model), "--input", "-"]).rows();
    for (row, scored) in rows.iter().zip(scored) {
        assert!((row["logp"].as_f64().unwrap() - scored["logp"].as_f64().unwrap()).abs() < 1e-3, "{row} {scored}");
        assert_eq!(row["length"], scored["length"]);
    }
}

#[test]
fn no_completion_is_shorter_than_min_new_tokens() {
    let Some((rows, _)) = generate(&["--min-new-tokens", "12", "--temperature", "3"]) else { return };
    assert!(rows.iter().all(|row| row["length"] == 12), "{rows:?}");
    let refused = bpo(&["generate", "--model", "embedded", "--prompt", "x", "--min-new-tokens", "129"]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("--min-new-tokens 129 is above --max-new-tokens 128"), "{}", refused.stderr);
}

#[test]
fn what_was_sampled_and_how_fast_is_told_on_standard_error() {
    let Some(model) = fixture("stories260K") else { return };
    let common = ["generate", "--model", arg(&model), "--prompt", "Once", "--samples", "3", "--max-new-tokens", "5"];
    let told = bpo(&common).stderr;
    assert!(told.contains("3 completions, ") && told.contains(" tokens/s)"), "{told}");
    let run = bpo(&[&common[..], &["--json"]].concat());
    let totals: Value = serde_json::from_str(run.stderr.lines().last().unwrap()).unwrap();
    let tokens: u64 = run.rows().iter().map(|row| row["length"].as_u64().unwrap()).sum();
    assert_eq!((&totals["completions"], &totals["tokens"]), (&3.into(), &tokens.into()));
    assert!(totals["tokens_per_second"].as_f64().unwrap() > 0.0);
}

#[test]
fn greedy_needs_no_seed() {
    let Some((one, _)) = generate(&["--greedy", "--seed", "1"]) else { return };
    let (other, _) = generate(&["--greedy", "--seed", "2"]).unwrap();
    assert!(one.iter().zip(&other).all(|(a, b)| a["response_ids"] == b["response_ids"]));
}

#[test]
fn text_goes_on_where_the_prompt_ended() {
    let Some(model) = fixture("stories260K") else { return };
    let run = bpo(&["generate", "--model", arg(&model), "--prompt", "Once upon", "--greedy"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.starts_with("Once upon a time"), "a space is lost: {}", run.stdout);
    assert!(!run.stdout.contains('\x1b'), "no colours in a file");
}

#[test]
fn more_prompts_than_are_held_at_a_time_are_answered_in_their_order() {
    let rows: String = (0..4200).map(|cats| format!("{{\"prompt\":\"Tom has {cats} cats.\"}}\n")).collect();
    let (_dir, prompts) = file("prompts.jsonl", &rows);
    let sampled = |batch: &str| {
        let args = ["generate", "--model", "embedded", "--max-new-tokens", "2", "--json", "--batch-size", batch];
        bpo(&[&args[..], &["--prompts", arg(&prompts)]].concat())
    };
    let (one, other) = (sampled("64").rows(), sampled("9").rows());
    assert!(one.len() == 4200 && other.len() == 4200, "{} and {} rows", one.len(), other.len());
    let is_asked = |(cats, row): (usize, &Value)| row["prompt"] == format!("Tom has {cats} cats.");
    assert!(one.iter().enumerate().all(is_asked));
    // Log-probs of other batches differ in their last digits, which may turn a draw in a great many.
    let same = one.iter().zip(&other).filter(|(one, other)| one["response_ids"] == other["response_ids"]).count();
    assert!(same > 4190, "{same} of 4200 are the same");
}
