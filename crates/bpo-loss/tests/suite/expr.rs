//! Losses written as expressions: golden files, formulas, extremes, and what is refused where.
use std::path::PathBuf;

use bpo_loss::{Error, Expression, PairLogps};
use burn::tensor::{DType, Device, Tensor, TensorData};
use proptest::prelude::*;
use serde_json::Value;

/// Golden file, the same loss in the language.
const LOSSES: [(&str, &str); 18] = [
    ("sigmoid", "softplus(-beta*rho)"),
    ("hinge", "relu(1 - beta*rho)"),
    ("ipo", "square(lc/len_c - lr/len_r - 1/(2*beta))"),
    ("ipo_sum", "(rho - 1/(2*beta))^2"),
    ("aot", "softplus(-beta*(sort(pc - pr) - sort((pc - lc) - (pr - lr))))"),
    (
        "kto_pair",
        "0.5*(1 - sigmoid(beta*(lc - clamp(mean(lr), 0, 1e30)))) + 0.5*(1 - sigmoid(beta*(clamp(mean(lc), 0, 1e30) - lr)))",
    ),
    ("lrml", "m = sigmoid(beta*rho/0.05); (1 - m)*softplus(-beta*rho) + m*exp(-beta*rho)"),
    ("lrml_old", "m = sigmoid(rho); (1 - m)*softplus(-beta*rho) + m*exp(-beta*rho)"),
    (
        "aql",
        "l = beta*rho; q = 0.5 + 0.01*(sigmoid(mean(l/0.05)) - 0.5); w = sigmoid(q - l/0.05);
         w*softplus(-l) + (1 - w)*relu(1 - l)",
    ),
    (
        "aql_old",
        "l = beta*rho; q = 0.5 + 0.01*(sigmoid(mean(rho)) - 0.5); w = sigmoid(-beta*(rho - q));
         w*softplus(-l) + (1 - w)*relu(1 - l)",
    ),
    (
        "aqfl",
        "l = beta*rho; z = l/0.05; p = std(z)*mean(sigmoid(-z)); q = p + 0.05*(sigmoid(mean(z)) - p);
         w = sigmoid(0.1*abs(z - q)); w*softplus(-l) + (1 - w)*relu(1 - l)",
    ),
    (
        "aqfl_old",
        "l = beta*rho; p = std(rho)*mean(sigmoid(-rho)); q = p + 0.05*(sigmoid(mean(rho)) - p);
         w = sigmoid(0.1*abs(rho - q)); w*softplus(-l) + (1 - w)*relu(1 - l)",
    ),
    ("padll", "0.9*where(rho < 0, 0.5, 1)*softplus(-beta*rho)"),
    ("cell", "0.5*exp(-beta*rho) + 0.5*softplus(-beta*rho)"),
    ("dbaql", "l = beta*rho; w = sigmoid(var(l/0.05)); w*softplus(-l/0.9) + (1 - w)*exp(-0.9*l)"),
    ("dbaql_old", "l = beta*rho; w = sigmoid(var(rho)); w*softplus(-l/0.9) + (1 - w)*exp(-0.9*l)"),
    ("pfl", "where(pc > pr, softplus(-beta*rho)/2, 2*relu(1 - beta*rho))"),
    ("pfl_old", "where(pc > pr, softplus(-rho)/2, 2*relu(1 - rho))"),
];

fn expression(text: &str) -> Expression {
    Expression::parse(text).unwrap_or_else(|error| panic!("{error}\n{}", error.pointing(text)))
}

/// A batch's log-probs and lengths, in float64 unless asked for otherwise.
#[derive(Debug, Clone)]
struct Batch {
    policy: [Vec<f64>; 2],
    reference: [Vec<f64>; 2],
    lengths: Option<[Vec<f64>; 2]>,
    dtype: DType,
}

#[derive(Debug)]
struct Evaluated {
    losses: Vec<f64>,
    chosen: Vec<f64>,
    rejected: Vec<f64>,
}

impl Batch {
    /// The reference at 0, the rejected log-probs too: rho = lc = pc.
    fn margins(rho: &[f64]) -> Self {
        let zeros = vec![0.0; rho.len()];
        let policy = [rho.to_vec(), zeros.clone()];
        Self { policy, reference: [zeros.clone(), zeros], lengths: None, dtype: DType::F64 }
    }

    fn in_f32(self) -> Self {
        Self { dtype: DType::F32, ..self }
    }

    fn tensor(&self, values: &[f64]) -> Tensor<1> {
        let data = TensorData::new(values.to_vec(), [values.len()]).convert_dtype(self.dtype);
        Tensor::from_data(data, (&Device::flex().autodiff(), self.dtype))
    }

