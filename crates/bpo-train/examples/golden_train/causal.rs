//! Causal preference optimisation: the authors' code form by its logits, the textbook forms by their log-probs,
//! in f64 and in f32.
use bpo_loss::{
    DoublyRobust, GeneratedTexts, Importance, LoggedTexts, OfficialCausal, OfficialTexts, doubly_robust, ipw,
    raw_logit_scores,
};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use serde_json::Value;

use crate::golden::{self, Check};

/// Checks `bpo-golden-causal` files.
pub fn check(golden: &Value, found: &mut Check) -> Result<(), String> {
    for case in golden::cases(golden)? {
        found.case();
        for format in [DType::F64, DType::F32] {
            let precision = Precision { format, device: Device::flex().autodiff() };
            if case["inputs"].get("logits").is_some() {
                official(case, &precision, found)?;
            } else {
                textbook(case, &precision, found)?;
            }
        }
    }
    Ok(())
}

struct Precision {
    format: DType,
    device: Device,
}

impl Precision {
    /// Relative to max(1, |expected|); `rounding` is the size of what was rounded before it was subtracted.
    fn tolerance(&self, rounding: f64) -> f64 {
        match self.format {
            DType::F64 => 1e-10,
            _ => 1e-4 + rounding * f64::from(f32::EPSILON),
        }
    }

    fn is_finite(&self, value: f64) -> bool {
        self.format == DType::F64 || value.abs() < 1e-3 * f64::from(f32::MAX)
    }

    fn tensor<const D: usize>(&self, values: &[f64], shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), (&self.device, self.format))
    }

    fn row(&self, values: &[f64]) -> Tensor<1> {
        self.tensor(values, [values.len()])
    }

    fn what(&self, what: &str) -> String {
        format!("{what} ({})", if self.format == DType::F64 { "f64" } else { "f32" })
    }
}

fn host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f64>, String> {
    tensor.into_data().convert::<f64>().try_to_vec().map_err(|error| format!("{error:?}"))
}

/// The gradient of a leaf; zeros where nothing flows to it.
fn gradient<const D: usize>(leaf: &Tensor<D>, gradients: &burn::tensor::Gradients) -> Result<Vec<f64>, String> {
    leaf.grad(gradients).map_or_else(|| Ok(vec![0.0; leaf.dims().iter().product()]), host)
}

fn numbers(case: &Value, part: &str, key: &str) -> Vec<f64> {
    golden::numbers(&case[part][key])
}

/// Compares what this number format can hold.
fn compare(found: &mut Check, precision: &Precision, case: &Value, (what, rounding): (&str, f64), got: &[f64]) {
    let expected = numbers(case, "expected", what);
    let holds = |value: &f64| !value.is_finite() || precision.is_finite(*value);
    if expected.iter().all(holds) {
        let tolerance = precision.tolerance(rounding);
        found.close(&precision.what(what), golden::name(case), got, &expected, tolerance);
    }
}

/// Largest magnitude among some inputs.
fn size(case: &Value, keys: &[&str]) -> f64 {
    keys.iter().flat_map(|key| numbers(case, "inputs", key)).fold(0.0, |max: f64, value| max.max(value.abs()))
}

