//! The golden files that the crates share, through the same functions as the `golden` example; skipped by name where
//! they are not at hand.
use std::path::PathBuf;

use crate::{checks, golden::Check};

/// Files of one schema start alike.
const OURS: [&str; 7] = ["loss_", "f_divergence", "selm", "xpo", "trl_token_level", "token_logps", "bpo_logits"];

#[test]
fn losses_and_log_probs_agree_with_the_golden_files() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: golden files: no {}", folder.display());
        return;
    };
    let mut files = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !OURS.iter().any(|start| name.starts_with(start)) {
            continue;
        }
        let golden = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let mut found = Check::default();
        checks::check(&golden, &mut found).unwrap();
        assert!(found.failures().is_empty(), "{name}: {}", found.failures().join("\n"));
        files += 1;
    }
    assert!(files >= OURS.len(), "only {files} golden files in {}", folder.display());
}
