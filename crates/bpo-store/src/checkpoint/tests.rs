use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::manifest::{Entry, Manifest};
use super::*;

struct Run {
    folder: TempDir,
    lock: Arc<Lock>,
}

impl Run {
    fn new() -> Self {
        let folder = crate::scratch::folder();
        let lock = Arc::new(Lock::take(&Io::real(), folder.path()).unwrap());
        Self { folder, lock }
    }

    /// With sets of these steps.
    fn with(steps: &[u64]) -> Self {
        let run = Self::new();
        let mut checkpoints = run.open();
        for step in steps {
            save(&mut checkpoints, *step);
        }
        run
    }

    fn open(&self) -> Checkpoints {
        Checkpoints::open(&Io::real(), self.folder.path(), &self.lock).unwrap()
    }

    fn set(&self, step: u64) -> PathBuf {
        self.folder.path().join(FOLDER).join(name_of(step))
    }

    fn latest(&self) -> Option<u64> {
        self.open().latest().unwrap().map(|found| found.step)
    }
}

fn save(checkpoints: &mut Checkpoints, step: u64) {
    let state = format!("{{\"step\":{step}}}");
    let weights = [step as u8; 100];
    let files = [("state.json", state.as_bytes()), ("weights.bin", &weights[..])];
    checkpoints.save(step, &files).unwrap();
}

#[test]
fn a_saved_set_reads_back() {
    let run = Run::with(&[12]);
    let found = run.open().latest().unwrap().unwrap();
    assert_eq!(found.step, 12);
    assert_eq!(found.names().collect::<Vec<_>>(), ["state.json", "weights.bin"]);
    assert_eq!(found.read("weights.bin").unwrap(), [12; 100]);
    assert!(found.path().ends_with("checkpoints/step-00000012"));
    assert!(matches!(found.read("other"), Err(Error::CheckpointFile { .. })));
    fs::write(run.set(12).join("weights.bin"), [13; 100]).unwrap();
    let changed = found.read("weights.bin");
    assert!(matches!(changed, Err(Error::CheckpointDamaged { .. })));
}

#[test]
fn without_any_set_there_is_no_latest() {
    assert_eq!(Run::new().latest(), None);
}

#[test]
fn two_intact_sets_are_kept_and_older_ones_deleted() {
    let run = Run::with(&[1, 2, 3, 4]);
    assert_eq!(run.open().steps().unwrap(), [4, 3]);
    let mut checkpoints = run.open();
    checkpoints.keep(3);
    save(&mut checkpoints, 5);
    save(&mut checkpoints, 6);
    assert_eq!(checkpoints.steps().unwrap(), [6, 5, 4]);
    checkpoints.keep(0);
    save(&mut checkpoints, 7);
    assert_eq!(checkpoints.steps().unwrap(), [7, 6]);
}

#[test]
fn a_damaged_set_does_not_count_as_kept() {
    let run = Run::with(&[1, 2]);
    fs::remove_file(run.set(2).join("state.json")).unwrap();
    let mut checkpoints = run.open();
    save(&mut checkpoints, 3);
    assert_eq!(checkpoints.steps().unwrap(), [3, 1]);
    assert_eq!(checkpoints.quarantined()[0].step, 2);
}

#[test]
fn a_step_older_than_those_kept_is_not_deleted_as_it_is_saved() {
    let run = Run::with(&[8, 9]);
    save(&mut run.open(), 3);
    assert_eq!(run.open().steps().unwrap(), [9, 8, 3]);
}

#[test]
fn a_damaged_set_goes_to_quarantine_and_the_newest_intact_one_is_taken() {
    let run = Run::with(&[1, 2]);
    fs::write(run.set(2).join("weights.bin"), [2; 99]).unwrap();
    let mut checkpoints = run.open();
    assert_eq!(checkpoints.latest().unwrap().unwrap().step, 1);
    let [found] = checkpoints.quarantined() else {
        panic!("{:?}", checkpoints.quarantined());
    };
    assert_eq!(found.step, 2);
    assert_eq!(found.reason, "weights.bin has 99 bytes, not 100");
    assert!(found.path.join("state.json").exists());
    // Damaged again at the same step, it gets a cell of its own.
    save(&mut checkpoints, 2);
    fs::remove_file(run.set(2).join("manifest.json")).unwrap();
    assert_eq!(checkpoints.latest().unwrap().unwrap().step, 1);
    assert!(checkpoints.quarantined()[1].path.ends_with("step-00000002.2"));
}

#[test]
fn a_run_whose_sets_are_all_damaged_never_starts_anew_silently() {
    let run = Run::with(&[1, 2]);
    for step in [1, 2] {
        fs::write(run.set(step).join("manifest.json"), "").unwrap();
    }
    for _ in 0..3 {
        let refused = run.open().latest();
        assert!(matches!(refused, Err(Error::NoIntactCheckpoint { .. })));
    }
}

#[test]
fn a_set_of_another_format_is_refused_and_left_in_place() {
    let run = Run::with(&[1, 2]);
    let mut manifest = Manifest::new(2);
    manifest.format = 7;
    fs::write(run.set(2).join("manifest.json"), manifest.to_json()).unwrap();
    let refused = run.open().latest();
    assert!(matches!(refused, Err(Error::CheckpointFormat { format: 7, .. })));
    assert!(run.set(2).exists());
}