    fn sides(&self) -> (PairLogps, PairLogps) {
        let [chosen, rejected] = self.policy.each_ref().map(|side| self.tensor(side).require_grad());
        let [ref_chosen, ref_rejected] = self.reference.each_ref().map(|side| self.tensor(side));
        let mut policy = PairLogps::new(chosen, rejected).unwrap();
        if let Some([chosen, rejected]) = &self.lengths {
            policy = policy.with_lengths(self.tensor(chosen), self.tensor(rejected)).unwrap();
        }
        (policy, PairLogps::new(ref_chosen, ref_rejected).unwrap())
    }

    fn evaluate(&self, text: &str, beta: f64) -> Evaluated {
        let (policy, reference) = self.sides();
        let losses = expression(text).losses(&policy, &reference, beta).unwrap();
        assert_eq!(losses.dims(), [self.policy[0].len()], "{text}");
        let gradients = losses.clone().mean().backward();
        let of = |leaf: &Tensor<1>| floats(leaf.grad(&gradients).unwrap_or_else(|| leaf.clone().inner().zeros_like()));
        Evaluated { losses: floats(losses.inner()), chosen: of(&policy.chosen), rejected: of(&policy.rejected) }
    }

    /// Gradient of each loss in its own chosen log-prob, for losses that are not coupled.
    fn slopes(&self, text: &str, beta: f64) -> Vec<f64> {
        let gradients = self.evaluate(text, beta).chosen;
        gradients.iter().map(|gradient| gradient * gradients.len() as f64).collect()
    }
}

fn floats(tensor: Tensor<1>) -> Vec<f64> {
    tensor.try_into_vec_as().unwrap()
}

fn close(what: &str, actual: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (actual, expected) in actual.iter().zip(expected) {
        let error = (actual - expected).abs() / expected.abs().max(1.0);
        assert!(error <= tolerance, "{what}: {actual:e} instead of {expected:e}");
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    let number = |v: &Value| v.as_f64().unwrap_or_else(|| v.as_str().unwrap().parse().unwrap());
    value.as_array().unwrap().iter().map(number).collect()
}

fn golden(name: &str) -> Option<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden").join(name);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: golden {name}: no {}", path.display());
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

fn check_golden(dtype: DType, tolerance: f64) {
    for (name, text) in LOSSES {
        let Some(golden) = golden(&format!("loss_{name}.json")) else { continue };
        let cases = golden["cases"].as_array().unwrap();
        // What is NaN by definition is refused here; smoothing is another loss.
        let of_loss = |case: &&Value| {
            case["hyper"]["label_smoothing"].as_f64().unwrap_or(0.0) == 0.0
                && !(case["finite_in_float32"].is_null() || case["finite_in_float32"] == Value::Bool(false))
        };
        for case in cases.iter().filter(of_loss) {
            let what = format!("{name} {} {dtype:?}", case["name"]);
            let input = |key: &str| numbers(&case["inputs"][key]);
            let batch = Batch {
                policy: [input("policy_chosen_logps"), input("policy_rejected_logps")],
                reference: [input("ref_chosen_logps"), input("ref_rejected_logps")],
                lengths: Some([input("chosen_lengths"), input("rejected_lengths")]),
                dtype,
            };
            let evaluated = batch.evaluate(text, case["hyper"]["beta"].as_f64().unwrap());
            let expected = |key: &str| numbers(&case["expected"][key]);
            if name != "kto_pair" {
                close(&what, &evaluated.losses, &expected("losses"), tolerance);
            }
            let mean = evaluated.losses.iter().sum::<f64>() / evaluated.losses.len() as f64;
            close(&what, &[mean], &[case["expected"]["mean_loss"].as_f64().unwrap()], tolerance);
            close(&what, &evaluated.chosen, &expected("grad_policy_chosen_logps"), tolerance);
            close(&what, &evaluated.rejected, &expected("grad_policy_rejected_logps"), tolerance);
        }
    }
}

#[test]
fn every_golden_loss_written_as_an_expression_agrees_in_float64() {
    check_golden(DType::F64, 1e-10);
}

#[test]
fn every_golden_loss_written_as_an_expression_agrees_in_float32() {
    check_golden(DType::F32, 1e-4);
}

