//! A reward model as files that transformers and PEFT load.
use serde_json::{Value, json};

use super::{Body, SequenceClassifier};
use crate::{Adapter, Error, Parameters, WeightDtype, export::tensors_file};

/// What transformers calls the class of a `model_type`, before `ForSequenceClassification`.
const CLASSES: [(&str, &str); 15] = [
    ("bert", "Bert"),
    ("roberta", "Roberta"),
    ("xlm-roberta", "XLMRoberta"),
    ("distilbert", "DistilBert"),
    ("deberta-v2", "DebertaV2"),
    ("llama", "Llama"),
    ("mistral", "Mistral"),
    ("qwen2", "Qwen2"),
    ("qwen3", "Qwen3"),
    ("gemma", "Gemma"),
    ("gemma2", "Gemma2"),
    ("gemma3_text", "Gemma3Text"),
    ("phi3", "Phi3"),
    ("gpt2", "GPT2"),
    ("gpt_neox", "GPTNeoX"),
];

/// Files of a folder, `(name, bytes)`.
type Files = [(&'static str, Vec<u8>); 2];

impl SequenceClassifier {
    /// The model as the files of a Hugging Face directory that `AutoModelForSequenceClassification` loads: as
    /// [`write_model`](crate::write_model), with the head and one label. An attached adapter is folded in.
    ///
    /// # Errors
    /// As [`write_model`](crate::write_model).
    pub fn to_files(&self, dtype: WeightDtype) -> Result<Files, Error> {
        let merged = self.merged();
        let mut matrices = Vec::new();
        match &merged.0 {
            Body::Decoder(model) => {
                let names = model.decoder.config().architecture.names();
                matrices.extend([names.embedding, names.positions, "score"].map(str::to_string));
                matrices.extend(merged.linear_paths());
            }
            Body::Encoder(model) => model.as_ref().clone().for_each_weight(|name, _, is_matrix| {
                matrices.extend(name.strip_suffix(".weight").filter(|_| is_matrix).map(str::to_string));
                None
            }),
        }
        let is_matrix = |path: &str| matrices.iter().any(|matrix| matrix == path);
        let tensors = tensors_file(&merged.parameters(), is_matrix, dtype)?;
        let config = serde_json::to_vec_pretty(&self.config(dtype)).map_err(|error| Error::Input(error.to_string()))?;
        Ok([("config.json", config), ("model.safetensors", tensors)])
    }

    /// An adapter of this model and its trained head (those of `trained` that are the head's) as PEFT's two files, with
    /// `task_type` SEQ_CLS and the head's modules as `modules_to_save`.
    ///
    /// # Errors
    /// As [`Adapter::to_peft`].
    pub fn adapter_files(&self, adapter: &Adapter, trained: &Parameters, base: &str) -> Result<Files, Error> {
        let mut head = Parameters::new();
        for (name, _) in self.head_parameters().iter() {
            if let Some(tensor) = trained.get(name) {
                head.insert(name.to_string(), tensor.clone());
            }
        }
        adapter.to_peft_with_head(base, &head, self.head_modules())
    }

    fn head_modules(&self) -> &'static [&'static str] {
        match &self.0 {
            Body::Decoder(_) => &["score"],
            Body::Encoder(model) => model.head_modules(),
        }
    }

    fn config(&self, dtype: WeightDtype) -> Value {
        let mut raw = self.raw_config().clone();
        let Some(object) = raw.as_object_mut() else { return raw };
        let model_type = object.get("model_type").and_then(Value::as_str).unwrap_or_default().to_string();
        let class = CLASSES.iter().find(|(name, _)| *name == model_type);
        match class {
            Some((_, class)) => {
                object.insert("architectures".into(), json!([format!("{class}ForSequenceClassification")]))
            }
            None => object.remove("architectures"),
        };
        object.insert("id2label".into(), json!({"0": "LABEL_0"}));
        object.insert("label2id".into(), json!({"LABEL_0": 0}));
        object.remove("num_labels");
        let key = if object.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
        object.insert(key.into(), json!(dtype.name()));
        if let Body::Decoder(model) = &self.0 {
            object.insert("pad_token_id".into(), json!(model.decoder.config().pad_token_id));
        }
        raw
    }
}
