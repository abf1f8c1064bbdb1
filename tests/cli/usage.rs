use super::bpo::{arg, bpo, file};

#[test]
fn bad_flags_exit_2() {
    let (_dir, rows) = file("rows.jsonl", "{}");
    for args in [
        vec!["nonsense"],
        vec!["score", "--input", arg(&rows)],
        vec!["score", "--model", "a", "--reward-model", "b", "--input", arg(&rows)],
        vec!["score", "--reward-model", "b", "--adapter", "c", "--input", arg(&rows)],
        vec!["generate", "--model", "a"],
        vec!["generate", "--model", "a", "--prompt", "b", "--greedy", "--top-k", "3"],
        vec!["generate", "--model", "a", "--prompt", "b", "--top-p", "2"],
        vec!["generate", "--model", "a", "--prompt", "b", "--max-new-tokens", "0"],
        vec!["merge", "--out", "x"],
        vec!["merge", "--model", "a", "--out", "x", "--dtype", "int8"],
        vec!["inspect"],
    ] {
        bpo(&args).refused(2, &["error"]);
    }
}

#[test]
fn an_unknown_device_names_those_of_this_build() {
    let (_dir, rows) = file("rows.jsonl", "{}");
    let run = bpo(&["score", "--model", "a", "--input", arg(&rows), "--device", "abacus"]);
    run.refused(2, &["abacus", "this build has", "flex"]);
}

#[test]
fn a_missing_file_exits_3_and_is_named() {
    bpo(&["score", "--model", "/nowhere/m", "--input", "/nowhere/rows.jsonl"]).refused(3, &["/nowhere/rows.jsonl"]);
    let (_dir, rows) = file("rows.jsonl", "{\"prompt_ids\":[1],\"response_ids\":[2]}");
    bpo(&["score", "--model", "/nowhere/m", "--input", arg(&rows)]).refused(3, &["/nowhere/m"]);
    bpo(&["generate", "--model", "/nowhere/m", "--prompt", "a"]).refused(3, &["/nowhere/m"]);
    bpo(&["inspect", "/nowhere/x"]).refused(3, &["/nowhere/x"]);
}

#[test]
fn every_verb_has_help_with_an_example() {
    let help = bpo(&["train", "--help"]).stdout;
    assert!(help.contains("docs/recipe.md") && help.contains("tell happier stories"), "{help}");
    let verbs = ["train", "sft", "annotate", "eval", "compare", "score", "generate", "merge", "inspect", "devices"];
    for verb in verbs {
        let run = bpo(&[verb, "--help"]);
        assert_eq!(run.code, 0);
        assert!(run.stdout.contains("Example") && run.stdout.contains(&format!("bpo {verb} ")), "{}", run.stdout);
    }
    let help = bpo(&["reward", "train", "--help"]).stdout;
    assert!(help.contains("bpo reward train --set"), "{help}");
}

#[test]
fn a_bad_recipe_key_names_the_nearest_one_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let run = |set: &str| bpo(&["train", "--run-dir", arg(&folder), "--set", set]);
    run("bet=3").refused(2, &["`bet`", "did you mean `beta`?"]);
    run("beta=big").refused(2, &["`beta`", "big"]);
    run("beta").refused(2, &["key=value"]);
    let missing = dir.path().join("r.toml");
    bpo(&["train", "--recipe", arg(&missing)]).refused(3, &["r.toml"]);
    assert!(!folder.exists());
}

#[test]
fn an_empty_device_in_the_environment_is_none() {
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_bpo"))
        .env("BPO_DEVICE", "")
        .args(["-q", "generate", "--model", "embedded", "--prompt", "A small owl", "--max-new-tokens", "2"])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}
