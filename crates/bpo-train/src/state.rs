//! Everything that decides the rest of a run, as checkpoint files.
use bpo_model::Parameters;
use bpo_store::{Checkpoint, Checkpoints};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::{AdamW, AdamWConfig, Error, Gradients, Trainable, optimizer};

/// A run between two steps. Random numbers are keyed by seed and step, so there is no generator to save;
/// the prompts' order is a function of both.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// Steps done.
    pub step: u64,
    pub policy: Trainable,
    pub behaviour: Behaviour,
    pub optimizer: AdamW,
    pub counters: Counters,
}

/// The policy that samples, frozen since `taken_at`.
#[derive(Debug, Clone)]
pub(crate) struct Behaviour {
    pub policy: Trainable,
    pub taken_at: u64,
}

/// Sums over the run for its report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub pairs: u64,
    /// Pairs that did not train, by reason.
    pub dropped: std::collections::BTreeMap<String, u64>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    step: u64,
    taken_at: u64,
    updates: u64,
    counters: Counters,
}

const RECORD: &str = "state.json";
const POLICY: &str = "policy.safetensors";
const BEHAVIOUR: &str = "behaviour.safetensors";
const FIRST: &str = "adam_first.safetensors";
const SECOND: &str = "adam_second.safetensors";

impl State {
    /// A run that has not begun.
    pub fn new(policy: Trainable, config: AdamWConfig) -> Self {
        let behaviour = Behaviour { policy: policy.clone(), taken_at: 0 };
        Self { step: 0, policy, behaviour, optimizer: AdamW::new(config), counters: Counters::default() }
    }

    /// One optimiser update; returns the gradients' global norm. It is made on a copy (tensors are shared):
    /// what is not finite never becomes the state, and is named instead.
    pub fn update(&mut self, gradients: &Gradients, rate: f64) -> Result<f64, &'static str> {
        let norm = gradients.norm();
        if !norm.is_finite() {
            return Err("the gradient norm");
        }
        let mut optimizer = self.optimizer.clone();
        let updated = optimizer.step(self.policy.parameters(), gradients, norm, rate);
        if !optimizer::norm(&updated).is_finite() {
            return Err("a weight after the update");
        }
        (self.optimizer, self.policy) = (optimizer, self.policy.with_parameters(updated));
        Ok(norm)
    }

    /// Saves a checkpoint named by the steps done.
    pub fn save(&self, checkpoints: &mut Checkpoints) -> Result<(), Error> {
        let record = Record {
            step: self.step,
            taken_at: self.behaviour.taken_at,
            updates: self.optimizer.updates,
            counters: self.counters.clone(),
        };
        let record = serde_json::to_vec(&record).map_err(|e| Error::Data(e.to_string()))?;
        let files = [
            (RECORD, record),
            (POLICY, self.policy.parameters().to_bytes()?),
            (BEHAVIOUR, self.behaviour.policy.parameters().to_bytes()?),
            (FIRST, self.optimizer.first.to_bytes()?),
            (SECOND, self.optimizer.second.to_bytes()?),
        ];
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        Ok(checkpoints.save(self.step, &files)?)
    }

    /// Continues from a checkpoint; `start` is the state the run began with.
    pub fn load(start: &Self, checkpoint: &Checkpoint, config: AdamWConfig, device: &Device) -> Result<Self, Error> {
        let record: Record = serde_json::from_slice(&checkpoint.read(RECORD)?)
            .map_err(|e| Error::Data(format!("checkpoint {}: {e}", checkpoint.path().display())))?;
        let read = |name: &str| -> Result<Parameters, Error> {
            Ok(Parameters::from_bytes(name, &checkpoint.read(name)?, device)?)
        };
        let mut optimizer = AdamW::new(config);
        optimizer.updates = record.updates;
        (optimizer.first, optimizer.second) = (read(FIRST)?, read(SECOND)?);
        let policy = start.policy.with_parameters(read(POLICY)?);
        let behaviour = start.policy.with_parameters(read(BEHAVIOUR)?);
        Ok(Self {
            step: record.step,
            policy,
            behaviour: Behaviour { policy: behaviour, taken_at: record.taken_at },
            optimizer,
            counters: record.counters,
        })
    }
}
