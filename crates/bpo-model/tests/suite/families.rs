//! What is peculiar to a family: its files' layouts, its positions, its refusals.
use std::path::Path;

use bpo_model::{
    Adapter, Checkpoint, Decoder, DecoderConfig, EncoderConfig, LoraConfig, PositionKind, SequenceClassifier,
    WeightDtype, write_model,
};
use burn::tensor::Device;
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::tiny::{families, logps};

fn family(name: &str) -> Decoder {
    families().into_iter().find(|(family, _)| *family == name).unwrap().1
}

fn refused(config: Value) -> String {
    DecoderConfig::from_json("config.json".as_ref(), config.to_string().as_bytes()).unwrap_err().to_string()
}

#[test]
fn gpt2_files_hold_their_matrices_transposed() {
    let model = family("gpt2");
    let [_, (_, bytes)] = write_model(&model, WeightDtype::F32).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let shape = |name: &str| file.tensor(name).unwrap().shape().to_vec();
    assert_eq!(shape("transformer.h.0.attn.c_attn.weight"), [24, 72]);
    assert_eq!(shape("transformer.h.1.mlp.c_proj.weight"), [40, 24]);
    assert_eq!(shape("transformer.wpe.weight"), [64, 24]);
    assert_eq!(shape("transformer.h.0.ln_1.bias"), [24]);
    assert_eq!(model.linear_shape("transformer.h.0.attn.c_attn"), Some([72, 24]));
}

/// The first GPT-2 checkpoints leave out `transformer.` and hold the causal mask beside the weights.
#[test]
fn files_of_the_bare_decoder_are_read() {
    let model = family("gpt2");
    let [(_, config), (_, bytes)] = write_model(&model, WeightDtype::F32).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let bare = |name: String| name.strip_prefix("transformer.").unwrap_or(&name).to_string();
    let mask = vec![0u8; 64 * 64 * 4];
    let mask = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1, 1, 64, 64], &mask).unwrap();
    let tensors = file.tensors().into_iter().map(|(name, view)| (bare(name), view));
    let bytes = safetensors::serialize(tensors.chain([("h.0.attn.bias".to_string(), mask)]), None).unwrap();
    let read = |bytes| {
        let config = DecoderConfig::from_json("config.json".as_ref(), &config).unwrap();
        Decoder::from_checkpoint(config, &Checkpoint::from_bytes("memory", bytes).unwrap(), &Device::flex())
    };
    assert_eq!(logps(&model, &[1, 2], &[3, 4, 5]), logps(&read(bytes.clone()).unwrap(), &[1, 2], &[3, 4, 5]));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let stray = file.tensors().into_iter().map(|(name, view)| (name.replace("h.1.mlp", "h.2.mlp"), view));
    let error = read(safetensors::serialize(stray, None).unwrap()).unwrap_err().to_string();
    assert!(error.contains("h.1.mlp"), "{error}");
}

#[test]
fn an_adapter_of_gpt2_tells_peft_of_its_layout_and_of_whole_paths() {
    let model = family("gpt2");
    let config = LoraConfig { r: 2, target_modules: vec!["attn.c_proj".into()], ..LoraConfig::default() };
    let [(_, config), _] = Adapter::new(&model, config, 1).unwrap().to_peft("base").unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["fan_in_fan_out"], true);
    assert_eq!(config["target_modules"], json!(["transformer.h.0.attn.c_proj", "transformer.h.1.attn.c_proj"]));
    let [(_, llama), _] = Adapter::new(&family("llama"), LoraConfig::default(), 1).unwrap().to_peft("base").unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&llama).unwrap()["fan_in_fan_out"], false);
}

#[test]
fn an_adapter_of_every_family_reads_back_and_spares_the_head() {
    for (name, model) in families() {
        let adapter = Adapter::new(&model, LoraConfig { r: 2, ..LoraConfig::default() }, 1).unwrap();
        let filled = adapter.with_weights(adapter.weights().map(|_, tensor| (tensor * 3.0 + 0.4).sin() * 0.1));
        assert!(adapter.modules().all(|module| module.contains(".mlp.") || module.contains("att")), "{name}");
        let dir = tempfile::tempdir().unwrap();
        for (file, bytes) in filled.to_peft("base").unwrap() {
            std::fs::write(dir.path().join(file), bytes).unwrap();
        }
        let read = Adapter::from_dir(dir.path(), &Device::flex()).unwrap();
        let score = |adapter: &Adapter| logps(&model.with_adapter(adapter, 0.0).unwrap(), &[1, 2], &[3, 4]);
        assert_eq!(score(&filled), score(&read), "{name}");
    }
}

#[test]
fn a_position_that_was_not_learned_is_refused() {
    for (name, model) in families() {
        let input = |position: u32| model.input([1, 2], &[1, 2], &[0, position], |_, _, _| true);
        assert!(input(63).is_ok(), "{name}");
        let is_learned = model.config().positions == PositionKind::Learned;
        assert_eq!(input(64).is_err(), is_learned, "{name}");
    }
    let model = family("gpt2");
    let error = model.input([1, 1], &[1], &[64], |_, _, _| true).unwrap_err().to_string();
    assert!(error.contains("64"), "{error}");
}

