//! Runs to be disturbed, and what must be the same afterwards.
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Map, Value};

use crate::cli::bpo::{Run, arg, bpo};

/// Six steps, three refreshes, three checkpoints.
const SHORT: [&str; 7] = [
    "max_steps=6",
    "collection_phases=3",
    "per_device_train_batch_size=4",
    "max_new_tokens=16",
    "eval_size=4",
    "save_steps=2",
    "eval_steps=3",
];

/// A way to train.
#[derive(Debug, Clone)]
pub struct Procedure {
    pub name: &'static str,
    verb: &'static str,
    /// A recipe of `recipes/`; none is the default one.
    recipe: Option<&'static str>,
    sets: Vec<String>,
}

impl Procedure {
    pub fn new(name: &'static str, recipe: Option<&'static str>, sets: &[&str]) -> Self {
        let sets = SHORT.iter().chain(sets).map(ToString::to_string).collect();
        Self { name, verb: "train", recipe, sets }
    }

    /// Supervised fine-tuning on the texts of a file.
    fn supervised(data: &Path) -> Self {
        let data = format!("data={}", arg(data));
        let sets = ["model=embedded", "max_steps=6", "save_steps=2", "per_device_train_batch_size=4", &data];
        Self { name: "supervised", verb: "sft", recipe: None, sets: sets.map(str::to_owned).into() }
    }

    /// The same with more settings, which win over its own.
    pub fn with(&self, sets: &[&str]) -> Self {
        let mut with = self.clone();
        with.sets.extend(sets.iter().map(ToString::to_string));
        with
    }

    fn args(&self, dir: &Path) -> Vec<String> {
        let mut args = vec![self.verb.to_owned(), "--run-dir".to_owned(), arg(dir).to_owned()];
        if let Some(recipe) = self.recipe {
            args.push(format!("{}/../../recipes/{recipe}.toml", env!("CARGO_MANIFEST_DIR")));
        }
        args.extend(self.sets.iter().flat_map(|set| ["--set".to_owned(), set.clone()]));
        args
    }

