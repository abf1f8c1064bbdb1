//! The operations on flex's tensors, and what they do on the way back.
use std::sync::Arc;

use burn::backend::{
    Autodiff, Backend, Flex, TensorMetadata,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    backend_extension,
    tensor::FloatTensor,
};
use burn::tensor::{TensorData, bf16};

use crate::{
    CacheView, Heads, Visibility,
    cpu::{
        attention,
        gemm::{self, Matrix, MatrixMut, Write},
        pointwise,
        skinny::Branch,
        weights::{self, Weights},
    },
};

type Values = FloatTensor<Flex>;

/// The crate's operations on tensors of a backend; see the functions of the same names.
#[backend_extension(Flex, Autodiff)]
pub trait FusedOps: Backend {
    fn linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
    fn linear_transposed(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
    fn lora_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scaling: f64,
    ) -> FloatTensor<Self>;
    fn add_lora(
        y: FloatTensor<Self>,
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scaling: f64,
    ) -> FloatTensor<Self>;
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self>;
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;
    fn rotate(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>) -> FloatTensor<Self>;
    fn attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        visibility: Arc<Visibility>,
        heads: Heads,
        scale: f64,
    ) -> FloatTensor<Self>;
    fn write_columns(cache: FloatTensor<Self>, new: FloatTensor<Self>, columns: Arc<Vec<usize>>) -> FloatTensor<Self>;
    fn attention_decode(
        q: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        view: Arc<CacheView>,
        heads: Heads,
        scale: f64,
    ) -> FloatTensor<Self>;
    fn softmax(logits: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// The elements of a tensor, row-major; copied only when it is a view.
fn contiguous(tensor: &Values) -> Values {
    tensor.to_contiguous()
}

/// The same tensor as its storage's only content; writing then happens in place unless somebody else holds it.
fn whole(tensor: Values) -> Values {
    let is_whole = tensor.is_contiguous() && tensor.bytes().len() == tensor.shape().num_elements() * size_of::<f32>();
    if is_whole {
        tensor
    } else {
        Values::from_data(TensorData::new(slice(&contiguous(&tensor)).to_vec(), tensor.shape()))
    }
}

/// The elements of a contiguous tensor.
///
/// # Panics
/// When it is a view or not of f32, which the callers exclude.
fn slice(tensor: &Values) -> &[f32] {
    #[expect(clippy::expect_used, reason = "a kernel must not compute with an empty slice in its place")]
    tensor.as_slice().expect("a contiguous tensor of f32")
}

/// The elements of a layer's weight, contiguous, in either of the formats that weights are kept in.
fn weights(tensor: &Values) -> Weights<'_> {
    match tensor.as_slice::<bf16>() {
        Some(weights) => Weights::Bf16(weights),
        None => Weights::F32(slice(tensor)),
    }
}

/// A new tensor whose every element `fill` writes. In tests, what it forgets to write is NaN.
fn filled<const D: usize>(shape: [usize; D], fill: impl FnOnce(&mut [f32])) -> Values {
    let mut values = vec![if cfg!(test) { f32::NAN } else { 0.0 }; shape.iter().product()];
    fill(&mut values);
    Values::from_data(TensorData::new(values, shape))
}

fn dims<const D: usize>(tensor: &Values) -> [usize; D] {
    let shape = tensor.shape();
    std::array::from_fn(|axis| shape[axis])
}

fn linear(x: &Values, weight: &Values) -> Values {
    let ([m, k], [n, _]) = (dims(x), dims(weight));
    let (x, weight) = (contiguous(x), contiguous(weight));
    filled([m, n], |out| weights::linear(out, slice(&x), weights(&weight), Branch::NONE, [m, k, n]))
}

/// `x·W`.
fn linear_transposed(x: &Values, weight: &Values) -> Values {
    let ([m, n], [_, k]) = (dims(x), dims(weight));
    let (x, weight) = (contiguous(x), contiguous(weight));
    filled([m, k], |out| weights::linear_transposed(out, slice(&x), weights(&weight), [m, n, k]))
}

