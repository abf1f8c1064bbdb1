//! PEFT's adapter folder: `adapter_config.json` and `adapter_model.safetensors`.
use std::path::Path;

use burn::tensor::Device;
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::{
    Adapter, Checkpoint, Error, LoraConfig, Parameters,
    lora::{leaf_names, pattern_matches},
    names::is_transposed,
    params::{safetensors_file, to_le_bytes, torch_format},
};

const PREFIX: &str = "base_model.model.";

/// Keys of `adapter_config.json` whose effect is not computed here, with the values that have none.
const WITHOUT_EFFECT: [(&str, &[&str]); 11] = [
    ("bias", &["none"]),
    ("use_dora", &[]),
    ("lora_bias", &[]),
    ("modules_to_save", &[]),
    ("target_parameters", &[]),
    ("trainable_token_indices", &[]),
    ("layer_replication", &[]),
    ("alora_invocation_tokens", &[]),
    ("use_qalora", &[]),
    ("use_bdlora", &[]),
    ("arrow_config", &[]),
];

/// Values of `init_lora_weights` after which the base is no longer what was downloaded.
const CHANGE_THE_BASE: [&str; 4] = ["pissa", "olora", "corda", "loftq"];

impl Adapter {
    /// Reads a PEFT LoRA adapter.
    ///
    /// # Errors
    /// [`Error::Files`], [`Error::Json`]; [`Error::Adapter`] for a kind of adapter
    /// that is not computed (DoRA, trained biases, saved modules, …) or tensors that do not pair up.
    pub fn from_dir(dir: &Path, device: &Device) -> Result<Self, Error> {
        let path = dir.join("adapter_config.json");
        let bytes = bpo_files::read_json_file(&path)?;
        let raw: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Json { path: path.clone(), reason: error.to_string() })?;
        let config = read_config(dir, &raw)?;
        let checkpoint = Checkpoint::open_file(&dir.join("adapter_model.safetensors"))?;
        let mut adapter = Self { config, weights: Parameters::new(), origin: dir.to_path_buf() };
        for name in checkpoint.names() {
            let key = adapter.weight_key(name)?;
            let shape = match checkpoint.shape(name) {
                Some(&[rows, columns]) => [rows, columns],
                other => return Err(adapter.error(format!("{name} has shape {other:?}, not a matrix"))),
            };
            adapter.weights.insert(key, checkpoint.read(name, shape, device)?);
        }
        adapter.check_pairs()?;
        adapter.check_ranks(&raw)?;
        Ok(adapter)
    }

    /// `base_model.model.PATH.lora_A.weight` → `PATH.lora_A`.
    fn weight_key(&self, name: &str) -> Result<String, Error> {
        let path = name.strip_prefix(PREFIX).and_then(|rest| {
            let rest = rest.strip_suffix(".weight")?;
            (rest.ends_with(".lora_A") || rest.ends_with(".lora_B")).then_some(rest)
        });
        path.map(str::to_string).ok_or_else(|| self.error(format!("tensor {name} is not a LoRA matrix")))
    }

    fn check_pairs(&self) -> Result<(), Error> {
        for (name, _) in self.weights.iter() {
            let partner = match name.strip_suffix(".lora_A") {
                Some(path) => format!("{path}.lora_B"),
                None => format!("{}.lora_A", name.trim_end_matches(".lora_B")),
            };
            if self.weights.get(&partner).is_none() {
                return Err(self.error(format!("{name} has no {partner}")));
            }
        }
        if self.weights.is_empty() { Err(self.error("it holds no tensors".into())) } else { Ok(()) }
    }

    /// The scaling divides by the rank, so configuration and tensors must agree on it, as in PEFT.
    fn check_ranks(&self, raw: &Value) -> Result<(), Error> {
        let patterns = raw.get("rank_pattern").and_then(Value::as_object);
        for module in self.modules() {
            let Some((a, _)) = self.pair(module) else { continue };
            let pattern = patterns.into_iter().flatten().find(|(pattern, _)| pattern_matches(pattern, module));
            let expected = pattern.map_or(Some(self.config.r as u64), |(_, rank)| rank.as_u64());
            if expected != Some(a.dims()[0] as u64) {
                let (rank, source) = (a.dims()[0], if pattern.is_some() { "rank_pattern" } else { "r" });
                let expected = expected.map_or("no rank".to_owned(), |rank| rank.to_string());
                return Err(self
                    .error(format!("{module}: lora_A has rank {rank}, the configuration's {source} says {expected}")));
            }
        }
        Ok(())
    }

    /// The adapter as PEFT's two files, `(name, bytes)`: Python's `PeftModel.from_pretrained` loads them
    /// unchanged. `base` is what `base_model_name_or_path` shall say. The same adapter gives the same bytes.
    ///
    /// # Errors
    /// [`Error::Input`] when a tensor cannot be read back from its device.
    pub fn to_peft(&self, base: &str) -> Result<[(&'static str, Vec<u8>); 2], Error> {
        self.peft_files(self.peft_config(base), &Parameters::new())
    }

    /// As [`Adapter::to_peft`], of a sequence classifier with its trained head in `modules`: PEFT's `modules_to_save`.
    pub(crate) fn to_peft_with_head(
        &self,
        base: &str,
        head: &Parameters,
        modules: &[&str],
    ) -> Result<[(&'static str, Vec<u8>); 2], Error> {
        let mut config = self.peft_config(base);
        config["task_type"] = json!("SEQ_CLS");
        config["modules_to_save"] = json!(modules);
        // Short names would say the head's layers, too.
        config["target_modules"] = json!(self.modules().collect::<Vec<&str>>());
        self.peft_files(config, head)
    }

    fn peft_files(&self, config: Value, head: &Parameters) -> Result<[(&'static str, Vec<u8>); 2], Error> {
        let mut tensors = Vec::with_capacity(self.weights.len() + head.len());
        for (name, tensor) in self.weights.iter() {
            tensors.push((format!("{PREFIX}{name}.weight"), tensor.dims().to_vec(), to_le_bytes(tensor)?));
        }
        for (name, tensor) in head.iter() {
            let [rows, columns] = tensor.dims();
            let shape = if name.ends_with(".bias") { vec![columns] } else { vec![rows, columns] };
            tensors.push((format!("{PREFIX}{name}"), shape, to_le_bytes(tensor)?));
        }
        let tensors = safetensors_file(Dtype::F32, &tensors, Some(torch_format()))?;
        let config = serde_json::to_vec_pretty(&config).map_err(|error| Error::Input(error.to_string()))?;
        Ok([("adapter_config.json", config), ("adapter_model.safetensors", tensors)])
    }

    fn peft_config(&self, base: &str) -> Value {
        let paths: Vec<String> = self.modules().map(str::to_string).collect();
        // Patterns and odd ranks need whole paths; otherwise the short names do.
        let leaves = leaf_names(&paths);
        let transposed = paths.iter().any(|path| is_transposed(path));
        // GPT-2's attention and feed-forward blocks both have a c_proj.
        let uneven = transposed || self.uneven_modules(&leaves);
        let ranks: serde_json::Map<String, Value> = paths
            .iter()
            .filter_map(|path| self.pair(path).map(|(a, _)| (path, a.dims()[0])))
            .filter(|(_, rank)| *rank != self.config.r)
            .map(|(path, rank)| (path.clone(), json!(rank)))
            .collect();
        let alphas: serde_json::Map<String, Value> =
            self.config.alpha_pattern.iter().map(|(pattern, alpha)| (pattern.clone(), number(*alpha))).collect();
        json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "revision": null,
            "inference_mode": true,
            "r": self.config.r,
            "lora_alpha": number(self.config.lora_alpha),
            "lora_dropout": self.config.lora_dropout,
            "target_modules": if uneven { paths } else { leaves },
            "use_rslora": self.config.use_rslora,
            "rank_pattern": ranks,
            "alpha_pattern": alphas,
            "bias": "none",
            "fan_in_fan_out": transposed,
            "init_lora_weights": true,
            "use_dora": false,
            "modules_to_save": null,
            "layers_to_transform": null,
            "layers_pattern": null,
        })
    }

    /// Whether some layer's module of an adapted name is not adapted: short names would then say too much.
    fn uneven_modules(&self, leaves: &[String]) -> bool {
        let count = |leaf: &str| self.modules().filter(|path| path.ends_with(&format!(".{leaf}"))).count();
        let counts: Vec<usize> = leaves.iter().map(|leaf| count(leaf)).collect();
        counts.windows(2).any(|pair| pair[0] != pair[1]) || self.skips_a_layer()
    }

    fn skips_a_layer(&self) -> bool {
        let mut layers: Vec<usize> = self.modules().filter_map(|path| path.split('.').nth(2)?.parse().ok()).collect();
        layers.sort_unstable();
        layers.dedup();
        layers.iter().enumerate().any(|(index, &layer)| index != layer)
    }
}

