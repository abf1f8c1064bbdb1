use std::{path::Path, sync::Arc};

use bpo_kernels::{is_fused, rms_norm, swiglu};
use burn::tensor::{
    Device, FloatDType, Int, Tensor,
    activation::{gelu, gelu_approximate, relu},
};

use crate::{
    Activation, Adapter, Checkpoint, DecoderConfig, Error, Input, Parameters, Precision,
    attention::Attention,
    linear::{Linear, LoraBranch},
    precision::cast,
    rope,
};

/// A Llama-family decoder. Cloning shares all weights, so a policy, its behaviour snapshot and the
/// initial model are one base with different adapters attached.
///
/// Hidden states come out, not logits: see `bpo_loss::Head` for log-probs without the vocabulary-wide tensor.
#[derive(Debug, Clone)]
pub struct Decoder {
    pub(crate) config: Arc<DecoderConfig>,
    pub(crate) precision: Precision,
    pub(crate) gradient_checkpointing: bool,
    pub(crate) frequencies: Arc<Vec<f32>>,
    /// `[vocab, hidden]`.
    pub(crate) embedding: Tensor<2>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: RmsNorm,
    /// `lm_head`; `None` when tied to the embedding or when the model has another head.
    pub(crate) head: Option<Linear>,
}

#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub attention_norm: RmsNorm,
    pub attention: Attention,
    pub mlp_norm: RmsNorm,
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
    pub window: Option<usize>,
}

/// x / √(mean x² + ε) · weight (Zhang & Sennrich 2019, arXiv:1910.07467).
#[derive(Debug, Clone)]
pub(crate) struct RmsNorm {
    pub path: String,
    /// `[width]`, as in the file.
    pub weight: Tensor<1>,
    pub epsilon: f64,
    /// Multiply by 1 + weight.
    pub unit_offset: bool,
}

impl RmsNorm {
    /// `x`: `[rows, width]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let weight = if self.unit_offset { self.weight.clone() + 1.0 } else { self.weight.clone() };
        rms_norm(x, weight, self.epsilon)
    }
}

/// Which head a checkpoint is expected to have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadKind {
    LanguageModel,
    None,
}

impl Decoder {
    /// Reads a causal language model from a Hugging Face directory.
    ///
    /// # Errors
    /// Any [`Error`] of [`DecoderConfig::from_dir`] and [`Checkpoint::open`]; a missing, misshapen or
    /// non-finite tensor is named.
    pub fn from_dir(dir: &Path, device: &Device) -> Result<Self, Error> {
        let config = DecoderConfig::from_dir(dir)?;
        Self::from_checkpoint(config, &Checkpoint::open(dir)?, device)
    }

    /// Reads a causal language model's tensors from an open checkpoint, in f32.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::UnusedTensor`], [`Error::Shape`], [`Error::Dtype`],
    /// [`Error::NonFinite`].
    pub fn from_checkpoint(config: DecoderConfig, checkpoint: &Checkpoint, device: &Device) -> Result<Self, Error> {
        Self::in_precision(config, checkpoint, device, Precision::default())
    }

    /// As [`Decoder::from_checkpoint`], in another precision: no more than one matrix is ever held in f32.
    ///
    /// # Errors
    /// As [`Decoder::from_checkpoint`].
    pub fn in_precision(
        config: DecoderConfig,
        checkpoint: &Checkpoint,
        device: &Device,
        precision: Precision,
    ) -> Result<Self, Error> {
        let mut source = FromFile::new(checkpoint, device, precision);
        let model = Self::assemble(config, HeadKind::LanguageModel, &mut source)?;
        source.finish().map(|()| model)
    }

