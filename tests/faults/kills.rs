//! `kill -9` at any time.
use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use tempfile::tempdir;

use super::{
    dice::{Dice, faults},
    run::{Procedure, artefacts, assert_same, procedures, stage},
};

/// Kills a run until it has been killed `wanted` times, each time at a moment of the dice's choosing, starting anew when
/// it ends before. Returns what it was at when it was killed.
fn killed(procedure: &Procedure, wanted: usize, dice: &mut Dice) -> Vec<&'static str> {
    let dir = tempdir().unwrap();
    let whole = dir.path().join("whole");
    let began = Instant::now();
    procedure.run(&whole).succeeded();
    let (longest, whole) = (began.elapsed(), artefacts(&whole));
    let mut stages = Vec::new();
    for run in 0.. {
        let cut = dir.path().join(format!("cut-{run}"));
        loop {
            let mut child = procedure.spawn(&cut);
            thread::sleep(longest * dice.roll(1000) as u32 / 1000);
            // It may have ended by itself meanwhile.
            let _ = child.kill();
            let ended = child.wait_with_output().unwrap();
            if ended.status.success() {
                break;
            }
            let said = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(ended.status.code(), None, "{}: ended by the signal: {said}", procedure.name);
            stages.push(stage(&cut));
            if stages.len() >= wanted {
                procedure.run(&cut).succeeded();
                break;
            }
        }
        assert_same(&cut, &whole, &format!("{}, killed at {stages:?}", procedure.name));
        if stages.len() >= wanted {
            break;
        }
    }
    stages
}

/// Row 3. The uninterrupted run of each procedure is the measure of its killed ones.
#[test]
fn killed_at_random_times_every_procedure_ends_in_the_same_bytes() {
    let dir = tempdir().unwrap();
    let procedures = procedures(dir.path());
    let wanted = (faults(60) as usize).div_ceil(procedures.len());
    let halves: Vec<&[Procedure]> = procedures.chunks(procedures.len().div_ceil(2)).collect();
    let stages: Vec<&str> = thread::scope(|scope| {
        let work = |(seed, half): (usize, &'_ [Procedure])| {
            let mut dice = Dice(seed as u64);
            half.iter().flat_map(|procedure| killed(procedure, wanted, &mut dice)).collect::<Vec<_>>()
        };
        let works: Vec<_> = halves.into_iter().enumerate().map(|half| scope.spawn(move || work(half))).collect();
        works.into_iter().flat_map(|work| work.join().unwrap()).collect()
    });
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    stages.iter().for_each(|stage| *counts.entry(stage).or_default() += 1);
    println!("{} kills, 0 differing files: {counts:?}", stages.len());
    assert!(stages.len() >= 50);
}

/// A comparison with all of its cells' processes.
#[cfg(unix)]
#[test]
fn a_comparison_killed_with_its_cells_ends_in_the_same_results() {
    use std::{os::unix::process::CommandExt, process::Command};

    use crate::cli::{
        bpo::{arg, bpo, file},
        compare::{GRID, results},
    };

    let (dir, grid) = file("grid.toml", GRID);
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    let began = Instant::now();
    bpo(&["compare", arg(&grid), "--run-dir", arg(&whole)]).succeeded();
    let (longest, mut dice, mut kills) = (began.elapsed(), Dice(3), 0);
    while kills < faults(5) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bpo"));
        command.args(["compare", "--quiet", arg(&grid), "--run-dir", arg(&cut)]).process_group(0);
        let mut child = command.spawn().unwrap();
        thread::sleep(longest * dice.roll(900) as u32 / 1000 + Duration::from_millis(1));
        Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status().unwrap();
        if child.wait().unwrap().success() {
            std::fs::remove_dir_all(&cut).unwrap();
            continue;
        }
        kills += 1;
    }
    bpo(&["compare", arg(&grid), "--run-dir", arg(&cut)]).succeeded();
    assert_eq!(results(&cut), results(&whole));
    for cell in ["offline-dpo/seed-1", "bpo-f-2/seed-1", "offline-dpo/seed-2", "bpo-f-2/seed-2"] {
        let cell = format!("cells/{cell}");
        assert_same(&cut.join(&cell), &artefacts(&whole.join(&cell)), &cell);
    }
}
