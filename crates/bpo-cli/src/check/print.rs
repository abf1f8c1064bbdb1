//! The facts of a check as lines.
use serde_json::{Map, Value};

use super::resources::{size, time};
use crate::{
    failure::Failure,
    out::{Out, printable},
};

/// Width of the lines of defaults.
const WIDTH: usize = 100;

/// One line per fact, then the keys.
pub fn print(out: &mut Out, facts: &Map<String, Value>) -> Result<(), Failure> {
    let text = |key: &str| facts.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut line = |name: &str, text: &str| out.line(&format!("{name:<11}{}", printable(text)));
    line("run", &format!("{} ({})", text("run_dir"), text("run")))?;
    if let Some(texts) = facts.get("texts") {
        line("data", &format!("{texts} texts"))?;
    }
    if let Some(pairs) = facts.get("pairs") {
        line("data", &format!("{pairs} pairs"))?;
    }
    if let Some(model) = facts.get("model") {
        line("model", &model_line(model))?;
    }
    if let Some(data) = facts.get("data") {
        for said in data_lines(data) {
            line("data", &said)?;
        }
    }
    for said in facts.get("procedure").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        match said.strip_prefix("warning: ") {
            Some(warning) => line("warning", warning)?,
            None => line("procedure", said)?,
        }
    }
    if facts.contains_key("reference") {
        line("reference", text("reference"))?;
    }
    if let Some(annotator) = facts.get("annotator") {
        let asked = annotator["asked"].as_str().unwrap_or("not asked (--ask asks it one question)");
        let name = annotator["name"].as_str().unwrap_or_default();
        line("annotator", &format!("{name}, {asked}; it would judge {} responses", facts["judged_responses"]))?;
    }
    if let Some(memory) = facts.get("memory") {
        let before = if text("kind") == "reward" { "reading" } else { "sampling" };
        line("memory", &memory_line(memory, before))?;
    }
    if let Some(time) = facts.get("time") {
        let judges = facts.contains_key("annotator");
        line("time", &time_line(time, facts["steps"].as_u64().unwrap_or(0), judges))?;
    }
    keys(out, facts.get("settings"))
}

fn model_line(model: &Value) -> String {
    let word = |key: &str| model[key].as_str().unwrap_or("-").to_owned();
    let (path, kind, stored, kept) = (word("path"), word("architecture"), word("stored"), word("kept"));
    format!("{path}: {kind}, {} parameters, stored as {stored}, kept as {kept}", model["parameters"])
}

fn data_lines(data: &Value) -> Vec<String> {
    let notes = data["notes"].as_array().into_iter().flatten();
    let mut lines: Vec<String> = notes.filter_map(Value::as_str).map(str::to_owned).collect();
    lines.push(match &data["longest"] {
        Value::Null => format!("longest prompt {} tokens", data["longest_prompt"]),
        longest => format!("{} trained on; the longest has {longest} tokens", data["training"]),
    });
    match data["duplicates"].as_u64() {
        Some(count) if count > 0 => lines.push(format!("{count} have the prompt of another one; all are trained on")),
        _ => {}
    }
    lines
}

/// `before` is what is done without gradients, where anything is.
fn memory_line(memory: &Value, before: &str) -> String {
    let of = |key: &str| memory[key].as_u64().map_or_else(|| "?".to_owned(), size);
    let free = memory["free"].as_u64().map_or_else(String::new, |free| format!(" of {} free", size(free)));
    let over = memory["peak"].as_u64() > memory["free"].as_u64() && memory["free"].is_u64();
    let warning = if over {
        "; it may not fit: a smaller per_device_train_batch_size, gradient_checkpointing = true or dtype = \"bfloat16\" take less"
    } else {
        ""
    };
    let before = match memory["cache"].as_u64() {
        Some(0) | None => "then".to_owned(),
        Some(_) => format!("then {before} {} + {} or", of("folded"), of("cache")),
    };
    format!(
        "about {}{free}: weights {}, trained {}, {before} training {} ({} a token) + {}{warning}",
        of("peak"),
        of("weights"),
        of("trained"),
        of("activations"),
        memory["per_token"].as_f64().map_or_else(String::new, |bytes| format!("{:.2} MB", bytes / 1e6)),
        of("head"),
    )
}

fn time_line(facts: &Value, steps: u64, judges: bool) -> String {
    let of = |key: &str| time(facts[key].as_f64().unwrap_or(0.0));
    let evaluations = match facts["evaluations"].as_u64() {
        Some(0) | None => String::new(),
        Some(1) => format!(" and an evaluation of {}", of("evaluation_s")),
        Some(count) => format!(" and {count} evaluations of {}", of("evaluation_s")),
    };
    let once = match facts["once_s"].as_f64() {
        Some(seconds) if seconds > 0.0 => format!("{} before the first step, ", time(seconds)),
        _ => String::new(),
    };
    let parts = match facts["sample_s"].as_f64() {
        Some(seconds) if seconds > 0.0 => format!(" (sampling {}, training {})", time(seconds), of("train_s")),
        _ => String::new(),
    };
    let left_out = if judges { "judging and loading" } else { "loading" };
    let cut = match facts["sampling_measured"].as_f64() {
        Some(share) if share < 1.0 => format!("; sampling was measured for {:.0} % of a step", share * 100.0),
        _ => String::new(),
    };
    format!(
        "about {}: {once}{steps} steps of {}{parts}{evaluations}; {left_out} not counted{cut}",
        of("total_s"),
        of("step_s"),
    )
}

/// Keys that somebody set, a line each; then the defaults, wrapped.
fn keys(out: &mut Out, settings: Option<&Value>) -> Result<(), Failure> {
    let settings: Vec<(&String, &Value)> = settings.and_then(Value::as_object).into_iter().flatten().collect();
    for from in ["recipe", "--set"] {
        let set: Vec<_> = settings.iter().filter(|(_, key)| key["from"] == from).collect();
        if !set.is_empty() {
            out.line(&format!("\n{}", if from == "recipe" { "set by the recipe" } else { "set on the command line" }))?;
        }
        for (key, value) in set {
            out.line(&format!("  {key} = {}", printable(&value["value"].to_string())))?;
        }
    }
    out.line("\ndefaults")?;
    let mut line = String::from(" ");
    for (key, value) in settings.iter().filter(|(_, key)| key["from"] == "default") {
        let word = format!(" {key} = {},", value["value"]);
        if line.len() + word.len() > WIDTH && line.len() > 1 {
            out.line(&line)?;
            line = String::from(" ");
        }
        line.push_str(&word);
    }
    out.line(line.trim_end_matches(','))
}
