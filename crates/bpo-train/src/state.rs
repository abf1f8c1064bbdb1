//! Everything that decides the rest of a run, as checkpoint files.
use bpo_model::{AdapterMerge, Parameters};
use bpo_store::{Checkpoint, Checkpoints, RunDir};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::{
    AdamW, AdamWConfig, Error, Observer, Trainable,
    collect::Collected,
    ensemble::{Ensemble, Member},
};

/// A run between two steps. Random numbers are keyed by seed and step, so there is no generator to save;
/// the prompts' order is a function of both.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// Steps done.
    pub step: u64,
    pub ensemble: Ensemble,
    pub behaviour: Snapshot,
    /// The reference, where it is neither the behaviour nor the start.
    pub reference: Option<Snapshot>,
    pub counters: Counters,
}

/// A run's state with its place among the run's checkpoints.
pub(crate) struct Resumed {
    pub state: State,
    pub checkpoints: Checkpoints,
    /// The step of the checkpoint that it is from, where there is one.
    pub from: Option<u64>,
}

/// A frozen policy.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub policy: Trainable,
    /// The step before which it was taken.
    pub taken_at: u64,
    /// Relative error of the merge it came from.
    pub merge_error: f64,
}

/// Sums over the run for its report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub pairs: u64,
    /// Completions sampled for training.
    pub sampled: u64,
    /// Pairs that did not train, by reason.
    pub dropped: std::collections::BTreeMap<String, u64>,
}

impl Counters {
    /// Adds a step.
    pub fn count(&mut self, collected: &[Collected], step: u64, pairs: usize, dropped: Vec<String>) {
        self.pairs += pairs as u64;
        let fresh = collected.iter().filter(|collected| collected.at == step);
        self.sampled += fresh.map(|collected| collected.drawn.samples.len() as u64).sum::<u64>();
        for reason in dropped {
            *self.dropped.entry(reason).or_default() += 1;
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Record {
    step: u64,
    behaviour: Taken,
    reference: Option<Taken>,
    /// Of each member.
    updates: Vec<u64>,
    counters: Counters,
}

#[derive(Serialize, Deserialize)]
struct Taken {
    at: u64,
    merge_error: f64,
}

impl Snapshot {
    fn taken(&self) -> Taken {
        Taken { at: self.taken_at, merge_error: self.merge_error }
    }

    /// The same kind of policy, as a checkpoint has it.
    fn restored(&self, taken: &Taken, parameters: Parameters) -> Self {
        Self { policy: self.policy.with_parameters(parameters), taken_at: taken.at, merge_error: taken.merge_error }
    }
}

const RECORD: &str = "state.json";
const BEHAVIOUR: &str = "behaviour.safetensors";
const REFERENCE: &str = "reference.safetensors";

/// The files of a member.
fn files(member: usize) -> [String; 3] {
    ["policy", "adam_first", "adam_second"].map(|what| format!("{what}-{member}.safetensors"))
}

impl State {
    /// A run that has not begun; `tracks` says whether the reference is a policy of its own.
    pub fn new(ensemble: Ensemble, tracks: bool) -> Result<Self, Error> {
        let merged = ensemble.policy()?;
        let start = Snapshot { policy: merged.policy, taken_at: 0, merge_error: merged.error };
        let reference = tracks.then(|| start.clone());
        Ok(Self { step: 0, ensemble, behaviour: start, reference, counters: Counters::default() })
    }

    /// A run of one policy that samples nothing: its behaviour is an empty set of parameters.
    pub fn solo(policy: Trainable, config: AdamWConfig) -> Self {
        let nothing = policy.with_parameters(Parameters::new());
        let ensemble = Ensemble::new(vec![Member::new(policy, config)], AdapterMerge::default());
        let behaviour = Snapshot { policy: nothing, taken_at: 0, merge_error: 0.0 };
        Self { step: 0, ensemble, behaviour, reference: None, counters: Counters::default() }
    }

    /// Saves a checkpoint named by the steps done.
    pub fn save(&self, checkpoints: &mut Checkpoints) -> Result<(), Error> {
        let members = &self.ensemble.members;
        let record = Record {
            step: self.step,
            behaviour: self.behaviour.taken(),
            reference: self.reference.as_ref().map(Snapshot::taken),
            updates: members.iter().map(|member| member.optimizer.updates).collect(),
            counters: self.counters.clone(),
        };
        let record = serde_json::to_vec(&record).map_err(|e| Error::Data(e.to_string()))?;
        checkpoints.save_in_pieces(self.step, |set| {
            let mut write = |name: &str, parameters: &Parameters| {
                set.file_in_pieces(name, |file| parameters.write_to(|piece| Ok::<_, Error>(file.write(piece)?)))
            };
            write(BEHAVIOUR, self.behaviour.policy.parameters())?;
            if let Some(reference) = &self.reference {
                write(REFERENCE, reference.policy.parameters())?;
            }
            for (index, Member { policy, optimizer }) in members.iter().enumerate() {
                let parameters = [policy.parameters(), &optimizer.first, &optimizer.second];
                for (name, parameters) in files(index).iter().zip(parameters) {
                    write(name, parameters)?;
                }
            }
            Ok(set.file(RECORD, &record)?)
        })
    }

    /// From the last intact checkpoint of `dir`, or `self`, with which the run begins; what is damaged is told.
    pub fn resumed(
        self,
        dir: &RunDir,
        config: AdamWConfig,
        device: &Device,
        observer: &mut dyn Observer,
    ) -> Result<Resumed, Error> {
        let mut checkpoints = dir.checkpoints()?;
        let latest = checkpoints.latest()?;
        for set in checkpoints.quarantined() {
            let path = set.path.display();
            observer.note(&format!("a damaged checkpoint (step {}) was set aside: {path}", set.step));
        }
        let from = latest.as_ref().map(|checkpoint| checkpoint.step);
        let state = match latest {
            Some(checkpoint) => self.restored(&checkpoint, config, device)?,
            None => self,
        };
        Ok(Resumed { state, checkpoints, from })
    }

    /// Continues from a checkpoint; `self` is the state the run began with.
    fn restored(self, checkpoint: &Checkpoint, config: AdamWConfig, device: &Device) -> Result<Self, Error> {
        let damaged = |why: String| Error::Data(format!("checkpoint {}: {why}", checkpoint.path().display()));
        let record: Record =
            serde_json::from_slice(&checkpoint.read(RECORD)?).map_err(|error| damaged(error.to_string()))?;
        let read = |name: &str| -> Result<Parameters, Error> {
            Ok(Parameters::from_bytes(name, &checkpoint.read(name)?, device)?)
        };
        let mut ensemble = self.ensemble;
        if record.updates.len() != ensemble.members.len() {
            return Err(damaged(format!("{} members instead of {}", record.updates.len(), ensemble.members.len())));
        }
        for (index, (member, updates)) in ensemble.members.iter_mut().zip(record.updates).enumerate() {
            let [policy, first, second] = files(index);
            member.policy = member.policy.with_parameters(read(&policy)?);
            member.optimizer = AdamW::new(config);
            member.optimizer.updates = updates;
            (member.optimizer.first, member.optimizer.second) = (read(&first)?, read(&second)?);
        }
        let reference = match (self.reference, &record.reference) {
            (Some(start), Some(taken)) => Some(start.restored(taken, read(REFERENCE)?)),
            _ => None,
        };
        let behaviour = self.behaviour.restored(&record.behaviour, read(BEHAVIOUR)?);
        Ok(Self { step: record.step, ensemble, behaviour, reference, counters: record.counters })
    }
}
