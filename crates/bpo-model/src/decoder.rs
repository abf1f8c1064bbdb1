use std::{path::Path, sync::Arc};

use bpo_kernels::is_fused;
use burn::tensor::{Device, FloatDType, Int, Tensor};

use crate::{
    Adapter, Checkpoint, DecoderConfig, Error, Input, Parameters, PositionKind, Precision,
    layer::{Layer, linear, norm},
    linear::Linear,
    norm::Norm,
    precision::cast,
    rope::{Frequencies, Places},
    softcap::capped,
    source::{FromFile, Source},
};

/// A causal decoder of one of the families of [`Architecture`](crate::Architecture). Cloning shares all weights, so a policy, its behaviour snapshot and the
/// initial model are one base with different adapters attached.
///
/// Hidden states come out, not logits: see `bpo_loss::Head` for log-probs without the vocabulary-wide tensor.
#[derive(Debug, Clone)]
pub struct Decoder {
    pub(crate) config: Arc<DecoderConfig>,
    pub(crate) precision: Precision,
    pub(crate) gradient_checkpointing: bool,
    pub(crate) frequencies: Arc<Frequencies>,
    /// `[vocab, hidden]`.
    pub(crate) embedding: Tensor<2>,
    /// `[max_position_embeddings, hidden]`, where positions are learned.
    pub(crate) positions: Option<Tensor<2>>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Norm,
    /// The layer that makes logits; `None` when tied to the embedding or when the model has another head.
    pub(crate) head: Option<Linear>,
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
        let names = config.architecture.names();
        let mut source = FromFile::decoder(checkpoint, names, device, precision);
        let model = Self::assemble(config, HeadKind::LanguageModel, &mut source)?;
        source.finish_decoder(names).map(|()| model)
    }

    /// Builds the model from any source of tensors.
    pub(crate) fn assemble(config: DecoderConfig, head: HeadKind, source: &mut dyn Source) -> Result<Self, Error> {
        let (c, names) = (&config, config.architecture.names());
        let [embedding_name, head_name] = [names.embedding, names.head].map(|path| format!("{path}.weight"));
        let shape = [c.vocab_size, c.hidden_size];
        let (tied, is_language_model) = (c.tie_word_embeddings, head == HeadKind::LanguageModel);
        let in_head = is_language_model && tied && !source.has(&embedding_name) && source.has(&head_name);
        let embedding = source.matrix(if in_head { &head_name } else { &embedding_name }, shape, false)?;
        let positions = match c.positions {
            PositionKind::Rotary => None,
            PositionKind::Learned => {
                let shape = [c.max_position_embeddings, c.hidden_size];
                Some(source.matrix(&format!("{}.weight", names.positions), shape, false)?)
            }
        };
        let layers = (0..c.num_hidden_layers).map(|i| Layer::read(c, i, source)).collect::<Result<Vec<_>, _>>()?;
        let norm = norm(c, names.norm.into(), c.hidden_size, source)?;
        // A tied model whose file holds a head all the same: transformers 5 keeps it where it differs.
        let separate = is_language_model && (!tied || (source.has(&head_name) && source.has(&embedding_name)));
        let head = if separate { Some(linear(names.head.into(), shape, false, source)?) } else { None };
        let frequencies = Arc::new(Frequencies::new(&config));
        let precision = source.precision();
        let (config, gradient_checkpointing) = (Arc::new(config), false);
        Ok(Self { config, precision, gradient_checkpointing, frequencies, embedding, positions, layers, norm, head })
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
        let is_sparse = is_fused(&self.embedding) && self.config.attention_softcap.is_none();
        if is_sparse { needed.max(Self::LONG_ROW) } else { needed }
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
        // burn composes softmax and silu of other operations where there may be gradients. In 16 bits the last bit of one
        // grows over the layers into all the rounding there is, and a policy would differ from itself as its reference.
        if self.precision.activations != FloatDType::F32 {
            x = x.autodiff();
        }
        for layer in &self.layers {
            x = self.layer(layer, x, input);
        }
        self.norm.forward(x)
    }

    /// `[rows · time, hidden]`, of what the layer reads.
    pub(crate) fn layer(&self, layer: &Layer, x: Tensor<2>, input: &Input) -> Tensor<2> {
        layer.forward(&self.config, x, input.places.rotation(layer.window), input.mask(layer.window))
    }

    /// `[rows · time, hidden]`.
    pub(crate) fn embed(&self, input: &Input) -> Tensor<2> {
        self.embedded(input.ids.clone().reshape([input.rows * input.time]), &input.places)
    }

    /// The embeddings of token ids, `[tokens, hidden]`.
    pub(crate) fn embedded(&self, ids: Tensor<1, Int>, places: &Places) -> Tensor<2> {
        let rows = |table: &Tensor<2>, ids| cast(table.clone().select(0, ids), self.precision.activations);
        let x = rows(&self.embedding, ids);
        let x = match (&self.positions, places) {
            (Some(table), Places::Learned(positions)) => x + rows(table, (**positions).clone()),
            _ => x,
        };
        match self.config.embedding_scale {
            Some(scale) => x * scale,
            None => x,
        }
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
        let logits = match &self.head {
            Some(head) => head.forward(hidden),
            None => bpo_kernels::linear(hidden, self.embedding.clone()),
        };
        match self.logit_softcap() {
            Some(cap) => capped(logits, cap),
            None => logits,
        }
    }

    /// The c of a model whose logits z are c·tanh(z/c) of what [`Decoder::head_weight`] makes of hidden states
    /// (Gemma 2). Whoever computes log-probs from hidden states needs it.
    pub fn logit_softcap(&self) -> Option<f64> {
        self.config.logit_softcap
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
            attached += usize::from(adapter.attach(linear, dropout)?);
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

    /// All weights by Hugging Face name in f32, vectors as `[1, n]`: what full fine-tuning trains. Those of linear
    /// layers are `[out, in]`, whatever the family's files hold.
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
        let (dtype, names) = (self.precision.activations, self.config.architecture.names());
        let mut vector = |name: String, weight: &mut Tensor<1>| {
            if let Some(new) = f(&name, &weight.clone().unsqueeze::<2>()) {
                *weight = new.squeeze_dim(0);
            }
        };
        for norm in [&mut self.norm].into_iter().chain(self.layers.iter_mut().flat_map(Layer::norms_mut)) {
            norm.weights_mut().for_each(|(name, weight)| vector(name, weight));
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
        let tables = [(names.embedding, Some(&mut self.embedding)), (names.positions, self.positions.as_mut())];
        for (path, table) in tables {
            let Some(table) = table else { continue };
            if let Some(new) = f(&format!("{path}.weight"), table) {
                *table = cast(new, dtype);
            }
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
        self.layers.iter().flat_map(Layer::linears).chain(self.head.iter())
    }

    fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.layers.iter_mut().flat_map(Layer::linears_mut).chain(self.head.iter_mut())
    }

    fn for_each_linear(&mut self, f: impl FnMut(&mut Linear) -> Result<(), Error>) -> Result<(), Error> {
        self.linears_mut().try_for_each(f)
    }
}