/// `out ← [out +] factor · a · b` for whole matrices.
fn multiply(into: Write, out: &mut [f32], factor: f32, a: Matrix<'_>, b: Matrix<'_>) {
    let (rows, columns) = (a.rows(), b.columns());
    assert_eq!(out.len(), rows * columns, "room for a product");
    gemm::gemm(into, MatrixMut::new(out, rows, columns, columns), factor, a, b, true);
}

/// A contiguous tensor `[rows, columns]`.
fn matrix(tensor: &Values) -> Matrix<'_> {
    let [rows, columns] = dims(tensor);
    Matrix::new(slice(tensor), rows, columns)
}

/// `x·Aᵀ`, which the backward pass needs too, and the whole.
fn lora_linear(x: &Values, weight: &Values, a: &Values, b: &Values, scaling: f64) -> (Values, Values) {
    let (x, weight, a, b) = (contiguous(x), contiguous(weight), contiguous(a), contiguous(b));
    let thin = linear(&x, &a);
    let ([m, k], [n, rank]) = (dims(&x), dims(&b));
    let scaled: Vec<f32> = slice(&thin).iter().map(|value| value * scaling as f32).collect();
    let branch = Branch { x: &scaled, w: slice(&b), rank };
    let out = filled([m, n], |out| weights::linear(out, slice(&x), weights(&weight), branch, [m, k, n]));
    (out, thin)
}

/// `y + s·(x·Aᵀ)·Bᵀ`, in place where nobody else holds `y`, and `x·Aᵀ`.
fn add_lora(y: Values, [x, a, b]: [&Values; 3], scaling: f64) -> (Values, Values) {
    let (mut y, thin, b) = (whole(y), linear(x, a), contiguous(b));
    multiply(Write::Add, y.storage_mut(), scaling as f32, matrix(&thin), matrix(&b).transposed());
    (y, thin)
}

fn rms_norm(x: &Values, weight: &Values, epsilon: f64) -> Values {
    let (x, weight) = (contiguous(x), contiguous(weight));
    filled(dims::<2>(&x), |out| pointwise::rms_norm(out, slice(&x), slice(&weight), epsilon as f32))
}

fn swiglu(gate: &Values, up: &Values) -> Values {
    let (gate, up) = (contiguous(gate), contiguous(up));
    filled(dims::<2>(&gate), |out| pointwise::swiglu(out, slice(&gate), slice(&up)))
}

fn rotate(x: &Values, cos: &Values, sin: &Values, back: bool) -> Values {
    let (x, cos, sin) = (contiguous(x), contiguous(cos), contiguous(sin));
    let [_, half] = dims(&cos);
    filled(dims::<2>(&x), |out| pointwise::rotate(out, slice(&x), slice(&cos), slice(&sin), half, back))
}

/// What attention was asked for besides its tensors.
#[derive(Debug, Clone)]
struct AttentionSpec {
    visibility: Arc<Visibility>,
    heads: Heads,
    scale: f64,
}

impl AttentionSpec {
    fn inputs<'a>(&'a self, [q, k, v]: &'a [Values; 3]) -> attention::Inputs<'a> {
        let Self { visibility, heads, scale } = self;
        let [q, k, v] = [slice(q), slice(k), slice(v)];
        attention::Inputs { q, k, v, visibility, heads: *heads, scale: *scale as f32 }
    }

    /// The mix and the normalisers.
    fn forward(&self, inputs: &[Values; 3]) -> (Values, Values) {
        let tokens = self.visibility.queries();
        let mut normalisers = vec![0.0; tokens * self.heads.query()];
        let out = filled(dims::<2>(&inputs[0]), |out| attention::forward(self.inputs(inputs), out, &mut normalisers));
        (out, Values::from_data(TensorData::new(normalisers, [tokens, self.heads.query()])))
    }

