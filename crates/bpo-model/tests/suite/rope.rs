//! Rotary frequencies for long contexts.
use bpo_model::{Decoder, RopeScaling};
use burn::tensor::Device;
use serde_json::{Value, json};

use crate::tiny::{config, logps};

fn scaled(scaling: Value) -> Decoder {
    let changes = json!({"rope_scaling": scaling});
    Decoder::random(config(changes), 5, &Device::flex()).unwrap()
}

const PROMPT: [u32; 5] = [3, 17, 40, 8, 22];

fn outcome(model: &Decoder) -> Vec<f32> {
    logps(model, &PROMPT, &[9, 33, 1, 7])
}

fn refused(scaling: Value) -> String {
    let mut raw = config(json!({})).raw;
    raw["rope_scaling"] = scaling;
    let bytes = raw.to_string();
    bpo_model::DecoderConfig::from_json("config.json".as_ref(), bytes.as_bytes()).unwrap_err().to_string()
}

#[test]
fn divisors_for_all_frequencies_are_those_of_linear_scaling() {
    let linear = outcome(&scaled(json!({"rope_type": "linear", "factor": 4.0})));
    let factors = vec![4.0; 3];
    let long =
        json!({"rope_type": "longrope", "short_factor": factors, "long_factor": factors, "attention_factor": 1.0});
    for (a, b) in outcome(&scaled(long)).iter().zip(&linear) {
        assert!((a - b).abs() < 1e-6, "{a} {b}");
    }
}

#[test]
fn a_sequence_beyond_what_the_frequencies_hold_for_is_refused() {
    let long = json!({"rope_type": "longrope", "short_factor": [1.0, 1.5, 2.0], "long_factor": [2.0, 3.0, 4.0],
        "original_max_position_embeddings": 8});
    let model = scaled(long);
    assert_eq!((model.config().longest(), model.config().max_position_embeddings), (Some(8), 8));
    assert_eq!(model.config().raw["max_position_embeddings"], 64, "written back as it was");
    let input = |length: u32| {
        let positions: Vec<u32> = (0..length).collect();
        model.input([1, length as usize], &vec![1; length as usize], &positions, |_, _, _| true).map(|_| ())
    };
    assert!(input(8).is_ok());
    assert!(input(9).unwrap_err().to_string().contains("position 8"));
    let plain = outcome(&Decoder::random(config(json!({})), 5, &Device::flex()).unwrap());
    let dynamic = scaled(json!({"rope_type": "dynamic", "factor": 2.0}));
    assert_eq!((outcome(&dynamic), dynamic.config().longest()), (plain, Some(64)));
}

#[test]
fn attention_factors_follow_the_papers() {
    let attention = |scaling: Value| match config(json!({"rope_scaling": scaling})).rope.scaling {
        RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => attention_factor,
        other => panic!("{other:?}"),
    };
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
    let yarn = |more: Value| {
        let mut scaling = json!({"rope_type": "yarn", "factor": 4.0});
        more.as_object().unwrap().iter().for_each(|(key, value)| scaling[key] = value.clone());
        attention(scaling)
    };
    close(yarn(json!({})), 0.1 * 4_f64.ln() + 1.0);
    close(yarn(json!({"factor": 1.0})), 1.0);
    close(yarn(json!({"mscale": 2.0, "mscale_all_dim": 1.0})), (0.2 * 4_f64.ln() + 1.0) / (0.1 * 4_f64.ln() + 1.0));
    close(yarn(json!({"attention_factor": 1.3})), 1.3);
    let long = json!({"type": "su", "short_factor": [1, 1, 1], "long_factor": [1, 1, 1],
        "original_max_position_embeddings": 16});
    close(attention(long), (1.0 + 4_f64.ln() / 16_f64.ln()).sqrt());
}

#[test]
fn factors_that_do_not_fit_are_refused_by_name() {
    let long = |short: Value| json!({"rope_type": "longrope", "short_factor": short, "long_factor": [1, 1, 1]});
    assert!(refused(long(json!([1, 1]))).contains("short_factor"));
    assert!(refused(long(json!([1, 0, 1]))).contains("short_factor"));
    assert!(refused(long(json!("1"))).contains("short_factor"));
    assert!(refused(json!({"rope_type": "longrope"})).contains("short_factor"));
    assert!(refused(json!({"rope_type": "other"})).contains("longrope"));
    let one = json!({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 1});
    assert!(refused(one).contains("original_max_position_embeddings"));
}
