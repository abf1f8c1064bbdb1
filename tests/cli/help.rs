//! Completions and manual pages, read by what they are for where that is installed.
use std::{path::Path, process::Command};

use super::bpo::{arg, bpo};

/// What a program says to a script, or `None` and a line that says so where it is not installed.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let Ok(output) = Command::new(program).args(args).output() else {
        eprintln!("skipped: {program} is not installed");
        return None;
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program}: {}{}", text(&output.stdout), text(&output.stderr));
    Some(text(&output.stdout) + &text(&output.stderr))
}

fn completions(dir: &Path, shell: &str) -> String {
    let path = dir.join(shell);
    let run = bpo(&["completions", shell]);
    run.succeeded();
    std::fs::write(&path, run.stdout).unwrap();
    arg(&path).to_owned()
}

#[test]
fn shells_load_their_completions_and_complete_verbs_and_flags() {
    let dir = tempfile::tempdir().unwrap();
    let bash = completions(dir.path(), "bash");
    let complete = |words: &str| {
        format!(
            "set -u; source '{bash}'; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _bpo bpo \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; echo \"${{COMPREPLY[@]}}\""
        )
    };
    if let Some(verbs) = said("bash", &["-c", &complete("bpo tr")]) {
        assert_eq!(verbs.trim(), "train");
        let flags = said("bash", &["-c", &complete("bpo check --qu")]).unwrap();
        assert!(flags.contains("--quick") && flags.contains("--quiet"), "{flags}");
    }
    let fish = completions(dir.path(), "fish");
    if let Some(verbs) = said("fish", &["-c", &format!("source '{fish}'; complete -C 'bpo comp'")]) {
        assert!(verbs.contains("compare") && verbs.contains("completions"), "{verbs}");
    }
    let zsh = completions(dir.path(), "zsh");
    let load = format!("autoload -U compinit; compinit -D -d '{zsh}.dump'; source '{zsh}'; whence -w _bpo");
    if let Some(told) = said("zsh", &["-fc", &load]) {
        assert!(told.contains("_bpo: function"), "{told}");
    }
    for shell in ["elvish", "powershell"] {
        assert!(bpo(&["completions", shell]).stdout.contains("train"), "{shell}");
    }
    bpo(&["completions", "tcsh"]).refused(2, &["tcsh", "bash"]);
}

#[test]
fn every_verb_has_a_manual_page_without_errors() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("new/man1");
    bpo(&["man", arg(&pages)]).succeeded();
    let names: Vec<String> =
        std::fs::read_dir(&pages).unwrap().map(|page| arg(&page.unwrap().path()).to_owned()).collect();
    for verb in ["", "-train", "-check", "-init", "-inspect", "-completions", "-man", "-reward", "-reward-train"] {
        assert!(names.iter().any(|name| name.ends_with(&format!("/bpo{verb}.1"))), "{verb}: {names:?}");
    }
    let lint: Vec<&str> = ["-Tlint", "-Werror"].into_iter().chain(names.iter().map(String::as_str)).collect();
    said("mandoc", &lint);
    let train = arg(&pages.join("bpo-train.1")).to_owned();
    let page = std::fs::read_to_string(&train).unwrap();
    assert!(page.contains(".TH bpo\\-train") || page.contains(".TH bpo-train"), "{page}");
    if let Some(text) = said("man", &["-P", "cat", "-l", &train]) {
        assert!(text.contains("bpo train recipes/smollm2"), "{text}");
    }
    let (_dir, file) = super::bpo::file("f", "");
    bpo(&["man", arg(&file)]).refused(4, &["f"]);
}

#[test]
fn a_misspelt_word_names_the_one_that_was_meant() {
    let dir = tempfile::tempdir().unwrap();
    let train = |set: &str| bpo(&["train", "--run-dir", arg(&dir.path().join("run")), "--set", set]);
    for (set, word) in [
        ("annotator.kind=lexikon", "`lexicon`"),
        ("annotator=lexicn", "`lexicon`"),
        ("loss_type=sigmod", "`sigmoid`"),
        ("reference=behavior", "`behaviour`"),
        ("pair_selection=best_wrost", "`best_worst`"),
        ("ensemble_merge=men", "`mean`"),
        ("beta2=1", "`beta`"),
    ] {
        train(set).refused(2, &["did you mean", word]);
    }
    bpo(&["train", "--device", "flx"]).refused(2, &["did you mean `flex`?"]);
    bpo(&["trian"]).refused(2, &["train"]);
    bpo(&["train", "--runn-dir", "x"]).refused(2, &["--run-dir"]);
}