    fn backward(&self, inputs: &[Values; 3], out: &Values, normalisers: &Values, gradient: &Values) -> [Values; 3] {
        let gradient = contiguous(gradient);
        let outputs =
            attention::Outputs { out: slice(out), gradient: slice(&gradient), normalisers: slice(normalisers) };
        let (mut dk, mut dv) = (vec![0.0; slice(&inputs[1]).len()], vec![0.0; slice(&inputs[2]).len()]);
        let dq = filled(dims::<2>(&inputs[0]), |dq| {
            attention::backward(self.inputs(inputs), outputs, dq, &mut dk, &mut dv);
        });
        let like = |values, input| Values::from_data(TensorData::new(values, dims::<2>(input)));
        [dq, like(dk, &inputs[1]), like(dv, &inputs[2])]
    }
}

impl FusedOps for Flex {
    fn linear(x: Values, weight: Values) -> Values {
        linear(&x, &weight)
    }

    fn linear_transposed(x: Values, weight: Values) -> Values {
        linear_transposed(&x, &weight)
    }

    fn lora_linear(x: Values, weight: Values, a: Values, b: Values, scaling: f64) -> Values {
        lora_linear(&x, &weight, &a, &b, scaling).0
    }

    fn add_lora(y: Values, x: Values, a: Values, b: Values, scaling: f64) -> Values {
        add_lora(y, [&x, &a, &b], scaling).0
    }

    fn rms_norm(x: Values, weight: Values, epsilon: f64) -> Values {
        rms_norm(&x, &weight, epsilon)
    }

    fn swiglu(gate: Values, up: Values) -> Values {
        swiglu(&gate, &up)
    }

    fn rotate(x: Values, cos: Values, sin: Values) -> Values {
        rotate(&x, &cos, &sin, false)
    }

    fn attention(q: Values, k: Values, v: Values, visibility: Arc<Visibility>, heads: Heads, scale: f64) -> Values {
        let inputs = [q, k, v].map(|input| contiguous(&input));
        AttentionSpec { visibility, heads, scale }.forward(&inputs).0
    }

    fn write_columns(cache: Values, new: Values, columns: Arc<Vec<usize>>) -> Values {
        let ([_, heads, capacity, dim], mut cache) = (dims(&cache), whole(cache));
        let new = contiguous(&new);
        let values: &mut [f32] = cache.storage_mut();
        for (index, new) in slice(&new).chunks_exact(dim).enumerate() {
            let at = (index * capacity + columns[index / heads]) * dim;
            values[at..at + dim].copy_from_slice(new);
        }
        cache
    }

    fn attention_decode(
        q: Values,
        keys: Values,
        values: Values,
        view: Arc<CacheView>,
        heads: Heads,
        scale: f64,
    ) -> Values {
        let (q, keys, values) = (contiguous(&q), contiguous(&keys), contiguous(&values));
        let [_, _, capacity, _] = dims(&keys);
        filled(dims::<2>(&q), |out| {
            let cache = [slice(&keys), slice(&values)];
            attention::decode(out, slice(&q), cache, view.columns(), capacity, heads, scale as f32);
        })
    }

    fn softmax(logits: Values) -> (Values, Values) {
        let ([rows, _], mut logits) = (dims(&logits), whole(logits));
        let mut normalisers = vec![0.0; rows];
        pointwise::softmax(logits.storage_mut(), &mut normalisers);
        (logits, Values::from_data(TensorData::new(normalisers, [rows])))
    }
}

/// Defines an operation's backward pass: a state and how it turns the gradient into those of the parents.
macro_rules! backward {
    ($name:ident, $parents:literal, $state:ty, |$state_name:ident, $gradient:ident, $wanted:ident| $body:expr) => {
        #[derive(Debug)]
        struct $name;

        impl Backward<Flex, $parents> for $name {
            type State = $state;

            fn backward(self, ops: Ops<$state, $parents>, grads: &mut Gradients, _: &mut Checkpointer) {
                let $gradient: Values = contiguous(&grads.consume::<Flex>(&ops.node));
                let $wanted = ops.parents.each_ref().map(Option::is_some);
                let $state_name = ops.state;
                let gradients: [Option<Values>; $parents] = $body;
                for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
                    if let (Some(parent), Some(gradient)) = (parent, gradient) {
                        grads.register::<Flex>(parent.id, gradient);
                    }
                }
            }
        }
    };
}

