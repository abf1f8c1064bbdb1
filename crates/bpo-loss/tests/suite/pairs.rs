//! Batches of pairs as plain numbers, in f64.
use bpo_loss::{Error, Objective, PairLogps};
use burn::tensor::{DType, Device, Tensor, TensorData};

/// Σ log π and Σ log π_ref of chosen and rejected completions, and the completions' lengths.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub policy: [Vec<f64>; 2],
    pub reference: [Vec<f64>; 2],
    pub lengths: [Vec<f64>; 2],
}

/// What an objective makes of a batch.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub losses: Vec<f64>,
    /// Of the sum of the losses in the policy's chosen and rejected log-probs.
    pub gradients: [Vec<f64>; 2],
}

impl Batch {
    /// Pairs of chosen and rejected log-ratios, with a reference of −40 and −50 nats and 20 and 25 tokens.
    pub fn of_ratios(ratios: &[[f64; 2]]) -> Self {
        let side = |side: usize, logp: f64| ratios.iter().map(|ratio| ratio[side] + logp).collect();
        let all = |value: f64| vec![value; ratios.len()];
        Self {
            policy: [side(0, -40.0), side(1, -50.0)],
            reference: [all(-40.0), all(-50.0)],
            lengths: [all(20.0), all(25.0)],
        }
    }

    pub fn pairs(&self) -> usize {
        self.policy[0].len()
    }

    /// The pairs at `indices`, in their order.
    pub fn select(&self, indices: &[usize]) -> Self {
        let pick = |sides: &[Vec<f64>; 2]| [0, 1].map(|side| indices.iter().map(|&i| sides[side][i]).collect());
        Self { policy: pick(&self.policy), reference: pick(&self.reference), lengths: pick(&self.lengths) }
    }

    pub fn logps(&self) -> (PairLogps, PairLogps) {
        let [chosen, rejected] = [0, 1].map(|side| row(&self.policy[side]).require_grad());
        let policy = PairLogps::new(chosen, rejected).unwrap();
        let policy = policy.with_lengths(row(&self.lengths[0]), row(&self.lengths[1])).unwrap();
        (policy, PairLogps::new(row(&self.reference[0]), row(&self.reference[1])).unwrap())
    }

    pub fn outcome(&self, objective: &Objective) -> Result<Outcome, Error> {
        self.outcome_of(|policy, reference| objective.losses(policy, reference))
    }

    pub fn outcome_of(
        &self,
        loss: impl FnOnce(&PairLogps, &PairLogps) -> Result<Tensor<1>, Error>,
    ) -> Result<Outcome, Error> {
        let (policy, reference) = self.logps();
        let losses = loss(&policy, &reference)?;
        let gradients = losses.clone().sum().backward();
        let of = |leaf: &Tensor<1>| leaf.grad(&gradients).map_or_else(|| vec![0.0; self.pairs()], host);
        Ok(Outcome { losses: host(losses), gradients: [of(&policy.chosen), of(&policy.rejected)] })
    }

    /// Sum of the losses.
    pub fn total(&self, objective: &Objective) -> f64 {
        let (policy, reference) = self.logps();
        host(objective.losses(&policy, &reference).unwrap()).iter().sum()
    }
}

pub fn row(values: &[f64]) -> Tensor<1> {
    let data = TensorData::new(values.to_vec(), [values.len()]);
    Tensor::from_data(data, (&Device::flex().autodiff(), DType::F64))
}

pub fn host(tensor: Tensor<1>) -> Vec<f64> {
    tensor.try_into_vec_as().unwrap()
}

/// Largest difference relative to max(1, |right|); infinite where only one of the two is finite.
pub fn distance(left: &[f64], right: &[f64]) -> f64 {
    assert_eq!(left.len(), right.len());
    let error = |(left, right): (&f64, &f64)| {
        if left == right { 0.0 } else { (left - right).abs() / right.abs().max(1.0) }
    };
    left.iter().zip(right).map(error).map(|e| if e.is_nan() { f64::INFINITY } else { e }).fold(0.0, f64::max)
}
