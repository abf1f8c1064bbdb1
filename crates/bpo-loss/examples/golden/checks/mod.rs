//! What a golden file expects against what the library gives. The example and the test suite share it.
//!
//! Every case is computed three times. In **f64** each value must lie within 1e-10 of the expected one, relative to
//! max(1, |expected|). In **f32** it must lie within 1e-4 plus what the rounding of the *inputs* to f32 does to it:
//! the distance between our f64 results on the exact and on the rounded inputs. A sum of −6000 nats has a spacing of
//! 5e-4 in f32; no arithmetic can win that back.
mod arithmetic;
mod bonuses;
mod logits;
mod losses;
mod tokens;

use serde_json::Value;

use self::arithmetic::Arithmetic;
use crate::golden::{Check, cases, name, numbers};

const DOUBLE_TOLERANCE: f64 = 1e-10;
const SINGLE_TOLERANCE: f64 = 1e-4;

/// Holds all cases of a golden file against the library.
pub fn check(golden: &Value, check: &mut Check) -> Result<(), String> {
    let schema = golden["schema"].as_str().unwrap_or_default();
    let compare = match schema.split('/').next().unwrap_or_default() {
        "bpo-golden-loss" => losses::check,
        "bpo-golden-selm" => bonuses::selm,
        "bpo-golden-xpo" => bonuses::xpo,
        "bpo-golden-trltoken" => tokens::check,
        "bpo-golden-tokenlogps" => logits::token_logps,
        "bpo-golden-bpologits" => logits::bpo,
        other => return Err(format!("unknown schema {other}")),
    };
    for case in cases(golden)? {
        check.case();
        if let Err(reason) = compare(golden, case, check) {
            check.fail(format!("{}: {reason}", name(case)));
        }
    }
    Ok(())
}

/// Quantities under their names in `expected`.
type Values = Vec<(&'static str, Vec<f64>)>;

/// The name in `expected` of a quantity that the chunked head gives too.
fn key(what: &str) -> &str {
    what.strip_prefix("head ").unwrap_or(what)
}

/// How far a pair's value is held to its expectation in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Single {
    /// To the tolerance.
    Close,
    /// Finite where the expectation is: |β·ρ| ≥ 80, where e^{βρ} leaves f32.
    Finite,
    /// Not at all: the file says that the case overflows f32.
    Free,
}

/// Holds what `evaluate` gives against `case.expected`; `single(quantity, index)` says how far f32 is held to it.
fn compare(
    check: &mut Check,
    case: &Value,
    single: impl Fn(&str, usize) -> Single,
    evaluate: impl Fn(Arithmetic) -> Result<Values, String>,
) -> Result<(), String> {
    let expected = case["expected"].as_object().ok_or("no \"expected\"")?;
    let [exact, rounded, in_single] =
        [evaluate(Arithmetic::DOUBLE)?, evaluate(Arithmetic::ROUNDED)?, evaluate(Arithmetic::SINGLE)?];
    if let Some(unknown) = expected.keys().find(|key| exact.iter().all(|(what, _)| self::key(what) != *key)) {
        return Err(format!("nothing computes {unknown}"));
    }
    for (index, (what, exact)) in exact.iter().enumerate() {
        let Some(expected) = expected.get(key(what)).map(numbers) else { continue };
        check.close(&format!("f64 {what}"), name(case), exact, &expected, DOUBLE_TOLERANCE);
        let (rounded, in_single) = (&rounded[index].1, &in_single[index].1);
        let tolerance = |i: usize| match single(what, i) {
            Single::Close => SINGLE_TOLERANCE + rounding(exact[i], rounded[i]) / expected[i].abs().max(1.0),
            Single::Finite => f64::MAX,
            Single::Free => f64::INFINITY,
        };
        let held: Vec<usize> = (0..expected.len()).filter(|&i| tolerance(i) < f64::INFINITY).collect();
        let of = |values: &[f64]| held.iter().filter_map(|&i| values.get(i).copied()).collect::<Vec<_>>();
        check.close_each(&format!("f32 {what}"), name(case), &of(in_single), &of(&expected), |i| tolerance(held[i]));
    }
    Ok(())
}

/// What rounding the inputs to f32 does to a value; nothing where it is not finite.
fn rounding(exact: f64, rounded: f64) -> f64 {
    let change = (exact - rounded).abs();
    if change.is_finite() { change } else { 0.0 }
}

/// In f32 everything is held to the tolerance.
fn all_close(_: &str, _: usize) -> Single {
    Single::Close
}

/// A number of `hyper`.
fn hyper(case: &Value, key: &str) -> Option<f64> {
    case["hyper"][key].as_f64()
}

/// `hyper.beta`, which every loss has.
fn beta(case: &Value) -> Result<f64, String> {
    hyper(case, "beta").ok_or_else(|| "no hyper.beta".to_string())
}

/// `inputs.key`, flattened.
fn input(case: &Value, key: &str) -> Vec<f64> {
    numbers(&case["inputs"][key])
}

/// The rows of `inputs.key`, of any lengths.
fn rows(case: &Value, key: &str) -> Result<Vec<Vec<f64>>, String> {
    let rows = case["inputs"][key].as_array().ok_or_else(|| format!("no inputs.{key}"))?;
    Ok(rows.iter().map(numbers).collect())
}

/// The sentence of a library error.
fn refused(error: bpo_loss::Error) -> String {
    format!("the library refuses: {error}")
}