#[test]
fn an_unknown_architecture_is_told_what_there_is() {
    let error = refused(json!({"model_type": "mamba"}));
    for known in ["mamba", "llama", "gemma2", "gemma3_text", "phi3", "gpt2", "gpt_neox"] {
        assert!(error.contains(known), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), "{\"model_type\": \"t5\"}").unwrap();
    let error = SequenceClassifier::from_dir(dir.path(), &Device::flex()).unwrap_err().to_string();
    for known in ["t5", "llama", "gpt2", "deberta-v2", "distilbert"] {
        assert!(error.contains(known), "{error}");
    }
}

#[test]
fn what_would_be_computed_wrongly_is_refused_by_its_key() {
    let with = |base: Value, key: &str, value: Value| {
        let mut config = base;
        config[key] = value;
        refused(config)
    };
    let sizes = json!({"vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2,
        "num_attention_heads": 2, "model_type": "phi3"});
    let scaling = json!({"rope_type": "proportional"});
    assert!(with(sizes.clone(), "rope_scaling", scaling).contains("proportional"));
    assert!(with(sizes.clone(), "partial_rotary_factor", json!(0.2)).contains("partial_rotary_factor"));
    assert!(with(sizes.clone(), "partial_rotary_factor", json!(1.5)).contains("partial_rotary_factor"));
    let mut gemma = sizes.clone();
    gemma["model_type"] = json!("gemma2");
    assert!(with(gemma.clone(), "sliding_window", json!(0)).contains("sliding_window"));
    assert!(with(gemma.clone(), "layer_types", json!(["full_attention"])).contains("layer_types"));
    assert!(with(gemma, "attn_logit_softcapping", json!(-1.0)).contains("attn_logit_softcapping"));
    let gpt2 = json!({"model_type": "gpt2", "vocab_size": 9, "n_embd": 8, "n_head": 3, "n_layer": 1});
    assert!(refused(gpt2.clone()).contains("n_head"));
    assert!(with(gpt2.clone(), "n_layer", json!(u64::MAX)).contains("n_layer"));
    let mut deep = gpt2;
    deep["n_head"] = json!(2);
    assert!(with(deep, "n_layer", json!(1u64 << 40)).contains("n_layer"));
}

#[test]
fn an_encoder_that_would_be_computed_wrongly_is_refused_by_its_key() {
    let good = json!({"model_type": "deberta-v2", "vocab_size": 9, "hidden_size": 8, "intermediate_size": 8,
        "num_hidden_layers": 2, "num_attention_heads": 2, "relative_attention": true, "position_buckets": 16});
    let dir = tempfile::tempdir().unwrap();
    let read = |key: &str, value: Value| {
        let mut config = good.clone();
        config[key] = value;
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        EncoderConfig::from_dir(dir.path())
    };
    assert_eq!(read("layer_norm_eps", json!(1e-7)).unwrap().unwrap().context(), 512);
    for (key, value) in [
        ("relative_attention", json!(false)),
        ("conv_kernel_size", json!(3)),
        ("embedding_size", json!(4)),
        ("position_buckets", json!(3)),
        ("max_relative_positions", json!(9)),
        ("max_relative_positions", json!(1u64 << 40)),
        ("pos_att_type", json!(7)),
        ("hidden_act", json!("mish")),
        ("vocab_size", json!(1u64 << 40)),
        ("num_attention_heads", json!(3)),
    ] {
        let error = read(key, value).unwrap_err().to_string();
        assert!(error.contains(key) || error.contains("position_buckets"), "{key}: {error}");
    }
}

/// Both spellings of Gemma 3's two rotations, of transformers 4 and 5.
#[test]
fn gemma3_rotations_of_old_and_new_files_are_the_same() {
    let sizes = json!({"vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 12,
        "num_attention_heads": 2, "num_key_value_heads": 1, "model_type": "gemma3_text", "sliding_window": 3});
    let read = |changes: Value| {
        let mut config = sizes.clone();
        changes.as_object().unwrap().iter().for_each(|(key, value)| config[key] = value.clone());
        DecoderConfig::from_json(Path::new("config.json"), config.to_string().as_bytes()).unwrap()
    };
    let scaling = json!({"rope_type": "linear", "factor": 8.0});
    let old = read(json!({"rope_theta": 7e5, "rope_local_base_freq": 2e4, "rope_scaling": scaling}));
    let new = read(json!({"rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 7e5}}}));
    assert_eq!((old.rope, old.local_rope), (new.rope, new.local_rope));
    let bare = read(json!({}));
    assert_eq!((bare.rope.theta, bare.local_rope.unwrap().theta), (1e6, 1e4));
    let full: Vec<usize> = (0..12).filter(|&layer| bare.windows[layer].is_none()).collect();
    assert_eq!(full, [5, 11]);
}