fn textbook(case: &Value, precision: &Precision, found: &mut Check) -> Result<(), String> {
    let input = |key: &str| precision.row(&numbers(case, "inputs", key));
    let leaf = |key: &str| input(key).require_grad();
    let rounding = size(case, &["policy_logps", "data_logps", "policy_logps_generated", "generator_logps_generated"]);
    let failed = |error: bpo_loss::Error| error.to_string();
    let importance = Importance::default();

    let policy = leaf("policy_logps");
    let losses = ipw(policy.clone(), input("data_logps"), input("outcome"), &importance).map_err(failed)?;
    let loss = losses.mean();
    compare(found, precision, case, ("value_ipw", rounding), &host(loss.clone().neg())?);
    compare(found, precision, case, ("loss_cpo", rounding), &host(loss.clone())?);
    let gradients = loss.backward();
    compare(found, precision, case, ("grad_loss_cpo_policy_logps", rounding), &gradient(&policy, &gradients)?);

    let (policy, generated) = (leaf("policy_logps"), leaf("policy_logps_generated"));
    let logged = LoggedTexts {
        policy_logps: policy.clone(),
        logging_logps: input("data_logps"),
        outcomes: input("outcome"),
        predicted: input("predicted_outcome"),
    };
    let drawn = GeneratedTexts {
        policy_logps: generated.clone(),
        generator_logps: input("generator_logps_generated"),
        predicted: input("predicted_outcome_generated"),
    };
    let loss = doubly_robust(logged, drawn, &importance, false).map(DoublyRobust::total).map_err(failed)?;
    compare(found, precision, case, ("value_dr", rounding), &host(loss.clone().neg())?);
    compare(found, precision, case, ("loss_dr", rounding), &host(loss.clone())?);
    let gradients = loss.backward();
    compare(found, precision, case, ("grad_loss_dr_policy_logps", rounding), &gradient(&policy, &gradients)?);
    let what = "grad_loss_dr_policy_logps_generated";
    compare(found, precision, case, (what, rounding), &gradient(&generated, &gradients)?);
    Ok(())
}

/// One of a case's sets of texts; the second one's keys end in `_2`.
struct Texts {
    logits: Tensor<3>,
    official: OfficialTexts,
}

fn texts(case: &Value, suffix: &str, precision: &Precision) -> Result<Texts, String> {
    let key = |name: &str| format!("{name}{suffix}");
    let logits = &case["inputs"][key("logits")];
    let length = |value: &Value| value.as_array().map_or(0, Vec::len);
    let shape @ [batch, time, _] = [length(logits), length(&logits[0]), length(&logits[0][0])];
    let logits = precision.tensor(&golden::numbers(logits), shape).require_grad();
    let ids: Vec<i64> = numbers(case, "inputs", &key("input_ids")).iter().map(|id| *id as i64).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [batch, time]), &precision.device);
    let row = |name: &str| precision.row(&numbers(case, "inputs", &key(name)));
    let official = OfficialTexts {
        scores: raw_logit_scores(logits.clone(), ids),
        start_scores: row("pretrained_sentence_score"),
        predicted: row("predicted_outcome"),
    };
    Ok(Texts { logits, official })
}

fn official(case: &Value, precision: &Precision, found: &mut Check) -> Result<(), String> {
    let hyper = &case["hyper"];
    let number = |key: &str| hyper[key].as_f64().ok_or_else(|| format!("{}: no {key}", golden::name(case)));
    let is = |key: &str| hyper[key].as_bool().unwrap_or_default();
    let loss = OfficialCausal {
        c_ipw: number("c_ipw")?,
        c_rlhf: number("c_rlhf")?,
        pr_scale: number("pr_scale")?,
        stabilise: is("stabilize").then_some(OfficialCausal::STABILISE),
        higher_outcome_better: is("higher_outcome_better"),
    };
    let first = texts(case, "", precision)?;
    let second = is("paired").then(|| texts(case, "_2", precision)).transpose()?;
    let outcomes = precision.row(&numbers(case, "inputs", "outcome"));
    let losses = loss
        .losses(&first.official, &outcomes, second.as_ref().map(|second| &second.official))
        .map_err(|error| error.to_string())?;
    let mean = OfficialCausal::mean(losses);
    let rounding = size(case, &["pretrained_sentence_score", "pretrained_sentence_score_2", "logits", "logits_2"]);
    compare(found, precision, case, ("loss", rounding), &host(mean.clone())?);
    let gradients = mean.backward();
    compare(found, precision, case, ("grad_logits", rounding), &gradient(&first.logits, &gradients)?);
    if let Some(second) = &second {
        compare(found, precision, case, ("grad_logits_2", rounding), &gradient(&second.logits, &gradients)?);
    }
    Ok(())
}
