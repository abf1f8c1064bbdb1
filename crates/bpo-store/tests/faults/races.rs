//! Two processes on one folder.
use std::{io::Read, time::Duration};

use crate::{
    child::{Order, REFUSED},
    dice::faults,
    scratch::folder,
    toy::Toy,
};

/// Row 22. The folder is that of the race before: its lock names a process that is gone.
#[test]
fn of_two_processes_one_wins_and_the_other_is_told_who() {
    let folder = folder();
    let run = folder.path().join("run");
    let toy = Toy { pause: Duration::from_secs(60), ..Toy::new(1, 1) };
    let order = Order::new(&run, &toy);
    for race in 0..faults(100) {
        let mut racers = [order.spawn(), order.spawn()];
        let (loser, code) = loop {
            let ended = racers.iter_mut().position(|racer| racer.try_wait().unwrap().is_some());
            if let Some(loser) = ended {
                break (loser, racers[loser].wait().unwrap().code());
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let mut said = String::new();
        racers[loser].stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let winner = &mut racers[1 - loser];
        assert!(winner.try_wait().unwrap().is_none(), "race {race}: both have ended: {said}");
        let told = format!("error: {} is in use by process {}", run.display(), winner.id());
        assert_eq!((code, said.trim()), (Some(REFUSED), told.as_str()), "race {race}");
        winner.kill().unwrap();
        winner.wait().unwrap();
    }
}