/// `[rows, columns]` of a product of whole matrices.
fn product(a: Matrix<'_>, b: Matrix<'_>, factor: f32) -> Values {
    filled([a.rows(), b.columns()], |out| multiply(Write::Replace, out, factor, a, b))
}

backward!(LinearStep, 2, (Option<Values>, Values), |state, gradient, wanted| {
    let (x, weight) = state;
    let dx = wanted[0].then(|| linear_transposed(&gradient, &weight));
    let dw = x.filter(|_| wanted[1]).map(|x| product(matrix(&gradient).transposed(), matrix(&x), 1.0));
    [dx, dw]
});

/// Input, weight, A, B, x·Aᵀ, scaling.
type LoraState = ([Values; 5], f32);

backward!(LoraStep, 4, LoraState, |state, gradient, wanted| {
    let ([x, weight, a, b, thin], scaling) = state;
    let d_thin = product(matrix(&gradient), matrix(&b), scaling);
    let dx = wanted[0].then(|| {
        let mut dx = linear_transposed(&gradient, &weight);
        multiply(Write::Add, dx.storage_mut(), 1.0, matrix(&d_thin), matrix(&a));
        dx
    });
    let dw = wanted[1].then(|| product(matrix(&gradient).transposed(), matrix(&x), 1.0));
    let da = wanted[2].then(|| product(matrix(&d_thin).transposed(), matrix(&x), 1.0));
    let db = wanted[3].then(|| product(matrix(&gradient).transposed(), matrix(&thin), scaling));
    [dx, dw, da, db]
});

/// Input, A, B, x·Aᵀ, scaling.
type AddLoraState = ([Values; 4], f32);

backward!(AddLoraStep, 4, AddLoraState, |state, gradient, wanted| {
    let ([x, a, b, thin], scaling) = state;
    let d_thin = product(matrix(&gradient), matrix(&b), scaling);
    let dx = wanted[1].then(|| product(matrix(&d_thin), matrix(&a), 1.0));
    let da = wanted[2].then(|| product(matrix(&d_thin).transposed(), matrix(&x), 1.0));
    let db = wanted[3].then(|| product(matrix(&gradient).transposed(), matrix(&thin), scaling));
    [wanted[0].then_some(gradient), dx, da, db]
});

backward!(RmsNormStep, 2, (Values, Values, f32), |state, gradient, wanted| {
    let (x, weight, epsilon) = state;
    let (slope, input, factor) = (slice(&gradient), slice(&x), slice(&weight));
    let dx =
        wanted[0].then(|| filled(dims::<2>(&x), |dx| pointwise::rms_norm_backward(dx, slope, input, factor, epsilon)));
    let dw = wanted[1]
        .then(|| filled(dims::<1>(&weight), |dw| pointwise::rms_norm_weight_gradient(dw, slope, input, epsilon)));
    [dx, dw]
});

backward!(SwigluStep, 2, (Values, Values), |state, gradient, _wanted| {
    let (gate, up) = state;
    let mut d_up = vec![0.0; slice(&up).len()];
    let d_gate = filled(dims::<2>(&gate), |d_gate| {
        pointwise::swiglu_backward(d_gate, &mut d_up, slice(&gradient), slice(&gate), slice(&up));
    });
    [Some(d_gate), Some(Values::from_data(TensorData::new(d_up, dims::<2>(&up))))]
});

backward!(RotateStep, 1, (Values, Values), |state, gradient, _wanted| {
    let (cos, sin) = state;
    [Some(rotate(&gradient, &cos, &sin, true))]
});

/// Inputs, output, normalisers.
type AttentionState = (AttentionSpec, [Values; 3], Values, Values);

backward!(AttentionStep, 3, AttentionState, |state, gradient, _wanted| {
    let (spec, inputs, out, normalisers) = state;
    spec.backward(&inputs, &out, &normalisers, &gradient).map(Some)
});

type Tracked<C> = FloatTensor<Autodiff<Flex, C>>;

