//! Runs that are ended at a step, once and twice, and at the refreshes.
use std::time::{Duration, Instant};

use tempfile::tempdir;

use super::run::{Procedure, artefacts, assert_same, plain, procedures, steps};

/// Kills a run once it has logged `wanted` steps. Whether it was still running.
fn cut_at(procedure: &Procedure, dir: &std::path::Path, wanted: u64) -> bool {
    let mut child = procedure.spawn(dir);
    let began = Instant::now();
    while steps(dir) < wanted && child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(120), "no step {wanted} within two minutes");
        std::thread::sleep(Duration::from_micros(200));
    }
    let _ = child.kill();
    child.wait().unwrap().code().is_none()
}

/// Row 4. The behaviour policy is refreshed before steps 2 and 4 of `plain`, before every step of the ensemble.
#[test]
fn resumed_once_and_twice_at_each_step_a_run_ends_in_the_same_bytes() {
    let dir = tempdir().unwrap();
    let all = procedures(dir.path());
    let of = |name: &str| all.iter().find(|procedure| procedure.name == name).unwrap().clone();
    let four = [plain(), of("ensemble"), of("OPTune"), of("EMA reference")];
    let resumed = |procedure: &Procedure| -> [usize; 2] {
        let (mut once, mut twice) = (0, 0);
        let whole = dir.path().join(format!("{}-whole", procedure.name));
        procedure.run(&whole).succeeded();
        let whole = artefacts(&whole);
        for step in 0..6 {
            let told = format!("{} at step {step}", procedure.name);
            let cut = dir.path().join(&told);
            once += usize::from(cut_at(procedure, &cut, step));
            procedure.run(&cut).succeeded();
            assert_same(&cut, &whole, &told);
            let again = dir.path().join(format!("{told} twice"));
            if cut_at(procedure, &again, step) {
                twice += usize::from(cut_at(procedure, &again, step + 1));
            }
            procedure.run(&again).succeeded();
            assert_same(&again, &whole, &format!("{told}, twice"));
        }
        [once, twice]
    };
    let counts = std::thread::scope(|scope| {
        let resumed = &resumed;
        let works = four.each_ref().map(|procedure| scope.spawn(move || resumed(procedure)));
        works.map(|work| work.join().unwrap())
    });
    let [once, twice] = [0, 1].map(|times| counts.iter().map(|count| count[times]).sum::<usize>());
    println!("{once} resumed once, {twice} twice, 0 differing files");
    assert!(once >= 20 && twice >= 16, "{once} and {twice}: the others had ended before");
}
