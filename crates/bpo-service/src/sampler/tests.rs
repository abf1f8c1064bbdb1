use serde_json::{Value, json};

use super::{Drawing, Drawn, Finish, Format, SamplerConfig, reply};

fn how() -> Drawing {
    Drawing {
        max_new_tokens: 4,
        min_new_tokens: 0,
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        eos_ids: vec![2, 0],
        vocab: 100,
    }
}

fn vllm(ids: Value, logps: Value, finish: &str) -> Result<Drawn, String> {
    let choice = json!({"text": "x", "token_ids": ids, "logprobs": {"token_logprobs": logps}, "finish_reason": finish});
    reply::read(Format::Vllm, &json!({"choices": [choice], "usage": {"prompt_tokens": 5}}), &how())
}

#[test]
fn vllm_says_ids_and_log_probs() {
    let drawn = vllm(json!([7, 8, 2]), json!([-1.5, -0.25, -0.125]), "stop").unwrap();
    assert_eq!((drawn.ids, drawn.logps), (Some(vec![7, 8, 2]), Some(vec![-1.5, -0.25, -0.125])));
    assert_eq!((drawn.finish, drawn.prompt_tokens), (Finish::Stop, Some(5)));
}

#[test]
fn sglang_says_them_in_its_own_way() {
    let logprobs = json!([[-1.5, 7, null], [-0.25, 8, null]]);
    let meta = json!({"finish_reason": {"type": "length", "length": 2}, "output_token_logprobs": logprobs, "prompt_tokens": 3});
    let drawn = reply::read(Format::Sglang, &json!({"text": "x", "meta_info": meta}), &how()).unwrap();
    assert_eq!((drawn.ids, drawn.logps), (Some(vec![7, 8]), Some(vec![-1.5, -0.25])));
    assert_eq!((drawn.finish, drawn.prompt_tokens), (Finish::Length, Some(3)));
}

#[test]
fn llama_cpp_has_ids_beside_log_probs_or_none() {
    let read = |logprobs: Value| {
        let choice = json!({"text": "x", "logprobs": logprobs, "finish_reason": "length"});
        reply::read(Format::LlamaCpp, &json!({"choices": [choice]}), &how()).unwrap()
    };
    let native =
        read(json!({"content": [{"id": 7, "token": "x", "logprob": -0.5}, {"id": 8, "token": "y", "logprob": -1.0}]}));
    assert_eq!((native.ids, native.logps), (Some(vec![7, 8]), Some(vec![-0.5, -1.0])));
    let python = read(json!({"tokens": ["x"], "token_logprobs": [-0.5]}));
    assert_eq!((python.ids, python.logps), (None, Some(vec![-0.5])));
    assert_eq!(read(Value::Null).logps, None);
}

#[test]
fn eos_ends_what_stopped_and_is_never_put_behind_what_was_cut() {
    let ids = |ids: Value, finish| vllm(ids, Value::Null, finish).map(|drawn| (drawn.ids.unwrap(), drawn.finish));
    assert_eq!(ids(json!([7]), "stop"), Ok((vec![7, 2], Finish::Stop)));
    assert_eq!(ids(json!([7, 0]), "stop"), Ok((vec![7, 0], Finish::Stop)));
    assert_eq!(ids(json!([]), "stop"), Ok((vec![2], Finish::Stop)));
    assert_eq!(ids(json!([7]), "length"), Ok((vec![7], Finish::Length)));
    assert_eq!(ids(json!([7, 2]), "length"), Ok((vec![7, 2], Finish::Stop)));
    assert_eq!(ids(json!([]), "length"), Err("no tokens".to_owned()));
}

#[test]
fn ids_that_nobody_asked_for_are_no_completion() {
    for (ids, told) in [
        (json!([7, 100]), "token id 100 is not in the vocabulary of 100"),
        (json!([1, 1, 1, 1, 1]), "5 tokens, and at most 4"),
        (json!([7, 2, 8]), "it goes on after EOS (token 2 of 3)"),
    ] {
        let error = vllm(ids, Value::Null, "length").unwrap_err();
        assert!(error.contains(told), "{error}");
    }
    assert!(vllm(json!([7]), Value::Null, "content_filter").unwrap_err().contains("content_filter"));
    let two = json!({"choices": [{"text": "a"}, {"text": "b"}]});
    assert!(reply::read(Format::Openai, &two, &how()).unwrap_err().contains("2 choices"));
    assert!(reply::read(Format::Openai, &json!({"error": "x"}), &how()).unwrap_err().contains("not a completion"));
}

#[test]
fn a_log_prob_that_is_none_leaves_a_completion_without() {
    for bad in [json!([-0.5, null]), json!([-0.5, 0.5]), json!([-0.5, "x"])] {
        let drawn = vllm(json!([7, 8]), bad, "length").unwrap();
        assert_eq!((drawn.ids, drawn.logps), (Some(vec![7, 8]), None));
    }
    assert_eq!(vllm(json!([7, -8]), json!([-0.5, -0.5]), "length").unwrap().ids, None);
}

#[test]
fn an_address_alone_is_a_sampler_and_a_table_says_more() {
    #[derive(serde::Deserialize)]
    struct Recipe {
        sampler: SamplerConfig,
    }
    let read = |text: &str| toml::from_str::<Recipe>(text).map(|recipe| recipe.sampler);
    let address = read("sampler = 'http://h:1/v1'").unwrap();
    assert_eq!((address.format, address.concurrency), (Format::Openai, 16));
    let table = read("[sampler]\nurl = 'http://h:1/v1'\nformat = 'llama_cpp'\nconcurrency = 2").unwrap();
    assert_eq!((table.format, table.concurrency), (Format::LlamaCpp, 2));
    let text = toml::to_string(&table).unwrap();
    assert_eq!(toml::from_str::<SamplerConfig>(&text).unwrap(), table);
    assert!(read("[sampler]\nurl = 'http://h'\nformats = 'vllm'").unwrap_err().to_string().contains("formats"));
    assert!(read("sampler = 'http://a:hunter2@h'").unwrap_err().to_string().contains("`url`"));
}

#[test]
fn settings_that_contradict_each_other_are_refused_by_their_keys() {
    let refused = |more: Value| {
        let mut table = json!({"url": "http://h/v1", "model": "m"});
        table.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value::<SamplerConfig>(table).unwrap().check().map_err(|error| error.to_string())
    };
    assert_eq!(refused(json!({})), Ok(()));
    for (more, told) in [
        (json!({"trust_logps": true}), "`trust_logps` needs token ids"),
        (json!({"trust_logps": true, "format": "vllm", "logprobs": false}), "`trust_logps` has no effect"),
        (json!({"publish_dir": "a"}), "`publish_dir` has no effect with `format = \"openai\"`"),
        (json!({"publish_dir": "a", "format": "llama_cpp"}), "GGUF"),
        (json!({"server_dir": "a", "format": "vllm"}), "`server_dir`"),
        (json!({"format": "transformers", "prompt": "ids"}), "`prompt = \"ids\"`"),
        (json!({"extra_body": {"seed": 1}}), "`extra_body.seed`"),
        (json!({"api_key_env": "sk-hunter2"}), "`api_key_env`"),
        (json!({"tries": 9}), "`tries`"),
        (json!({"concurrency": 0}), "`concurrency`"),
        (json!({"max_logp_gap": 0.0}), "`max_logp_gap`"),
    ] {
        let error = refused(more).unwrap_err();
        assert!(error.contains(told) && !error.contains("hunter2"), "{error}");
    }
}
