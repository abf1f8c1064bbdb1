//! A loop with everything of a run that must survive: completions and verdicts in the journal, a behaviour policy that
//! is refreshed, an optimiser with momentum, metrics, checkpoints of which the last ones are kept, keyed randomness.
//! Its arithmetic depends on the order of every operation, so that a step done twice or left out shows in every byte.
use std::{path::Path, thread::sleep, time::Duration};

use bpo_store::{Error, Io, RunDir};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::scratch::holding;

/// Steps between two checkpoints.
pub const SAVE: u64 = 3;
/// Steps between two refreshes of the behaviour policy.
const REFRESH: u64 = 5;
const WEIGHTS: usize = 40;
const PROMPTS: u64 = 3;

/// A run of the toy.
#[derive(Debug, Clone, Copy)]
pub struct Toy {
    pub seed: u64,
    pub steps: u64,
    /// How long a step takes at least: for whoever wants to kill it in between.
    pub pause: Duration,
}

/// A prompt's two completions.
#[derive(Serialize, Deserialize)]
struct Drawn {
    prompt: u64,
    samples: [Vec<f32>; 2],
}

#[derive(Serialize, Deserialize)]
enum Verdict {
    First,
    Second,
    Tie,
}

struct State {
    step: u64,
    weights: Vec<f64>,
    momentum: Vec<f64>,
    behaviour: Vec<f64>,
}

impl Toy {
    pub fn new(seed: u64, steps: u64) -> Self {
        Self { seed, steps, pause: Duration::ZERO }
    }

    /// Runs, or continues, in `folder`; `asked` is told of every step whose questions are asked.
    pub fn run(&self, io: Io, folder: &Path, mut asked: impl FnMut(u64)) -> Result<(), Error> {
        let _holding = holding();
        let dir = RunDir::open_through(io, folder)?;
        if dir.is_finished() {
            return Ok(());
        }
        dir.write("recipe.toml", format!("seed = {}\n", self.seed).as_bytes())?;
        let mut checkpoints = dir.checkpoints()?;
        let latest = checkpoints.latest()?;
        let mut state = match &latest {
            Some(checkpoint) => State {
                step: checkpoint.step,
                weights: numbers(&checkpoint.read("policy")?),
                momentum: numbers(&checkpoint.read("momentum")?),
                behaviour: numbers(&checkpoint.read("behaviour")?),
            },
            None => self.start(),
        };
        let mut journal = dir.journal()?;
        let mut metrics = dir.metrics(latest.map(|checkpoint| checkpoint.step))?;
        while state.step < self.steps {
            let step = state.step;
            if step.is_multiple_of(REFRESH) {
                state.behaviour = state.weights.clone();
            }
            let drawn = journal.once(step, "sampled", || Ok::<_, Error>(self.drawn(&state)))?;
            let verdicts = journal.once(step, "judged", || {
                asked(step);
                Ok::<_, Error>(drawn.iter().map(verdict).collect::<Vec<_>>())
            })?;
            sleep(self.pause);
            let loss = state.update(&drawn, &verdicts);
            state.step += 1;
            metrics.append(&json!({"step": state.step, "loss": loss}))?;
            if state.step.is_multiple_of(SAVE) || state.step == self.steps {
                let of = |numbers: &[f64]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
                let (policy, momentum, behaviour) = (of(&state.weights), of(&state.momentum), of(&state.behaviour));
                let files = [("policy", &policy[..]), ("momentum", &momentum), ("behaviour", &behaviour)];
                checkpoints.save(state.step, &files)?;
            }
        }
        let written: Vec<String> = state.weights.iter().map(f64::to_string).collect();
        dir.write("adapter/weights.txt", written.join("\n").as_bytes())?;
        dir.mark_finished(&json!({"step": state.step}))
    }

    fn start(&self) -> State {
        let weights = self.random(u64::MAX, 0, 0, WEIGHTS);
        State { step: 0, behaviour: weights.clone(), momentum: vec![0.0; WEIGHTS], weights }
    }

    /// Random numbers in [-1, 1) that depend on their key alone.
    fn random(&self, step: u64, prompt: u64, slot: u64, count: usize) -> Vec<f64> {
        let mut hasher = blake3::Hasher::new();
        for part in [self.seed, step, prompt, slot] {
            hasher.update(&part.to_le_bytes());
        }
        let mut bytes = vec![0; 8 * count];
        hasher.finalize_xof().fill(&mut bytes);
        let number = |bytes: &[u8]| i64::from_le_bytes(bytes.try_into().unwrap()) as f64 / 2f64.powi(63);
        bytes.chunks_exact(8).map(number).collect()
    }

    fn drawn(&self, state: &State) -> Vec<Drawn> {
        let sample = |prompt, slot| -> Vec<f32> {
            let noise = self.random(state.step, prompt, slot, WEIGHTS);
            noise.iter().zip(&state.behaviour).map(|(noise, weight)| (noise + weight.sin()) as f32).collect()
        };
        (0..PROMPTS).map(|prompt| Drawn { prompt, samples: [sample(prompt, 0), sample(prompt, 1)] }).collect()
    }
}

fn verdict(drawn: &Drawn) -> Verdict {
    let [first, second] = drawn.samples.each_ref().map(|sample| sample.iter().sum::<f32>());
    match first - second {
        gap if gap.abs() < 0.5 => Verdict::Tie,
        gap if gap > 0.0 => Verdict::First,
        _ => Verdict::Second,
    }
}

impl State {
    fn update(&mut self, drawn: &[Drawn], verdicts: &[Verdict]) -> f64 {
        let mut loss = 0.0;
        for (drawn, verdict) in drawn.iter().zip(verdicts) {
            let [first, second] = &drawn.samples;
            let (chosen, rejected) = match verdict {
                Verdict::First => (first, second),
                Verdict::Second => (second, first),
                Verdict::Tie => continue,
            };
            for (index, weight) in self.weights.iter_mut().enumerate() {
                let slope = f64::from(chosen[index] - rejected[index]) * (*weight - self.behaviour[index]).cos();
                self.momentum[index] = 0.9 * self.momentum[index] + 0.1 * slope;
                *weight += 0.01 * self.momentum[index];
                loss -= *weight * slope;
            }
            loss += drawn.prompt as f64;
        }
        loss
    }
}

fn numbers(bytes: &[u8]) -> Vec<f64> {
    bytes.chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect()
}
