//! What each family calls its tensors.

/// Paths of a family's modules; those of a layer are below `{layers}.{index}`.
#[derive(Debug, PartialEq)]
pub(super) struct Names {
    /// Where every tensor of the layers stands.
    pub encoder: &'static str,
    pub embeddings: &'static str,
    pub layers: &'static str,
    pub qkv: [&'static str; 3],
    pub output: &'static str,
    pub attention_norm: &'static str,
    pub up: &'static str,
    pub down: &'static str,
    pub mlp_norm: &'static str,
    /// The layer before the last of the head.
    pub dense: &'static str,
    pub out: &'static str,
    pub out_weight: &'static str,
    /// Modules that hold the head, as PEFT's `modules_to_save` names them.
    pub head_modules: &'static [&'static str],
}

impl Names {
    /// What stands before the names of the body, and is missing from files of the bare body.
    pub fn prefix(&self) -> &'static str {
        self.embeddings.find('.').map_or("", |dot| &self.embeddings[..=dot])
    }

    /// Whether a tensor is the head's.
    pub fn is_of_head(&self, tensor: &str) -> bool {
        let below = |path: &str| tensor.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        below(self.dense) || below(self.out)
    }
}

pub(super) const BERT: Names = Names {
    encoder: "bert.encoder",
    embeddings: "bert.embeddings",
    layers: "bert.encoder.layer",
    qkv: ["attention.self.query", "attention.self.key", "attention.self.value"],
    output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    mlp_norm: "output.LayerNorm",
    dense: "bert.pooler.dense",
    out: "classifier",
    out_weight: "classifier.weight",
    head_modules: &["classifier", "pooler"],
};

pub(super) const ROBERTA: Names = Names {
    encoder: "roberta.encoder",
    embeddings: "roberta.embeddings",
    layers: "roberta.encoder.layer",
    dense: "classifier.dense",
    out: "classifier.out_proj",
    out_weight: "classifier.out_proj.weight",
    head_modules: &["classifier"],
    ..BERT
};

pub(super) const DISTILBERT: Names = Names {
    encoder: "distilbert.transformer",
    embeddings: "distilbert.embeddings",
    layers: "distilbert.transformer.layer",
    qkv: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
    output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    mlp_norm: "output_layer_norm",
    dense: "pre_classifier",
    out: "classifier",
    out_weight: "classifier.weight",
    head_modules: &["classifier", "pre_classifier"],
};

pub(super) const DEBERTA: Names = Names {
    encoder: "deberta.encoder",
    embeddings: "deberta.embeddings",
    layers: "deberta.encoder.layer",
    qkv: ["attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"],
    dense: "pooler.dense",
    ..BERT
};

/// DeBERTa in `DebertaV2PairRM`.
pub(super) const PAIR_RM: Names = Names {
    encoder: "pretrained_model.encoder",
    embeddings: "pretrained_model.embeddings",
    layers: "pretrained_model.encoder.layer",
    dense: "head_layer.1",
    out: "head_layer.4",
    out_weight: "head_layer.4.weight",
    head_modules: &["head_layer"],
    ..DEBERTA
};
