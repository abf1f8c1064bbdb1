//! From `--device` to a device of this build. Stands on its own: the conformance suite opens its device here too.
use std::fmt;

use burn::tensor::Device;

/// A kind of device: its name, the cargo feature it needs, and whether this build has it. The first
/// one that this build has is the default.
pub struct Backend {
    /// What `--device` calls it.
    pub name: &'static str,
    /// The cargo feature of this program that has it.
    pub feature: &'static str,
    /// Whether this build has that feature.
    pub built: bool,
}

/// Why there is no such device.
#[derive(Debug, PartialEq, Eq)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

const fn backend(name: &'static str, feature: &'static str, built: bool) -> Backend {
    Backend { name, feature, built }
}

/// Every kind of device there is, built or not.
pub const BACKENDS: [Backend; 10] = [
    backend("flex", "flex", cfg!(feature = "flex")),
    backend("tch", "tch", cfg!(feature = "tch")),
    backend("tch:cuda", "tch", cfg!(feature = "tch")),
    backend("tch:mps", "tch", cfg!(feature = "tch")),
    backend("cuda", "cuda", cfg!(feature = "cuda")),
    backend("rocm", "rocm", cfg!(feature = "rocm")),
    backend("wgpu", "wgpu", cfg!(feature = "wgpu")),
    backend("vulkan", "vulkan", cfg!(feature = "vulkan")),
    backend("metal", "metal", cfg!(feature = "metal")),
    backend("cpu", "cpu", cfg!(feature = "cpu")),
];

/// Kinds of which a machine may have several, chosen by `:N`.
const NUMBERED: [&str; 3] = ["tch:cuda", "cuda", "rocm"];

/// The device called `name`, or the first that this build has.
///
/// # Errors
/// When the name is unknown, or its kind is not in this build.
pub fn open(name: Option<&str>) -> Result<Device, Error> {
    let (backend, index) = match name {
        Some(name) => parse(name)?,
        None => (default_backend()?, 0),
    };
    if !backend.built {
        let (name, feature) = (backend.name, backend.feature);
        return Err(Error(format!(
            "--device {name}: this build does not have it; build with `--features {feature}` ({})",
            built()
        )));
    }
    construct(backend.name, index)
}

/// What [`open`] opens, in words.
pub fn name(asked: Option<&str>) -> &str {
    asked.unwrap_or_else(|| default_backend().map_or("none", |backend| backend.name))
}

/// The kind that is opened when none is asked for.
///
/// # Errors
/// When this build has none.
pub fn default_backend() -> Result<&'static Backend, Error> {
    let first = BACKENDS.iter().find(|backend| backend.built);
    first.ok_or_else(|| Error("this build has no device at all; build with `--features flex`".to_owned()))
}

fn parse(text: &str) -> Result<(&'static Backend, usize), Error> {
    let find = |name: &str| BACKENDS.iter().find(|backend| backend.name == name);
    if let Some(backend) = find(text) {
        return Ok((backend, 0));
    }
    let numbered = text.rsplit_once(':').and_then(|(name, index)| {
        let backend = find(name).filter(|backend| NUMBERED.contains(&backend.name))?;
        Some((backend, index.parse().ok()?))
    });
    numbered.ok_or_else(|| {
        let known: Vec<String> = BACKENDS.iter().map(spelling).collect();
        Error(format!("--device {text}: no such device; known: {} ({})", known.join(", "), built()))
    })
}

/// A kind's name as `--device` takes it: with `[:N]` where a machine may have several.
pub fn spelling(backend: &Backend) -> String {
    let suffix = if NUMBERED.contains(&backend.name) { "[:N]" } else { "" };
    format!("{}{suffix}", backend.name)
}

fn built() -> String {
    let names: Vec<&str> = BACKENDS.iter().filter(|backend| backend.built).map(|backend| backend.name).collect();
    format!("this build has: {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") })
}

/// The device of a kind that this build has.
#[cfg_attr(
    not(any(feature = "cuda", feature = "rocm", feature = "tch")),
    expect(unused_variables, reason = "only GPUs are counted")
)]
fn construct(name: &str, index: usize) -> Result<Device, Error> {
    match name {
        #[cfg(feature = "flex")]
        "flex" => Ok(Device::flex()),
        #[cfg(feature = "tch")]
        "tch" | "tch:cuda" | "tch:mps" => Ok(libtorch(name, index)),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(index)),
        #[cfg(feature = "rocm")]
        "rocm" => Ok(Device::rocm(index)),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "vulkan")]
        "vulkan" => Ok(Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "metal")]
        "metal" => Ok(Device::metal(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "cpu")]
        "cpu" => Ok(Device::cpu()),
        other => Err(Error(format!("--device {other}: not in this build ({})", built()))),
    }
}

/// LibTorch's devices.
#[cfg(feature = "tch")]
#[expect(deprecated, reason = "burn deprecates LibTorch, which is still the fastest road on many machines")]
fn libtorch(name: &str, index: usize) -> Device {
    match name {
        "tch:cuda" => Device::libtorch_cuda(index),
        "tch:mps" => Device::libtorch_mps(),
        _ => Device::libtorch(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_kinds_that_have_several() {
        assert!(matches!(parse("cuda:3"), Ok((Backend { name: "cuda", .. }, 3))));
        assert!(matches!(parse("tch:cuda:1"), Ok((Backend { name: "tch:cuda", .. }, 1))));
        assert!(matches!(parse("tch:cuda"), Ok((Backend { name: "tch:cuda", .. }, 0))));
        for bad in ["flex:1", "cuda:", "cuda:-1", "gpu", "", "tch:cuda:x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_device_of_another_build_names_its_feature_and_this_builds_devices() {
        let Some(missing) = BACKENDS.iter().find(|backend| !backend.built) else { return };
        let text = open(Some(missing.name)).unwrap_err().to_string();
        assert!(text.contains(&format!("--features {}", missing.feature)) && text.contains("this build has"), "{text}");
    }
}
