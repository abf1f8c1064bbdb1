//! One suite for every device. The device is named by `BPO_DEVICE`; without it, it is flex:
//!
//!     BPO_DEVICE=tch cargo test --release -p bpo-cli --features tch --test integration conformance -- --show-output
//!
//! Each test prints how far it was off; `docs/backends.md` has the results and the tolerances' reasons.
mod curve;
mod losses;
mod models;
mod precision;
mod sampling;
mod tiny;

use burn::tensor::{Device, Tensor};

use crate::{device, golden::Check};

/// What every device is compared with where no other truth is at hand.
const REFERENCE: &str = "flex";

fn device_name() -> String {
    std::env::var("BPO_DEVICE").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| REFERENCE.to_owned())
}

/// The device under test.
fn device_under_test() -> Device {
    device::open(Some(&device_name())).unwrap_or_else(|error| panic!("{error}"))
}

/// What it is compared with.
fn reference() -> Device {
    device::open(Some(REFERENCE)).unwrap_or_else(|error| panic!("{error}"))
}

/// Prints what was measured, and fails if something was off.
fn conclude(what: &str, check: &Check) {
    check.print(&format!("{}, {what}", device_name()));
    assert!(check.failures().is_empty(), "{what}: {}", check.failures().join("\n"));
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.try_into_vec_as().unwrap()
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}
