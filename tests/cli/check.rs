use std::path::Path;

use serde_json::Value;

use super::bpo::{arg, bpo, file, fixture};

/// The facts of a check that found nothing wrong.
fn facts(args: &[&str]) -> Value {
    bpo(&[&["check", "--json"], args].concat()).rows().remove(0)
}

#[test]
fn the_default_run_is_told_with_its_reference_memory_and_time() {
    let told = facts(&["--budget", "1"]);
    assert_eq!((told["steps"].as_u64(), told["data"]["held_out"].as_u64()), (Some(150), Some(200)));
    assert!(told["reference"].as_str().unwrap().ends_with("3 times, after steps 38, 75, 113"), "{told}");
    assert!(told["procedure"][0].as_str().unwrap().contains("110592 trainable parameters"), "{told}");
    assert!(told["memory"]["peak"].as_u64().unwrap() > 60 << 20, "{told}");
    assert!(told["time"]["total_s"].as_f64().unwrap() > 1.0, "{told}");
    assert_eq!(told["run"], "new");
    assert!(!Path::new(told["run_dir"].as_str().unwrap()).join("recipe.toml").exists(), "nothing is written");
}

#[test]
fn a_grid_is_told_from_a_recipe() {
    let (_dir, grid) = file("grid.toml", "[base]\nbeta = 0.2\n[[method]]\nname = \"a\"\n");
    bpo(&["check", arg(&grid)]).refused(2, &["bpo compare", "--plan"]);
}

#[test]
fn every_key_says_who_set_it() {
    let (_dir, recipe) = file("r.toml", "beta = 0.2\nlora_dropout = 0.0\n");
    let told = facts(&[arg(&recipe), "--quick", "--set", "seed=7", "--set", "annotator.kind=length"]);
    let keys = &told["settings"];
    for (key, from) in [("beta", "recipe"), ("seed", "--set"), ("annotator", "--set"), ("temperature", "default")] {
        assert_eq!(keys[key]["from"], from, "{key}");
    }
    assert_eq!((&keys["beta"]["value"], &keys["seed"]["value"]), (&0.2.into(), &7.into()));
    let text = bpo(&["check", "-q", arg(&recipe), "--quick"]).stdout;
    assert!(text.contains("set by the recipe\n  beta = 0.2") && text.contains("defaults\n"), "{text}");
}

#[test]
fn what_train_refuses_is_refused_with_the_same_words_and_code() {
    let (_dir, prompts) = file("p.jsonl", "{\"prompt\":\"a\"}\n{\"prompt\":7}\n");
    let prompts = format!("prompts={}", arg(&prompts));
    let dir = tempfile::tempdir().unwrap();
    for sets in [
        &["bet=3"][..],
        &["beta=-1"],
        &["model=/nowhere"],
        &["prompts=/nowhere.jsonl"],
        &[prompts.as_str()],
        &["annotator=/nowhere/lexicon.txt"],
        &["adapter=/nowhere"],
        &["lora_target_modules=[\"nothing\"]"],
        &["max_new_tokens=256"],
        &["apply_chat_template=true"],
        &["annotator={kind='command', program=['true'], mode='compare'}", "missing_eos_penalty=1"],
    ] {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let folder = dir.path().join("run");
        let run = |verb: &str| bpo(&[&["-q", verb, "--run-dir", arg(&folder)], sets.as_slice()].concat());
        let (train, check) = (run("train"), run("check"));
        assert_ne!(train.code, 0, "{sets:?}");
        let last = |text: &str| text.lines().rfind(|line| !line.starts_with("note:")).unwrap_or_default().to_owned();
        assert_eq!((check.code, last(&check.stderr)), (train.code, last(&train.stderr)), "{sets:?}");
        assert_eq!(check.stdout, "", "{sets:?}");
    }
}

#[test]
fn rows_that_would_be_left_out_are_counted_with_the_reason() {
    let long = "word ".repeat(300);
    let rows: String = (0..20).map(|i| format!("{{\"prompt\":\"A small owl {}\"}}\n", i % 18)).collect();
    let (_dir, prompts) = file("p.jsonl", &format!("{rows}{{\"prompt\":\"{long}\"}}\n"));
    let told = facts(&["--quick", "--set", &format!("prompts={}", arg(&prompts)), "--set", "eval_size=0"]);
    let data = &told["data"];
    assert_eq!((&data["training"], &data["duplicates"]), (&20.into(), &2.into()), "{data}");
    assert!(data["notes"].to_string().contains("1 dropped (prompt too long: 1)"), "{data}");
}

#[test]
fn a_run_that_has_begun_is_compared_with_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let sets = ["--set", "max_steps=1", "--set", "eval_size=0", "--set", "max_new_tokens=4"];
    bpo(&[&["train", "--run-dir", arg(&folder)], &sets[..]].concat()).succeeded();
    let check = |more: &[&str]| bpo(&[&["check", "--quick", "--run-dir", arg(&folder)], &sets[..], more].concat());
    let run = check(&[]);
    assert!(run.code == 0 && run.stdout.contains("finished: it would be left alone"), "{}{}", run.stdout, run.stderr);
    check(&["--set", "beta=0.3"]).refused(2, &["beta: 0.1 there, 0.3 now"]);
    let (_dir, file) = file("run", "");
    bpo(&["check", "--quick", "--run-dir", arg(&file)]).refused(4, &["run"]);
}

