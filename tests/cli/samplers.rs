//! `bpo` with a server that samples: the server is real, vLLM's protocol before this program's own model and sampler,
//! so that ids, log-probs and published adapters have to be right.
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bpo_model::{Adapter, Decoder};
use bpo_sampler::{FinishReason, GenerateConfig, Request, Sampling, StreamKey, generate};
use serde_json::{Value, json};
use tempfile::tempdir;

use super::{
    bpo::{Run, arg, bpo},
    server::{Act, Asked, Server},
};

/// The story model behind vLLM's protocol.
struct Engine {
    base: Decoder,
    adapters: HashMap<String, Adapter>,
}

/// The story model's.
const EOS: u32 = 2;

impl Engine {
    fn new() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/story/model");
        let device = burn::tensor::Device::default();
        Self { base: Decoder::from_dir(&folder, &device).unwrap(), adapters: HashMap::new() }
    }

    fn does(&mut self, asked: &Asked) -> Act {
        let path = asked.head.split(' ').nth(1).unwrap();
        let text = |text: &str| Act::With(200, "content-type: text/plain".into(), text.as_bytes().to_vec());
        let name = |key: &str| asked.body[key].as_str().unwrap().to_owned();
        match path {
            "/v1/models" => Act::Json(200, json!({"data": [{"id": "story", "parent": null}]})),
            "/v1/load_lora_adapter" => {
                let folder = PathBuf::from(name("lora_path"));
                let adapter = Adapter::from_dir(&folder, &self.base.device()).unwrap();
                self.adapters.insert(name("lora_name"), adapter);
                text("Success")
            }
            "/v1/unload_lora_adapter" => {
                self.adapters.remove(&name("lora_name")).unwrap();
                text("Success")
            }
            "/v1/completions" => self.completes(&asked.body),
            _ => Act::Json(404, json!({"detail": "Not Found"})),
        }
    }

    fn completes(&self, body: &Value) -> Act {
        // As llama.cpp's server: the one adapter that it was started with, where a request names it.
        let started = self.adapters.get("started").filter(|_| !body["lora"].is_null());
        let model = match (body["model"].as_str().unwrap(), self.adapters.get(body["model"].as_str().unwrap())) {
            ("story", _) => started.map_or(self.base.clone(), |adapter| self.base.with_adapter(adapter, 0.0).unwrap()),
            (_, Some(adapter)) => self.base.with_adapter(adapter, 0.0).unwrap(),
            (name, None) => return Act::Json(404, json!({"message": format!("the model {name} does not exist")})),
        };
        let ids = |value: &Value| -> Vec<u32> {
            value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
        };
        let prompt = ids(&body["prompt"]);
        let config = GenerateConfig {
            max_new_tokens: body["max_tokens"].as_u64().unwrap() as usize,
            min_new_tokens: body["min_tokens"].as_u64().unwrap_or_default() as usize,
            batch_size: 1,
            sampling: Sampling { temperature: body["temperature"].as_f64().unwrap(), ..Sampling::default() },
            eos_ids: body.get("stop_token_ids").map_or_else(|| ids(&json!([EOS])), ids),
            sampled_vocab: None,
        };
        let key = StreamKey { seed: body["seed"].as_u64().unwrap(), step: 0, prompt: 0, slot: 0 };
        let request = Request { prompt: &prompt, samples: vec![key] };
        let drawn = generate(&model, &[request], &config, |_| ()).unwrap().remove(0).remove(0);
        let finish = if drawn.finish == FinishReason::Eos { "stop" } else { "length" };
        let choice = json!({
            "text": "(of no use)", "token_ids": drawn.tokens, "logprobs": {"token_logprobs": drawn.logps},
            "finish_reason": finish,
        });
        Act::Json(200, json!({"choices": [choice], "usage": {"prompt_tokens": prompt.len()}}))
    }
}

/// A server of the story model that is broken while `is_down`.
fn story(is_down: &Arc<AtomicBool>) -> Server {
    let (engine, is_down) = (Mutex::new(Engine::new()), Arc::clone(is_down));
    Server::start(move |asked| match is_down.load(Ordering::Relaxed) && asked.head.contains("/completions") {
        true => Act::Json(400, json!({"message": "out of order"})),
        false => engine.lock().unwrap().does(asked),
    })
}

fn up() -> Arc<AtomicBool> {
    Arc::default()
}

