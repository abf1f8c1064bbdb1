//! What a golden file expects against what the library gives. The example and the test suite share it.
//!
//! Every case is computed in **f64**, where each value must lie within 1e-10 of the expected one, relative to
//! max(1, |expected|), and in **f32**, where it must lie within 1e-4 plus what f32 does to the *inputs*: twice the
//! largest change of our f64 result when every input that f32 cannot hold moves to a neighbouring f32 (once for the
//! inputs, once for roundings of that size in their sums and differences). A sum of −6000 nats has a spacing of 5e-4
//! in f32; no arithmetic can win that back, and it is a lot under β = 10.
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
    /// Finite where the expectation is: an exponent, such as |β·ρ|, of 80 or more leaves f32.
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
    let exact = evaluate(Arithmetic::DOUBLE)?;
    let nudged = Arithmetic::nudged().map(&evaluate).collect::<Result<Vec<Values>, String>>()?;
    let in_single = evaluate(Arithmetic::SINGLE)?;
    if let Some(unknown) = expected.keys().find(|key| exact.iter().all(|(what, _)| self::key(what) != *key)) {
        return Err(format!("nothing computes {unknown}"));
    }
    for (index, (what, exact)) in exact.iter().enumerate() {
        let Some(expected) = expected.get(key(what)).map(numbers) else { continue };
        check.close(&format!("f64 {what}"), name(case), exact, &expected, DOUBLE_TOLERANCE);
        if exact.len() != expected.len() {
            continue;
        }
        let overflows = case["finite_in_float32"] == Value::Bool(false);
        let tolerance = |i: usize| match single(what, i) {
            _ if overflows => f64::INFINITY,
            Single::Close => {
                let nudged = nudged.iter().map(|values| values[index].1[i]);
                SINGLE_TOLERANCE + 2.0 * largest_change(exact[i], nudged) / expected[i].abs().max(1.0)
            }
            Single::Finite => f64::MAX,
            Single::Free => f64::INFINITY,
        };
        let (held, tolerances): (Vec<usize>, Vec<f64>) =
            (0..expected.len()).map(|i| (i, tolerance(i))).filter(|(_, tolerance)| *tolerance < f64::INFINITY).unzip();
        let of = |values: &[f64]| held.iter().map(|&i| values[i]).collect::<Vec<_>>();
        let (got, expected) = (of(&in_single[index].1), of(&expected));
        check.close_each(&format!("f32 {what}"), name(case), &got, &expected, |i| tolerances[i]);
    }
    Ok(())
}

/// How far from `exact` the values on other inputs are; those that are not finite say nothing.
fn largest_change(exact: f64, nudged: impl Iterator<Item = f64>) -> f64 {
    nudged.map(|value| (value - exact).abs()).filter(|change| change.is_finite()).fold(0.0, f64::max)
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
