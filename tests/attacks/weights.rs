//! Whole models of which one tensor cannot be computed with.
use std::fs;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use tempfile::TempDir;

use crate::cli::bpo::fixture;

/// A folder and the bytes of its weights.
type Model = Option<(TempDir, usize)>;

/// Name, builder, and the words of the refusal.
type Attack = (&'static str, fn() -> Model, &'static [&'static str]);

pub const ATTACKS: &[Attack] = &[
    ("a NaN", || patched(f32::NAN), &["model.norm.weight", "non-finite", "element 1"]),
    ("an infinity", || patched(f32::NEG_INFINITY), &["model.norm.weight", "non-finite"]),
    (
        "another shape",
        || changed(|_, shape| (Dtype::F32, vec![shape.iter().product::<usize>(), 1])),
        &["model.norm.weight", "shape"],
    ),
    ("integers", || changed(|_, shape| (Dtype::I32, shape.to_vec())), &["model.norm.weight", "I32"]),
    ("a missing tensor", missing, &["model.norm.weight", "missing"]),
];

const TENSOR: &str = "model.norm.weight";

/// Dtype, shape and bytes of a tensor.
type Parts = (Dtype, Vec<usize>, Vec<u8>);

/// The fixture with its tensors passed through `change`, which gives dtype, shape and bytes, or leaves one out.
fn model(change: impl Fn(&str, &TensorView<'_>) -> Option<Parts>) -> Model {
    let source = fixture("arch/llama-tied")?;
    let bytes = fs::read(source.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors: Vec<(String, Parts)> =
        file.iter().filter_map(|(name, view)| Some((name.to_owned(), change(name, &view)?))).collect();
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    let written = safetensors::serialize(views, None).unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.safetensors"), &written).unwrap();
    fs::copy(source.join("config.json"), dir.path().join("config.json")).unwrap();
    Some((dir, written.len()))
}

fn same(view: &TensorView<'_>) -> Parts {
    (view.dtype(), view.shape().to_vec(), view.data().to_vec())
}

fn patched(value: f32) -> Model {
    model(|name, view| {
        let (dtype, shape, mut data) = same(view);
        if name == TENSOR {
            assert_eq!(dtype, Dtype::F32, "the fixture's");
            data[4..8].copy_from_slice(&value.to_le_bytes());
        }
        Some((dtype, shape, data))
    })
}

fn changed(change: fn(&str, &[usize]) -> (Dtype, Vec<usize>)) -> Model {
    model(|name, view| {
        let (mut dtype, mut shape, data) = same(view);
        if name == TENSOR {
            (dtype, shape) = change(name, &shape);
        }
        Some((dtype, shape, data))
    })
}

fn missing() -> Model {
    model(|name, view| (name != TENSOR).then(|| same(view)))
}
