//! One method with one seed: an ordinary run in its own folder.
use std::path::{Path, PathBuf};

use bpo_store::RunDir;
use bpo_train::Recipe;

use super::grid::{Grid, Method};
use crate::{
    failure::{Failure, Kind},
    train::start::Start,
};

/// A run of the grid.
#[derive(Debug)]
pub struct Cell<'g> {
    /// How it trains.
    pub method: &'g Method,
    /// With which seed.
    pub seed: u64,
    /// Folder and seed, below the folder of the comparison.
    name: String,
    /// The run's folder.
    pub folder: PathBuf,
}

/// How far a cell is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing is there.
    New,
    /// Can be continued.
    Begun,
    /// Its report is there.
    Finished,
    /// Another process works on it: one that outlived the comparison that started it.
    Elsewhere,
}

/// All cells below `root`, seed by seed: a comparison that is cut short has whole seeds.
pub fn cells<'g>(grid: &'g Grid, root: &Path) -> Vec<Cell<'g>> {
    let cell = |(seed, method): (u64, &'g Method)| Cell::new(method, seed, root);
    grid.seeds.iter().flat_map(|&seed| grid.methods.iter().map(move |method| (seed, method))).map(cell).collect()
}

impl<'g> Cell<'g> {
    fn new(method: &'g Method, seed: u64, root: &Path) -> Self {
        let name = format!("cells/{}/seed-{seed}", method.slug);
        Self { folder: root.join(&name), method, seed, name }
    }

    /// For people.
    pub fn title(&self) -> String {
        format!("{}, seed {}", self.method.name, self.seed)
    }

    fn recipe(&self) -> Recipe {
        Recipe { seed: self.seed, ..self.method.recipe.clone() }
    }

    /// Writes the recipe beside the run's folder and says where it is.
    pub fn write_recipe(&self, root: &RunDir) -> Result<PathBuf, Failure> {
        let text = toml::to_string(&self.recipe()).map_err(|error| Failure::new(Kind::Internal, error))?;
        let name = format!("{}.toml", self.name);
        root.write(&name, text.as_bytes())?;
        Ok(root.path().join(name))
    }

    /// Where the run's standard error goes.
    pub fn log(&self) -> PathBuf {
        self.folder.with_file_name(format!("seed-{}.log", self.seed))
    }

    /// How far the cell is, without a trace.
    pub fn glance(&self) -> State {
        match (self.folder.join("finished.json").is_file(), self.folder.is_dir()) {
            (true, _) => State::Finished,
            (false, true) => State::Begun,
            (false, false) => State::New,
        }
    }

    /// How far the cell is; one that began with another recipe is refused, key by key.
    pub fn state(&self) -> Result<State, Failure> {
        if self.glance() == State::New {
            return Ok(State::New);
        }
        match RunDir::open(&self.folder) {
            Err(bpo_store::Error::Locked { .. }) => return Ok(State::Elsewhere),
            opened => drop(opened?),
        }
        Start::open(&self.folder, &self.recipe()).map_err(|failure| failure.context(self.title()))?;
        Ok(self.glance())
    }
}
