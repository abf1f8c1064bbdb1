//! What runs of every kind have around their training: a folder, inputs that stay the same, bars, Ctrl-C, a report.
use std::path::Path;

use bpo_store::RunDir;
use bpo_train::Outcome;
use burn::tensor::Device;
use serde::Serialize;

use super::{
    start::{Identity, Start},
    watch::Watch,
};
use crate::{args::Globals, failure::Failure, out::Out, progress::Progress, report};

/// A recipe that is run in a folder.
pub trait Trainer: Serialize {
    /// What a run works on, read and ready.
    type Inputs;
    /// What it comes to.
    type Report;
    /// Whether it says at its beginning where its folder is.
    const NAMES_FOLDER: bool = true;

    /// Refuses what no type can.
    fn validate(&self) -> Result<(), bpo_train::Error>;

    /// Reads what the run works on.
    fn inputs(&self, device: &Device, progress: &Progress) -> Result<Self::Inputs, Failure>;

    /// What the run reads.
    fn identity(&self, globals: &Globals) -> Result<Identity, Failure>;

    /// Runs, or goes on.
    fn train(
        &self,
        inputs: Self::Inputs,
        dir: &RunDir,
        watch: &mut Watch,
    ) -> Result<Outcome<Self::Report>, bpo_train::Error>;

    /// Prints what the run came to.
    fn tell(&self, report: &Self::Report, folder: &Path, out: &mut Out) -> Result<(), Failure>;
}

/// Runs `recipe` in `folder`, or goes on with it; a run that is finished is left alone.
pub fn run<T: Trainer>(recipe: &T, folder: &Path, globals: &Globals, progress: Progress) -> Result<(), Failure> {
    recipe.validate()?;
    let device = globals.device()?;
    let start = Start::open(folder, recipe)?;
    let mut out = Out::new();
    if start.dir.is_finished() {
        return report::of_the_finished(&start.dir, out);
    }
    if T::NAMES_FOLDER {
        progress.say(&format!("run: {}", folder.display()));
    }
    let inputs = recipe.inputs(&device, &progress)?;
    start.settle(&recipe.identity(globals)?)?;
    let mut watch = Watch::new(progress, globals.device_name(), folder);
    let outcome = recipe.train(inputs, &start.dir, &mut watch)?;
    watch.finish();
    match outcome {
        Outcome::Finished(report) => {
            recipe.tell(&report, folder, &mut out)?;
            report::at_the_end(&start.dir, &mut out)?;
            out.flush()
        }
        Outcome::Interrupted(step) => Err(Failure::interrupted(step)),
    }
}
