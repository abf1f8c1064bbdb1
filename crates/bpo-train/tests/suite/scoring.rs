use bpo_data::{Group, Layout, packed, padded, shared_prefix};
use bpo_train::{Gradients, Trainable, backward, sequence_logps};
use burn::tensor::{Tensor, TensorData};
use proptest::prelude::*;
use serde_json::json;

use crate::tiny::{VOCAB, adapter, model, trainables};

type Rows = Vec<(Vec<u32>, Vec<Vec<u32>>)>;

fn groups(rows: &Rows) -> Vec<Group<'_>> {
    rows.iter()
        .map(|(prompt, completions)| Group { prompt, completions: completions.iter().map(Vec::as_slice).collect() })
        .collect()
}

fn rows() -> impl Strategy<Value = Rows> {
    let ids = |length: std::ops::Range<usize>| prop::collection::vec(0..VOCAB as u32, length);
    prop::collection::vec((ids(1..6), prop::collection::vec(ids(1..7), 2..3)), 1..5)
}

/// dL/d(Σ log-prob) that differs from sequence to sequence.
fn slopes(count: usize) -> Vec<f32> {
    (0..count).map(|i| 0.3 - 0.2 * i as f32).collect()
}

fn gradients(trainable: &Trainable, layouts: &[Layout], offsets: &[usize]) -> (Vec<f32>, Vec<f32>) {
    let base = model(json!({}));
    let total = 64;
    let (mut all, mut sums) = (Gradients::default(), Vec::new());
    for (layout, offset) in layouts.iter().zip(offsets) {
        let (policy, leaves) = trainable.tracked(&base).unwrap();
        let part = slopes(total)[*offset..offset + layout.sequences].to_vec();
        let (scored, mut grads) = backward(&policy, layout, |_| Ok(part)).unwrap();
        all.add(&leaves, &mut grads);
        sums.extend(scored.sums);
    }
    let values = trainable
        .parameters()
        .iter()
        .flat_map(|(name, tensor)| match all.get(name) {
            Some(gradient) => gradient.clone().try_into_vec_as().unwrap(),
            None => vec![0.0f32; tensor.dims().iter().product()],
        })
        .collect();
    (sums, values)
}

/// Equal to 1e-5 of the largest value (at least 1): sums of other order differ by rounding.
fn close(left: &[f32], right: &[f32]) -> bool {
    let scale = right.iter().fold(1.0f32, |scale, value| scale.max(value.abs()));
    let worst = left.iter().zip(right).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap_or(0.0);
    left.len() == right.len() && worst <= 1e-5 * scale
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn padded_shared_prefix_and_packed_agree_in_log_probs_and_gradients(rows in rows()) {
        let groups = groups(&rows);
        let base = model(json!({}));
        for (name, trainable) in trainables(&base) {
            let expected = gradients(&trainable, &[padded(&groups, 0).unwrap()], &[0]);
            for layout in [shared_prefix(&groups, 0).unwrap(), packed(&groups, 0, 40).unwrap()] {
                let ours = gradients(&trainable, &[layout], &[0]);
                prop_assert!(close(&ours.0, &expected.0), "{name}: {:?} {:?}", ours.0, expected.0);
                prop_assert!(close(&ours.1, &expected.1), "{name}: gradients differ");
            }
        }
    }

    #[test]
    fn accumulating_k_times_b_equals_one_batch_of_k_b(rows in rows()) {
        let groups = groups(&rows);
        let base = model(json!({}));
        for (name, trainable) in trainables(&base) {
            let whole = gradients(&trainable, &[packed(&groups, 0, 40).unwrap()], &[0]);
            let parts: Vec<Layout> = groups.iter().map(|g| padded(std::slice::from_ref(g), 0).unwrap()).collect();
            let offsets: Vec<usize> = (0..groups.len()).map(|i| 2 * i).collect();
            let ours = gradients(&trainable, &parts, &offsets);
            prop_assert!(close(&ours.0, &whole.0) && close(&ours.1, &whole.1), "{name}");
        }
    }
}