    /// Builds the model from any source of tensors.
    pub(crate) fn assemble(config: DecoderConfig, head: HeadKind, source: &mut dyn Source) -> Result<Self, Error> {
        let c = &config;
        let embedding_name = "model.embed_tokens.weight";
        let shape = [c.vocab_size, c.hidden_size];
        let tied = c.tie_word_embeddings;
        let embedding =
            if head == HeadKind::LanguageModel && tied && !source.has(embedding_name) && source.has("lm_head.weight") {
                source.matrix("lm_head.weight", shape)?
            } else {
                source.matrix(embedding_name, shape)?
            };
        let layers = (0..c.num_hidden_layers).map(|i| layer(c, i, source)).collect::<Result<Vec<_>, _>>()?;
        let norm = norm(c, "model.norm".into(), c.hidden_size, source)?;
        // A tied model whose file holds a head all the same: transformers 5 keeps it where it differs.
        let separate =
            head == HeadKind::LanguageModel && (!tied || (source.has("lm_head.weight") && source.has(embedding_name)));
        let head = if separate { Some(linear("lm_head".into(), shape, false, source)?) } else { None };
        let frequencies = Arc::new(rope::frequencies(&config));
        let precision = source.precision();
        let (config, gradient_checkpointing) = (Arc::new(config), false);
        Ok(Self { config, precision, gradient_checkpointing, frequencies, embedding, layers, norm, head })
    }

    /// Whether [`Decoder::backward`] computes layers twice instead of keeping what they computed.
    #[must_use]
    pub fn with_gradient_checkpointing(mut self, enabled: bool) -> Self {
        self.gradient_checkpointing = enabled;
        self
    }

    /// Decides the masks of LoRA dropout: each is a function of `seed` and of its layer alone.
    #[must_use]
    pub fn with_dropout_seed(mut self, seed: u64) -> Self {
        for (index, linear) in self.linears_mut().enumerate() {
            if let Some(lora) = &mut linear.lora {
                lora.seed = seed.wrapping_add(index as u64);
            }
        }
        self
    }

