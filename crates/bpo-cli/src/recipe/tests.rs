use std::path::PathBuf;

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    beta: f64,
    #[serde(default)]
    max_steps: usize,
    #[serde(default)]
    annotator: Option<bpo_annotate::AnnotatorConfig>,
    #[serde(default)]
    model: Option<PathBuf>,
}

fn sets(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

fn complaint(text: &str, list: &[&str]) -> String {
    let table = load(text, None, &sets(list));
    table.and_then(|table| parse::<Settings>(&table, "recipe")).unwrap_err().text()
}

#[test]
fn set_beats_the_recipe_and_understands_toml_or_takes_strings() {
    let table =
        load("beta = 0.1\nname = 'a'", None, &sets(&["beta=0.5", "name=b c", "list=[1, 2]", "t.u.v=true"])).unwrap();
    assert_eq!(table["beta"].as_float(), Some(0.5));
    assert_eq!(table["name"].as_str(), Some("b c"));
    assert_eq!(table["list"].as_array().unwrap().len(), 2);
    assert_eq!(table["t"]["u"]["v"].as_bool(), Some(true));
    let table = load("", None, &sets(&["date=2024-01-01", "two=1\nx=2"])).unwrap();
    assert_eq!(table["date"].as_str(), Some("2024-01-01"));
    assert_eq!(table["two"].as_str(), Some("1\nx=2"));
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    let text = complaint("beta = 0.1", &["max_step=3"]);
    assert!(text.contains("unknown key `max_step`; did you mean `max_steps`?"), "{text}");
    let text = complaint("beta = 0.1", &["quux=3"]);
    assert!(text.contains("unknown key `quux`; known: beta, max_steps"), "{text}");
}

#[test]
fn a_wrong_type_names_its_key() {
    let text = complaint("beta = 0.1\nmax_steps = 'many'", &[]);
    assert!(text.contains("`max_steps`") && text.contains("many"), "{text}");
    let text = complaint("max_steps = 1", &[]);
    assert!(text.contains("`beta`"), "{text}");
}

#[test]
fn a_number_is_asked_for_in_plain_words() {
    assert!(complaint("beta = 'x'", &[]).ends_with("expected a number"));
    for bad in ["max_steps='x'", "max_steps=-1", "max_steps=1.5"] {
        let text = complaint("beta = 1", &[bad]);
        assert!(text.contains("max_steps") && text.ends_with("expected a whole number, 0 or above"), "{text}");
    }
}

#[test]
fn an_empty_value_takes_the_key_out() {
    let table = load("beta = 1\nmax_steps = 3\n[t]\na = 1\nb = 2", None, &sets(&["max_steps=", "t.a= "])).unwrap();
    assert!(!table.contains_key("max_steps") && table["t"].get("a").is_none() && table["t"].get("b").is_some());
    for needed in ["prompts=", "data=", "annotator=", "model="] {
        assert!(load("prompts = 'a'", None, &sets(&[needed])).is_err(), "{needed}");
    }
    assert!(load("model = 'a'", None, &sets(&["model_config=c.json", "model="])).is_ok());
}

#[test]
fn what_is_inside_of_the_annotator_is_set_after_it_in_any_order() {
    let load = |list: &[&str]| load("beta = 1\nannotator = 'lexicon'", None, &sets(list)).unwrap();
    let here = std::env::current_dir().unwrap();
    assert_eq!(load(&["annotator.path=a.txt"])["annotator"]["path"].as_str(), here.join("a.txt").to_str());
    let table = load(&["annotator.pattern=x", "annotator.kind=regex"]);
    assert!(parse::<Settings>(&table, "recipe").is_ok(), "{table}");
    let table = load(&["annotator.unit=words", "annotator=length"]);
    assert_eq!(table["annotator"]["unit"].as_str(), Some("words"), "{table}");
}

#[test]
fn bad_sets_are_refused() {
    for bad in ["beta", "=3", "a..b=1", "beta.x=1"] {
        assert!(load("beta = 0.1", None, &sets(&[bad])).is_err(), "{bad}");
    }
}

#[test]
fn paths_of_a_file_are_relative_to_it_and_those_of_sets_to_the_working_directory() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("r.toml");
    let text =
        "beta = 1\nmodel = 'm'\nprompts = ['p', 'embedded']\n[annotator]\nkind = 'lexicon'\npath = 'words.txt'\n";
    std::fs::write(&file, text).unwrap();
    let table = load("", Some(&file), &[]).unwrap();
    let inside = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    assert_eq!(table["model"].as_str().unwrap(), inside("m"));
    assert_eq!(table["prompts"][0].as_str().unwrap(), inside("p"));
    assert_eq!(table["prompts"][1].as_str(), Some("embedded"));
    assert_eq!(table["annotator"]["path"].as_str().unwrap(), inside("words.txt"));
    let table = load("", Some(&file), &sets(&["model=./m"])).unwrap();
    let here = std::env::current_dir().unwrap();
    assert_eq!(table["model"].as_str().unwrap(), here.join("m").to_string_lossy());
    assert_eq!(table["annotator"]["path"].as_str().unwrap(), inside("words.txt"));
}

#[test]
fn embedded_is_never_a_path() {
    let table = load("model = 'embedded'", None, &sets(&["prompts=embedded"])).unwrap();
    assert_eq!((table["model"].as_str(), table["prompts"].as_str()), (Some("embedded"), Some("embedded")));
}

#[test]
fn another_kind_of_annotator_drops_the_old_ones_keys() {
    let table =
        load("beta = 1\nannotator = 'length'", None, &sets(&["annotator.kind=regex", "annotator.pattern=x"])).unwrap();
    let settings: Settings = parse(&table, "recipe").unwrap();
    assert!(matches!(settings.annotator.unwrap().kind, bpo_annotate::AnnotatorKind::Regex(_)));
    let table = load("beta = 1\nannotator = 'lexicon'", None, &sets(&["annotator.kind=length"])).unwrap();
    assert!(parse::<Settings>(&table, "recipe").is_ok());
    let text = load("", None, &sets(&["annotator.kind=lengthy"])).unwrap_err().text();
    assert!(text.contains("annotator"), "{text}");
}

fn yaml(text: &str) -> Result<Table, Failure> {
    written("recipe.yaml", text)
}

fn written(name: &str, text: &str) -> Result<Table, Failure> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    load("", Some(&path), &[])
}

#[test]
fn a_yaml_recipe_is_the_toml_recipe() {
    let text = "# as TRL has them\nbeta: 0.1\nlearning_rate: 5e-6\nmax_steps: 3\nlora_r: null\nsave_only: ~\n\
                loss_type: [sigmoid, sft]\nuse_peft: false\nannotator:\n  - lexicon\n  - kind: length\n    prefer: shorter\n";
    let table = yaml(text).unwrap();
    let toml = "beta = 0.1\nlearning_rate = 5e-6\nmax_steps = 3\nloss_type = ['sigmoid', 'sft']\nuse_peft = false\n\
                annotator = ['lexicon', {kind = 'length', prefer = 'shorter'}]\n";
    assert_eq!(table, written("recipe.toml", toml).unwrap());
    assert_eq!(yaml("").unwrap(), Table::new());
}

#[test]
fn a_file_that_is_no_yaml_recipe_is_a_usage_error_with_its_place() {
    for (text, word) in [("beta: [1", "unclosed"), ("- beta", "keys with values"), ("beta: 1\nbeta: 2\n", "beta")] {
        let failure = yaml(text).unwrap_err();
        let message = failure.text();
        assert!(message.contains("recipe.yaml") && message.contains(word), "{text:?}: {message}");
    }
}
