use std::{fs, path::Path};

use serde_json::json;

use super::*;
use crate::Texts;

const HOSTILE: &str = "</p><script>alert(1)</script><img src=x onerror='alert(2)'>\"&amp;\u{202e}\u{1b}[2J";

/// Characters as tokens, 0 ends a text; prompts are hostile.
struct Characters;

impl Texts for Characters {
    fn prompt(&self, _: usize) -> Option<String> {
        Some(HOSTILE.to_owned())
    }

    fn decode(&self, tokens: &[u32]) -> Option<String> {
        Some(tokens.iter().filter_map(|&token| char::from_u32(token).filter(|c| *c != '\0')).collect())
    }
}

/// A tokenizer that is gone.
struct Gone;

impl Texts for Gone {
    fn prompt(&self, _: usize) -> Option<String> {
        None
    }

    fn decode(&self, _: &[u32]) -> Option<String> {
        None
    }
}

fn sample(text: &str) -> serde_json::Value {
    let tokens: Vec<u32> = text.chars().map(u32::from).chain([0]).collect();
    json!({"tokens": tokens, "logps": vec![-1.25; tokens.len()], "eos": true, "text": text})
}

/// A run of `phases` phases with hostile text wherever text can be.
fn run(dir: &Path, steps: u64, phases: u64) {
    let store = bpo_store::RunDir::open(dir).unwrap();
    store
        .write(
            "recipe.toml",
            format!("model = {HOSTILE:?}\nreference = \"behaviour\"\n").replace("\\u{", "\\\\u{").as_bytes(),
        )
        .unwrap();
    store.write("inputs.json", json!({HOSTILE: HOSTILE}).to_string().as_bytes()).unwrap();
    let (mut metrics, mut journal) = (store.metrics(None).unwrap(), store.journal().unwrap());
    let evaluation = |score: f64| {
        let responses = json!([{"prompt": 0, "samples": [sample(HOSTILE)]}]);
        json!({"responses": responses, "scores": [score], "reference_wins": [1.0], "kl": 0.5}).to_string()
    };
    journal.append(0, "eval/start", evaluation(0.1).as_bytes()).unwrap();
    for step in 0..steps {
        let drawn = json!([{"prompt": 0, "samples": [sample("fine"), sample(HOSTILE)]}]);
        let verdict = if step % 5 == 4 { json!({"abstain": {"malformed": HOSTILE}}) } else { json!("second") };
        let judged = json!([{"pair": [0, 1], "verdict": verdict, "scores": [0.1, 0.9]}]);
        journal.append(step, "sampled", drawn.to_string().as_bytes()).unwrap();
        journal.append(step, "judged", judged.to_string().as_bytes()).unwrap();
        let wave = (step as f64 / 9.0).sin();
        metrics
            .append(&json!({"step": step + 1, "phase": step * phases / steps, "loss": 0.7 + 0.01 * wave,
                "rewards/margins": 0.1 * wave, "rewards/accuracies": 0.5, "objective/kl": 0.2, "collect/length": 44.0}))
            .unwrap();
    }
    journal.append(steps, "eval/end", evaluation(0.7).as_bytes()).unwrap();
}

fn report(dir: &Path, texts: &dyn Texts) -> String {
    page(&Record::read(dir, texts).unwrap(), &["bpo train <x>".to_owned()])
}

/// Names of the tags of a page.
fn tags(page: &str) -> std::collections::BTreeSet<&str> {
    let starts = page.split('<').skip(1).map(|rest| rest.trim_start_matches('/'));
    starts.map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap()).collect()
}

#[test]
fn hostile_text_does_not_become_markup() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 12, 4);
    for texts in [&Characters as &dyn Texts, &Gone] {
        let page = report(dir.path(), texts);
        let tags = tags(&page);
        for tag in ["script", "img", "iframe", "object", "a"] {
            assert!(!tags.contains(tag), "<{tag}>");
        }
        assert!(!page.contains("onerror='"), "an attribute");
        assert!(!page.contains(['\u{1b}', '\u{202e}']));
        assert!(page.contains("default-src 'none'"));
    }
    assert!(report(dir.path(), &Gone).contains("&lt;script&gt;"));
}

#[test]
fn a_page_has_its_parts_and_needs_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 60, 4);
    let page = report(dir.path(), &Characters);
    for part in [
        "Curves",
        "Win rate on held-out",
        "Phases of data",
        "Scores of judged",
        "before and after",
        "Judged pairs",
        "make it again",
        "Effective recipe",
        "Not finished. Steps so far: 60",
        "bpo train &lt;x&gt;",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(page.contains("title=\"-1.25\"") && page.contains("<td>12</td><td>3</td>"), "{page}");
    for outside in ["http:", "https:", "src=", "url(", "@import"] {
        assert!(!page.replace(&escaped(HOSTILE), "").replace("src=x", "").contains(outside), "{outside}");
    }
}