    /// What the weights are kept in, and what is computed in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The configuration.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.embedding.device()
    }

    /// How long rows of packed sequences should be, when the longest of them needs `needed` tokens: where attention
    /// computes only what a token sees, a long row costs no more than short ones and leaves less padding.
    pub fn row_length(&self, needed: usize) -> usize {
        if is_fused(&self.embedding) { needed.max(Self::LONG_ROW) } else { needed }
    }

    /// Bounds the work of finding out who sees whom, which grows with the square of the row.
    const LONG_ROW: usize = 4096;

    /// Makes an input of ids and positions `[rows, time]`, row-major; `may_attend(row, query, key)`
    /// is asked for `key <= query` by index in the row, sliding windows are applied on top, by position.
    ///
    /// # Errors
    /// [`Error::Input`].
    pub fn input(
        &self,
        shape: [usize; 2],
        ids: &[u32],
        positions: &[u32],
        may_attend: impl Fn(usize, usize, usize) -> bool,
    ) -> Result<Input, Error> {
        let device = self.device().inner();
        Input::check(&self.config, shape, ids, positions)?;
        Ok(Input::new(&self.config, &self.frequencies, shape, ids, positions, may_attend, &device))
    }

    /// Final hidden states, normalised, `[rows · time, hidden]`: what the head reads.
    pub fn hidden(&self, input: &Input) -> Tensor<2> {
        let mut x = self.embed(input);
        for layer in &self.layers {
            x = self.layer(layer, x, input);
        }
        self.norm.forward(x)
    }

    /// `[rows · time, hidden]`, of what the layer reads.
    pub(crate) fn layer(&self, layer: &Layer, x: Tensor<2>, input: &Input) -> Tensor<2> {
        let normed = layer.attention_norm.forward(x.clone());
        let p = layer.attention.project(normed, &input.rotation);
        let x = x + layer.attention.mix(self.config.heads(), p, input.visibility(layer.window));
        self.feed_forward(layer, x)
    }

    /// `[rows · time, hidden]`.
    pub(crate) fn embed(&self, input: &Input) -> Tensor<2> {
        self.embedded(input.ids.clone().reshape([input.rows * input.time]))
    }

    /// The embeddings of token ids, `[tokens, hidden]`.
    pub(crate) fn embedded(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        let x = cast(self.embedding.clone().select(0, ids), self.precision.activations);
        match self.config.embedding_scale {
            Some(scale) => x * scale,
            None => x,
        }
    }

    pub(crate) fn feed_forward(&self, layer: &Layer, x: Tensor<2>) -> Tensor<2> {
        let normed = layer.mlp_norm.forward(x.clone());
        let gate = layer.gate.forward(normed.clone());
        let up = layer.up.forward(normed);
        let product = match self.config.activation {
            Activation::Silu => swiglu(gate, up),
            Activation::Gelu => gelu(gate) * up,
            Activation::GeluTanh => gelu_approximate(gate) * up,
            Activation::Relu => relu(gate) * up,
        };
        x + layer.down.forward(product)
    }

    /// The head as one matrix `[vocab, hidden]`, LoRA included: the embedding when tied.
    pub fn head_weight(&self) -> Tensor<2> {
        match &self.head {
            Some(head) => head.effective_weight(),
            None => self.embedding.clone(),
        }
    }

    /// Logits of hidden states `[rows, hidden]`, `[rows, vocab]`: for sampling, where one row per
    /// sequence is needed.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        match &self.head {
            Some(head) => head.forward(hidden),
            None => bpo_kernels::linear(hidden, self.embedding.clone()),
        }
    }

    /// Attaches an adapter's branches to the layers it names; `dropout` acts on their inputs (training
    /// only, 0 otherwise). Branches attached before are replaced.
    ///
    /// # Errors
    /// [`Error::Adapter`] when a module is not in this model or has another shape.
    pub fn with_adapter(&self, adapter: &Adapter, dropout: f64) -> Result<Self, Error> {
        let mut model = self.without_adapter();
        let mut attached = 0;
        model.for_each_linear(|linear| {
            let Some((a, b)) = adapter.pair(&linear.path) else { return Ok(()) };
            let ([rank, inputs], [outputs, rank_b]) = (a.dims(), b.dims());
            if [outputs, inputs] != linear.shape() || rank != rank_b {
                let reason = format!(
                    "{}: lora_A {:?} and lora_B {:?} do not fit the layer's weight {:?}",
                    linear.path,
                    a.dims(),
                    b.dims(),
                    linear.shape()
                );
                return Err(adapter.error(reason));
            }
            let scaling = adapter.scaling(&linear.path, rank);
            linear.lora = Some(LoraBranch { a, b, scaling, dropout, seed: 0 });
            attached += 1;
            Ok(())
        })?;
        match adapter.modules().find(|module| model.linear(module).is_none()) {
            Some(module) => Err(adapter.error(format!("the model has no linear layer {module}"))),
            None if attached == 0 => Err(adapter.error("it adapts no layer".into())),
            None => Ok(model),
        }
    }

    /// The base alone.
    #[must_use]
    pub fn without_adapter(&self) -> Self {
        let mut model = self.clone();
        model.linears_mut().for_each(|linear| linear.lora = None);
        model
    }

    /// This model as it samples fastest. Branches on f32 weights are folded: three products per layer become one, for a
    /// copy of the weights. On bf16 weights they stay, since rounding the sum would lose small updates, and the policy
    /// that samples would not be the one that is trained.
    #[must_use]
    pub fn for_sampling(&self) -> Self {
        if self.precision.weights == FloatDType::F32 { self.merged() } else { self.clone() }
    }

    /// A plain model that computes what this one does: every LoRA branch folded into its layer. Unlike
    /// the branches, the folded weights are new memory.
    #[must_use]
    pub fn merged(&self) -> Self {
        let mut model = self.clone();
        for linear in model.linears_mut() {
            linear.weight = linear.effective_weight().inner();
            linear.lora = None;
        }
        model
    }

    /// The same values outside of any autodiff graph.
    #[must_use]
    pub(crate) fn untracked(&self) -> Self {
        let mut model = self.clone();
        model.for_each_weight(|_, weight| weight.is_tracked().then(|| weight.clone().inner()));
        for lora in model.linears_mut().filter_map(|linear| linear.lora.as_mut()) {
            (lora.a, lora.b) = (lora.a.clone().inner(), lora.b.clone().inner());
        }
        model
    }

    /// All weights by Hugging Face name in f32, vectors as `[1, n]`: what full fine-tuning trains.
    pub fn parameters(&self) -> Parameters {
        let mut parameters = Parameters::new();
        self.clone().for_each_weight(|name, weight| {
            parameters.insert(name.to_string(), cast(weight.clone(), FloatDType::F32));
            None
        });
        parameters
    }

    /// This model with the named weights replaced (others kept), matrices in the precision of its activations: gradients
    /// reach the given tensors in theirs.
    #[must_use]
    pub fn with_parameters(&self, parameters: &Parameters) -> Self {
        let mut model = self.clone();
        model.for_each_weight(|name, _| parameters.get(name).cloned());
        model
    }

    /// Calls `f` with every weight; where it returns one, that replaces it, a matrix in the activations' precision.
    fn for_each_weight(&mut self, mut f: impl FnMut(&str, &Tensor<2>) -> Option<Tensor<2>>) {
        let dtype = self.precision.activations;
        let mut vector = |name: String, weight: &mut Tensor<1>| {
            if let Some(new) = f(&name, &weight.clone().unsqueeze::<2>()) {
                *weight = new.squeeze_dim(0);
            }
        };
        vector("model.norm.weight".into(), &mut self.norm.weight);
        for layer in &mut self.layers {
            let attention = &mut layer.attention;
            let norms = [&mut layer.attention_norm, &mut layer.mlp_norm].into_iter();
            for norm in norms.chain(attention.q_norm.as_mut()).chain(attention.k_norm.as_mut()) {
                vector(format!("{}.weight", norm.path), &mut norm.weight);
            }
        }
        for linear in self.linears_mut() {
            let path = linear.path.clone();
            if let Some(bias) = &mut linear.bias {
                vector(format!("{path}.bias"), bias);
            }
        }
        for linear in self.linears_mut() {
            if let Some(new) = f(&format!("{}.weight", linear.path), &linear.weight) {
                linear.weight = cast(new, dtype);
            }
        }
        if let Some(new) = f("model.embed_tokens.weight", &self.embedding) {
            self.embedding = cast(new, dtype);
        }
    }

    /// Paths of all linear layers, the head included when it is not tied.
    pub fn linear_paths(&self) -> Vec<String> {
        self.linears().map(|linear| linear.path.clone()).collect()
    }

    /// `[out, in]` of the linear layer at `path`.
    pub fn linear_shape(&self, path: &str) -> Option<[usize; 2]> {
        self.linear(path).map(Linear::shape)
    }

    fn linear(&self, path: &str) -> Option<&Linear> {
        self.linears().find(|linear| linear.path == path)
    }

    fn linears(&self) -> impl Iterator<Item = &Linear> {
        let layers = self.layers.iter().flat_map(|layer| {
            let a = &layer.attention;
            [&a.q, &a.k, &a.v, &a.o, &layer.gate, &layer.up, &layer.down]
        });
        layers.chain(self.head.iter())
    }

    fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let layers = self.layers.iter_mut().flat_map(|layer| {
            let a = &mut layer.attention;
            [&mut a.q, &mut a.k, &mut a.v, &mut a.o, &mut layer.gate, &mut layer.up, &mut layer.down]
        });
        layers.chain(self.head.iter_mut())
    }

    fn for_each_linear(&mut self, f: impl FnMut(&mut Linear) -> Result<(), Error>) -> Result<(), Error> {
        self.linears_mut().try_for_each(f)
    }
}

