//! `kill -9` at any time.
use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use bpo_store::Io;

use crate::{
    child::Order,
    dice::{Dice, faults},
    scratch::{artefacts, assert_same, folder, opened},
    toy::{SAVE, Toy},
};

fn lines(path: &Path) -> u64 {
    fs::read(path).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count() as u64)
}

/// The newest checkpoint's step; 0 where there is none.
fn newest(run: &Path) -> u64 {
    let names = fs::read_dir(run.join("checkpoints")).into_iter().flatten();
    let names = names.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    names.filter_map(|name| name.strip_prefix("step-")?.parse().ok()).max().unwrap_or(0)
}

/// Kills a run again and again, until it ends before it is killed. Returns the number of kills.
fn killed_until_done(toy: &Toy, longest: Duration, dice: &mut Dice) -> u64 {
    let (folder, whole) = (folder(), folder());
    let (run, whole) = (folder.path().join("run"), whole.path().join("run"));
    toy.run(Io::real(), &whole, |_| {}).unwrap();
    let order = Order::new(&run, toy);
    let mut kills = 0;
    let mut judged: Vec<u64> = Vec::new();
    loop {
        let before = order.asked().len();
        let mut child = order.spawn();
        thread::sleep(longest * dice.roll(1000) as u32 / 1000);
        // It may have ended by itself meanwhile.
        let _ = child.kill();
        let ended = child.wait().unwrap();
        let asked = order.asked();
        assert!(asked[before..].iter().all(|step| !judged.contains(step)), "a recorded verdict was asked for again");
        if ended.success() {
            assert!(asked.len() as u64 <= toy.steps + kills, "{} questions, {kills} kills", asked.len());
            assert_same(&artefacts(&run), &artefacts(&whole), || format!("{toy:?}, killed {kills} times"));
            return kills;
        }
        assert_eq!(ended.code(), None, "it ended by the signal");
        kills += 1;
        let (done, saved) = (lines(&run.join("metrics.jsonl")), newest(&run));
        assert!(done <= saved + SAVE, "{done} steps done, checkpoint of step {saved}");
        if dice.roll(2) == 0 && run.exists() {
            // Every other time the next child is the first to see what is left.
            judged = opened(&run, |run| {
                let mut journal = run.journal().unwrap();
                let records = journal.records().filter(|(_, kind)| *kind == "judged");
                let steps: Vec<u64> = records.map(|(step, _)| step).collect();
                assert!(steps.iter().all(|step| journal.get(*step, "judged").unwrap().is_some()));
                steps
            });
        }
    }
}

/// Row 2: as often as asked for; two at a time, so that a kill comes at moments of another's choosing.
#[test]
fn killed_at_random_times_a_run_ends_in_the_same_bytes_and_asks_nothing_twice() {
    let toy = |seed| Toy { pause: Duration::from_micros(300), ..Toy::new(seed, 24) };
    let timed = folder();
    let began = Instant::now();
    assert!(Order::new(&timed.path().join("run"), &toy(0)).spawn().wait().unwrap().success());
    let longest = began.elapsed() * 5 / 4;
    let wanted = faults(1000) / 2;
    let kills: u64 = thread::scope(|scope| {
        let works = [1, 2].map(|worker| {
            scope.spawn(move || {
                let (mut kills, mut dice, mut seed) = (0, Dice(worker), worker << 32);
                while kills < wanted {
                    kills += killed_until_done(&toy(seed), longest, &mut dice);
                    seed += 1;
                }
                kills
            })
        });
        works.into_iter().map(|work| work.join().unwrap()).sum()
    });
    println!("{kills} kills, 0 differing files");
    assert!(kills >= 2 * wanted);
}