fn train(dir: &Path, sampler: &str, more: &[&str]) -> Run {
    let sampler = format!("sampler={sampler}");
    let short = [
        "max_steps=4",
        "collection_phases=2",
        "per_device_train_batch_size=2",
        "max_new_tokens=12",
        "eval_size=2",
        "save_steps=1",
        "learning_rate=1e-2",
        sampler.as_str(),
    ];
    let sets = short.iter().chain(more).flat_map(|set| ["--set", set]);
    bpo(&["train", "--run-dir", arg(dir)].into_iter().chain(sets).collect::<Vec<_>>())
}

fn metrics(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn vllm(server: &Server, adapters: &Path, more: &str) -> String {
    let folder = adapters.display();
    format!("{{ url = \"{}/v1\", format = \"vllm\", publish_dir = \"{folder}\"{more} }}", server.url)
}

#[test]
fn a_server_samples_from_every_behaviour_because_its_adapter_is_published() {
    let (dir, adapters, server) = (tempdir().unwrap(), tempdir().unwrap(), story(&up()));
    let run = train(dir.path(), &vllm(&server, adapters.path(), ""), &[]);
    run.succeeded();
    let metrics = metrics(dir.path());
    assert_eq!(metrics.len(), 4);
    for step in &metrics {
        let gap = step["collect/server_logp_gap"].as_f64().unwrap();
        assert!(gap < 1e-3, "the server has the policy's own weights, and yet: {step}");
        assert_eq!((step["collect/rescored"].as_u64(), step["collect/retokenised"].as_u64()), (Some(4), Some(0)));
    }
    // Another adapter than the first, or the second phase would show nothing.
    let loaded: Vec<Value> = server
        .asked()
        .iter()
        .filter(|asked| asked.head.contains("/load_lora"))
        .map(|a| a.body["lora_name"].clone())
        .collect();
    let steps: Vec<&str> = loaded.iter().map(|name| &name.as_str().unwrap()[..10]).collect();
    assert_eq!(steps, ["bpo-000000", "bpo-000002"]);
    assert_eq!(std::fs::read_dir(adapters.path()).unwrap().count(), 1, "the last one is all that is left");
}

#[test]
fn trusted_log_probs_train_as_scored_ones_do_and_strange_ones_end_the_run() {
    let (dir, adapters, server) = (tempdir().unwrap(), tempdir().unwrap(), story(&up()));
    let run = train(dir.path(), &vllm(&server, adapters.path(), ", trust_logps = true"), &[]);
    run.succeeded();
    let scored = tempdir().unwrap();
    train(scored.path(), &vllm(&server, adapters.path(), ""), &[]).succeeded();
    for (ours, theirs) in metrics(scored.path()).iter().zip(metrics(dir.path())) {
        assert_eq!(theirs["collect/rescored"], json!(0));
        // A step without a verdict has no loss, in either.
        let [ours, theirs] = [ours, &theirs].map(|step| step["loss"].as_f64());
        let are_near = ours.zip(theirs).map_or(ours == theirs, |(ours, theirs)| (ours - theirs).abs() < 1e-3);
        assert!(are_near, "{ours:?} and {theirs:?}");
    }
    let strange = Server::start(|asked| match asked.head.contains("/completions") {
        true => {
            let logprobs = json!({"token_logprobs": [-0.001, -0.001]});
            let choice = json!({"text": "x", "token_ids": [40, 50], "logprobs": logprobs, "finish_reason": "length"});
            Act::Json(200, json!({"choices": [choice]}))
        }
        false => Act::Json(200, json!({"data": [{"id": "story"}]})),
    });
    let another = tempdir().unwrap();
    let run = train(another.path(), &vllm(&strange, adapters.path(), ", trust_logps = true"), &[]);
    assert_eq!(run.code, 5, "{}", run.stderr);
    assert!(
        run.stderr.contains("max_logp_gap is 0.05") && run.stderr.contains("without trust_logps"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_run_whose_server_fails_goes_on_from_its_checkpoint_and_publishes_anew() {
    let (dir, adapters, down) = (tempdir().unwrap(), tempdir().unwrap(), up());
    let server = story(&down);
    let sampler = vllm(&server, adapters.path(), "");
    down.store(true, Ordering::Relaxed);
    let run = train(dir.path(), &sampler, &[]);
    assert_eq!(run.code, 5, "{}", run.stderr);
    assert!(run.stderr.contains("HTTP 400") && run.stderr.contains("out of order"), "{}", run.stderr);
    down.store(false, Ordering::Relaxed);
    train(dir.path(), &sampler, &[]).succeeded();
    let whole = tempdir().unwrap();
    train(whole.path(), &sampler, &[]).succeeded();
    let adapter = |dir: &Path| std::fs::read(dir.join("adapter/adapter_model.safetensors")).unwrap();
    assert_eq!(adapter(dir.path()), adapter(whole.path()), "seeds are a function of seed, step, prompt and slot");
}

#[test]
fn a_server_that_cannot_follow_the_behaviour_serves_one_phase_only() {
    let dir = tempdir().unwrap();
    let run = train(dir.path(), "\"http://127.0.0.1:9/v1\"", &[]);
    run.refused(2, &["collection_phases = 2", "sampler.publish_dir", "collection_phases = 1"]);
    let gguf = "{ url = \"http://127.0.0.1:9/v1\", format = \"llama_cpp\", publish_dir = \"a\" }";
    train(dir.path(), gguf, &[]).refused(2, &["GGUF"]);
    let trusting = "{ url = \"http://127.0.0.1:9/v1\", format = \"vllm\", trust_logps = true, publish_dir = \"a\" }";
    train(dir.path(), trusting, &["temperature=0.7"]).refused(2, &["sampler.trust_logps", "temperature = 1"]);
    train(dir.path(), "{ url = \"http://127.0.0.1:9/v1\", formats = \"vllm\" }", &[]).refused(2, &["formats"]);
}

#[test]
fn generate_asks_a_server_and_says_what_its_completions_are_worth() {
    let server = story(&up());
    let named = format!("{{ url = \"{}/v1\", format = \"vllm\" }}", server.url);
    let asked =
        ["generate", "--model", "embedded", "--prompt", "Once upon a time", "--samples", "2", "--max-new-tokens", "8"];
    let rows = bpo(&[&asked[..], &["--json", "--sampler", &named]].concat()).rows();
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert!(row["server_logp_gap"].as_f64().unwrap() < 1e-3, "{row}");
        assert_eq!((&row["rescored"], &row["retokenised"]), (&json!(true), &json!(false)));
        assert!(row["logp"].as_f64().unwrap() < 0.0 && row["length"].as_u64().unwrap() <= 8);
    }
    assert_ne!(rows[0]["response_ids"], rows[1]["response_ids"]);
    bpo(&[&asked[..], &["--sampler", "http://127.0.0.1:9/v1"]].concat()).refused(5, &["is the server running"]);
}

/// llama.cpp's server reads adapters when it starts; which of them act, each request says.
#[test]
fn an_adapter_that_the_server_was_started_with_is_scored_here_with_the_same_one() {
    let dir = tempdir().unwrap();
    let published = tempdir().unwrap();
    train(dir.path(), &vllm(&story(&up()), published.path(), ""), &[]).succeeded();
    let adapter = dir.path().join("adapter");
    let mut engine = Engine::new();
    engine.adapters.insert("started".into(), Adapter::from_dir(&adapter, &engine.base.device()).unwrap());
    let engine = Mutex::new(engine);
    let server = Server::start(move |asked| engine.lock().unwrap().does(asked));
    let asked = ["generate", "--model", "embedded", "--prompt", "Once upon a time", "--max-new-tokens", "8", "--json"];
    let gap = |more: &str, flags: &[&str]| {
        let sampler = format!("{{ url = \"{}/v1\", format = \"llama_cpp\", prompt = \"ids\"{more} }}", server.url);
        let rows = bpo(&[&asked[..], flags, &["--sampler", &sampler]].concat()).rows();
        rows[0]["server_logp_gap"].as_f64().unwrap()
    };
    let (lora, with) = (", extra_body = { lora = [{ id = 0, scale = 1.0 }] }", ["--adapter", arg(&adapter)]);
    assert!(gap(lora, &with) < 1e-3);
    assert!(gap(lora, &[]) > 1e-2, "the adapter does nothing");
    let unnamed = format!("{{ url = \"{}/v1\", format = \"llama_cpp\" }}", server.url);
    bpo(&[&asked[..], &with, &["--sampler", &unnamed]].concat()).refused(2, &["--lora", "extra_body", "publish_dir"]);
}
