//! The members of an ensemble, checked against each other and read module by module.
use std::{num::NonZero, thread};

use burn::tensor::{Device, Tensor};
use nalgebra::DMatrix;

use super::LowRank;
use crate::{Adapter, Error};

/// Adapters of the same modules; at least one.
pub(super) struct Members<'a>(&'a [&'a Adapter]);

impl<'a> Members<'a> {
    pub fn new(adapters: &'a [&'a Adapter]) -> Result<Self, Error> {
        let Some((first, others)) = adapters.split_first() else {
            return Err(Error::Merge("there are no members".to_owned()));
        };
        for other in others {
            if let Some(module) = first.modules().find(|module| other.pair(module).is_none()) {
                return Err(other.error(format!("it does not adapt {module}, the first member does")));
            }
            if let Some(module) = other.modules().find(|module| first.pair(module).is_none()) {
                return Err(other.error(format!("it adapts {module}, the first member does not")));
            }
        }
        Ok(Self(adapters))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn first(&self) -> &'a Adapter {
        self.0[0]
    }

    pub fn modules(&self) -> impl Iterator<Item = &'a str> {
        self.first().modules()
    }

    /// Where the merge shall be; never tracked.
    pub fn device(&self) -> Device {
        let weights = self.first().weights().iter().next();
        weights.map_or_else(Device::default, |(_, tensor)| tensor.device()).inner()
    }

    /// `[out, in]` of the first member's branch.
    pub fn shape(&self, module: &str) -> [usize; 2] {
        self.first().pair(module).map_or([0, 0], |(a, b)| [b.dims()[0], a.dims()[1]])
    }

    /// Each member's rank in a module.
    pub fn ranks(&self, module: &str) -> Vec<usize> {
        self.0.iter().filter_map(|member| member.pair(module)).map(|(a, _)| a.dims()[0]).collect()
    }

    /// `f(B_k·A_k, s_k)` for every module, in their order, on all processors. What `f` refuses names the module.
    pub fn map<R: Send>(&self, f: impl Fn(&[LowRank], &[f64]) -> Result<R, Error> + Sync) -> Result<Vec<R>, Error> {
        let modules: Vec<&str> = self.modules().collect();
        let mut results = Vec::with_capacity(modules.len());
        for batch in modules.chunks(thread::available_parallelism().map_or(1, NonZero::get)) {
            let inputs = batch.iter().map(|module| self.read(module)).collect::<Result<Vec<_>, _>>()?;
            for (module, result) in batch.iter().zip(in_parallel(&inputs, |(deltas, scalings)| f(deltas, scalings))) {
                results.push(result.map_err(|error| within(module, error))?);
            }
        }
        Ok(results)
    }

    fn read(&self, module: &str) -> Result<(Vec<LowRank>, Vec<f64>), Error> {
        let ranks = self.ranks(module);
        let deltas = self.0.iter().map(|member| delta(member, module)).collect::<Result<_, _>>()?;
        let scalings = self.0.iter().zip(ranks).map(|(member, rank)| member.scaling(module, rank)).collect();
        Ok((deltas, scalings))
    }
}

fn within(module: &str, error: Error) -> Error {
    match error {
        Error::Merge(reason) => Error::Merge(format!("{module}: {reason}")),
        other => other,
    }
}

/// A thread for each item; the results in the items' order.
fn in_parallel<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let f = &f;
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(move || f(item))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

fn delta(member: &Adapter, module: &str) -> Result<LowRank, Error> {
    let Some((a, b)) = member.pair(module) else {
        return Err(member.error(format!("{module} has no lora_B")));
    };
    let ([rank, inputs], [outputs, columns]) = (a.dims(), b.dims());
    if rank != columns || rank == 0 {
        return Err(member.error(format!("{module}: lora_A has rank {rank}, lora_B {columns}")));
    }
    let (a, b) = (read(member, module, "lora_A", a)?, read(member, module, "lora_B", b)?);
    Ok(LowRank {
        b: DMatrix::from_row_iterator(outputs, rank, b.into_iter().map(f64::from)),
        at: DMatrix::from_iterator(inputs, rank, a.into_iter().map(f64::from)),
    })
}

fn read(member: &Adapter, module: &str, side: &str, tensor: Tensor<2>) -> Result<Vec<f32>, Error> {
    let name = format!("{module}.{side}");
    let values: Vec<f32> =
        tensor.try_into_vec_as().map_err(|error| Error::Input(format!("reading {name} back: {error}")))?;
    check_finite(member, &name, &values).map(|()| values)
}

pub(super) fn check_finite(adapter: &Adapter, name: &str, values: &[f32]) -> Result<(), Error> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(element) => Err(Error::NonFinite { path: adapter.origin.clone(), tensor: name.to_owned(), element }),
        None => Ok(()),
    }
}