/// Whole numbers as integers, as PEFT writes them.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

fn read_config(dir: &Path, raw: &Value) -> Result<LoraConfig, Error> {
    let refuse = |reason: String| Error::Adapter { path: dir.to_path_buf(), reason };
    match raw.get("peft_type").and_then(Value::as_str) {
        Some("LORA") => {}
        other => return Err(refuse(format!("peft_type is {other:?}; LORA is read"))),
    }
    for (key, harmless) in WITHOUT_EFFECT {
        let effect = match raw.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(value)) => !harmless.contains(&value.as_str()),
            Some(Value::Array(values)) => !values.is_empty(),
            Some(Value::Object(values)) => !values.is_empty(),
            Some(_) => true,
        };
        if effect {
            return Err(refuse(format!("{key} = {} is not supported", raw[key])));
        }
    }
    if let Some(init) = raw.get("init_lora_weights").and_then(Value::as_str) {
        // These subtract what the branches start with from the base's weights.
        let init = init.to_ascii_lowercase();
        if CHANGE_THE_BASE.iter().any(|name| init == *name || init.starts_with(&format!("{name}_"))) {
            return Err(refuse(format!(
                "init_lora_weights = \"{init}\" changed the base model's weights; convert the adapter \
                 with PEFT's path_initial_model_for_weight_conversion first"
            )));
        }
    }
    let rank = raw.get("r").ok_or_else(|| refuse("`r` is missing".into()))?;
    let rank =
        rank.as_u64().filter(|rank| *rank > 0).ok_or_else(|| refuse(format!("`r` = {rank}: a rank is 1 or more")))?;
    let number = |key: &str| raw.get(key).and_then(Value::as_f64);
    let mut alpha_pattern = Vec::new();
    for (pattern, alpha) in raw.get("alpha_pattern").and_then(Value::as_object).into_iter().flatten() {
        let alpha = alpha.as_f64().ok_or_else(|| refuse(format!("alpha_pattern of {pattern} is no number")))?;
        if regex::Regex::new(pattern).is_err() {
            return Err(refuse(format!("alpha_pattern \"{pattern}\" is not a regular expression")));
        }
        alpha_pattern.push((pattern.clone(), alpha));
    }
    let targets = match raw.get("target_modules") {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_string).collect(),
        Some(Value::String(pattern)) => vec![pattern.clone()],
        _ => Vec::new(),
    };
    Ok(LoraConfig {
        r: rank as usize,
        lora_alpha: number("lora_alpha").ok_or_else(|| refuse("`lora_alpha` is missing".into()))?,
        lora_dropout: number("lora_dropout").unwrap_or(0.0),
        target_modules: targets,
        use_rslora: raw.get("use_rslora").and_then(Value::as_bool).unwrap_or(false),
        alpha_pattern,
    })
}
