//! Checks merges of LoRA adapters against golden files: `cargo run --release -p bpo-model --example golden_model -- FILE…`
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]
use std::process::ExitCode;

use bpo_model::{AdapterMerge, LowRank, merge_deltas};
use serde_json::Value;

#[path = "../../../tests/golden/mod.rs"]
#[allow(dead_code, reason = "each example uses its part")]
mod golden;
use golden::{Check, cases, name, numbers};

/// Of sums in f64, relative to the largest value of the array.
const EXACT: f64 = 1e-11;
/// PEFT rounds the square roots of the weights to f32.
const PEFT: f64 = 2e-7;
/// PEFT, all in f32.
const PEFT_F32: f64 = 2e-6;

fn main() -> ExitCode {
    golden::run("bpo-model", |golden, check| {
        for case in cases(golden)? {
            check.case();
            Case::read(case)?.check(check)?;
        }
        Ok(())
    })
}

struct Case<'a> {
    name: &'a str,
    expected: &'a Value,
    peft: &'a Value,
    /// `[out, in]`.
    weight: Vec<f64>,
    /// `[n, in]`.
    x: Vec<f64>,
    members: Vec<LowRank>,
    scalings: Vec<f64>,
    /// `w_k·s_k`.
    factors: Vec<f64>,
}

fn rows(value: &Value) -> Result<&[Value], String> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| "A or B is not an array".to_owned())
}

impl<'a> Case<'a> {
    fn read(case: &'a Value) -> Result<Self, String> {
        let inputs = &case["inputs"];
        let members = rows(&inputs["A"])?.iter().zip(rows(&inputs["B"])?);
        let member = |(a, b)| LowRank::new(rows(a)?.len(), &numbers(a), &numbers(b)).map_err(|error| error.to_string());
        let (scalings, weights) = (numbers(&inputs["scaling"]), numbers(&inputs["weights"]));
        Ok(Self {
            name: name(case),
            expected: &case["expected"],
            peft: &case["peft_0_21_2_call"],
            weight: numbers(&inputs["W"]),
            x: numbers(&inputs["x"]),
            members: members.map(member).collect::<Result<_, String>>()?,
            factors: weights.iter().zip(&scalings).map(|(weight, scaling)| weight * scaling).collect(),
            scalings,
        })
    }

    fn check(&self, check: &mut Check) -> Result<(), String> {
        let (linear, linear_error) = self.merged(AdapterMerge::PeftLinear)?;
        let (mean, mean_error) = self.merged(AdapterMerge::Mean)?;
        self.close(check, "A_merged_linear", linear.a());
        self.close(check, "B_merged_linear", &linear.b());
        for (kind, delta) in [("linear", &linear), ("mean", &mean)] {
            self.close(check, &format!("delta_{kind}"), &delta.product());
            self.close(check, &format!("W_{kind}"), &sum(&self.weight, &delta.product()));
            self.close(check, &format!("y_{kind}"), &self.output(&delta.product()));
        }
        let ratio = linear.norm() / mean.norm();
        // The norm of a mean in which members nearly cancel is all rounding.
        if ratio < 1e4 {
            self.close(check, "ratio_norm_linear_over_mean", &[ratio]);
        }
        check.close("mean error", self.name, &[mean_error], &[0.0], 0.0);
        self.check_linear_error(check, linear_error);
        self.check_members(check)?;
        self.check_other_exact_merges(check)?;
        self.check_peft(check, &linear, &mean);
        Ok(())
    }

    /// The error that is reported for PEFT's "linear", where the mean is not nearly nothing.
    fn check_linear_error(&self, check: &mut Check, error: f64) {
        let (linear, mean) = (numbers(&self.expected["delta_linear"]), numbers(&self.expected["delta_mean"]));
        let (apart, norm) = (distance(&linear, &mean), dot(&mean, &mean).sqrt());
        if norm > 1e-3 * apart {
            check.close("linear error", self.name, &[error], &[apart / norm], 1e-9);
        }
    }

    fn merged(&self, how: AdapterMerge) -> Result<(LowRank, f64), String> {
        merge_deltas(&self.members, &self.factors, how).map_err(|error| error.to_string())
    }

    fn check_members(&self, check: &mut Check) -> Result<(), String> {
        let mut outputs = Vec::new();
        for (member, scaling) in self.members.iter().zip(&self.scalings) {
            let alone = merge_deltas(std::slice::from_ref(member), &[*scaling], AdapterMerge::Mean);
            outputs.extend(self.output(&alone.map_err(|error| error.to_string())?.0.product()));
        }
        self.close(check, "y_members", &outputs);
        Ok(())
    }

    /// Stacked factors, and the singular value decomposition when it drops nothing.
    fn check_other_exact_merges(&self, check: &mut Check) -> Result<(), String> {
        let expected = numbers(&self.expected["delta_mean"]);
        let rank = self.members.iter().map(LowRank::rank).sum();
        for how in [AdapterMerge::Concat, AdapterMerge::Svd(rank)] {
            let (delta, error) = self.merged(how)?;
            let what = if how == AdapterMerge::Concat { "delta of concat" } else { "delta of full svd" };
            scaled(check, what, self.name, &delta.product(), &expected, EXACT);
            check.close(&format!("{what}: error"), self.name, &[error], &[0.0], 1e-14);
        }
        Ok(())
    }

    /// What PEFT itself returned, where the file has it.
    fn check_peft(&self, check: &mut Check, linear: &LowRank, mean: &LowRank) {
        let y_linear = self.output(&linear.product());
        // One adapter alone is always merged by "linear" there.
        let cat = if self.members.len() == 1 { PEFT } else { EXACT };
        for (field, got, tolerance) in [
            ("A", linear.a().to_vec(), PEFT),
            ("B", linear.b(), PEFT),
            ("y", y_linear.clone(), PEFT),
            ("y_cat", self.output(&mean.product()), cat),
            ("y_float32", y_linear, PEFT_F32),
        ] {
            let expected = &self.peft[field];
            if !expected.is_null() {
                scaled(check, &format!("PEFT's {field}"), self.name, &got, &numbers(expected), tolerance);
            }
        }
    }

    fn close(&self, check: &mut Check, field: &str, got: &[f64]) {
        scaled(check, field, self.name, got, &numbers(&self.expected[field]), EXACT);
    }

    /// `x·(W + Δ)ᵀ`, `[n, out]`.
    fn output(&self, delta: &[f64]) -> Vec<f64> {
        let weight = sum(&self.weight, delta);
        let inputs = self.members[0].shape()[1];
        let row = |x: &[f64]| -> Vec<f64> { weight.chunks(inputs).map(|w| dot(x, w)).collect() };
        self.x.chunks(inputs).flat_map(row).collect()
    }
}

/// Compares within `tolerance` of the array's largest value, or of 1.
fn scaled(check: &mut Check, what: &str, case: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    let largest = expected.iter().fold(1.0, |largest: f64, value| largest.max(value.abs()));
    check.close_each(what, case, got, expected, |i| tolerance * largest / expected[i].abs().max(1.0));
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(a, b)| a * b).sum()
}

fn sum(left: &[f64], right: &[f64]) -> Vec<f64> {
    left.iter().zip(right).map(|(a, b)| a + b).collect()
}

fn distance(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}