/// Where an assembled model's tensors come from: a file, or a random initialisation.
pub(crate) trait Source {
    fn has(&self, name: &str) -> bool;
    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<Tensor<2>, Error>;
    fn vector(&mut self, name: &str, length: usize) -> Result<Tensor<1>, Error>;
    fn precision(&self) -> Precision;
}

/// Reads from a checkpoint, and remembers what it read.
pub(crate) struct FromFile<'a> {
    checkpoint: &'a Checkpoint,
    device: Device,
    precision: Precision,
    used: std::collections::HashSet<String>,
}

impl<'a> FromFile<'a> {
    pub fn new(checkpoint: &'a Checkpoint, device: &Device, precision: Precision) -> Self {
        Self { checkpoint, device: device.clone().inner(), precision, used: Default::default() }
    }

    /// Refuses a file with weights of the decoder that were not read.
    pub fn finish(self) -> Result<(), Error> {
        self.checkpoint.unused(&self.used).map_or(Ok(()), Err)
    }
}

impl Source for FromFile<'_> {
    fn has(&self, name: &str) -> bool {
        self.checkpoint.has(name)
    }

    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<Tensor<2>, Error> {
        self.used.insert(name.to_string());
        Ok(cast(self.checkpoint.read(name, shape, &self.device)?, self.precision.weights))
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<Tensor<1>, Error> {
        self.used.insert(name.to_string());
        self.checkpoint.read(name, [length], &self.device)
    }
}

