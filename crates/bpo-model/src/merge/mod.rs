//! Several LoRA adapters as one, and how far apart they are.
mod delta;
mod low_rank;
mod members;
mod method;
mod svd;

pub use delta::merge_deltas;
pub use low_rank::LowRank;
pub use method::AdapterMerge;

use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};

use self::{
    delta::{Loss, check_count, merge_module},
    low_rank::gram,
    members::Members,
};
use crate::{Adapter, Error, LoraConfig, Parameters};

/// Adapters merged into one.
#[derive(Debug, Clone)]
pub struct Merged {
    /// The merge, on the members' device. Its scaling is 1 (`lora_alpha` = `r`), dropout and targets are the
    /// first member's.
    pub adapter: Adapter,
    /// ‖merged − exact‖ / ‖exact‖ over all modules, Frobenius, before the merge is rounded to f32: 0 for the exact
    /// methods, 1 when nothing is left.
    pub error: f64,
}

/// Merges ensemble members, module by module, in f64 on the host; memory for as many modules at a time as there are
/// processors. `weights` (one per member, mostly 1/K) need not sum to 1.
///
/// A single member of weight 1 is returned as it is, bit for bit, except by [`AdapterMerge::Svd`]: with it, sampling
/// from the merge of an ensemble of one is sampling from the policy. Nothing depends on the number of processors.
///
/// # Errors
/// [`Error::Merge`] without members, and for weights or a method that do not fit them (see [`merge_deltas`]);
/// [`Error::Adapter`] when a member adapts other modules than the first; [`Error::NonFinite`] for a weight of a
/// member, or of the merge in f32; [`Error::Input`] when a tensor cannot be read back from its device.
pub fn merge_adapters(members: &[&Adapter], weights: &[f64], how: AdapterMerge) -> Result<Merged, Error> {
    check_count(members.len(), weights.len())?;
    if let ([member], [1.0]) = (members, weights)
        && !matches!(how, AdapterMerge::Svd(_))
    {
        return Ok(Merged { adapter: (*member).clone(), error: 0.0 });
    }
    let members = Members::new(members)?;
    let rank = members.modules().map(|module| how.rank(&members.ranks(module), members.shape(module))).max();
    let rank = rank.unwrap_or_default();
    let merged = members.map(|deltas, scalings| {
        let factors: Vec<f64> = weights.iter().zip(scalings).map(|(weight, scaling)| weight * scaling).collect();
        let (delta, loss) = merge_module(deltas, &factors, how)?;
        Ok((Branch::new(&delta, rank), loss))
    })?;
    let error = merged.iter().map(|(_, loss)| *loss).sum::<Loss>().relative();
    let adapter = packed(&members, rank, merged.into_iter().map(|(branch, _)| branch))?;
    Ok(Merged { adapter, error })
}

/// An adapter of the members' modules, with `branches` in their order.
fn packed(members: &Members<'_>, rank: usize, branches: impl Iterator<Item = Branch>) -> Result<Adapter, Error> {
    let config = merged_config(&members.first().config, rank);
    let mut adapter = Adapter { config, weights: Parameters::new(), origin: PathBuf::from("(merged)") };
    let device = members.device();
    for (module, branch) in members.modules().zip(branches) {
        branch.insert(&mut adapter, module, &device)?;
    }
    Ok(adapter)
}

/// How far the members of an ensemble are apart: `√(1/K·Σ_k ‖Δ_k − Δ̄‖²) / ‖Δ̄‖` with `Δ̄ = 1/K·Σ_k Δ_k`, Frobenius
/// norms over all modules. 0 for identical members, √(K−1) for orthogonal ones of equal norm, infinite when they
/// cancel. Computed from Gram matrices of the factors, so values below about 1e-7 mean 0.
///
/// # Errors
/// As [`merge_adapters`].
pub fn adapter_spread(members: &[&Adapter]) -> Result<f64, Error> {
    let members = Members::new(members)?;
    let count = members.len();
    let products = members.map(inner_products)?;
    let sum = |i: usize, j: usize| products.iter().map(|of_module| of_module[i * count + j]).sum::<f64>();
    let (mut apart, mut whole) = (0.0, 0.0);
    for (i, j) in (0..count).flat_map(|i| (0..count).map(move |j| (i, j))) {
        whole += sum(i, j);
        // Σ_k ‖Δ_k − Δ̄‖² = 1/(2K)·Σ_ij ‖Δ_i − Δ_j‖², where equal members cancel exactly.
        apart += (sum(i, i) + sum(j, j) - 2.0 * sum(i, j)).max(0.0) / 2.0;
    }
    Ok(if apart > 0.0 { (apart / whole.max(0.0)).sqrt() } else { 0.0 })
}

/// `⟨Δ_i, Δ_j⟩` by rows, `[K, K]`.
fn inner_products(deltas: &[LowRank], scalings: &[f64]) -> Result<Vec<f64>, Error> {
    let ones = vec![1.0; deltas.len()];
    let stacked = LowRank::stacked(deltas, &ones, scalings);
    let products = gram(&stacked.b).component_mul(&gram(&stacked.at));
    let mut blocks = Vec::with_capacity(deltas.len());
    let mut start = 0;
    for delta in deltas {
        blocks.push((start, delta.rank()));
        start += delta.rank();
    }
    let pairs = blocks.iter().flat_map(|row| blocks.iter().map(move |column| (row, column)));
    Ok(pairs.map(|((i, rows), (j, columns))| products.view((*i, *j), (*rows, *columns)).sum()).collect())
}

fn merged_config(first: &LoraConfig, rank: usize) -> LoraConfig {
    LoraConfig { r: rank, lora_alpha: rank as f64, use_rslora: false, alpha_pattern: Vec::new(), ..first.clone() }
}

/// A module's merge in f32.
struct Branch {
    rank: usize,
    /// `[rank, in]`.
    a: Vec<f32>,
    /// `[out, rank]`.
    b: Vec<f32>,
}

impl Branch {
    /// Where a module has less than the adapter's rank, its scaling `rank / own rank` is taken out of `B`, so that
    /// no `alpha_pattern` is needed.
    fn new(delta: &LowRank, rank: usize) -> Self {
        let own = delta.rank();
        let unscaled = own as f64 / rank as f64;
        let a = delta.a().iter().map(|&value| value as f32).collect();
        let b = delta.b().iter().map(|&value| (value * unscaled) as f32).collect();
        Self { rank: own, a, b }
    }

    fn insert(self, adapter: &mut Adapter, module: &str, device: &Device) -> Result<(), Error> {
        let (inputs, outputs) = (self.a.len() / self.rank, self.b.len() / self.rank);
        for (side, values, shape) in [("A", self.a, [self.rank, inputs]), ("B", self.b, [outputs, self.rank])] {
            let name = format!("{module}.lora_{side}");
            members::check_finite(adapter, &name, &values)?;
            adapter.weights.insert(name, Tensor::from_data(TensorData::new(values, shape), device));
        }
        Ok(())
    }
}
