//! `bpo devices`: which devices this build has, and which of them this machine opens.
use std::process::Command;

use burn::tensor::{Device, FloatDType, Tensor};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    args::Globals,
    device::{self, BACKENDS, Backend},
    failure::{Failure, Kind, caught},
    out::{Out, printable},
};

const EXAMPLES: &str = "\
Examples:
  bpo devices
  bpo devices --json | jq -r 'select(.opens) | .device'

A device of this build is tried in a process of its own, by a small matrix product. Its number formats are those
it computes in. LibTorch and the drivers of GPUs may take seconds to start.";

/// List the devices of this build, and which of them work on this machine
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DevicesArgs {
    /// One JSON object per device
    #[arg(long)]
    pub json: bool,
    /// Try one device in this process and say what came of it
    #[arg(long, value_name = "DEVICE", hide = true)]
    pub probe: Option<String>,
}

/// What trying a device came to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// It computes.
    Opens(Abilities),
    /// Why it does not.
    Fails(String),
}

/// What an open device can do.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Abilities {
    /// Number formats it computes in.
    dtypes: Vec<String>,
    /// The hardware as it names itself.
    hardware: Option<String>,
    /// CPU threads, where they are this program's.
    threads: Option<usize>,
    /// Instructions of its matrix products, where this program chooses them.
    instructions: Option<String>,
}

/// Lists the devices.
pub fn run(args: &DevicesArgs, _: &Globals) -> Result<(), Failure> {
    let mut out = Out::new();
    if let Some(name) = &args.probe {
        out.json(&json!(probe(name)))?;
        return out.flush();
    }
    let default = device::default_backend().map_or("", |backend| backend.name);
    let rows = BACKENDS.iter().map(|backend| facts(backend, backend.name == default));
    if args.json {
        rows.into_iter().try_for_each(|row| out.json(&Value::Object(row)))?;
    } else {
        table(&rows.collect::<Vec<_>>()).iter().try_for_each(|line| out.line(line))?;
    }
    out.flush()
}

/// One device of the list.
fn facts(backend: &Backend, is_default: bool) -> Map<String, Value> {
    let mut facts = Map::new();
    facts.insert("device".into(), device::spelling(backend).into());
    facts.insert("default".into(), is_default.into());
    facts.insert("built".into(), backend.built.into());
    facts.insert("feature".into(), backend.feature.into());
    if !backend.built {
        return facts;
    }
    match tried(backend.name) {
        Outcome::Fails(reason) => facts.extend([("opens".into(), false.into()), ("reason".into(), reason.into())]),
        Outcome::Opens(abilities) => {
            facts.insert("opens".into(), true.into());
            facts.insert("dtypes".into(), json!(abilities.dtypes));
            facts.extend(abilities.hardware.map(|name| ("hardware".into(), name.into())));
            facts.extend(abilities.threads.map(|count| ("threads".into(), count.into())));
            facts.extend(abilities.instructions.map(|name| ("instructions".into(), name.into())));
        }
    }
    facts
}

/// Tries a device in a child: a driver that aborts takes no more than that with it.
fn tried(name: &str) -> Outcome {
    let child = std::env::current_exe().and_then(|program| {
        let mut command = Command::new(program);
        command.args(["devices", "--probe", name]).env_remove("BPO_DEVICE").env_remove("RUST_BACKTRACE").output()
    });
    let output = match child {
        Ok(output) => output,
        Err(error) => return Outcome::Fails(format!("cannot be tried: {error}")),
    };
    let answer = output.stdout.rsplit(|&byte| byte == b'\n').find(|line| !line.is_empty());
    answer
        .and_then(|line| serde_json::from_slice(line).ok())
        .unwrap_or_else(|| Outcome::Fails(format!("the process that tried it ended by {}", output.status)))
}

/// Opens the device here and computes on it.
fn probe(name: &str) -> Outcome {
    let found = caught(|| {
        let device = device::open(Some(name))?;
        computes(&device)?;
        Ok::<_, Failure>(abilities(name, &device))
    });
    match found {
        Ok(Ok(abilities)) => Outcome::Opens(abilities),
        Ok(Err(failure)) => Outcome::Fails(failure.text()),
        Err(panic) => Outcome::Fails(panic),
    }
}

/// Multiplies two matrices of ones.
fn computes(device: &Device) -> Result<(), Failure> {
    const SIZE: usize = 8;
    let ones = Tensor::<2>::ones([SIZE, SIZE], device);
    let product = ones.clone().matmul(ones).try_into_vec_as::<f32>();
    let product = product.map_err(|error| Failure::message(Kind::Internal, error))?;
    match product.iter().all(|&sum| sum == SIZE as f32) {
        true => Ok(()),
        false => Err(Failure::message(Kind::Internal, "it multiplies matrices of ones wrongly")),
    }
}

