//! The power fails: unlike after a kill, what was not synced may be gone, or half gone, or not gone.
use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use bpo_store::{Blow, Hook, Io, Operation, RunDir};

use crate::{
    dice::{Dice, faults},
    power_disk::Disk,
    scratch::{artefacts, assert_same, folder, opened},
    toy::{SAVE, Toy},
};

const DEAD: &str = "dead";

/// A file system that ends after some operations, and what is on its disk.
#[derive(Debug)]
struct Power(Mutex<(Disk, u64)>);

impl Hook for Power {
    fn before(&self, _: &Operation<'_>) -> Result<(), Blow> {
        let left = &mut self.0.lock().unwrap().1;
        *left = left.checked_sub(1).ok_or_else(|| Blow::Fails(std::io::Error::other(DEAD)))?;
        Ok(())
    }

    fn after(&self, operation: &Operation<'_>) {
        self.0.lock().unwrap().0.apply(operation);
    }
}

/// The newest checkpoint that its maker may rely on.
fn newest(run: &Path) -> u64 {
    let latest = |run: RunDir| run.checkpoints().unwrap().latest().unwrap().map_or(0, |found| found.step);
    if run.exists() { opened(run, latest) } else { 0 }
}

/// What a run has left, but for sets whose removal was not durable.
fn left(run: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut left = artefacts(run);
    left.retain(|name, _| !name.contains("/.doomed-"));
    left
}

/// Ends a run a few times by a kill or by the power, at operations of the dice's choosing. Returns how often.
fn is_survived(toy: &Toy, whole: &Path, dice: &mut Dice) -> u64 {
    let folder = folder();
    let (mut asked, mut ends, mut saved) = (Vec::new(), 0, 0);
    let mut disk = Disk::of(folder.path());
    let run = folder.path().join("run");
    loop {
        // Later ends find fewer operations left.
        let left_to_do = if ends < 4 { dice.roll(200) } else { u64::MAX };
        let power = Arc::new(Power(Mutex::new((disk, left_to_do))));
        let ended = toy.run(Io::past(power.clone()), &run, |step| asked.push(step));
        disk = power.0.lock().unwrap().0.clone();
        let is_done = ended.is_ok();
        if let Err(error) = ended {
            assert!(error.to_string().ends_with(DEAD), "{error}");
        }
        if is_done || dice.roll(2) == 0 {
            fs::remove_dir_all(&run).unwrap_or_default();
            disk.fail(folder.path(), dice);
            let newest = newest(&run);
            assert!(newest >= saved, "checkpoint {saved} had been seen, {newest} is left");
            disk = Disk::of(folder.path());
        }
        if is_done {
            assert_same(&left(&run), &left(whole), || format!("{toy:?}, ended {ends} times"));
            assert!(asked.len() as u64 <= toy.steps + ends);
            return ends;
        }
        ends += 1;
        saved = saved.max(durable(&disk));
    }
}

/// The newest checkpoint that every power failure leaves.
fn durable(disk: &Disk) -> u64 {
    let folder = folder();
    disk.lose_all(folder.path());
    newest(&folder.path().join("run"))
}

#[test]
fn whatever_the_power_leaves_of_what_was_not_synced_a_run_ends_in_the_same_bytes() {
    let (toy, whole) = (Toy::new(3, 3 * SAVE + 1), folder());
    let whole = whole.path().join("run");
    toy.run(Io::real(), &whole, |_| {}).unwrap();
    let ends: u64 = thread::scope(|scope| {
        let works = [1, 2].map(|worker| {
            let (toy, whole) = (&toy, &whole);
            scope.spawn(move || {
                let mut dice = Dice(worker);
                (0..faults(400)).map(|_| is_survived(toy, whole, &mut dice)).sum::<u64>()
            })
        });
        works.into_iter().map(|work| work.join().unwrap()).sum()
    });
    println!("{ends} ends by kill or power failure, 0 differing files");
}
