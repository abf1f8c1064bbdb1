//! Completions and adapters against servers on this machine that do what a script says.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

#[allow(dead_code, reason = "the scripts of judges are played in bpo-annotate")]
#[path = "../../bpo-annotate/tests/services/server.rs"]
mod server;

use std::fs;

use bpo_service::{Asked, Drawing, Drawn, Error, Sampler, SamplerConfig};
use serde_json::{Value, json};
use server::{Act, Server};

const CANARY: &str = "sk-canary-0c2b";

fn how() -> Drawing {
    Drawing {
        max_new_tokens: 8,
        min_new_tokens: 0,
        temperature: 0.7,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        eos_ids: vec![2],
        vocab: 1000,
    }
}

fn sampler(server: &Server, more: Value) -> Sampler {
    let mut table = json!({"url": format!("{}/v1", server.url), "model": "m", "backoff_s": 0.001, "timeout_s": 5.0});
    table.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config: SamplerConfig = serde_json::from_value(table).unwrap();
    config.build(|name| (name == "SAMPLER_KEY").then(|| CANARY.to_owned())).unwrap()
}

fn draw(sampler: &Sampler, prompts: &[u32]) -> Result<Vec<Drawn>, Error> {
    let ids: Vec<[u32; 1]> = prompts.iter().map(|id| [*id]).collect();
    let asked: Vec<Asked<'_>> = ids.iter().map(|ids| Asked { ids, text: "hi", seed: 40 + ids[0], room: 100 }).collect();
    sampler.draw(&asked, &how(), |_| ())
}

/// Answers with the prompt's first id and EOS.
fn echo(body: &Value) -> Act {
    let id = body["prompt"][0].as_u64().unwrap_or(9);
    let logprobs = json!({"token_logprobs": [-0.5, -1.0]});
    let choice = json!({"text": "x", "token_ids": [id, 2], "logprobs": logprobs, "finish_reason": "stop"});
    Act::Json(200, json!({"choices": [choice], "usage": {"prompt_tokens": 1}}))
}

#[test]
fn completions_come_in_the_order_of_the_prompts_whoever_is_first() {
    let server = Server::start(|asked| {
        std::thread::sleep(std::time::Duration::from_millis(20 - 2 * asked.body["prompt"][0].as_u64().unwrap()));
        echo(&asked.body)
    });
    let sampler = sampler(&server, json!({"format": "vllm", "concurrency": 4}));
    let drawn = draw(&sampler, &[1, 3, 5, 7, 9]).unwrap();
    let first: Vec<u32> = drawn.iter().map(|drawn| drawn.ids.as_ref().unwrap()[0]).collect();
    assert_eq!(first, [1, 3, 5, 7, 9]);
}

#[test]
fn a_request_says_everything_that_decides_the_distribution() {
    let server = Server::start(|asked| match asked.head.contains("/generate ") {
        true => Act::Json(200, json!({"text": "x", "meta_info": {"finish_reason": {"type": "stop"}}})),
        false => echo(&asked.body),
    });
    let body = |more: Value| {
        server.forget();
        draw(&sampler(&server, more), &[5]).unwrap();
        server.asked()[0].body.clone()
    };
    let vllm = body(json!({"format": "vllm", "extra_body": {"priority": 3}}));
    let expected = json!({
        "model": "m", "prompt": [5], "max_tokens": 8, "temperature": 0.7, "top_p": 1.0, "seed": 45, "n": 1, "logprobs": 1,
        "top_k": 0, "min_p": 0.0, "min_tokens": 0, "repetition_penalty": 1.0, "stop_token_ids": [2],
        "return_token_ids": true, "add_special_tokens": false, "priority": 3,
    });
    assert_eq!(vllm, expected);
    let llama = body(json!({"format": "llama_cpp"}));
    assert_eq!(
        [&llama["prompt"], &llama["top_k"], &llama["min_p"], &llama["repeat_penalty"]],
        [&json!("hi"), &json!(0), &json!(0.0), &json!(1.0)]
    );
    let transformers = body(json!({"format": "transformers"}));
    let settings: Value = serde_json::from_str(transformers["generation_config"].as_str().unwrap()).unwrap();
    assert_eq!(
        [&settings["top_k"], &settings["do_sample"], &settings["eos_token_id"]],
        [&json!(0), &json!(true), &json!([2])]
    );
    let sglang = body(json!({"format": "sglang"}));
    assert_eq!(sglang["input_ids"], json!([5]));
    assert_eq!(
        [&sglang["sampling_params"]["top_k"], &sglang["sampling_params"]["sampling_seed"]],
        [&json!(-1), &json!(45)]
    );
    let openai = body(json!({}));
    assert_eq!((openai.get("top_k"), &openai["prompt"]), (None, &json!("hi")));
}

