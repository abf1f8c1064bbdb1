//! The end of the process at every operation on a file, before and after it.
use std::{
    ops::Range,
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use bpo_store::{Blow, Hook, Io, Operation};

use crate::{
    child::Order,
    dice::faults,
    scratch::{artefacts, assert_same, folder},
    toy::{SAVE, Toy},
};

/// Writes down every operation, in words.
#[derive(Debug, Default)]
struct Listing(Mutex<Vec<String>>);

impl Hook for Listing {
    fn before(&self, operation: &Operation<'_>) -> Result<(), Blow> {
        let place: Vec<String> = operation.path().iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let told = format!("{} {}", operation.action(), place[place.len().saturating_sub(2)..].join("/"));
        self.0.lock().unwrap().push(told);
        Ok(())
    }
}

/// Every operation of a run.
fn operations(toy: &Toy) -> Vec<String> {
    let (listing, folder) = (Arc::new(Listing::default()), folder());
    toy.run(Io::past(listing.clone()), &folder.path().join("run"), |_| {}).unwrap();
    listing.0.lock().unwrap().clone()
}

/// Those of the checkpoint of `step`: from the first about it to the last before the journal goes on.
fn of_checkpoint(operations: &[String], step: u64) -> Range<usize> {
    let name = format!(".building-step-{step:08}");
    let first = operations.iter().position(|told| told.contains(&name)).unwrap();
    let length = operations[first..].iter().position(|told| told.contains("journal.bin")).unwrap();
    first..first + length
}

/// Ends a run at one side of an operation and lets it go on.
fn goes_on(toy: &Toy, run: &Path, at: usize, after: bool, told: &str) {
    let order = Order { abort: Some((at as u64, after)), ..Order::new(run, toy) };
    let ended = order.spawn().wait().unwrap();
    assert_eq!(ended.code(), None, "ended by the abort at {told}");
    toy.run(Io::real(), run, |_| {}).unwrap();
}

fn all_go_on(toys: &[Toy], points: impl Fn(&[String]) -> Range<usize> + Sync) -> usize {
    let one = |toy: &Toy| {
        let whole = folder();
        toy.run(Io::real(), &whole.path().join("run"), |_| {}).unwrap();
        let whole = artefacts(&whole.path().join("run"));
        let operations = operations(toy);
        let points = points(&operations);
        for at in points.clone() {
            for after in [false, true] {
                let folder = folder();
                let run = folder.path().join("run");
                let told = format!("operation {at} ({}), after: {after}, {toy:?}", operations[at]);
                goes_on(toy, &run, at, after, &told);
                assert_same(&artefacts(&run), &whole, || told.clone());
            }
        }
        2 * points.len()
    };
    let half = toys.len().div_ceil(2);
    thread::scope(|scope| {
        let works: Vec<_> = toys.chunks(half).map(|toys| scope.spawn(|| toys.iter().map(one).sum::<usize>())).collect();
        works.into_iter().map(|work| work.join().unwrap()).sum()
    })
}

/// Row 1. The third checkpoint is the first that lets an older one go.
#[test]
fn ended_at_every_point_of_a_checkpoint_a_run_ends_in_the_same_bytes() {
    let toys: Vec<Toy> = (0..faults(20)).map(|seed| Toy::new(seed, 4 * SAVE - 1)).collect();
    let listed = operations(&toys[0]);
    for told in [
        "create .building-step-00000009/policy",
        "write .building-step-00000009/manifest.json",
        "move into place checkpoints/step-00000009",
        "remove checkpoints/.doomed-step-00000003",
    ] {
        assert!(listed[of_checkpoint(&listed, 9)].iter().any(|point| point == told), "{told}: {listed:?}");
    }
    let ended = all_go_on(&toys, |operations| of_checkpoint(operations, 3 * SAVE));
    println!("{ended} ends of {} runs, 0 differing files", toys.len());
    assert!(ended >= 20 * 2 * 20);
}

#[test]
fn ended_at_every_operation_of_a_whole_run_it_ends_in_the_same_bytes() {
    let toys: Vec<Toy> = (0..faults(1)).map(|seed| Toy::new(seed, 3 * SAVE + 1)).collect();
    let ended = all_go_on(&toys, |operations| 0..operations.len());
    println!("{ended} ends, 0 differing files");
}
