//! Who trained a policy, as far as the folder of its run tells.
use std::path::Path;

use bpo_annotate::{AnnotatorConfig, AnnotatorKind};
use serde::Deserialize;

/// The annotator of the run that left the adapter or the model in `folder`: a run's recipe lies in the folder above (of
/// an ensemble's member, two further up).
pub fn trained_by(folder: &Path) -> Option<AnnotatorConfig> {
    #[derive(Deserialize)]
    struct Only {
        annotator: Option<AnnotatorConfig>,
    }
    let folder = std::path::absolute(folder).ok()?;
    let recipe = folder.ancestors().skip(1).take(3).map(|run| run.join("recipe.toml")).find(|path| path.is_file())?;
    toml::from_str::<Only>(&std::fs::read_to_string(recipe).ok()?).ok()?.annotator
}

/// Whether one judge is in both, alone or on a panel. How a service is asked makes no other judge of it.
pub fn have_a_judge_in_common(one: &AnnotatorConfig, other: &AnnotatorConfig) -> bool {
    let (ones, others) = (judges(one), judges(other));
    ones.iter().any(|judge| others.contains(judge))
}

fn judges(annotator: &AnnotatorConfig) -> Vec<&AnnotatorKind> {
    match &annotator.kind {
        AnnotatorKind::Panel(panel) => panel.members.iter().flat_map(judges).collect(),
        single => vec![single],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotator_of_a_run_is_found_above_what_it_left() {
        let run = tempfile::tempdir().unwrap();
        let adapter = run.path().join("members/1/adapter");
        std::fs::create_dir_all(&adapter).unwrap();
        assert_eq!(trained_by(&adapter), None);
        std::fs::write(run.path().join("recipe.toml"), "beta = 0.1\n[annotator]\nkind = \"length\"\n").unwrap();
        let found = trained_by(&adapter).unwrap();
        assert!(matches!(found.kind, AnnotatorKind::Length(_)));
        assert_eq!(trained_by(&run.path().join("adapter")), Some(found));
    }

    #[test]
    fn a_judge_on_a_panel_is_the_same_judge() {
        let of = |text: &str| toml::from_str::<AnnotatorConfig>(text).unwrap();
        let (length, lexicon) = (of("kind = \"length\""), of("kind = \"lexicon\""));
        let panel = of("kind = \"panel\"\nmembers = [{ kind = \"length\" }, { kind = \"regex\", pattern = \"a\" }]");
        assert!(have_a_judge_in_common(&length, &length) && have_a_judge_in_common(&panel, &length));
        assert!(!have_a_judge_in_common(&length, &lexicon) && !have_a_judge_in_common(&lexicon, &panel));
        assert!(!have_a_judge_in_common(&length, &of("kind = \"length\"\nprefer = \"shorter\"")));
    }
}