fn abilities(name: &str, device: &Device) -> Abilities {
    let formats = [("f32", FloatDType::F32), ("bf16", FloatDType::BF16), ("f16", FloatDType::F16)];
    let supported = formats.into_iter().filter(|(_, format)| device.supports_dtype(*format));
    let abilities = Abilities {
        dtypes: supported.map(|(name, _)| name.to_owned()).collect(),
        hardware: hardware(device),
        ..Abilities::default()
    };
    match name {
        #[cfg(feature = "flex")]
        "flex" => Abilities {
            threads: Some(rayon::current_num_threads()),
            instructions: Some(instructions().to_owned()),
            ..abilities
        },
        _ => abilities,
    }
}

/// The name of the card or the driver.
#[cfg(feature = "cubecl")]
fn hardware(device: &Device) -> Option<String> {
    device.identity().map(|identity| identity.name)
}

#[cfg(not(feature = "cubecl"))]
fn hardware(_: &Device) -> Option<String> {
    None
}

/// What flex multiplies matrices with on this CPU, chosen when the first one is multiplied.
#[cfg(all(feature = "flex", target_arch = "x86_64"))]
fn instructions() -> &'static str {
    use std::arch::is_x86_feature_detected as has;
    match (has!("avx512f"), has!("fma")) {
        (true, _) => "AVX-512",
        (false, true) => "AVX2",
        (false, false) => "scalar",
    }
}

#[cfg(all(feature = "flex", not(target_arch = "x86_64")))]
fn instructions() -> &'static str {
    if cfg!(target_arch = "aarch64") { "NEON" } else { "scalar" }
}

/// Aligned columns under their names.
fn table(rows: &[Map<String, Value>]) -> Vec<String> {
    let mut cells = vec![["device", "in this build", "on this machine", "computes in", ""].map(str::to_owned)];
    cells.extend(rows.iter().map(row));
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..4).map(width).collect();
    let line = |row: &[String; 5]| {
        let columns: String =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  ", width = *width)).collect();
        format!("{columns}{}", row[4]).trim_end().to_owned()
    };
    cells.iter().map(line).collect()
}

/// The start of a reason: LibTorch's go on with a stack trace, its line breaks written `\n`.
fn brief(reason: &str) -> String {
    const LONGEST: usize = 160;
    let line = reason.split(['\n', '\\']).next().unwrap_or_default();
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

fn row(facts: &Map<String, Value>) -> [String; 5] {
    let text = |key: &str| facts.get(key).and_then(Value::as_str).unwrap_or_default();
    let is = |key: &str| facts.get(key) == Some(&Value::Bool(true));
    let dtypes = facts.get("dtypes").and_then(Value::as_array).into_iter().flatten();
    let notes = [
        if is("default") { "default".to_owned() } else { String::new() },
        facts.get("threads").map(|count| format!("{count} threads")).unwrap_or_default(),
        printable(text("instructions")),
        printable(text("hardware")),
        brief(&printable(text("reason"))),
    ];
    [
        text("device").to_owned(),
        if is("built") { "yes".to_owned() } else { format!("--features {}", text("feature")) },
        match (is("built"), is("opens")) {
            (false, _) => "-",
            (true, true) => "opens",
            (true, false) => "does not open",
        }
        .to_owned(),
        dtypes.filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        notes.into_iter().filter(|note| !note.is_empty()).collect::<Vec<_>>().join(", "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_cannot_be_opened_is_a_row_and_no_failure() {
        let Outcome::Fails(reason) = probe("abacus") else { panic!("there is no such device") };
        assert!(reason.contains("abacus"), "{reason}");
    }

    #[test]
    fn a_reason_is_cut_before_its_stack_trace() {
        assert_eq!(brief("Err(Torch(\"no driver\\nframe #0"), "Err(Torch(\"no driver");
        assert_eq!(brief("no adapter\nat line 3"), "no adapter");
        assert_eq!(brief(&"é".repeat(200)).chars().count(), 161);
    }

    #[test]
    fn columns_are_aligned_and_a_missing_backend_names_its_feature() {
        let unbuilt = |name| Backend { name, feature: "cuda", built: false };
        let lines = table(&[facts(&unbuilt("cuda"), false), facts(&unbuilt("a-long-name"), true)]);
        assert_eq!(lines[0].find("in this build"), lines[1].find("--features cuda"));
        assert_eq!(lines[1].find('-'), lines[2].match_indices("--features").next().map(|(at, _)| at));
        assert!(lines[2].ends_with("default"), "{lines:?}");
    }
}
