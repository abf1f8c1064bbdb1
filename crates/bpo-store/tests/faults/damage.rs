//! Damage to checkpoints that were whole when they were saved.
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
};

use bpo_store::{Error, Io};

use crate::{
    dice::{Dice, faults},
    scratch::{artefacts, assert_same, copy, folder, opened},
    toy::{SAVE, Toy},
};

const FILES: [&str; 4] = ["policy", "momentum", "behaviour", "manifest.json"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    Truncated,
    BitFlipped,
    Grown,
    Missing,
    Extra,
    Emptied,
    Zeroed,
    Folder,
    /// A number in the manifest is another one.
    Edited,
    /// A file of another set.
    Swapped,
    /// Another set as a whole.
    Renamed,
}

const ALL: [Damage; 11] = [
    Damage::Truncated,
    Damage::BitFlipped,
    Damage::Grown,
    Damage::Missing,
    Damage::Extra,
    Damage::Emptied,
    Damage::Zeroed,
    Damage::Folder,
    Damage::Edited,
    Damage::Swapped,
    Damage::Renamed,
];

fn set(run: &Path, step: u64) -> PathBuf {
    run.join(format!("checkpoints/step-{step:08}"))
}

/// Changes the digit of a number in a manifest: a length, a step, a hash or its seal.
fn edited(manifest: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut manifest = manifest.to_vec();
    let digits: Vec<usize> = (0..manifest.len()).filter(|at| manifest[*at].is_ascii_digit()).collect();
    let at = digits[dice.roll(digits.len() as u64) as usize];
    manifest[at] = b'0' + (manifest[at] - b'0' + 1 + dice.roll(9) as u8) % 10;
    manifest
}

impl Damage {
    /// Does it to the set of `step`; `other` is that of another step.
    fn strike(self, run: &Path, step: u64, other: u64, dice: &mut Dice) {
        let (folder, other) = (set(run, step), set(run, other));
        let name = FILES[dice.roll(FILES.len() as u64) as usize];
        let path = folder.join(name);
        let bytes = fs::read(&path).unwrap();
        let at = dice.roll(bytes.len() as u64) as usize;
        match self {
            Self::Truncated => fs::write(&path, &bytes[..at]).unwrap(),
            Self::BitFlipped => {
                let mut bytes = bytes;
                bytes[at] ^= 1 << dice.roll(8);
                fs::write(&path, bytes).unwrap();
            }
            Self::Grown => fs::write(&path, [&bytes[..], &[0; 3]].concat()).unwrap(),
            Self::Missing => fs::remove_file(&path).unwrap(),
            Self::Extra => fs::write(folder.join("policy-2"), bytes).unwrap(),
            Self::Emptied => fs::write(&path, "").unwrap(),
            Self::Zeroed => fs::write(&path, vec![0; bytes.len()]).unwrap(),
            Self::Folder => {
                fs::remove_file(&path).unwrap();
                fs::create_dir(&path).unwrap();
            }
            Self::Edited => {
                let path = folder.join("manifest.json");
                fs::write(&path, edited(&fs::read(&path).unwrap(), dice)).unwrap();
            }
            Self::Swapped => {
                // The behaviour policy is the same in both.
                let name = if name == "behaviour" { "policy" } else { name };
                fs::copy(other.join(name), folder.join(name)).unwrap();
            }
            Self::Renamed => {
                fs::remove_dir_all(&folder).unwrap();
                copy(&other, &folder);
            }
        }
    }
}

/// Damages one of the two sets of an interrupted run, or both, and lets it go on. Returns the damaged sets.
fn is_survived(whole: &BTreeMap<String, Vec<u8>>, template: &Path, damage: Damage, dice: &mut Dice) -> u64 {
    let folder = folder();
    let run = folder.path().join("run");
    copy(template, &run);
    let (newest, older) = (3 * SAVE, 2 * SAVE);
    let both = dice.roll(4) == 0;
    damage.strike(&run, newest, older, dice);
    // Where both are damaged, not both by a copy of the other, which would be none.
    let second = ALL[dice.roll(9) as usize];
    if both {
        second.strike(&run, older, newest, dice);
    }
    let (found, quarantined) = opened(&run, |dir| {
        let mut checkpoints = dir.checkpoints().unwrap();
        (checkpoints.latest(), checkpoints.quarantined().to_vec())
    });
    let told = || format!("{damage:?}, both: {both} ({second:?}): {quarantined:?}");
    if both {
        assert!(matches!(found, Err(Error::NoIntactCheckpoint { .. })), "{}", told());
        assert_eq!(quarantined.len(), 2, "{}", told());
        // Never a silent restart, however often it is tried.
        assert!(matches!(toy().run(Io::real(), &run, |_| {}), Err(Error::NoIntactCheckpoint { .. })));
        return 2;
    }
    assert_eq!(found.unwrap().unwrap().step, older, "{}", told());
    let [quarantined] = &quarantined[..] else { panic!("{}", told()) };
    assert!(quarantined.step == newest && quarantined.path.exists() && !quarantined.reason.is_empty());
    toy().run(Io::real(), &run, |_| panic!("asked again")).unwrap();
    let mut left = artefacts(&run);
    left.retain(|name, _| !name.starts_with("quarantine/"));
    assert_same(&left, whole, || format!("{damage:?}"));
    1
}

fn toy() -> Toy {
    Toy::new(7, 4 * SAVE - 2)
}

/// A run that was killed after its last checkpoint but one: every verdict is there, the run is not finished.
fn template(run: &Path) -> BTreeMap<String, Vec<u8>> {
    toy().run(Io::real(), run, |_| {}).unwrap();
    let whole = artefacts(run);
    fs::remove_file(run.join("finished.json")).unwrap();
    fs::remove_dir_all(set(run, toy().steps)).unwrap();
    // The set that the last one let go.
    let again = folder();
    let earlier = again.path().join("run");
    Toy::new(7, 3 * SAVE).run(Io::real(), &earlier, |_| {}).unwrap();
    copy(&set(&earlier, 2 * SAVE), &set(run, 2 * SAVE));
    whole
}

/// Row 6.
#[test]
fn every_damaged_set_is_found_set_aside_and_replaced_by_the_newest_intact_one() {
    let folder = folder();
    let run = folder.path().join("run");
    let whole = template(&run);
    let wanted = faults(5000) / 2;
    let damaged: u64 = thread::scope(|scope| {
        let works = [1, 2].map(|worker| {
            let (whole, run) = (&whole, &run);
            scope.spawn(move || {
                let (mut dice, mut damaged) = (Dice(worker), 0);
                for damage in ALL.into_iter().cycle() {
                    damaged += is_survived(whole, run, damage, &mut dice);
                    if damaged >= wanted {
                        break;
                    }
                }
                damaged
            })
        });
        works.into_iter().map(|work| work.join().unwrap()).sum()
    });
    println!("{damaged} damaged sets, all found");
    assert!(damaged >= 2 * wanted);
}
