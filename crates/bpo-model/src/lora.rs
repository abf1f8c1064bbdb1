use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};

use crate::{
    Decoder, Error, Parameters,
    init::Normal,
    linear::{Linear, LoraBranch},
};

/// What a LoRA adapter is, in PEFT's terms.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// Rank of new branches.
    pub r: usize,
    /// Scaling is `lora_alpha / r`, or `lora_alpha / √r` with [`LoraConfig::use_rslora`].
    pub lora_alpha: f64,
    /// Share of a branch's inputs zeroed while training.
    pub lora_dropout: f64,
    /// Suffixes of module paths to adapt (`q_proj`); `all-linear` alone means every linear layer but the head.
    pub target_modules: Vec<String>,
    /// Kalajdzievski 2023, arXiv:2312.03732.
    pub use_rslora: bool,
    /// `lora_alpha` of modules matching a pattern, first match wins; as read from PEFT.
    pub alpha_pattern: Vec<(String, f64)>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            r: 16,
            lora_alpha: 32.0,
            lora_dropout: 0.05,
            target_modules: vec!["all-linear".into()],
            use_rslora: false,
            alpha_pattern: Vec::new(),
        }
    }
}

/// A LoRA adapter: `A` `[rank, in]` and `B` `[out, rank]` for each adapted module, and their scaling.
/// A policy, its behaviour snapshot and the reference are each one of these on a shared [`Decoder`].
#[derive(Debug, Clone)]
pub struct Adapter {
    /// Ranks, scaling, dropout.
    pub config: LoraConfig,
    /// `PATH.lora_A` and `PATH.lora_B`.
    pub(crate) weights: Parameters,
    /// Where it was read from, for errors.
    pub(crate) origin: PathBuf,
}

/// A linear layer's path and `[out, in]`.
pub(crate) type Target = (String, [usize; 2]);

impl Adapter {
    /// A new adapter for `model`: `A` uniform in ±1/√in (PEFT's Kaiming initialisation), `B` zero, so
    /// that the adapted model starts out equal to its base. The same seed gives the same bits.
    ///
    /// # Errors
    /// [`Error::Adapter`] when `r` is 0; [`Error::Target`] when a target matches no linear layer of the model.
    pub fn new(model: &Decoder, config: LoraConfig, seed: u64) -> Result<Self, Error> {
        let linears = model.linear_paths().into_iter();
        let linears: Vec<Target> =
            linears.filter_map(|path| model.linear_shape(&path).map(|shape| (path, shape))).collect();
        Self::of_linears(&linears, model.config().architecture.names().head, config, seed, &model.device())
    }

    /// As [`Adapter::new`], for linear layers by path, of which `head` is none of `all-linear`.
    pub(crate) fn of_linears(
        linears: &[Target],
        head: &str,
        config: LoraConfig,
        seed: u64,
        device: &Device,
    ) -> Result<Self, Error> {
        let mut adapter = Self { config, weights: Parameters::new(), origin: PathBuf::from("(new)") };
        if adapter.config.r == 0 {
            return Err(adapter.error("lora_r must be at least 1".into()));
        }
        let device = device.clone().inner();
        let mut random = Normal::new(seed);
        for (path, [outputs, inputs]) in adapter.targets(linears, head)? {
            let r = adapter.config.r;
            let bound = 1.0 / (*inputs as f64).sqrt();
            let a: Vec<f32> = (0..r * inputs).map(|_| ((2.0 * random.uniform() - 1.0) * bound) as f32).collect();
            let tensor = |values, shape: [usize; 2]| Tensor::from_data(TensorData::new(values, shape), &device);
            adapter.weights.insert(format!("{path}.lora_A"), tensor(a, [r, *inputs]));
            adapter.weights.insert(format!("{path}.lora_B"), tensor(vec![0.0; outputs * r], [*outputs, r]));
        }
        Ok(adapter)
    }