fn layer(c: &DecoderConfig, index: usize, source: &mut dyn Source) -> Result<Layer, Error> {
    let base = format!("model.layers.{index}");
    let (hidden, ffn) = (c.hidden_size, c.intermediate_size);
    let (q, kv) = (c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim);
    let attention = |name: &str| format!("{base}.self_attn.{name}");
    let head_norm = |name: &str, source: &mut dyn Source| {
        if c.qk_norm { norm(c, attention(name), c.head_dim, source).map(Some) } else { Ok(None) }
    };
    let mlp =
        |name: &str, shape, source: &mut dyn Source| linear(format!("{base}.mlp.{name}"), shape, c.mlp_bias, source);
    Ok(Layer {
        attention_norm: norm(c, format!("{base}.input_layernorm"), hidden, source)?,
        attention: Attention {
            q: linear(attention("q_proj"), [q, hidden], c.qkv_bias, source)?,
            k: linear(attention("k_proj"), [kv, hidden], c.qkv_bias, source)?,
            v: linear(attention("v_proj"), [kv, hidden], c.qkv_bias, source)?,
            o: linear(attention("o_proj"), [hidden, q], c.output_bias, source)?,
            q_norm: head_norm("q_norm", source)?,
            k_norm: head_norm("k_norm", source)?,
        },
        mlp_norm: norm(c, format!("{base}.post_attention_layernorm"), hidden, source)?,
        gate: mlp("gate_proj", [ffn, hidden], source)?,
        up: mlp("up_proj", [ffn, hidden], source)?,
        down: mlp("down_proj", [hidden, ffn], source)?,
        window: c.windows[index],
    })
}

pub(crate) fn linear(path: String, shape: [usize; 2], bias: bool, source: &mut dyn Source) -> Result<Linear, Error> {
    let weight = source.matrix(&format!("{path}.weight"), shape)?;
    let bias = if bias { Some(source.vector(&format!("{path}.bias"), shape[0])?) } else { None };
    Ok(Linear { path, weight, bias, lora: None })
}

fn norm(c: &DecoderConfig, path: String, width: usize, source: &mut dyn Source) -> Result<RmsNorm, Error> {
    let weight = source.vector(&format!("{path}.weight"), width)?;
    Ok(RmsNorm { path, weight, epsilon: c.rms_norm_eps, unit_offset: c.unit_offset_norm })
}