impl<C: CheckpointStrategy> FusedOps for Autodiff<Flex, C> {
    fn linear(x: Tracked<C>, weight: Tracked<C>) -> Tracked<C> {
        let weight_tracked = weight.is_tracked();
        let nodes = [x.node(), weight.node()];
        let (x, weight) = (contiguous(x.primitive()), contiguous(weight.primitive()));
        let out = linear(&x, &weight);
        match LinearStep.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((weight_tracked.then_some(x), weight), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn linear_transposed(x: Tracked<C>, weight: Tracked<C>) -> Tracked<C> {
        Tracked::<C>::new(Flex::linear_transposed(x.into_primitive(), weight.into_primitive()))
    }

    fn lora_linear(x: Tracked<C>, weight: Tracked<C>, a: Tracked<C>, b: Tracked<C>, scaling: f64) -> Tracked<C> {
        let nodes = [x.node(), weight.node(), a.node(), b.node()];
        let [x, weight, a, b] = [x, weight, a, b].map(|input| contiguous(input.primitive()));
        let (out, thin) = lora_linear(&x, &weight, &a, &b, scaling);
        match LoraStep.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(([x, weight, a, b, thin], scaling as f32), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn add_lora(y: Tracked<C>, x: Tracked<C>, a: Tracked<C>, b: Tracked<C>, scaling: f64) -> Tracked<C> {
        let nodes = [y.node(), x.node(), a.node(), b.node()];
        let [x, a, b] = [x, a, b].map(|input| contiguous(input.primitive()));
        let (out, thin) = add_lora(y.into_primitive(), [&x, &a, &b], scaling);
        match AddLoraStep.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(([x, a, b, thin], scaling as f32), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn rms_norm(x: Tracked<C>, weight: Tracked<C>, epsilon: f64) -> Tracked<C> {
        let nodes = [x.node(), weight.node()];
        let (x, weight) = (contiguous(x.primitive()), contiguous(weight.primitive()));
        let out = rms_norm(&x, &weight, epsilon);
        match RmsNormStep.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, weight, epsilon as f32), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn swiglu(gate: Tracked<C>, up: Tracked<C>) -> Tracked<C> {
        let nodes = [gate.node(), up.node()];
        let (gate, up) = (contiguous(gate.primitive()), contiguous(up.primitive()));
        let out = swiglu(&gate, &up);
        match SwigluStep.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((gate, up), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn rotate(x: Tracked<C>, cos: Tracked<C>, sin: Tracked<C>) -> Tracked<C> {
        let nodes = [x.node()];
        let (cos, sin) = (cos.into_primitive(), sin.into_primitive());
        let out = rotate(x.primitive(), &cos, &sin, false);
        match RotateStep.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((cos, sin), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn attention(
        q: Tracked<C>,
        k: Tracked<C>,
        v: Tracked<C>,
        visibility: Arc<Visibility>,
        heads: Heads,
        scale: f64,
    ) -> Tracked<C> {
        let nodes = [q.node(), k.node(), v.node()];
        let inputs = [q, k, v].map(|input| contiguous(input.primitive()));
        let spec = AttentionSpec { visibility, heads, scale };
        let (out, normalisers) = spec.forward(&inputs);
        match AttentionStep.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((spec, inputs, out.clone(), normalisers), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn write_columns(cache: Tracked<C>, new: Tracked<C>, columns: Arc<Vec<usize>>) -> Tracked<C> {
        Tracked::<C>::new(Flex::write_columns(cache.into_primitive(), new.into_primitive(), columns))
    }

    fn attention_decode(
        q: Tracked<C>,
        keys: Tracked<C>,
        values: Tracked<C>,
        view: Arc<CacheView>,
        heads: Heads,
        scale: f64,
    ) -> Tracked<C> {
        let [q, keys, values] = [q, keys, values].map(|input| input.into_primitive());
        Tracked::<C>::new(Flex::attention_decode(q, keys, values, view, heads, scale))
    }

    fn softmax(logits: Tracked<C>) -> (Tracked<C>, Tracked<C>) {
        let (probabilities, normalisers) = Flex::softmax(logits.into_primitive());
        (Tracked::<C>::new(probabilities), Tracked::<C>::new(normalisers))
    }
}