    fn targets<'l>(&self, linears: &'l [Target], head: &str) -> Result<Vec<&'l Target>, Error> {
        let wanted = &self.config.target_modules;
        if wanted.len() == 1 && wanted[0] == "all-linear" {
            return Ok(linears.iter().filter(|(path, _)| path != head).collect());
        }
        let matches = |path: &str, target: &str| path == target || path.ends_with(&format!(".{target}"));
        match wanted.iter().find(|target| !linears.iter().any(|(path, _)| matches(path, target))) {
            Some(target) => {
                let paths: Vec<String> = linears.iter().map(|(path, _)| path.clone()).collect();
                Err(Error::Target(format!(
                    "lora_target_modules: no linear layer is called {target}; this model has {}",
                    leaf_names(&paths).join(", ")
                )))
            }
            None if wanted.is_empty() => Err(Error::Target("lora_target_modules is empty".into())),
            None => Ok(linears.iter().filter(|(path, _)| wanted.iter().any(|target| matches(path, target))).collect()),
        }
    }

    /// The trainable tensors.
    pub fn weights(&self) -> &Parameters {
        &self.weights
    }

    /// The same adapter with other values (a snapshot, an update, tracked leaves).
    #[must_use]
    pub fn with_weights(&self, weights: Parameters) -> Self {
        Self { weights, ..self.clone() }
    }

    /// Paths of the adapted modules, sorted.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        self.weights.iter().filter_map(|(name, _)| name.strip_suffix(".lora_A"))
    }

    /// `A` and `B` of a module.
    pub(crate) fn pair(&self, path: &str) -> Option<(Tensor<2>, Tensor<2>)> {
        let get = |side: &str| self.weights.get(&format!("{path}.{side}")).cloned();
        Some((get("lora_A")?, get("lora_B")?))
    }

    /// Factor of a module's branch.
    pub(crate) fn scaling(&self, path: &str, rank: usize) -> f64 {
        let pattern = self.config.alpha_pattern.iter().find(|(pattern, _)| pattern_matches(pattern, path));
        let alpha = pattern.map_or(self.config.lora_alpha, |(_, alpha)| *alpha);
        if self.config.use_rslora { alpha / (rank as f64).sqrt() } else { alpha / rank as f64 }
    }

    /// Attaches the module's branch to its layer; whether there is one.
    pub(crate) fn attach(&self, linear: &mut Linear, dropout: f64) -> Result<bool, Error> {
        let Some((a, b)) = self.pair(&linear.path) else { return Ok(false) };
        let ([rank, inputs], [outputs, rank_b]) = (a.dims(), b.dims());
        if [outputs, inputs] != linear.shape() || rank != rank_b {
            let reason = format!(
                "{}: lora_A {:?} and lora_B {:?} do not fit the layer's weight {:?}",
                linear.path,
                a.dims(),
                b.dims(),
                linear.shape()
            );
            return Err(self.error(reason));
        }
        linear.lora = Some(LoraBranch { a, b, scaling: self.scaling(&linear.path, rank), dropout, seed: 0 });
        Ok(true)
    }

    pub(crate) fn error(&self, reason: String) -> Error {
        Error::Adapter { path: self.origin.clone(), reason }
    }
}

/// PEFT's rule: the pattern is a regular expression for the end of the path, from a dot on.
pub(crate) fn pattern_matches(pattern: &str, path: &str) -> bool {
    let anchored = match pattern.strip_prefix('^') {
        Some(rest) => format!("^(?:{rest})$"),
        None => format!(r"^(?:.*\.)?(?:{pattern})$"),
    };
    regex::Regex::new(&anchored).is_ok_and(|regex| regex.is_match(path))
}

/// Distinct last parts of module paths: `q_proj`, `down_proj`, …
pub(crate) fn leaf_names(paths: &[String]) -> Vec<String> {
    let mut leaves: Vec<String> = paths.iter().filter_map(|path| path.rsplit('.').next()).map(str::to_string).collect();
    leaves.sort_unstable();
    leaves.dedup();
    leaves
}