const MARGINS: [f64; 8] = [-40.0, -3.0, -0.5, -1e-3, 0.0, 0.2, 7.0, 30.0];

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// A text and what it stands for, as a function of rho at beta = 0.3.
type Formula = (&'static str, fn(f64) -> f64);

#[test]
fn every_function_and_operator_agrees_with_its_formula() {
    let formulas: [Formula; 28] = [
        ("sigmoid(rho)", sigmoid),
        ("logsigmoid(rho)", |x| -softplus(-x)),
        ("softplus(rho)", softplus),
        ("relu(rho)", |x| x.max(0.0)),
        ("exp(rho)", f64::exp),
        ("log(rho^2 + 1)", |x| (x * x + 1.0).ln()),
        ("log1p(rho^2)", |x| (x * x).ln_1p()),
        ("expm1(rho)", f64::exp_m1),
        ("tanh(rho)", f64::tanh),
        ("abs(rho)", f64::abs),
        ("sqrt(rho^2 + 1)", |x| (x * x + 1.0).sqrt()),
        ("square(rho)", |x| x * x),
        ("min(rho, 1)", |x| x.min(1.0)),
        ("max(-rho, rho - 1)", |x| (-x).max(x - 1.0)),
        ("clamp(rho, -1, 2)", |x| x.clamp(-1.0, 2.0)),
        ("where(rho <= -3 or rho > 0.1 and not rho == 7, rho, 2)", |x| {
            if x <= -3.0 || (x > 0.1 && x != 7.0) { x } else { 2.0 }
        }),
        ("where(!(rho != 0) || rho >= 7 && rho < 30, rho, 2)", |x| {
            if x == 0.0 || (7.0..30.0).contains(&x) { x } else { 2.0 }
        }),
        ("1 - 2 - rho", |x| -1.0 - x),
        ("rho - (2 - 1)", |x| x - 1.0),
        ("2*rho + 3/beta", |x| 2.0 * x + 10.0),
        ("12/2/3*rho", |x| 2.0 * x),
        ("-rho^2", |x| -x * x),
        ("(-rho)^2*1e0", |x| x * x),
        ("(1 + rho^2)^-1.5", |x| (1.0 + x * x).powf(-1.5)),
        ("(2 + tanh(rho))^-3", |x| (2.0 + x.tanh()).powi(-3)),
        ("(2 + tanh(rho))^17", |x| (2.0 + x.tanh()).powi(17)),
        ("rho + sigmoid(beta) + relu(beta) + softplus(-beta) + exp(beta)*sqrt(beta)", |x| {
            x + sigmoid(0.3) + 0.3 + softplus(-0.3) + 0.3f64.exp() * 0.3f64.sqrt()
        }),
        ("rho + (log(beta) + log1p(beta) + tanh(beta) + abs(-beta) + beta^0.5 + expm1(beta) - .5)/2.", |x| {
            let b = 0.3f64;
            x + (b.ln() + b.ln_1p() + b.tanh() + b + b.sqrt() + b.exp_m1() - 0.5) / 2.0
        }),
    ];
    for (text, formula) in formulas {
        let expected: Vec<f64> = MARGINS.iter().map(|&rho| formula(rho)).collect();
        let losses = Batch::margins(&MARGINS).evaluate(text, 0.3).losses;
        for (actual, expected) in losses.iter().zip(&expected) {
            let error = (actual - expected).abs() / expected.abs().max(1e-300);
            assert!(error < 1e-12, "{text}: {actual:e} instead of {expected:e}");
        }
    }
}

#[test]
fn the_variables_are_what_the_table_says() {
    let batch = Batch {
        policy: [vec![-1.0, -2.0], vec![-5.0, -3.0]],
        reference: [vec![-1.5, -4.0], vec![-4.0, -8.0]],
        lengths: Some([vec![0.0, 3.0], vec![2.0, 4.0]]),
        dtype: DType::F64,
    };
    for (text, expected) in [
        ("rho", [1.5, -3.0]),
        ("lc", [0.5, 2.0]),
        ("lr", [-1.0, 5.0]),
        ("pc", [-1.0, -2.0]),
        ("pr", [-5.0, -3.0]),
        ("pc*0 + len_c", [1.0, 3.0]),
        ("pc*0 + len_r", [2.0, 4.0]),
        ("pc*0 + beta", [0.25, 0.25]),
        ("mean(lc)", [1.25, 1.25]),
        ("var(pr)", [2.0, 2.0]),
        ("std(pr)", [2f64.sqrt(), 2f64.sqrt()]),
        ("sort(lr) - lr", [0.0, 0.0]),
        ("sort(rho)", [-3.0, 1.5]),
    ] {
        close(text, &batch.evaluate(text, 0.25).losses, &expected, 1e-14);
    }
}

#[test]
fn gradients_at_kinks_are_those_of_torch() {
    let batch = Batch::margins(&[0.0]);
    for (text, slope) in [
        ("relu(rho)", 0.0),
        ("relu(-rho)", 0.0),
        ("abs(rho)", 0.0),
        ("softplus(rho)", 0.5),
        ("max(rho, 0)", 0.5),
        ("min(0, 3*rho)", 1.5),
        ("max(rho, -rho)", 0.0),
        ("clamp(rho, 0, 1)", 1.0),
        ("clamp(rho, -1, 0)", 1.0),
        ("where(rho < 0, rho, 2*rho)", 2.0),
        ("rho*detach(rho + 3)", 3.0),
        ("rho*where(rho == 0, 5, 1)", 5.0),
    ] {
        close(text, &batch.slopes(text, 1.0), &[slope], 0.0);
    }
}

#[test]
fn the_deviation_of_equal_values_has_gradient_0() {
    close("std", &Batch::margins(&[2.0; 3]).evaluate("std(rho)", 1.0).chosen, &[0.0; 3], 0.0);
}

/// The values are not used, so their gradients must not be either: 0·∞ is not 0 in floating point.
#[test]
fn a_value_that_is_not_chosen_does_not_poison_the_gradient() {
    let batch = Batch::margins(&[-200.0, -1.0, 0.0, 2.0, 200.0]).in_f32();
    for (text, slopes) in [
        ("where(rho > -2, exp(-beta*rho), -rho)", [-1.0, -1f64.exp(), -1.0, -(-2f64).exp(), 0.0]),
        ("where(rho > 0, log(rho), rho)", [1.0, 1.0, 1.0, 0.5, 0.005]),
        ("where(rho == 0, rho, 1/rho)", [-2.5e-5, -1.0, 1.0, -0.25, -2.5e-5]),
        ("where(rho > 1, sqrt(rho - 1)*rho, rho)", [1.0, 1.0, 1.0, 2.0, 200.0 / (2.0 * 199f64.sqrt()) + 199f64.sqrt()]),
        ("where(rho > 0, rho^-0.5, rho)", [1.0, 1.0, 1.0, -0.5 * 2f64.powf(-1.5), -0.5 * 200f64.powf(-1.5)]),
        ("min(exp(-rho), 10)", [0.0, -1f64.exp(), -1.0, -(-2f64).exp(), 0.0]),
        ("clamp(exp(-rho), 0, 10)", [0.0, -1f64.exp(), -1.0, -(-2f64).exp(), 0.0]),
        ("relu(1 - exp(-rho))", [0.0, 0.0, 0.0, (-2f64).exp(), 0.0]),
        ("m = exp(-rho); where(m < 100, m*m, -rho)", [-1.0, -2.0 * 2f64.exp(), -2.0, -2.0 * (-4f64).exp(), 0.0]),
        // The choice between them never takes the third power: two levels, and a binding used on both sides.
        (
            "e = exp(-rho); where(rho < 2, where(rho < -2, -rho, e), where(e > 3, e^3, rho))",
            [-1.0, -1f64.exp(), -1.0, 1.0, 1.0],
        ),
    ] {
        close(text, &batch.slopes(text, 1.0), &slopes, 1e-5);
    }
}

#[test]
fn a_statistic_that_no_pair_chooses_does_not_poison_the_gradient() {
    let batch = Batch::margins(&[-200.0, 1.0]).in_f32();
    let text = "where(rho > 5, rho*mean(exp(-rho)) + std(exp(-rho)), where(mean(rho) > 0, mean(log(rho)), rho))";
    let evaluated = batch.evaluate(text, 1.0);
    close(text, &evaluated.losses, &[-200.0, 1.0], 0.0);
    close(text, &evaluated.chosen, &[0.5, 0.5], 0.0);
}

#[test]
fn a_statistic_is_chosen_for_the_whole_batch_and_its_gradient_is_shared() {
    let batch = Batch::margins(&[1.0, 3.0]);
    let evaluated = batch.evaluate("where(rho > 2, mean(rho^2), rho)", 1.0);
    close("losses", &evaluated.losses, &[1.0, 5.0], 0.0);
    close("gradient", &evaluated.chosen, &[0.5 + 0.5, 1.5], 0.0);
}

/// The limits of the true loss: 0·∞ when the factors are evaluated one by one.
#[test]
fn products_with_exponentials_are_finite_where_their_factors_are_not() {
    let naive = [
        "m = sigmoid(beta*rho/0.05); (1 - m)*softplus(-beta*rho) + m*exp(-beta*rho)",
        "l = beta*rho; m = 1/(1 + exp(-l/0.05)); (1 - m)*log(1 + exp(-l)) + m/exp(l)",
        "l = beta*rho; k = 1/(exp(l/0.05) + 1); e = exp(-l); log1p(e)*k + (1 - k)*e",
        "l = beta*rho; m = exp(l/0.05)/(1 + exp(l/0.05)); -log(sigmoid(l))*(1 - sigmoid(l/0.05)) - -m*exp(-l)",
        "l = beta*rho; m = sigmoid(l/0.1)*sigmoid(l/0.1)^0.5; e = sqrt(exp(-2*l));
         (1 - sigmoid(l/0.05))*softplus(-l) + sigmoid(l/0.05)/m*(e*m)",
    ];
    for text in naive {
        for batch in [
            Batch::margins(&[-200.0, -90.0, 0.0, 90.0, 200.0]),
            Batch::margins(&[-200.0, -90.0, 0.0, 90.0, 200.0]).in_f32(),
        ] {
            let evaluated = batch.evaluate(text, 1.0);
            let (tail, at_0) = ((-90f64).exp(), 0.5 * 2f64.ln() + 0.5);
            close(text, &evaluated.losses, &[200.0, 90.0, at_0, tail, 0.0], 1e-6);
            // m' = 5 at 0; m' · (1 − log 2) − ½ · ½ − ½
            let slope = 5.0 * (1.0 - 2f64.ln()) - 0.75;
            close(text, &batch.slopes(text, 1.0), &[-1.0, -1.0, slope, -tail, 0.0], 1e-5);
        }
    }
}

#[test]
fn a_detached_weight_is_still_seen_by_the_product() {
    let text = "m = detach(sigmoid(rho/0.05)); (1 - m)*softplus(-rho) + m*exp(-rho)*detach(exp(-rho)*rho)/2";
    let batch = Batch::margins(&[-200.0, 1.0]).in_f32();
    close(text, &batch.evaluate(text, 1.0).losses, &[200.0, (-2f64).exp() / 2.0], 1e-6);
    close(text, &batch.slopes(text, 1.0), &[-1.0, -(-2f64).exp() / 2.0], 1e-6);
}

#[test]
fn what_a_loss_needs_of_its_batch_is_known() {
    for (text, coupled, pairs, lengths) in [
        ("rho", false, 1, false),
        ("rho - mean(rho)", true, 1, false),
        ("rho/std(rho)", true, 2, false),
        ("where(var(lc) > len_r, rho, 1)", true, 2, true),
        ("sort(pc)/len_c", true, 1, true),
        ("d = detach(std(rho)); rho*d", true, 2, false),
    ] {
        let loss = expression(text);
        assert_eq!((loss.batch_coupled(), loss.min_pairs(), loss.uses_lengths()), (coupled, pairs, lengths), "{text}");
    }
}

#[test]
fn a_batch_that_does_not_fit_is_refused() {
    let losses = |text: &str, rho: &[f64]| {
        let (policy, reference) = Batch::margins(rho).sides();
        expression(text).losses(&policy, &reference, 0.1).map(floats)
    };
    let too_small = |pairs, needed| Err(Error::BatchTooSmall { loss: "expr".to_string(), pairs, needed });
    assert_eq!(losses("rho/std(rho)", &[1.0]), too_small(1, 2));
    assert_eq!(losses("rho", &[]), too_small(0, 1));
    assert_eq!(losses("rho/len_c", &[1.0]), Err(Error::LengthsMissing { loss: "expr" }));
    let ((policy, _), (_, reference)) = (Batch::margins(&[1.0]).sides(), Batch::margins(&[1.0, 2.0]).sides());
    let mismatch = expression("rho").losses(&policy, &reference, 0.1).map(floats);
    assert!(matches!(mismatch, Err(Error::LengthMismatch { left: 1, right: 2, .. })));
}

#[test]
fn the_canonical_text_has_single_spaces_and_no_needless_parentheses() {
    for (text, canonical) in [
        ("  ((rho)) ", "rho"),
        ("(1-(rho))*2", "(1 - rho) * 2"),
        ("1-(rho-2)", "1 - (rho - 2)"),
        ("(rho-1)-2", "rho - 1 - 2"),
        ("-(rho^2)", "-rho^2"),
        ("(-rho)^(-2)", "(-rho)^-2"),
        ("-(-rho)*-1", "--rho * -1"),
        ("where(!(rho<1)&&(lc>2||lr>=.50),1.0,rho)", "where(not rho < 1 and (lc > 2 or lr >= 0.5), 1, rho)"),
        ("where(rho<1||lc>2&&lr!=1,1,rho)", "where(rho < 1 or lc > 2 and lr != 1, 1, rho)"),
        ("m=\n 1e-7*rho ;m+100000*m", "m = 1e-7 * rho; m + 1e5 * m"),
        ("clamp( rho,-1,+1)", "column 15: expected a number, a name or \"(\", found \"+\""),
    ] {
        let shown = Expression::parse(text).map_or_else(|error| error.to_string(), |loss| loss.to_string());
        assert_eq!(shown, canonical, "{text}");
    }
}

#[test]
fn every_mistake_is_told_with_its_column() {
    let (deep, bindings) = ("(".repeat(4096), "a = rho; ".repeat(33));
    let (nodes, long) = (format!("rho{}", " + rho".repeat(200)), "rho ".repeat(1100));
    let powers = format!("rho{}", "^2".repeat(100));
    for (text, expected) in [
        ("", "column 1: expected a number, a name or \"(\", found the end"),
        ("  ", "column 3: expected a number, a name or \"(\", found the end"),
        ("rho +", "column 6: expected a number, a name or \"(\", found the end"),
        ("rho $ 2", "column 5: expected an operator or the end, found \"$\""),
        ("é + rho", "column 1: expected a number, a name or \"(\", found \"é\""),
        ("rho é", "column 5: expected an operator or the end, found \"é\""),
        ("rho 2", "column 5: expected an operator or the end, found \"2\""),
        ("(rho", "column 5: expected an operator or \")\", found the end"),
        ("relu(rho", "column 9: expected an operator, \",\" or \")\", found the end"),
        ("rho)", "column 4: expected an operator or the end, found \")\""),
        ("a = rho b", "column 9: expected an operator or \";\", found \"b\""),
        ("a = rho; a;", "column 11: expected an operator or the end, found \";\""),
        ("rho = 1", "column 8: expected an operator or \";\", found the end"),
        ("and*rho", "column 1: expected a number, a name or \"(\", found \"and\""),
        ("rho*1e39", "column 5: 1e39 lies outside what an f32 holds"),
        ("rho*1e-39", "column 5: 1e-39 lies outside what an f32 holds"),
        ("rho*0.1e-999", "column 5: 0.1e-999 lies outside what an f32 holds"),
        ("1 - sigmod(rho)", "column 5: unknown function \"sigmod\" (did you mean \"sigmoid\"?)"),
        ("frobnicate(rho)", "column 1: unknown function \"frobnicate\""),
        ("2*bta*rho", "column 3: unknown name \"bta\" (did you mean \"beta\"?)"),
        ("margin = rho; margn", "column 15: unknown name \"margn\" (did you mean \"margin\"?)"),
        ("xyz*rho", "column 1: unknown name \"xyz\""),
        ("a = b; b = rho; a", "column 5: unknown name \"b\""),
        ("1 + relu", "column 5: \"relu\" is a function: relu(...)"),
        ("1 + rho(2)", "column 5: \"rho\" is not a function"),
        ("1 + max(rho)", "column 5: \"max\" takes 2 arguments, found 1"),
        ("exp()*rho", "column 1: \"exp\" takes 1 argument, found 0"),
        ("clamp(rho, 1)", "column 1: \"clamp\" takes 3 arguments, found 2"),
        ("where(rho, 1, 2)", "column 7: \"where\" needs a condition, found a value per pair"),
        ("where(mean(rho), 1, 2)", "column 7: \"where\" needs a condition, found a batch statistic"),
        ("where(rho < 0, rho > 1, 2)", "column 20: \"where\" needs a number, found a condition"),
        ("mean(rho > 0)", "column 10: \"mean\" needs a value per pair, found a condition"),
        ("rho - std(beta)", "column 11: \"std\" needs a value per pair, found a number"),
        ("rho - var(mean(rho))", "column 11: \"var\" needs a value per pair, found a batch statistic"),
        ("rho + (rho < 1)", "column 12: \"+\" needs a number, found a condition"),
        ("-(rho < 1)", "column 7: \"-\" needs a number, found a condition"),
        ("where(0 < rho < 1, rho, 0)", "column 9: \"<\" needs a number, found a condition"),
        ("where(not rho, rho, 0)", "column 11: \"not\" needs a condition, found a value per pair"),
        ("where(rho < 1 and 1, rho, 0)", "column 19: \"and\" needs a condition, found a number"),
        ("where(1 or rho < 1, rho, 0)", "column 7: \"or\" needs a condition, found a number"),
        ("relu(rho < 1)", "column 10: \"relu\" needs a number, found a condition"),
        ("rho > 0", "column 5: the loss needs a number, found a condition"),
        ("rho^beta", "column 5: the exponent must be a number, such as 2 or -0.5"),
        ("rho^2^3", "column 6: the exponent must be a number, such as 2 or -0.5"),
        ("rho^-(1 + 1)", "column 5: the exponent must be a number, such as 2 or -0.5"),
        ("rho^0", "column 5: the exponent must not be 0: the power is 1"),
        ("clamp(rho, 0, beta)", "column 15: the bounds of \"clamp\" must be numbers, such as -1 or 0.5"),
        ("clamp(rho, 1, -1)", "column 15: the upper bound of \"clamp\" lies below the lower one"),
        ("beta = 1; beta*rho", "column 1: \"beta\" is a variable and cannot be bound"),
        ("lc = 1; lc*rho", "column 1: \"lc\" is a variable and cannot be bound"),
        ("a = 1; exp = a; rho", "column 8: \"exp\" is a function and cannot be bound"),
        ("a = 1; a = 2; a*rho", "column 8: \"a\" is bound twice"),
        ("a = 1; b = a; rho", "column 8: \"b\" is never used"),
        (
            "beta + 1",
            "column 6: the loss does not depend on the policy: it must use rho, lc, lr, pc or pr outside \
                      detach and conditions",
        ),
        (
            "where(rho > 0, 1, len_c)",
            "column 1: the loss does not depend on the policy: it must use rho, lc, lr, pc \
                                      or pr outside detach and conditions",
        ),
        (
            "mean(detach(rho))",
            "column 1: the loss does not depend on the policy: it must use rho, lc, lr, pc or pr \
                               outside detach and conditions",
        ),
        (&deep, "column 65: nested more than 64 deep"),
        (&powers, "column 132: nested more than 64 deep"),
        (&bindings, "column 289: more than 32 bindings"),
        (&nodes, "column 767: more than 256 numbers, names and operators"),
        (&long, "column 4097: the text is longer than 4096 bytes"),
    ] {
        let error = Expression::parse(text).expect_err(text);
        assert_eq!(error.to_string(), expected, "{text}");
    }
}

#[test]
fn a_text_whose_canonical_form_is_too_long_is_refused() {
    let name = "b".repeat(1362);
    let text = format!("{name}=rho;{name}+{name}");
    assert_eq!(text.len(), 4092);
    let message = "column 4093: with a space around every operator the text is longer than 4096 bytes";
    assert_eq!(Expression::parse(&text).map_err(|error| error.to_string()).unwrap_err(), message);
}

#[test]
fn the_caret_stands_below_the_column() {
    let text = "m = sigmoid(beta*rho);\n\t1 - sigmod(m)\n + 1";
    let error = Expression::parse(text).unwrap_err();
    assert_eq!(error.column, 29);
    assert_eq!(error.pointing(text), "\t1 - sigmod(m)\n\t    ^");
    let error = Expression::parse("rho +").unwrap_err();
    assert_eq!(error.pointing("rho +"), "rho +\n     ^");
}

/// A text of the given type, fully parenthesised.
fn arithmetic(smooth: bool) -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => prop::sample::select(vec!["rho", "lc", "lr", "beta", "len_c"]).prop_map(String::from),
        1 => (1u32..40).prop_map(|tenths| (f64::from(tenths) / 10.0).to_string()),
    ];
    leaf.prop_recursive(5, 40, 3, move |inner| {
        let of = |names: &'static [&'static str]| prop::sample::select(names);
        let smooth_maps: &[&str] = &["sigmoid", "logsigmoid", "softplus", "tanh", "square", "-"];
        let infixes: &[&str] = &["+", "-", "*"];
        let two = (inner.clone(), inner.clone());
        let smooth_terms = prop_oneof![
            (of(smooth_maps), inner.clone()).prop_map(|(f, x)| format!("{f}({x})")),
            (two.clone(), of(infixes)).prop_map(|((x, y), op)| format!("({x}) {op} ({y})")),
            two.clone().prop_map(|(x, y)| format!("({x})/(1 + exp({y}))")),
            two.clone().prop_map(|(x, y)| format!("sigmoid({x})*exp(tanh({y}))")),
            two.clone().prop_map(|(x, y)| format!("mean(rho + ({x}))*({y})")),
            inner.clone().prop_map(|x| format!("log(1 + ({x})^2)")),
            inner.clone().prop_map(|x| format!("sqrt(1 + square({x}))")),
        ];
        let others: &[&str] = &["relu", "abs", "exp", "log", "log1p", "expm1", "sqrt", "detach"];
        let comparisons: &[&str] = &["<", "<=", ">", ">=", "==", "!="];
        let joins: &[&str] = &["and", "or", "&&", "||"];
        let other_terms = prop_oneof![
            (of(others), inner.clone()).prop_map(|(f, x)| format!("{f}({x})")),
            (two.clone(), of(&["min", "max"])).prop_map(|((x, y), f)| format!("{f}({x}, {y})")),
            two.clone().prop_map(|(x, y)| format!("({x})/({y})")),
            (inner.clone(), of(&["2", "-1", "0.5", "-2.5", "3"])).prop_map(|(x, n)| format!("({x})^({n})")),
            inner.clone().prop_map(|x| format!("clamp({x}, -1.5, 2)")),
            (of(&["std", "var", "sort"]), inner.clone()).prop_map(|(f, x)| format!("{f}(lc*({x}))")),
            (two.clone(), two, of(comparisons), of(joins)).prop_map(|((x, y), (u, v), cmp, join)| {
                format!("where((({x}) {cmp} ({y})) {join} (not (({y}) < ({u}))), {u}, {v})")
            }),
        ];
        if smooth { smooth_terms.boxed() } else { prop_oneof![smooth_terms, other_terms].boxed() }
    })
}