/// The definition: every position's logits, log-softmax, autodiff through everything.
fn plain(trainable: &Trainable, base: &bpo_model::Decoder, layout: &Layout) -> (Vec<f32>, Vec<Vec<f32>>) {
    let (policy, leaves) = trainable.tracked(base).unwrap();
    let input = policy
        .input([layout.rows, layout.time], &layout.ids, &layout.positions, |r, q, k| layout.may_attend(r, q, k))
        .unwrap();
    let logits = policy.hidden(&input).matmul(policy.head_weight().transpose());
    let logits = policy.logit_softcap().map_or_else(|| logits.clone(), |cap| (logits.clone() / cap).tanh() * cap);
    let logps = burn::tensor::activation::log_softmax(logits, 1);
    let (rows, vocab) = (layout.rows * layout.time, VOCAB);
    let mut weights = vec![0.0f32; rows * vocab];
    let slopes = slopes(layout.sequences);
    for target in &layout.targets {
        let place = target.row as usize * layout.time + target.time as usize;
        weights[place * vocab + target.token as usize] += slopes[target.sequence as usize];
    }
    let weights = Tensor::<2>::from_data(TensorData::new(weights, [rows, vocab]), &base.device());
    let host: Vec<f32> = logps.clone().try_into_vec_as().unwrap();
    let mut sums = vec![0.0; layout.sequences];
    for target in &layout.targets {
        let place = target.row as usize * layout.time + target.time as usize;
        sums[target.sequence as usize] += host[place * vocab + target.token as usize];
    }
    let gradients = (logps * weights).sum().backward();
    let gradients = leaves
        .iter()
        .map(|(_, leaf)| leaf.grad(&gradients).map(|g| g.try_into_vec_as().unwrap()).unwrap_or_default())
        .collect();
    (sums, gradients)
}

#[test]
fn backward_is_the_gradient_of_the_plain_log_softmax() {
    let prompt = [5u32, 9, 1];
    let groups = [
        Group { prompt: &prompt, completions: vec![&[7, 7, 3, 2], &[4, 2]] },
        Group { prompt: &prompt[..1], completions: vec![&[20, 23], &[1]] },
    ];
    let layout = packed(&groups, 0, 12).unwrap();
    let capped = json!({"model_type": "gemma2", "head_dim": 4, "query_pre_attn_scalar": 4, "sliding_window": 3,
        "attn_logit_softcapping": 1.0, "final_logit_softcapping": 2.0});
    for changes in [json!({}), json!({"tie_word_embeddings": false}), capped] {
        let base = model(changes.clone());
        let mut cases = trainables(&base);
        if changes["tie_word_embeddings"] == json!(false) {
            cases.push(("head", Trainable::Lora(adapter(&base, &["q_proj", "lm_head"]))));
        }
        for (name, trainable) in cases {
            let (sums, expected) = plain(&trainable, &base, &layout);
            let (policy, leaves) = trainable.tracked(&base).unwrap();
            let (scored, mut grads) = backward(&policy, &layout, |scored| Ok(slopes(scored.sums.len()))).unwrap();
            assert!(close(&scored.sums, &sums), "{name}: {:?} {sums:?}", scored.sums);
            let mut ours = Gradients::default();
            ours.add(&leaves, &mut grads);
            for ((parameter, _), expected) in leaves.iter().zip(&expected) {
                let ours: Vec<f32> =
                    ours.get(parameter).map(|g| g.clone().try_into_vec_as().unwrap()).unwrap_or_default();
                assert!(close(&ours, expected), "{name} {parameter}: {ours:?} {expected:?}");
            }
            let scored = sequence_logps(&trainable.model(&base).unwrap(), &layout).unwrap();
            assert!(close(&scored.sums, &sums), "{name}");
            assert_eq!(scored.lengths, [4, 2, 2, 1]);
        }
    }
}
