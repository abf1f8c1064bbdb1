use super::*;

fn estimate(mean: f64, half: f64) -> Option<Estimate> {
    Some(Estimate { mean, low: Some(mean - half), high: Some(mean + half) })
}

fn method(name: &str, gain: f64) -> MethodResult {
    let point = |index: u64| {
        let share = index as f64 / 4.0;
        Point {
            step: index * 16,
            reference_win_rate: estimate(0.53 + gain * share.sqrt(), 0.02 + 0.02 * share),
            kl: estimate(20.0 * gain * share, gain * share),
            length: estimate(43.0 + 8.0 * gain * share, 0.7),
            distinct: Some(Estimate::known(1.0)),
            ..Point::default()
        }
    };
    let cell = |seed| crate::compare::results::CellResult { seed, steps: 64, pairs: 9, seconds: 1.0, curve: vec![] };
    MethodResult {
        name: name.into(),
        settings: Default::default(),
        pairs: 1000.0,
        seconds: 17.0,
        curve: (0..5).map(point).collect(),
        cells: (1..=8).map(cell).collect(),
    }
}

fn results(methods: Vec<MethodResult>) -> Results {
    let outcome = Quantity::ReferenceWinRate;
    Results { annotator: "lexicon".into(), eval_prompts: 100, outcome, methods, differences: Vec::new() }
}

/// Set `BPO_FIGURES` to a folder to look at them.
#[test]
fn figures_show_every_method_inside_of_the_drawing() {
    let names = [
        "offline DPO",
        "BPO, F=2",
        "online DPO",
        "BPO, F=T",
        "BPO, F=T, ensemble of 5, beta=0.5, loss_type=ipo, learning_rate=0.0005",
    ];
    let methods = names.iter().zip([0.08, 0.15, 0.155, 0.21, 0.26]).map(|(name, gain)| method(name, gain)).collect();
    let figures = figures(&results(methods));
    let files: Vec<&str> = figures.iter().map(|figure| figure.file).collect();
    assert_eq!(files, ["win_rate.svg", "win_rate_kl.svg", "length.svg", "distinct.svg"]);
    for Figure { file, svg, .. } in &figures {
        assert_eq!(svg.matches("<polyline").count(), 10, "{file}");
        assert!(svg.contains(">BPO, F=2</text>") && svg.contains("…"), "{file}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{file}");
        if let Some(folder) = std::env::var_os("BPO_FIGURES") {
            std::fs::write(std::path::Path::new(&folder).join(file), svg).unwrap();
        }
    }
}

#[test]
fn many_methods_make_the_drawing_higher() {
    let names: Vec<String> = (0..24).map(|index| format!("method {index}, with a name of two lines")).collect();
    let few = figures(&results(vec![method("a", 0.1)]));
    let many = figures(&results(names.iter().map(|name| method(name, 0.1)).collect()));
    let height = |figure: &Figure| -> f64 {
        let rest = figure.svg.split_once("height=\"").unwrap().1;
        rest.split_once('"').unwrap().0.parse().unwrap()
    };
    assert!(height(&many[0]) > 1.5 * height(&few[0]));
}

#[test]
fn a_figure_without_numbers_is_left_out() {
    let mut bare = method("a", 0.1);
    bare.curve.iter_mut().for_each(|point| point.kl = None);
    let files: Vec<&str> = figures(&results(vec![bare])).iter().map(|figure| figure.file).collect();
    assert_eq!(files, ["win_rate.svg", "length.svg", "distinct.svg"]);
}
