//! Ctrl-C and SIGTERM, once and twice, in every stage.
use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use tempfile::tempdir;

use super::run::{Procedure, artefacts, assert_same, plain, slow_annotator, stage};

const STAGES: [&str; 5] = ["starting", "sampling or evaluating", "judging", "scoring and update", "checkpointing"];

fn signal(name: &str, process: u32) {
    Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().unwrap();
}

/// Sends signals once the run is at `wanted`. How it ended.
fn signalled(procedure: &Procedure, dir: &Path, wanted: &str, name: &str, times: usize) -> (Option<i32>, String) {
    let mut child = procedure.spawn(dir);
    let began = Instant::now();
    // A run that has not taken over signals yet ends by them.
    while !dir.join("recipe.toml").exists() || stage(dir) != wanted {
        assert!(began.elapsed() < Duration::from_secs(120), "never at {wanted}");
        if child.try_wait().unwrap().is_some() {
            break;
        }
    }
    thread::sleep(Duration::from_millis(1));
    for _ in 0..times {
        signal(name, child.id());
        thread::sleep(Duration::from_millis(1));
    }
    let ended = child.wait_with_output().unwrap();
    (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
}

/// Row 21.
#[test]
fn interrupted_in_any_stage_a_run_ends_with_130_and_goes_on_to_the_same_bytes() {
    let dir = tempdir().unwrap();
    let slow = plain().with(&[&slow_annotator(dir.path()), "max_new_tokens=48", "eval_size=16"]);
    let whole = dir.path().join("whole");
    slow.run(&whole).succeeded();
    let whole = artefacts(&whole);
    let interrupted = |wanted: &'static str| {
        [("INT", 1), ("INT", 2), ("TERM", 1), ("TERM", 2)].map(|(name, times)| {
            let told = format!("SIG{name} x {times} while {wanted}");
            let cut = dir.path().join(&told);
            let (code, said) = signalled(&slow, &cut, wanted, name, times);
            // Some come after the run's end, or before it has taken over signals.
            assert!(matches!(code, Some(130 | 0) | None), "{told}: {code:?} {said}");
            if code == Some(130) && times == 1 {
                assert!(said.contains("interrupted after step") && said.contains("goes on"), "{told}: {said}");
            }
            slow.run(&cut).succeeded();
            assert_same(&cut, &whole, &told);
            (wanted, code)
        })
    };
    // At once, since they mostly wait for the annotator.
    let ends = thread::scope(|scope| {
        let interrupted = &interrupted;
        let works = STAGES.map(|wanted| scope.spawn(move || interrupted(wanted)));
        works.map(|work| work.join().unwrap())
    });
    let mut ended: BTreeMap<(&str, Option<i32>), usize> = BTreeMap::new();
    ends.into_iter().flatten().for_each(|end| *ended.entry(end).or_default() += 1);
    println!("{ended:?}, 0 differing files");
    let stopped: usize = ended.iter().filter(|((_, code), _)| *code == Some(130)).map(|(_, count)| count).sum();
    assert!(stopped >= 14, "{ended:?}");
}

/// What was asked is answered and recorded; what was not is asked by the next run.
#[test]
fn an_interrupt_while_judging_does_not_wait_for_the_step() {
    let dir = tempdir().unwrap();
    // 3 x 32 questions of two answers each, 4 ms an answer: more than half a second.
    let sets = ["per_device_train_batch_size=96", "max_steps=1", "collection_phases=1", "eval_size=0", "eval_steps="];
    let slow = plain().with(&[&[slow_annotator(dir.path()).as_str()], &sets[..]].concat());
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    slow.run(&whole).succeeded();
    let (code, said) = signalled(&slow, &cut, "judging", "INT", 1);
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("interrupted after step 0"), "{said}");
    let count = |dir: &Path| {
        let journal = std::fs::read(dir.join("journal.bin")).unwrap();
        journal.windows(4).filter(|window| window == b"BPOr").count()
    };
    // Of the cut one: the evaluation at the start, what was sampled, and the first of three parts of the verdicts. The
    // whole one also has the second evaluation, and the log-ratios of its report.
    assert_eq!((count(&whole), count(&cut)), (7, 3));
    slow.run(&cut).succeeded();
    assert_same(&cut, &artefacts(&whole), "interrupted while judging");
}