#[test]
fn what_a_server_cannot_be_asked_for_is_refused_before_it_is_asked() {
    let server = Server::start(|asked| echo(&asked.body));
    let sampler = sampler(&server, json!({}));
    let asked = [Asked { ids: &[5], text: "hi", seed: 1, room: 100 }];
    let error = sampler.draw(&asked, &Drawing { top_k: 50, ..how() }, |_| ()).unwrap_err();
    assert_eq!(error.to_string(), "sampler: `top_k` cannot be asked for with `format = \"openai\"`");
    assert!(server.asked().is_empty());
}

#[test]
fn what_passes_is_tried_again_and_a_refusal_ends_it_without_the_key() {
    let server = Server::start(|asked| match asked.number {
        0 => Act::Json(503, json!({"error": "busy"})),
        1 => Act::Reset,
        _ => echo(&asked.body),
    });
    assert_eq!(draw(&sampler(&server, json!({"format": "vllm"})), &[5]).unwrap().len(), 1);
    assert_eq!(server.asked().len(), 3);
    let server = Server::start(|asked| {
        assert!(asked.head.to_lowercase().contains(&format!("authorization: bearer {CANARY}")));
        Act::Json(401, json!({"error": format!("bad key {CANARY}")}))
    });
    let refusing = sampler(&server, json!({"api_key_env": "SAMPLER_KEY", "concurrency": 1}));
    let error = draw(&refusing, &[5, 6]).unwrap_err().to_string();
    assert!(error.contains("HTTP 401") && error.contains("`api_key_env`") && !error.contains(CANARY), "{error}");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn the_only_model_of_a_server_needs_no_name_and_adapters_are_no_models() {
    let models = |list: Value| Server::start(move |_| Act::Json(200, json!({"data": list.clone()})));
    let built = |server: &Server| {
        let config: SamplerConfig = serde_json::from_value(json!({"url": format!("{}/v1", server.url)})).unwrap();
        config.build(|_| None).map(|sampler| sampler.name())
    };
    let one = models(json!([{"id": "base", "parent": null}, {"id": "bpo-1", "parent": "base"}]));
    assert_eq!(built(&one).unwrap(), format!("base at {}/v1", one.url));
    let error = built(&models(json!([{"id": "a"}, {"id": "b"}]))).unwrap_err().to_string();
    assert!(error.contains("2 models") && error.contains("a, b"), "{error}");
}

fn adapter(byte: u8) -> [(&'static str, Vec<u8>); 2] {
    [("adapter_config.json", b"{}".to_vec()), ("adapter_model.safetensors", vec![byte; 9])]
}

#[test]
fn an_adapter_is_published_under_its_step_loaded_sampled_from_and_followed_by_the_next() {
    let server = Server::start(|asked| match asked.head.contains("lora_adapter") {
        true => Act::With(200, "content-type: text/plain".into(), b"Success".to_vec()),
        false => echo(&asked.body),
    });
    let dir = tempfile::tempdir().unwrap();
    let more = json!({"format": "vllm", "publish_dir": dir.path(), "server_dir": "/mnt/a"});
    let mut sampler = sampler(&server, more);
    let first = sampler.publish(&adapter(1), 0).unwrap().clone();
    assert!(first.name.starts_with("bpo-000000-"));
    assert_eq!(fs::read(first.folder.join("adapter_model.safetensors")).unwrap(), [1; 9]);
    draw(&sampler, &[5]).unwrap();
    let second = sampler.publish(&adapter(2), 3).unwrap().clone();
    draw(&sampler, &[5]).unwrap();
    assert!(second.name.starts_with("bpo-000003-") && second.folder.is_dir() && !first.folder.exists());
    let told: Vec<(String, Value)> = server
        .asked()
        .iter()
        .map(|asked| {
            let path = asked.head.split(' ').nth(1).unwrap().to_owned();
            let what = asked.body.get("lora_name").or(asked.body.get("model")).unwrap().clone();
            (path, what)
        })
        .collect();
    let (one, two) = (json!(first.name), json!(second.name));
    let expected = [
        ("/v1/load_lora_adapter", &one),
        ("/v1/completions", &one),
        ("/v1/load_lora_adapter", &two),
        ("/v1/unload_lora_adapter", &one),
        ("/v1/completions", &two),
    ];
    assert_eq!(told, expected.map(|(path, name)| (path.to_owned(), name.clone())));
    assert_eq!(server.asked()[0].body["lora_path"], json!(format!("/mnt/a/{}", first.name)));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_server_that_has_the_adapter_already_is_asked_for_it_and_one_that_loads_none_says_how() {
    let dir = tempfile::tempdir().unwrap();
    let more = json!({"format": "vllm", "publish_dir": dir.path()});
    let loaded =
        |_: &server::Asked| Act::Json(400, json!({"message": "The lora adapter 'x' has already been loaded."}));
    let server = Server::start(loaded);
    sampler(&server, more.clone()).publish(&adapter(1), 0).unwrap();
    let server = Server::start(|_| Act::Json(404, json!({"detail": "Not Found"})));
    let error = sampler(&server, more).publish(&adapter(1), 0).unwrap_err().to_string();
    assert!(error.contains("VLLM_ALLOW_RUNTIME_LORA_UPDATING") && error.contains("HTTP 404"), "{error}");
}