#[test]
fn a_manifest_that_leads_out_of_its_folder_is_damage() {
    let run = Run::with(&[1]);
    fs::write(run.folder.path().join(FOLDER).join("secret"), "abc").unwrap();
    let mut manifest = Manifest::new(1);
    manifest.files.push(Entry::new("../secret", 3, &blake3::hash(b"abc")));
    fs::write(run.set(1).join("manifest.json"), manifest.to_json()).unwrap();
    let refused = run.open().latest();
    assert!(matches!(refused, Err(Error::NoIntactCheckpoint { .. })));
}

#[cfg(unix)]
#[test]
fn a_link_is_not_a_file_of_a_set() {
    let run = Run::with(&[1, 2]);
    let weights = run.set(2).join("weights.bin");
    let outside = run.folder.path().join("outside");
    fs::rename(&weights, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &weights).unwrap();
    assert_eq!(run.latest(), Some(1));
}

#[test]
fn a_manifest_without_end_is_not_read() {
    let run = Run::with(&[1, 2]);
    let file = fs::File::create(run.set(2).join("manifest.json")).unwrap();
    file.set_len(1 << 40).unwrap();
    assert_eq!(run.latest(), Some(1));
}

/// A process killed at any point of a save leaves one of these states.
#[test]
fn a_save_killed_at_any_point_leaves_the_previous_set_or_the_new_one() {
    let bytes = |run: &Run, name: &str| fs::read(run.set(3).join(name)).unwrap();
    let whole = Run::with(&[3]);
    let names = ["state.json", "weights.bin", "manifest.json"];
    for files in 0..=names.len() {
        for torn in [false, true] {
            let run = Run::with(&[1, 2]);
            let building = run.folder.path().join(FOLDER).join(".building-step-00000003");
            fs::create_dir(&building).unwrap();
            for (at, name) in names[..files].iter().enumerate() {
                let mut content = bytes(&whole, name);
                if torn && at + 1 == files {
                    content.truncate(content.len() / 2);
                }
                fs::write(building.join(name), content).unwrap();
            }
            assert_eq!(run.latest(), Some(2), "{files} files, torn: {torn}");
            assert!(!building.exists());
            save(&mut run.open(), 3);
            assert_eq!(run.latest(), Some(3));
        }
    }
}

#[test]
fn a_deletion_killed_at_any_point_is_finished_at_the_next_start() {
    let run = Run::with(&[1, 2]);
    let doomed = run.folder.path().join(FOLDER).join(".doomed-step-00000001");
    fs::rename(run.set(1), &doomed).unwrap();
    fs::remove_file(doomed.join("manifest.json")).unwrap();
    assert_eq!(run.latest(), Some(2));
    assert!(!doomed.exists());
    assert!(run.open().quarantined().is_empty());
}

#[test]
fn a_replacement_killed_at_any_point_leaves_the_old_set_or_the_new_one() {
    let replaced = |run: &Run| run.folder.path().join(FOLDER).join(".replaced-step-00000001");
    // Killed between the two renames: the old set comes back.
    let run = Run::with(&[1]);
    fs::rename(run.set(1), replaced(&run)).unwrap();
    assert_eq!(run.latest(), Some(1));
    // Killed before the old set was removed: the new one stays.
    fs::create_dir(replaced(&run)).unwrap();
    assert_eq!(run.latest(), Some(1));
    assert!(!replaced(&run).exists());
    // Not killed at all.
    run.open().save(1, &[("other", b"x")]).unwrap();
    let found = run.open().latest().unwrap().unwrap();
    assert_eq!(found.names().collect::<Vec<_>>(), ["other"]);
}

#[test]
fn a_failed_save_leaves_every_earlier_set_intact() {
    let run = Run::with(&[1, 2]);
    let mut checkpoints = run.open();
    // A name that is too long for the file system makes the save fail half-way.
    let long = "x".repeat(300);
    let error = checkpoints.save(3, &[("a", b"a"), (&long, b"b")]).unwrap_err();
    assert!(error.to_string().contains(&long), "{error}");
    assert_eq!(checkpoints.steps().unwrap(), [2, 1]);
    assert!(!run.folder.path().join(FOLDER).join(".building-step-00000003").exists());
    assert_eq!(run.latest(), Some(2));
}

#[test]
fn only_exact_names_are_sets() {
    assert_eq!(step_of("step-00000012"), Some(12));
    assert_eq!(step_of(&name_of(u64::MAX)), Some(u64::MAX));
    for name in ["step-12", "step-+0000012", "step-", "step-0000001x", "step-000000012"] {
        assert_eq!(step_of(name), None, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Flipped bits, cut ends, and missing files, in any file of the newest set.
    #[test]
    fn any_damage_to_the_newest_set_is_found(
        file in prop::sample::select(vec!["state.json", "weights.bin", "manifest.json"]),
        at: prop::sample::Index,
        damage in prop_oneof![(0u8..8).prop_map(Some), Just(None)],
        missing in prop::bool::weighted(0.1),
    ) {
        let run = Run::with(&[1, 2]);
        let path = run.set(2).join(file);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        match damage {
            Some(bit) => bytes[at] ^= 1 << bit,
            None => bytes.truncate(at),
        }
        fs::write(&path, bytes).unwrap();
        if missing {
            fs::remove_file(&path).unwrap();
        }
        let mut checkpoints = run.open();
        prop_assert_eq!(checkpoints.latest().unwrap().unwrap().step, 1);
        prop_assert_eq!(checkpoints.quarantined().len(), 1);
    }
}
