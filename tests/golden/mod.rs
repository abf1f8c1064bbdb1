//! What the `golden` examples and the conformance suite share: reading golden files, comparing, and saying how far off the worst value is.
//! Each crate's example includes this file and answers for the schemas that it owns.
use std::{collections::BTreeMap, process::ExitCode};

use serde_json::Value;

/// Which crate's example checks a schema.
const OWNERS: [(&str, &str); 12] = [
    ("bpo-golden-loss", "bpo-loss"),
    ("bpo-golden-selm", "bpo-loss"),
    ("bpo-golden-xpo", "bpo-loss"),
    ("bpo-golden-trltoken", "bpo-loss"),
    ("bpo-golden-tokenlogps", "bpo-loss"),
    ("bpo-golden-bpologits", "bpo-loss"),
    ("bpo-golden-lora", "bpo-model"),
    ("bpo-golden-pairs", "bpo-sampler"),
    ("bpo-golden-annotation", "bpo-annotate"),
    ("bpo-golden-schedule", "bpo-train"),
    ("bpo-golden-causal", "bpo-train"),
    ("bpo-golden-steps", "bpo-train"),
];

/// The command that runs a crate's example.
fn command(owner: &str) -> String {
    let name = owner.trim_start_matches("bpo-");
    format!("cargo run --release -p {owner} --example golden_{name} --")
}

/// The worst deviation of one quantity of a file.
#[derive(Debug, Clone, Default)]
struct Worst {
    values: usize,
    /// Error relative to max(1, |expected|), in units of 1.
    error: f64,
    tolerance: f64,
    case: String,
}

/// Collects how far a file's cases are off.
#[derive(Debug, Default)]
pub struct Check {
    cases: usize,
    worst: BTreeMap<String, Worst>,
    failures: Vec<String>,
}

impl Check {
    /// Counts a case.
    pub fn case(&mut self) {
        self.cases += 1;
    }

    /// Compares numbers, relative to max(1, |expected|): finite where the expected value is, NaN where it is
    /// NaN, the same infinity where it is infinite.
    pub fn close(&mut self, what: &str, case: &str, got: &[f64], expected: &[f64], tolerance: f64) {
        self.close_each(what, case, got, expected, |_| tolerance);
    }

    /// As [`Check::close`], with a tolerance for each value.
    pub fn close_each(
        &mut self,
        what: &str,
        case: &str,
        got: &[f64],
        expected: &[f64],
        tolerance: impl Fn(usize) -> f64,
    ) {
        if got.len() != expected.len() {
            self.fail(format!("{case}: {what}: {} values instead of {}", got.len(), expected.len()));
            return;
        }
        for (index, (&got, &expected)) in got.iter().zip(expected).enumerate() {
            let tolerance = tolerance(index);
            let error = if got == expected || (got.is_nan() && expected.is_nan()) {
                0.0
            } else if got.is_finite() && expected.is_finite() {
                (got - expected).abs() / expected.abs().max(1.0)
            } else {
                f64::INFINITY
            };
            let worst = self.worst.entry(what.to_string()).or_default();
            worst.values += 1;
            // The one that uses most of its tolerance.
            if worst.case.is_empty() || error / tolerance > worst.error / worst.tolerance {
                (worst.error, worst.tolerance, worst.case) = (error, tolerance, case.to_string());
            }
            if error > tolerance {
                self.fail(format!("{case}: {what}[{index}] is {got:e} instead of {expected:e}"));
            }
        }
    }

    /// Compares anything else for equality.
    pub fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, case: &str, got: &T, expected: &T) {
        let worst = self.worst.entry(what.to_string()).or_default();
        worst.values += 1;
        worst.tolerance = 1.0;
        if got != expected {
            (worst.error, worst.case) = (f64::INFINITY, case.to_string());
            self.fail(format!("{case}: {what} is {got:?} instead of {expected:?}"));
        }
    }

    /// Something that is wrong without being a number.
    pub fn fail(&mut self, reason: String) {
        self.failures.push(reason);
    }

    /// What was wrong so far.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// Says how many cases there were, the worst error of each quantity, and what was wrong.
    pub fn print(&self, file: &str) {
        let verdict = if self.failures.is_empty() && self.cases > 0 { "ok  " } else { "FAIL" };
        let errors: Vec<String> = self
            .worst
            .iter()
            .map(|(what, worst)| {
                format!("{what} {:.1e} (tolerance {:.0e}, {})", worst.error, worst.tolerance, worst.case)
            })
            .collect();
        println!("{verdict} {file}: {} cases; worst error: {}", self.cases, errors.join("; "));
        for failure in self.failures.iter().take(20) {
            println!("     {failure}");
        }
        if self.failures.len() > 20 {
            println!("     and {} more", self.failures.len() - 20);
        }
    }
}

/// Reads the files named on the command line and lets `check` look at each. The exit code is 0 when all of them
/// hold, 1 when a value is out of tolerance, 2 when a file cannot be read or belongs to another crate.
pub fn run(owner: &str, check: impl Fn(&Value, &mut Check) -> Result<(), String>) -> ExitCode {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        eprintln!("usage: {} FILE…", command(owner));
        return ExitCode::from(2);
    }
    let mut code = 0;
    for file in &files {
        match golden(owner, file).and_then(|golden| {
            let mut found = Check::default();
            check(&golden, &mut found).map(|()| found)
        }) {
            Ok(found) => {
                found.print(file);
                if !found.failures.is_empty() || found.cases == 0 {
                    code = code.max(1);
                }
            }
            Err(reason) => {
                println!("FAIL {file}: {reason}");
                code = 2;
            }
        }
    }
    ExitCode::from(code)
}

fn golden(owner: &str, file: &str) -> Result<Value, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let golden: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let schema = golden["schema"].as_str().ok_or("no \"schema\" in the file")?;
    let name = schema.split('/').next().unwrap_or(schema);
    match OWNERS.iter().find(|(known, _)| *known == name) {
        Some((_, of)) if *of == owner => Ok(golden),
        Some((_, of)) => Err(format!("schema {schema} is checked by: {}", command(of))),
        None => Err(format!("unknown schema {schema}")),
    }
}

/// All numbers of a value, nested arrays flattened; the strings NaN, Infinity and -Infinity are numbers.
pub fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        Value::String(text) => match text.as_str() {
            "NaN" => vec![f64::NAN],
            "Infinity" => vec![f64::INFINITY],
            "-Infinity" => vec![f64::NEG_INFINITY],
            _ => Vec::new(),
        },
        other => other.as_f64().into_iter().collect(),
    }
}

/// The cases of a file.
pub fn cases(golden: &Value) -> Result<&[Value], String> {
    golden["cases"].as_array().map(Vec::as_slice).ok_or_else(|| "no \"cases\" in the file".to_string())
}

/// A case's name.
pub fn name(case: &Value) -> &str {
    case["name"].as_str().unwrap_or("(unnamed)")
}
