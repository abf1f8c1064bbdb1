use super::*;

fn load(text: &str) -> Result<Grid, String> {
    load_with(text, &[])
}

fn load_with(text: &str, sets: &[&str]) -> Result<Grid, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("grid.toml");
    std::fs::write(&file, text).unwrap();
    let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
    Grid::load(Some(&file), &sets, None).map_err(|failure| failure.text())
}

const TWO: &str = "seeds = 2\n[base]\nmax_steps = 4\n\
    [[method]]\nname = \"offline\"\ncollection_phases = 1\n[[method]]\nname = \"BPO, F=2\"\ncollection_phases = 2\n";

fn names(grid: &Grid) -> Vec<&str> {
    grid.methods.iter().map(|method| method.name.as_str()).collect()
}

#[test]
fn the_built_in_grid_is_one() {
    let grid = Grid::load(None, &[], None).unwrap();
    assert!(grid.methods.len() >= 4 && grid.seeds.len() == 8, "{grid:?}");
}

#[test]
fn methods_start_from_the_base_and_name_what_they_differ_in() {
    let grid = load(TWO).unwrap();
    assert_eq!((names(&grid), &grid.seeds), (vec!["offline", "BPO, F=2"], &vec![1, 2]));
    assert!(grid.methods.iter().all(|method| method.recipe.max_steps == 4));
    let settings: Vec<String> = grid.methods.iter().map(|method| format!("{:?}", method.settings)).collect();
    assert_eq!(settings, [r#"{"collection_phases": Integer(1)}"#, r#"{"collection_phases": Integer(2)}"#]);
}

#[test]
fn a_grid_is_a_product() {
    let grid = load(&format!("{TWO}[grid]\nloss_type = [\"sigmoid\", \"ipo\"]\nbeta = [0.1, 0.5]\n")).unwrap();
    assert_eq!(grid.methods.len(), 8);
    let last = grid.methods.last().unwrap();
    assert_eq!((last.recipe.beta, last.recipe.loss_type.as_slice()), (0.5, ["ipo".to_string()].as_slice()));
    assert_eq!(last.name, "BPO, F=2, beta=0.5, loss_type=ipo");
    assert_eq!(last.slug, "bpo-f-2-beta-0-5-loss-type-ipo");
}

#[test]
fn sets_are_on_top_of_the_base_and_refused_where_they_would_do_nothing() {
    let grid = load_with(TWO, &["max_steps=6"]).unwrap();
    assert!(grid.methods.iter().all(|method| method.recipe.max_steps == 6));
    for (set, words) in [
        ("collection_phases=3", vec!["offline", "collection_phases"]),
        ("seed=3", vec!["--seeds"]),
        ("betta=3", vec!["offline", "`betta`", "did you mean `beta`?"]),
    ] {
        let error = load_with(TWO, &[set]).unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}

#[test]
fn what_is_wrong_in_a_grid_is_named() {
    let method = |name: &str, keys: &str| format!("[[method]]\nname = \"{name}\"\n{keys}\n");
    for (text, words) in [
        (String::new(), vec!["[[method]]"]),
        ("[[method]]\nbeta = 1".into(), vec!["name"]),
        ("seed = 1".into(), vec!["`seed`", "did you mean `seeds`?"]),
        ("seeds = \"many\"".into(), vec!["seeds", "list"]),
        ("seeds = [1, 1]".into(), vec!["twice"]),
        ("seeds = 0".into(), vec!["at least one"]),
        (method("a", "betta = 1"), vec!["method \"a\"", "`betta`", "`beta`"]),
        (method("a", "beta = -1"), vec!["method \"a\"", "beta"]),
        (method("a", "seed = 1"), vec!["method \"a\"", "seeds"]),
        (method("a", "eval_size = 0"), vec!["method \"a\"", "nothing to compare"]),
        (method("a", "") + &method("a", "beta = 0.2"), vec!["two methods", "\"a\""]),
        (method("F=2", "") + &method("f 2", "beta = 0.2"), vec!["\"F=2\"", "\"f 2\"", "folder f-2"]),
        (method("?!", ""), vec!["neither a letter"]),
        (method("a", "beta = 1") + "[grid]\nbeta = [1, 2]", vec!["\"a\"", "`beta`", "[grid]"]),
        (method("a", "") + "[grid]\nbeta = 1", vec!["[grid]", "`beta`", "list"]),
    ] {
        let error = load(&text).unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{text}\n{error}");
    }
}

#[test]
fn one_annotation_budget_unless_allowed_otherwise() {
    let unequal = "[[method]]\nname = \"a\"\nmax_steps = 4\n[[method]]\nname = \"b\"\nmax_steps = 5\n";
    let error = load(unequal).unwrap_err();
    assert!(error.contains("\"a\" has 64 responses judged, \"b\" 80 responses"), "{error}");
    load(&format!("allow_unequal_budget = true\n{unequal}")).unwrap();
    let half = "[[method]]\nname = \"a\"\nmax_steps = 4\n\
        [[method]]\nname = \"b\"\nmax_steps = 8\nper_device_train_batch_size = 4\n";
    load(half).unwrap();
    assert!(load("[[method]]\nname = \"a\"\n[[method]]\nname = \"b\"\nmax_steps = 5\n").is_err());
}

#[test]
fn what_is_judged_counts_and_all_are_measured_alike() {
    let against = |keys: &str| {
        load(&format!("[[method]]\nname = \"a\"\nmax_steps = 4\n[[method]]\nname = \"b\"\nmax_steps = 4\n{keys}"))
    };
    for (keys, words) in [
        ("samples_per_prompt = 4\npair_selection = \"best_worst\"", "128 responses"),
        ("pairs = \"embedded\"", "0 responses"),
        ("regenerate_fraction = 0.5", "regenerate_fraction 0.5"),
        ("eval_size = 7", "differ in eval_size"),
        ("annotator = { kind = \"length\", prefer = \"longer\" }", "differ in annotator"),
    ] {
        let error = against(keys).unwrap_err();
        assert!(error.contains(words), "{keys}: {error}");
    }
}

#[test]
fn paths_are_relative_to_the_grid() {
    let dir = tempfile::tempdir().unwrap();
    let (file, below) = (dir.path().join("grid.toml"), dir.path().join("below"));
    std::fs::create_dir(&below).unwrap();
    std::fs::write(below.join("r.toml"), "model = \"m\"\nprompts = \"p.jsonl\"\nmax_steps = 3\nseed = 9").unwrap();
    let grid = "recipe = \"below/r.toml\"\n[base]\nprompts = \"q.jsonl\"\n[[method]]\nname = \"a\"\nadapter = \"x\"\n";
    std::fs::write(&file, grid).unwrap();
    let grid = Grid::load(Some(&file), &[], None).unwrap();
    let recipe = &grid.methods[0].recipe;
    assert_eq!(Path::new(&recipe.model), below.join("m"));
    assert_eq!(Path::new(&recipe.prompts), dir.path().join("q.jsonl"));
    assert_eq!(recipe.adapters().iter().map(Path::new).collect::<Vec<_>>(), [dir.path().join("x")]);
    assert_eq!(recipe.max_steps, 3);
}

#[test]
fn slugs_are_names_of_folders() {
    assert_eq!(slug("  BPO, F=T (β=0.1) "), "bpo-f-t-β-0-1");
    let (a, b) = (slug(&"a".repeat(80)), slug(&"a".repeat(81)));
    assert!(a != b && a.len() == SLUG + 9, "{a} {b}");
}

#[test]
fn seeds_are_a_list_or_a_count() {
    assert_eq!("3".parse(), Ok(Seeds(vec![1, 2, 3])));
    assert_eq!("7, 2".parse(), Ok(Seeds(vec![7, 2])));
    for bad in ["", "0", "x", "1,1", "1,", "-1"] {
        assert!(bad.parse::<Seeds>().is_err(), "{bad}");
    }
}