fn random_batch() -> Batch {
    Batch {
        policy: [vec![-1.3, 0.4, 2.2, -0.7], vec![0.3, -1.1, 0.9, 0.2]],
        reference: [vec![0.5, -0.2, 0.1, -1.0], vec![-0.6, 0.8, 0.0, 0.7]],
        lengths: Some([vec![3.0, 1.0, 2.0, 5.0], vec![1.0, 2.0, 2.0, 1.0]]),
        dtype: DType::F64,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn canonical_text_parses_to_the_same_expression(first in arithmetic(false), second in arithmetic(false)) {
        let text = format!("a = {first}; b = (a) - ({second}); rho + (a)*b");
        match Expression::parse(&text) {
            Ok(loss) => {
                let canonical = loss.to_string();
                let again = Expression::parse(&canonical).unwrap();
                prop_assert_eq!(again.to_string(), canonical);
                prop_assert_eq!(again, loss);
            }
            // The generator may exceed the bounds.
            Err(error) => prop_assert!(error.message.contains("more than") || error.message.contains("longer"), "{}", error),
        }
    }

    #[test]
    fn any_loss_that_parses_evaluates_without_a_panic_also_on_one_pair(text in arithmetic(false)) {
        let text = format!("rho + ({text})");
        let Ok(loss) = Expression::parse(&text) else { return Ok(()) };
        for rho in [vec![0.0; loss.min_pairs()], vec![-200.0, 0.0, 200.0]] {
            let mut batch = Batch::margins(&rho).in_f32();
            batch.lengths = Some([vec![1.0; rho.len()], vec![2.0; rho.len()]]);
            prop_assert_eq!(batch.evaluate(&text, 0.1).losses.len(), rho.len());
        }
    }

    #[test]
    fn no_loss_that_is_not_chosen_poisons_the_gradient(text in arithmetic(false), chosen in arithmetic(false)) {
        let text = format!("d = ({text})*rho; where(rho > 300, d*({chosen}), where(rho < -300, d, rho))");
        if Expression::parse(&text).is_err() { return Ok(()) }
        let mut batch = Batch::margins(&[-200.0, 0.0, 1.0, 200.0]).in_f32();
        batch.lengths = Some([vec![1.0; 4], vec![2.0; 4]]);
        prop_assert_eq!(batch.slopes(&text, 0.1), vec![1.0; 4]);
    }

    #[test]
    fn no_text_panics_and_columns_lie_within_it(text in any::<String>()) {
        if let Err(error) = Expression::parse(&text) {
            prop_assert!((1..=text.chars().count() + 1).contains(&error.column));
            prop_assert!(error.pointing(&text).ends_with('^'));
        }
    }

    #[test]
    fn no_text_of_tokens_panics_and_columns_lie_within_it(
        tokens in prop::collection::vec(prop::sample::select(vec![
            "rho", "beta", "a", "=", ";", "1", ".5", "2e-3", "e", "(", ")", ",", "+", "-", "*", "/", "^", "<", "==", "!",
            "and", "or", "not", "&&", "exp(", "where(", "mean(", "clamp(", " ", "\n", "é", "\u{1F600}",
        ]), 0..60)
    ) {
        let text = tokens.concat();
        if let Err(error) = Expression::parse(&text) {
            prop_assert!((1..=text.chars().count() + 1).contains(&error.column));
            prop_assert!(error.pointing(&text).ends_with('^'));
        }
    }

    #[test]
    fn gradients_of_smooth_losses_agree_with_finite_differences(text in arithmetic(true)) {
        let text = format!("pc*pr + ({text})");
        let batch = random_batch();
        let evaluated = batch.evaluate(&text, 0.3);
        let mean = |batch: &Batch| batch.evaluate(&text, 0.3).losses.iter().sum::<f64>() / 4.0;
        let scale = mean(&batch).abs().max(1.0);
        for (side, gradients) in [&evaluated.chosen, &evaluated.rejected].into_iter().enumerate() {
            for (pair, gradient) in gradients.iter().enumerate() {
                let difference = |step: f64| {
                    let moved = |step: f64| {
                        let mut moved = batch.clone();
                        moved.policy[side][pair] += step;
                        mean(&moved)
                    };
                    (moved(step) - moved(-step)) / (2.0 * step)
                };
                let (wide, narrow) = (difference(1e-5), difference(5e-6));
                let scale = scale.max(gradient.abs());
                // Where two steps disagree, it is the differences that are wrong.
                prop_assume!((wide - narrow).abs() < 1e-6 * scale);
                prop_assert!((gradient - wide).abs() < 1e-5 * scale, "{}: {} instead of {}", text, gradient, wide);
            }
        }
    }
}
