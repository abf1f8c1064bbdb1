//! Runs that are continued with something else, and files that do not fit together.
use std::{fs, path::Path};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::json;
use tempfile::tempdir;

use super::run::{plain, slow_annotator};
use crate::cli::bpo::{arg, json as parsed};

/// The story model with its tokenizer, in a folder.
pub fn story(to: &Path) {
    let story = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/story");
    fs::create_dir(to).unwrap();
    for name in ["model/config.json", "model/model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(story.join(name), to.join(Path::new(name).file_name().unwrap())).unwrap();
    }
}

/// Changes one byte of a file for a moment.
fn changed<T>(path: &Path, change: impl FnOnce(&mut Vec<u8>), meanwhile: impl FnOnce() -> T) -> T {
    let before = fs::read(path).unwrap();
    let mut bytes = before.clone();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
    let done = meanwhile();
    fs::write(path, before).unwrap();
    done
}

/// Row 23. Every input is told with its hash then and now.
#[test]
fn a_run_that_is_continued_with_other_files_or_settings_is_refused_with_both_values() {
    let dir = tempdir().unwrap();
    let (folder, prompts, run) = (dir.path().join("model"), dir.path().join("p.jsonl"), dir.path().join("run"));
    story(&folder);
    fs::write(&prompts, "{\"prompt\":\"A small owl named Otto\"}\n".repeat(40)).unwrap();
    let annotator = slow_annotator(dir.path());
    let (model, data) = (format!("model={}", arg(&folder)), format!("prompts={}", arg(&prompts)));
    let sets = [model.as_str(), &data, &annotator, "references=", "eval_steps="];
    let ours = plain().with(&sets);
    let mut child = ours.spawn(&run);
    while super::run::steps(&run) < 2 && child.try_wait().unwrap().is_none() {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let last = |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1;
    let space = |bytes: &mut Vec<u8>| bytes.push(b' ');
    let refused = |what: &str| ours.run(&run).refused(2, &[what, "changed since this run was started", "then", "now"]);
    changed(&folder.join("model.safetensors"), last, || refused("model model.safetensors"));
    changed(&folder.join("config.json"), space, || refused("model config.json"));
    changed(&folder.join("tokenizer.json"), space, || refused("tokenizer.json"));
    changed(&prompts, |bytes| bytes.extend_from_slice(b"{\"prompt\":\"More\"}\n"), || refused("prompts"));
    changed(&dir.path().join("slow.sh"), space, || refused("annotator program[1]"));
    let other = |set: &str, words: &[&str]| ours.with(&[set]).run(&run).refused(2, words);
    other("beta=0.3", &["beta: 0.1 there, 0.3 now"]);
    other("seed=5", &["seed: ", " there, 5 now"]);
    other("annotator={ kind = \"length\" }", &["annotator", "there", "now"]);
    other("model=embedded", &["model", arg(&folder), "embedded"]);
    ours.run(&run).succeeded();
}

#[test]
fn a_reward_model_that_has_changed_is_refused() {
    let dir = tempdir().unwrap();
    let (reward, run) = (dir.path().join("reward"), dir.path().join("run"));
    story(&reward);
    // A head that scores, on the story model.
    let mut config = parsed(&reward.join("config.json"));
    config["architectures"] = json!(["LlamaForSequenceClassification"]);
    config["id2label"] = json!({"0": "LABEL_0"});
    fs::write(reward.join("config.json"), config.to_string()).unwrap();
    let weights = fs::read(reward.join("model.safetensors")).unwrap();
    let hidden = config["hidden_size"].as_u64().unwrap() as usize;
    let head: Vec<u8> = (0..hidden).flat_map(|at| (at as f32 - 9.5).to_le_bytes()).collect();
    let score = TensorView::new(Dtype::F32, vec![1, hidden], &head).unwrap();
    let weights = SafeTensors::deserialize(&weights).unwrap();
    let views = weights.iter().chain([("score.weight", score)]);
    fs::write(reward.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    let sets = format!("annotator={}", arg(&reward));
    let ours = plain().with(&[&sets]);
    ours.run(&run).succeeded();
    fs::remove_file(run.join("finished.json")).unwrap();
    changed(
        &reward.join("config.json"),
        |bytes| bytes.push(b'\n'),
        || {
            ours.run(&run).refused(2, &["annotator config.json changed since this run was started"]);
        },
    );
}

#[test]
fn a_tokenizer_with_more_words_than_the_model_is_refused_with_both_numbers() {
    let dir = tempdir().unwrap();
    let folder = dir.path().join("model");
    story(&folder);
    let path = folder.join("tokenizer.json");
    let mut tokenizer = parsed(&path);
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    let words = vocabulary.len();
    let model = parsed(&folder.join("config.json"))["vocab_size"].as_u64().unwrap() as usize;
    let added = model + 1 - words.min(model);
    for extra in 0..added {
        vocabulary.insert(format!("extra-{extra}"), (words + extra).into());
    }
    fs::write(&path, tokenizer.to_string()).unwrap();
    let set = format!("model={}", arg(&folder));
    let run = plain().with(&[&set, "references="]).run(&dir.path().join("run"));
    run.refused(3, &["tokenizer", &model.to_string()]);
}