#[test]
fn a_tokenizer_that_is_gone_costs_the_colours_only() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 12, 4);
    let page = report(dir.path(), &Gone);
    assert!(page.contains(&escaped(HOSTILE)) && page.contains("prompt's text is not known"));
    assert!(!page.contains("title=\"-1.25\""));
}

#[test]
fn tokens_are_coloured_by_what_training_did_to_them() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 4, 2);
    let page = report(dir.path(), &Characters);
    assert!(!page.contains("nats · log-ratio") && page.contains("class=\"s2\""));
    let store = bpo_store::RunDir::open(dir.path()).unwrap();
    // Drawn at −1.25 nats a token; "fine" and its end were compared with the hostile text in steps 0 and 2.
    let length = HOSTILE.chars().count() + 1;
    let pair = |step| json!({"step": step, "place": 0, "logps": [vec![-3.25; 5], vec![-1.0; length]]});
    let contrast = json!({"held_out": [vec![-1.25; length]], "pairs": [pair(0), pair(2)]});
    store.journal().unwrap().append(4, "eval/contrast", contrast.to_string().as_bytes()).unwrap();
    drop(store);
    let page = report(dir.path(), &Characters);
    assert_eq!(page.matches("<span class=\"d4\" title=\"-1.25, -2.00\">").count(), 2 * 4, "fine, twice");
    assert!(page.contains("<span class=\"u2\" title=\"-1.25, +0.25\">") && page.contains("log-ratio -10.00 nats"));
    assert!(page.contains("<span class=\"d0\" title=\"-1.25, +0.00\">"), "the start's response is as likely as it was");
    // Numbers of another length are those of other tokens.
    let other = tempfile::tempdir().unwrap();
    run(other.path(), 4, 2);
    let store = bpo_store::RunDir::open(other.path()).unwrap();
    let contrast = json!({"held_out": [[-1.0]], "pairs": [{"step": 0, "place": 0, "logps": [[-1.0], []]}]});
    store.journal().unwrap().append(4, "eval/contrast", contrast.to_string().as_bytes()).unwrap();
    drop(store);
    assert!(!report(other.path(), &Characters).contains("nats · log-ratio"));
}

#[test]
fn a_run_that_has_just_begun_has_a_page() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Record::read(dir.path(), &Gone).unwrap_err().to_string().contains("recipe.toml"));
    fs::write(dir.path().join("recipe.toml"), "max_steps = 9\n").unwrap();
    let page = report(dir.path(), &Gone);
    assert!(page.contains("so far: 0 of 9.") && page.contains("No step is done yet"));
    fs::write(dir.path().join("metrics.jsonl"), "{\"step\":1,\"loss\":0.5}\n{\"step\":2,\"lo").unwrap();
    assert!(report(dir.path(), &Gone).contains("so far: 1 of 9."));
    assert!(fs::read_dir(dir.path()).unwrap().count() == 2, "nothing was written");
}

#[test]
fn damage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("recipe.toml"), "beta = 0.1\n").unwrap();
    for (name, text) in [("metrics.jsonl", "oops\n{}\n"), ("finished.json", "{"), ("journal.bin", "no journal at all")]
    {
        fs::write(dir.path().join(name), text).unwrap();
        let told = Record::read(dir.path(), &Gone).unwrap_err().to_string();
        assert!(told.contains(name), "{told}");
        fs::remove_file(dir.path().join(name)).unwrap();
    }
}

#[test]
fn many_phases_are_shown_as_few_and_none_of_their_verdicts_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 60, 60);
    let record = Record::read(dir.path(), &Gone).unwrap();
    assert_eq!((record.phases.len(), record.boundaries.len()), (8, 60));
    assert_eq!(record.phases.iter().map(|phase| phase.preferred + phase.undecided).sum::<u64>(), 60);
    assert_eq!((record.phases[0].name(), record.phases[7].steps), ("phases 1 to 8".to_owned(), [57, 60]));
    assert!(record.phases.iter().all(|phase| phase.pair.is_some()));
}

/// A run of 1,000 steps: quickly, and no larger than a picture.
#[test]
fn a_long_run_has_a_small_page() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 1000, 4);
    let page = report(dir.path(), &Characters);
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
}

#[test]
fn what_was_finished_without_a_step_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = bpo_store::RunDir::open(dir.path()).unwrap();
    store.write("recipe.toml", b"size = 8\n").unwrap();
    store.mark_finished(&json!({"prompts": 8})).unwrap();
    let refused = Record::read(dir.path(), &Gone).unwrap_err();
    assert!(matches!(&refused, crate::Error::NoSteps { path } if path == dir.path()), "{refused}");
}
