//! Models of the hub by name, from a hub that this test plays.
use std::{collections::BTreeMap, fs};

use tempfile::{TempDir, tempdir};

use super::{
    bpo::{Run, arg, bpo_with, file, fixture, json},
    hub_server::{COMMIT, Content, Hub},
};

const ROWS: &str = "{\"prompt\":\"Once upon a time\",\"response\":\" there was a cat.\"}\n";

struct Setting {
    hub: Hub,
    home: TempDir,
}

impl Setting {
    /// The tiny story model as `own/model`.
    fn new(locked: Option<(&str, u16)>) -> Option<Self> {
        let dir = fixture("stories260K")?;
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let name = |path: &std::path::Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let files: BTreeMap<String, Vec<u8>> = entries.map(|path| (name(&path), fs::read(&path).unwrap())).collect();
        let locked = locked.map(|(token, status)| (token.to_owned(), status));
        let hub = Hub::start(Content { files, locked, ..Content::default() });
        Some(Self { hub, home: tempdir().unwrap() })
    }

    fn bpo(&self, more: &[(&str, &str)], args: &[&str]) -> Run {
        let own = [("HF_ENDPOINT", self.hub.url.as_str()), ("HF_HOME", arg(self.home.path())), ("NO_PROXY", "*")];
        let none = ["HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE"].map(|name| (name, ""));
        bpo_with(&[&none[..], &own, more].concat(), args)
    }

    fn score(&self, model: &str) -> f64 {
        let (_dir, rows) = file("rows.jsonl", ROWS);
        self.bpo(&[], &["score", "--model", model, "--input", arg(&rows)]).rows()[0]["logp"].as_f64().unwrap()
    }
}

#[test]
fn a_model_of_the_hub_is_fetched_once_and_scores_as_its_directory() {
    let Some(setting) = Setting::new(None) else { return };
    let expected = setting.score(arg(&fixture("stories260K").unwrap()));
    assert_eq!(setting.hub.asked(), [""; 0]);
    assert_eq!(setting.score("own/model"), expected);
    assert!(setting.hub.asked().iter().any(|line| line.starts_with("GET store/model.safetensors")));
    assert_eq!(setting.score("own/model"), expected);
    assert!(setting.hub.asked().iter().all(|line| line.starts_with("HEAD")));
    assert!(setting.home.path().join("hub/models--own--model/refs/main").is_file());
    let facts = setting.bpo(&[("HF_HUB_OFFLINE", "1")], &["inspect", "--json", "own/model"]).rows().remove(0);
    assert_eq!((&facts["path"].as_str().unwrap().contains("snapshots"), &facts["commit"]), (&true, &COMMIT.into()));
    assert_eq!(setting.hub.asked(), [""; 0]);
}

#[test]
fn a_run_records_the_commit_and_its_adapter_names_the_model() {
    let Some(setting) = Setting::new(None) else { return };
    let (dir, data) = file("data.jsonl", "{\"prompt\":\"Once\",\"completion\":\" upon a time\"}\n");
    let (run, recipe) = (dir.path().join("run"), dir.path().join("recipe.toml"));
    fs::write(&recipe, format!("model = \"own/model@main\"\nmax_steps = 1\ndata = \"{}\"\n", arg(&data))).unwrap();
    setting.bpo(&[], &["sft", arg(&recipe), "--run-dir", arg(&run)]).succeeded();
    assert_eq!(json(&run.join("inputs.json"))["model commit"], COMMIT);
    assert_eq!(json(&run.join("adapter/adapter_config.json"))["base_model_name_or_path"], "own/model");
    assert!(fs::read_to_string(run.join("recipe.toml")).unwrap().contains("\"own/model@main\""));
}

#[test]
fn what_cannot_be_had_says_what_to_set() {
    let Some(setting) = Setting::new(Some(("hf_canary", 401))) else { return };
    let inspect = |more: &[(&str, &str)], id: &str| setting.bpo(more, &["inspect", id]);
    inspect(&[], "own/model").refused(3, &["own/model", "401", "set HF_TOKEN", "licence"]);
    inspect(&[("HF_TOKEN", "hf_other")], "own/model").refused(3, &["check HF_TOKEN"]);
    inspect(&[("HF_TOKEN", "a b")], "own/model").refused(2, &["HF_TOKEN"]);
    inspect(&[("HF_HUB_OFFLINE", "1")], "own/model").refused(3, &["HF_HUB_OFFLINE", "own/model"]);
    inspect(&[("HF_ENDPOINT", "http://127.0.0.1:9")], "own/model").refused(3, &["127.0.0.1:9", "HF_ENDPOINT"]);
    // As `hf auth login` leaves it.
    let (_dir, kept) = file("token", "hf_canary\n");
    inspect(&[("HF_TOKEN_PATH", arg(&kept))], "own/model").succeeded();
    let unasked = [("HF_TOKEN_PATH", arg(&kept)), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")];
    inspect(&unasked, "own/model").refused(3, &["set HF_TOKEN"]);
    let (_dir, wrong) = file("token", "no token\n");
    inspect(&[("HF_TOKEN_PATH", arg(&wrong))], "own/model").refused(2, &["holds no token", "HF_TOKEN"]);
    let good = [("HF_TOKEN", "hf_canary")];
    inspect(&good, "own/model").succeeded();
    let run = inspect(&good, "own/model@v7");
    run.refused(3, &["own/model@v7", "404"]);
    assert!(!run.stderr.contains("canary"));
    inspect(&good, "own/other").refused(3, &["own/other"]);
}

#[test]
fn a_folder_of_that_name_wins() {
    let Some(setting) = Setting::new(None) else { return };
    let dir = tempdir().unwrap();
    let model = dir.path().join("own/model");
    fs::create_dir_all(&model).unwrap();
    let recipe = dir.path().join("recipe.toml");
    fs::write(&recipe, "model = \"own/model\"\nmax_steps = 1\ndata = \"none.jsonl\"\n").unwrap();
    let run = setting.bpo(&[], &["sft", arg(&recipe), "--run-dir", arg(&dir.path().join("run"))]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert_eq!(setting.hub.asked(), [""; 0]);
}