#[test]
fn an_annotator_is_asked_only_where_that_is_wanted() {
    let silent = "annotator={kind='command', program=['false'], mode='compare'}";
    let check = |more: &[&str]| bpo(&[&["check", "--quick", "--set", silent], more].concat());
    check(&[]).succeeded();
    let run = check(&["--ask"]);
    assert_eq!(run.code, 5, "{}", run.stderr);
    let told = facts(&["--quick", "--ask"]);
    assert_eq!(told["annotator"]["asked"], "prefers the first of two", "{told}");
}

#[test]
fn recipes_of_other_kinds_are_read_too() {
    let told = facts(&["--set", "outcomes=embedded"]);
    assert_eq!((&told["kind"], &told["texts"]), (&"causal".into(), &800.into()));
    let (_dir, data) = file("d.jsonl", "{\"text\":\"A small owl.\"}\n");
    let (_dir, recipe) = file("sft.toml", &format!("model = 'embedded'\ndata = '{}'\n", arg(&data)));
    assert_eq!(facts(&[arg(&recipe)])["kind"], "sft");
    bpo(&["check", arg(&recipe), "--set", "data=/nowhere"]).refused(3, &["/nowhere"]);
}

/// Memory within a factor of two of what a short run then took; time is there, and no more is said of it on a machine that
/// other tests keep busy.
#[test]
fn recipes_of_every_kind_have_estimates_that_a_run_bears_out() {
    let story = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/story");
    let row = |i| format!("{{\"prompt\":\"A small owl saw {i} bees.\",\"completion\":\" It was glad of all {i}.\"}}\n");
    let (_data, data) = file("d.jsonl", &(0..64).map(row).collect::<String>());
    let data = format!("data={}", arg(&data));
    let [model, tokenizer] =
        [("model", story.join("model")), ("tokenizer", story)].map(|(key, path)| format!("{key}={}", arg(&path)));
    let kinds: [(&str, &[&str], &[&str]); 4] = [
        (
            "causal",
            &["train"],
            &["outcomes=embedded", "eval_size=8", "max_new_tokens=16", "causal_estimator=dr", "ratio_clip="],
        ),
        ("sft", &["sft"], &["model=embedded", "use_peft=false", &data]),
        ("reward", &["reward", "train"], &[&model, &tokenizer, "pairs=embedded", "tuning=lora", "max_length=128"]),
        ("reward", &["reward", "train"], &[&model, &tokenizer, "pairs=embedded", "tuning=head", "max_length=128"]),
    ];
    for (kind, verb, sets) in kinds {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("run");
        let sets: Vec<&str> = sets.iter().chain(&["max_steps=3"]).flat_map(|set| ["--set", set]).collect();
        let told = facts(&[&["--budget", "0.5", "--run-dir", arg(&folder)], sets.as_slice()].concat());
        assert_eq!((told["kind"].as_str(), &told["steps"]), (Some(kind), &3.into()), "{told}");
        assert!(
            told["data"]["training"].as_u64().unwrap() > 0 && told["data"]["longest"].as_u64().unwrap() > 0,
            "{told}"
        );
        assert!(told["time"]["total_s"].as_f64().unwrap() > 0.0, "{told}");
        assert!(told["trainable_parameters"].as_u64().unwrap() > 0, "{told}");
        assert!(!folder.exists(), "nothing is written");
        bpo(&[verb, &["--run-dir", arg(&folder)], sets.as_slice()].concat()).succeeded();
        let metrics = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
        let peaks = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let peaks: Vec<f64> = peaks.filter_map(|line| line["memory/peak_rss_mib"].as_f64()).collect();
        let estimate = told["memory"]["peak"].as_f64().unwrap() / f64::from(1 << 20);
        if let Some(took) = peaks.last() {
            assert!((0.5..2.0).contains(&(estimate / took)), "{kind}: {estimate} MiB, took {took} MiB");
        }
        let text = bpo(&[&["check", "-q", "--quick"], sets.as_slice()].concat());
        assert!(text.stdout.contains("trained on") && text.stdout.contains("memory     about"), "{}", text.stdout);
    }
}

#[test]
fn what_other_verbs_refuse_is_refused_with_the_same_words_and_code() {
    let story = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/story/model");
    let model = format!("model={}", arg(&story));
    let kinds: [(&[&str], &[&str]); 6] = [
        (&["sft"], &["model=embedded", "data=/nowhere.jsonl"]),
        (&["sft"], &["model=/nowhere", "data=/nowhere.jsonl"]),
        (&["reward", "train"], &[&model, "pairs=/nowhere.jsonl", "tuning=full"]),
        (&["reward", "train"], &["model=embedded", "pairs=embedded", "tuning=full"]),
        (&["reward", "train"], &["model=/nowhere/m", "pairs=embedded", "tuning=full"]),
        (&["train"], &["outcomes=/nowhere.jsonl"]),
    ];
    for (verb, sets) in kinds {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("run");
        let run = |verb: &[&str]| bpo(&[&["-q"], verb, &["--run-dir", arg(&folder)], sets.as_slice()].concat());
        let (done, check) = (run(verb), run(&["check"]));
        assert_ne!(done.code, 0, "{sets:?}");
        assert_eq!(check.code, done.code, "{sets:?}: {}", check.stderr);
        assert_eq!(check.stdout, "");
    }
}

#[test]
fn another_model_is_measured_too() {
    let Some(model) = fixture("stories260K") else { return };
    let told = facts(&["--budget", "1", "--set", &format!("model={}", arg(&model)), "--set", "max_new_tokens=8"]);
    assert!(told["time"]["step_s"].as_f64().unwrap() > 0.0, "{told}");
}
