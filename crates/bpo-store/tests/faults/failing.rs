//! A file system that refuses: at every operation, once and from then on.
use std::{fs, path::Path, sync::Arc, thread};

use bpo_store::{
    Error, Io, RunDir,
    faults::{FailAt, Failure},
};

use crate::{
    scratch::{artefacts, assert_same, files, folder, opened},
    toy::{SAVE, Toy},
};

/// Files of a set.
const FILES: usize = 4;

/// The sets that are there, by name, with their bytes.
fn sets(run: &Path) -> Vec<(String, Vec<u8>)> {
    let is_set = |name: &str| name.starts_with("checkpoints/step-");
    let all = if run.exists() { files(run) } else { Default::default() };
    all.into_iter().filter(|(name, _)| is_set(name)).collect()
}

/// One run with one failure. Returns whether there were that many operations.
fn fails(toy: &Toy, whole: &Path, nth: u64, failure: Failure, lasts: bool) -> bool {
    let folder = folder();
    let run = folder.path().join("run");
    let fault = if lasts { FailAt::lasting(nth, failure) } else { FailAt::once(nth, failure) };
    let fault = Arc::new(fault);
    let told = || format!("{failure} at operation {nth}, lasting: {lasts}");
    match toy.run(Io::past(fault.clone()), &run, |_| {}) {
        Err(Error::Io { path, source, .. }) => {
            assert!(path.starts_with(folder.path()), "{}: {}", told(), path.display());
            assert!(!source.to_string().is_empty());
        }
        Err(other) => panic!("{}: {other}", told()),
        // What only tidies up may fail.
        Ok(()) => {}
    }
    // A set under its name is intact, whatever happened to the next one.
    if !sets(&run).is_empty() {
        let before = sets(&run);
        opened(&run, |run| {
            let mut checkpoints = run.checkpoints().unwrap();
            let newest = *checkpoints.steps().unwrap().first().unwrap();
            assert_eq!(checkpoints.latest().unwrap().unwrap().step, newest, "{}", told());
            assert!(checkpoints.quarantined().is_empty(), "{}", told());
        });
        let after = sets(&run);
        assert!(after.iter().all(|set| before.contains(set)), "{}", told());
        assert!(after.len() == before.len().min(2 * FILES), "{}", told());
    }
    toy.run(Io::real(), &run, |_| {}).unwrap();
    assert_same(&artefacts(&run), &artefacts(whole), told);
    fault.has_struck()
}

/// Row 5.
#[test]
fn a_failure_at_any_operation_names_the_file_and_loses_no_checkpoint() {
    let (toy, whole) = (Toy::new(5, 3 * SAVE + 1), folder());
    let whole = whole.path().join("run");
    toy.run(Io::real(), &whole, |_| {}).unwrap();
    let counts = thread::scope(|scope| {
        let (toy, whole) = (&toy, &whole);
        let works = Failure::ALL.map(|failure| {
            scope.spawn(move || {
                [false, true].map(|lasts| (0..).take_while(|&nth| fails(toy, whole, nth, failure, lasts)).count())
            })
        });
        works.map(|work| work.join().unwrap())
    });
    for (failure, [once, lasting]) in Failure::ALL.iter().zip(counts) {
        println!("{failure}: {once} operations failed once, {lasting} from then on");
        assert!(once == lasting && once > 30, "{failure}");
    }
}

/// Row 22, the part of the folder: found before anything is written.
#[test]
fn a_folder_that_cannot_be_a_run_is_refused_by_name() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "thesis").unwrap();
    let told = RunDir::open(&file).unwrap_err().to_string();
    assert_eq!(told, format!("{} is not a folder", file.display()));
    let told = RunDir::open(&file.join("below")).unwrap_err().to_string();
    assert!(told.starts_with(&format!("cannot read {}", file.join("below").display())), "{told}");
    for failure in [Failure::ReadOnly, Failure::NoSpace] {
        let run = folder.path().join("run");
        let io = Io::past(Arc::new(FailAt::lasting(0, failure)));
        let told = RunDir::open_through(io, &run).unwrap_err().to_string();
        assert!(told.starts_with(&format!("cannot create {}: ", run.display())), "{told}");
        assert!(!run.exists());
    }
    assert_eq!(fs::read(&file).unwrap(), b"thesis");
}
