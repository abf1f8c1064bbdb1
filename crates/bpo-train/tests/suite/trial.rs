//! Runs to their end, and what they leave behind.
use std::{path::Path, thread};

use bpo_model::Adapter;
use bpo_store::RunDir;
use bpo_train::{Choice, Drawn, Inputs, Observer, Outcome, Recipe, Report, Stage, run};
use burn::tensor::Device;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::tiny::inputs;

/// A finished run.
pub struct Trial {
    pub dir: TempDir,
    pub report: Report,
    pub notes: Vec<String>,
}

/// Runs `recipe` on the prompts of [`inputs`].
pub fn trial(recipe: &Recipe) -> Trial {
    trial_on(recipe, inputs())
}

/// Runs `recipe` on `inputs`.
pub fn trial_on(recipe: &Recipe, inputs: Inputs) -> Trial {
    let (dir, mut notes) = (tempfile::tempdir().unwrap(), Notes::default());
    match run(recipe, inputs, &RunDir::open(dir.path()).unwrap(), &mut notes).unwrap() {
        Outcome::Finished(report) => Trial { dir, report: *report, notes: notes.0 },
        Outcome::Interrupted(step) => panic!("interrupted after {step}"),
    }
}

/// Why `recipe` is refused.
pub fn refusal(recipe: &Recipe, inputs: Inputs) -> String {
    let dir = tempfile::tempdir().unwrap();
    let refused = run(recipe, inputs, &RunDir::open(dir.path()).unwrap(), &mut Notes::default());
    refused.err().unwrap_or_else(|| panic!("not refused: {recipe:?}")).to_string()
}

/// Does `work` on every item at once: a run mostly waits for the disk.
pub fn each<T: Send + Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    thread::scope(|scope| {
        for item in items {
            scope.spawn(|| work(item));
        }
    });
}

/// Equal to `tolerance`, value by value.
pub fn close(left: &[f32], right: &[f32], tolerance: f32) -> bool {
    left.len() == right.len() && distance(left, right) <= tolerance
}

/// Largest difference of two vectors.
pub fn distance(left: &[f32], right: &[f32]) -> f32 {
    left.iter().zip(right).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap_or(0.0)
}

/// All numbers of an adapter, by name.
pub fn values(adapter: &Adapter) -> Vec<f32> {
    adapter.weights().iter().flat_map(|(_, tensor)| tensor.clone().try_into_vec_as::<f32>().unwrap()).collect()
}

impl Trial {
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// One object per step.
    pub fn metrics(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path().join("metrics.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A metric of every step that has it.
    pub fn metric(&self, name: &str) -> Vec<f64> {
        self.metrics().iter().filter_map(|metrics| metrics[name].as_f64()).collect()
    }

    /// The adapter in a folder of the run.
    pub fn adapter(&self, folder: &str) -> Adapter {
        Adapter::from_dir(&self.path().join(folder), &Device::flex()).unwrap()
    }

    /// The trained weights.
    pub fn weights(&self) -> Vec<f32> {
        values(&self.adapter("adapter"))
    }

    /// Bytes of the trained weights.
    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path().join(&self.report.output).join(match self.report.output.as_str() {
            "adapter" => "adapter_model.safetensors",
            _ => "model.safetensors",
        }))
        .unwrap()
    }

    /// What was sampled, by step.
    pub fn drawn(&self) -> Vec<Vec<Drawn>> {
        self.recorded("sampled")
    }

    /// What was judged, by step.
    pub fn choices(&self) -> Vec<Vec<Choice>> {
        self.recorded("judged")
    }

    fn recorded<T: DeserializeOwned>(&self, kind: &str) -> Vec<T> {
        let mut journal = RunDir::open(self.path()).unwrap().journal().unwrap();
        let steps: Vec<u64> = journal.records().filter(|(_, name)| *name == kind).map(|(step, _)| step).collect();
        let mut read = |step| serde_json::from_slice(&journal.get(step, kind).unwrap().unwrap()).unwrap();
        steps.into_iter().map(&mut read).collect()
    }

    /// A note that holds all of `words`.
    pub fn noted(&self, words: &[&str]) -> bool {
        self.notes.iter().any(|note| words.iter().all(|word| note.contains(word)))
    }

    /// Everything that must not depend on time: weights, metrics, report.
    pub fn outcome(&self) -> String {
        outcome(self.path())
    }
}

/// Everything a finished run in `dir` says but how long it took: weights of every kind, metrics, report.
pub fn outcome(dir: &Path) -> String {
    let mut said = String::new();
    for line in std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap().lines() {
        let mut metrics: Map<String, Value> = serde_json::from_str(line).unwrap();
        metrics.retain(|name, _| !name.starts_with("time/") && !name.starts_with("memory/"));
        said += &format!("{}\n", Value::Object(metrics));
    }
    said += &std::fs::read_to_string(dir.join("finished.json")).unwrap();
    let members = (0..).map(|index| format!("members/{index}/adapter")).take_while(|name| dir.join(name).is_dir());
    for folder in ["adapter".to_string(), "model".into()].into_iter().chain(members) {
        for name in ["adapter_model.safetensors", "model.safetensors"] {
            if let Ok(bytes) = std::fs::read(dir.join(&folder).join(name)) {
                said += &format!("\n{folder}/{name} {bytes:?}");
            }
        }
    }
    said
}

#[derive(Default)]
struct Notes(Vec<String>);

impl Observer for Notes {
    fn begin(&mut self, _: Stage, _: u64) {}
    fn advance(&mut self, _: u64) {}
    fn end(&mut self) {}
    fn step(&mut self, _: u64, _: u64, _: &Map<String, Value>) {}
    fn note(&mut self, line: &str) {
        self.0.push(line.into());
    }
}