    /// Runs to its end.
    pub fn run(&self, dir: &Path) -> Run {
        bpo(&self.args(dir).iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Starts it.
    pub fn spawn(&self, dir: &Path) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bpo"));
        command.args(self.args(dir)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// BPO alone.
pub fn plain() -> Procedure {
    Procedure::new("BPO", None, &[])
}

/// Every procedure there is; prompts and a slow annotator lie in `dir`.
pub fn procedures(dir: &Path) -> Vec<Procedure> {
    let prompts = dir.join("prompts.jsonl");
    let row = |i| format!("{{\"prompt\":\"A small owl named Otto saw {i} bees.\"}}\n");
    fs::write(&prompts, (0..8).map(row).collect::<String>()).unwrap();
    let prompts = format!("prompts={}", arg(&prompts));
    let texts = dir.join("texts.jsonl");
    let row = |i| format!("{{\"prompt\":\"A small owl\",\"completion\":\" saw {i} bees.\"}}\n");
    fs::write(&texts, (0..40).map(row).collect::<String>()).unwrap();
    vec![
        plain(),
        Procedure::new("full fine-tuning", None, &["use_peft=false", "learning_rate=1e-3"]),
        Procedure::new("offline DPO", Some("dpo-from-pairs"), &["collection_phases=1"]),
        Procedure::new("online DPO", Some("online-dpo"), &[]),
        Procedure::new("ensemble", Some("bpo-on-policy"), &["collection_phases=T"]),
        Procedure::new("SELM", Some("selm"), &[]),
        Procedure::new("OPTune", Some("optune"), &["eval_size=0", &prompts]),
        Procedure::new("EMA reference", Some("ema-reference"), &["ref_model_sync_steps=2"]),
        Procedure::new("slow annotator", None, &[&slow_annotator(dir)]),
        Procedure::supervised(&texts),
        Procedure::new("causal", Some("story-causal"), &["collection_phases=", "eval_steps="]),
    ]
}

/// An annotator that takes its time and prefers what is long.
pub fn slow_annotator(dir: &Path) -> String {
    let script = dir.join("slow.sh");
    // The id counts the questions of a process: the score must not depend on it.
    let lines = r#"
while read -r line; do
    id=${line##*'"id":'}
    rest=${line%'"id":'*}
    sleep 0.004
    echo "{\"id\": ${id%%[,\}]*}, \"score\": ${#rest}}"
done
"#;
    fs::write(&script, lines).unwrap();
    format!("annotator={{ kind = \"command\", program = [\"sh\", {:?}], mode = \"score\" }}", arg(&script))
}

/// Every file below a folder, by its path in it.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![PathBuf::new()]);
    while let Some(inside) = folders.pop() {
        for entry in fs::read_dir(folder.join(&inside)).into_iter().flatten() {
            let entry = entry.unwrap();
            let path = inside.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(path),
                false => drop(found.insert(arg(&path).to_owned(), fs::read(entry.path()).unwrap())),
            }
        }
    }
    found
}

/// Metrics without what a clock or a meter says.
fn timeless(metrics: &[u8]) -> Vec<u8> {
    let is_measured =
        |name: &str| name.starts_with("time/") || name.starts_with("memory/") || name.ends_with("_per_second");
    let line = |line: &str| {
        let mut line: Map<String, Value> = serde_json::from_str(line).unwrap();
        line.retain(|name, _| !is_measured(name));
        Value::Object(line).to_string()
    };
    std::str::from_utf8(metrics).unwrap().lines().map(line).collect::<Vec<_>>().join("\n").into_bytes()
}

/// Everything a run has left but its lock and its pictures, which show the seconds too: the bytes of every file, without
/// the seconds of the metrics. Of the checkpoints the newest: an interrupted run has saved one more, and has let an older
/// one go for it.
pub fn artefacts(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = files(dir);
    files.remove("lock");
    let pictures = ["report.html", "figures/", "tensorboard/"];
    files.retain(|name, _| !pictures.iter().any(|picture| name.starts_with(picture)));
    if let Some(metrics) = files.get_mut("metrics.jsonl") {
        *metrics = timeless(metrics);
    }
    let set = |name: &str| name.strip_prefix("checkpoints/").and_then(|name| name.split('/').next()).map(str::to_owned);
    let newest = files.keys().filter_map(|name| set(name)).max();
    files.retain(|name, _| set(name).is_none() || set(name) == newest);
    files
}

/// Asserts that two runs left the same, and says which files differ.
pub fn assert_same(found: &Path, whole: &BTreeMap<String, Vec<u8>>, told: &str) {
    let found = artefacts(found);
    let names: Vec<&String> = found.keys().chain(whole.keys()).collect();
    let differ: Vec<&&String> = names.iter().filter(|name| found.get(**name) != whole.get(**name)).collect();
    assert!(differ.is_empty(), "{told}: {differ:?}");
}

/// How many steps a run has logged.
pub fn steps(dir: &Path) -> u64 {
    fs::read(dir.join("metrics.jsonl")).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count() as u64)
}

/// What a run is at, as its folder shows it.
pub fn stage(dir: &Path) -> &'static str {
    let names = fs::read_dir(dir.join("checkpoints")).into_iter().flatten();
    let mut names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    if names.any(|name| name.starts_with('.')) {
        return "checkpointing";
    }
    let journal = fs::read(dir.join("journal.bin")).unwrap_or_default();
    let Some(at) = journal.windows(4).rposition(|window| window == b"BPOr") else { return "starting" };
    let field = |begin: usize, end: usize| journal.get(at + begin..at + end);
    let kind = journal.get(at + 16).and_then(|&length| field(24, 24 + usize::from(length)));
    let step = field(4, 12).map_or(0, |step| u64::from_le_bytes(step.try_into().unwrap()));
    match kind.unwrap_or_default() {
        b"sampled" => "judging",
        kind if kind.starts_with(b"judged") && steps(dir) <= step => "scoring and update",
        _ => "sampling or evaluating",
    }
}
