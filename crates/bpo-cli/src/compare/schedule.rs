//! Runs the cells that are left, some at a time, each in a process of its own.
use std::{
    collections::VecDeque,
    fs::{self, File},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use bpo_store::RunDir;

use super::cell::{Cell, State};
use crate::{
    failure::{Failure, Kind, io_failure},
    progress::{Progress, Stage},
};

/// Time between two looks at the running cells.
const LOOK: Duration = Duration::from_millis(20);
/// What decides the number of threads of a cell.
const THREADS: &str = "RAYON_NUM_THREADS";

/// How cells are run.
pub struct Schedule<'a> {
    /// The folder of the comparison.
    pub root: &'a RunDir,
    /// Cells at a time.
    pub jobs: usize,
    /// `--device` of every cell.
    pub device: Option<&'a str>,
    /// Who is told.
    pub progress: Progress,
    /// Ctrl-C so far.
    interrupts: Arc<AtomicUsize>,
}

/// A cell that is being worked on.
struct Running<'a, 'g> {
    cell: &'a Cell<'g>,
    /// `None`: by a process that is not ours.
    child: Option<Child>,
}

impl<'a> Schedule<'a> {
    /// Takes over Ctrl-C: the first starts no further cell and waits for the running ones, which a terminal
    /// interrupts too; the second ends them at once. Either way the comparison can be continued.
    pub fn new(root: &'a RunDir, jobs: usize, device: Option<&'a str>, progress: Progress) -> Self {
        let interrupts = Arc::new(AtomicUsize::new(0));
        let (count, teller) = (Arc::clone(&interrupts), progress.clone());
        // Another handler can only be there in a test; then Ctrl-C keeps its default.
        let _ = ctrlc::set_handler(move || {
            if count.fetch_add(1, Ordering::SeqCst) == 0 {
                teller.say("stopping; once more to leave at once (the comparison can be continued either way)");
            }
        });
        Self { root, jobs, device, progress, interrupts }
    }

    /// Runs all cells that are not finished.
    ///
    /// # Errors
    /// The first cell's that fails, with its exit code, once those running beside it have ended; those of
    /// the folder; [`Kind::Interrupted`].
    pub fn complete(&self, cells: &[Cell<'_>]) -> Result<(), Failure> {
        let mut waiting = VecDeque::new();
        for cell in cells {
            if cell.state()? != State::Finished {
                waiting.push_back(cell);
            }
        }
        if waiting.is_empty() {
            return Ok(());
        }
        if waiting.len() < cells.len() {
            self.progress.say(&format!("{} of {} cells are finished", cells.len() - waiting.len(), cells.len()));
        }
        let mut stage = self.progress.stage("cells", waiting.len(), "cells");
        let ended = self.work(&mut waiting, &mut stage);
        stage.finish();
        ended
    }

    fn work(&self, waiting: &mut VecDeque<&Cell<'_>>, stage: &mut Stage) -> Result<(), Failure> {
        let (mut running, mut ended) = (Vec::new(), Ok(()));
        loop {
            while ended.is_ok() && self.interrupts() == 0 && running.len() < self.jobs {
                let Some(cell) = waiting.pop_front() else { break };
                match self.begin(cell) {
                    Ok(begun) => running.push(begun),
                    Err(failure) => ended = Err(failure),
                }
                stage.message(&titles(&running));
            }
            if running.is_empty() {
                break;
            }
            for done in self.ended(&mut running) {
                match done {
                    Ok(()) => stage.advance(1),
                    Err(failure) => ended = ended.and(Err(failure)),
                }
            }
            sleep(LOOK);
        }
        match self.interrupts() {
            0 => ended,
            _ => Err(Failure::message(Kind::Interrupted, "interrupted; the same command goes on")),
        }
    }

    fn interrupts(&self) -> usize {
        self.interrupts.load(Ordering::SeqCst)
    }

    /// Starts a cell, or waits for whoever has it.
    fn begin<'c, 'g>(&self, cell: &'c Cell<'g>) -> Result<Running<'c, 'g>, Failure> {
        if cell.state()? == State::Elsewhere {
            self.progress.say(&format!("{}: another process is at it; waiting for it to end", cell.title()));
            return Ok(Running { cell, child: None });
        }
        let recipe = cell.write_recipe(self.root)?;
        let child = self.command(cell, &recipe)?.spawn().map_err(|error| Failure::new(Kind::Internal, error))?;
        Ok(Running { cell, child: Some(child) })
    }

    /// `bpo train` of this very program, with its share of the cores.
    fn command(&self, cell: &Cell<'_>, recipe: &Path) -> Result<Command, Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::new(Kind::Internal, error))?;
        let log = cell.log();
        let log = File::create(&log).map_err(|error| io_failure(&log, &error))?;
        let mut command = Command::new(program);
        command.args(["train", "--quiet", "--recipe"]).arg(recipe).arg("--run-dir").arg(&cell.folder);
        command.args(self.device.iter().flat_map(|device| ["--device", device]));
        if std::env::var_os(THREADS).is_none() {
            command.env(THREADS, (cores() / self.jobs).max(1).to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(command)
    }

    /// Takes out what has ended, and how.
    fn ended(&self, running: &mut Vec<Running<'_, '_>>) -> Vec<Result<(), Failure>> {
        let at_once = self.interrupts() > 1;
        let mut results = Vec::new();
        running.retain_mut(|running| {
            let done = match &mut running.child {
                Some(child) => look(running.cell, child, at_once).transpose(),
                None => self.look_elsewhere(running).transpose(),
            };
            let is_running = done.is_none();
            results.extend(done);
            is_running
        });
        results
    }

    /// Whether a cell that another process had is done; what that process left undone is ours.
    fn look_elsewhere(&self, running: &mut Running<'_, '_>) -> Result<Option<()>, Failure> {
        match running.cell.state()? {
            State::Finished => return Ok(Some(())),
            _ if self.interrupts() > 0 => return Ok(Some(())),
            State::Elsewhere => {}
            State::New | State::Begun => *running = self.begin(running.cell)?,
        }
        Ok(None)
    }
}

/// Cores of this machine.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn titles(running: &[Running<'_, '_>]) -> String {
    running.iter().map(|running| running.cell.title()).collect::<Vec<_>>().join("; ")
}

/// How a child ended, if it did.
fn look(cell: &Cell<'_>, child: &mut Child, at_once: bool) -> Result<Option<()>, Failure> {
    if at_once {
        // It may have ended by itself meanwhile.
        let _ = child.kill();
    }
    match child.try_wait().map_err(|error| Failure::new(Kind::Internal, error))? {
        None => Ok(None),
        Some(status) if status.success() => Ok(Some(())),
        Some(status) => Err(failed(cell, status)),
    }
}

fn failed(cell: &Cell<'_>, status: ExitStatus) -> Failure {
    let kind = status.code().map_or(Kind::Internal, Kind::of_code);
    let said = fs::read_to_string(cell.log()).unwrap_or_default();
    let said = match said.trim() {
        "" => status.to_string(),
        text => text.trim_start_matches("error: ").to_owned(),
    };
    Failure::message(kind, format!("{}: {said}", cell.title()))
}
