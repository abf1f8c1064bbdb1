//! Facts about a PEFT adapter.
use std::{collections::BTreeSet, path::Path};

use bpo_model::Adapter;
use serde_json::{Map, Value, json};

use super::object;
use crate::{
    device,
    failure::{Failure, io_failure},
};

/// Rank, scaling, modules, size.
pub fn facts(dir: &Path) -> Result<Map<String, Value>, Failure> {
    let adapter = Adapter::from_dir(dir, &device::open(None)?)?;
    let modules: Vec<&str> = adapter.modules().collect();
    let leaves: BTreeSet<&str> = modules.iter().filter_map(|path| path.rsplit('.').next()).collect();
    Ok(object(json!({
        "kind": "adapter",
        "path": dir.display().to_string(),
        "base_model": base(dir)?,
        "r": adapter.config.r,
        "lora_alpha": adapter.config.lora_alpha,
        "lora_dropout": adapter.config.lora_dropout,
        "use_rslora": adapter.config.use_rslora,
        "target_modules": leaves,
        "modules": modules.len(),
        "parameters": adapter.weights().count(),
    })))
}

fn base(dir: &Path) -> Result<Value, Failure> {
    let path = dir.join("adapter_config.json");
    let bytes = std::fs::read(&path).map_err(|error| io_failure(&path, &error))?;
    let config: Value =
        serde_json::from_slice(&bytes).map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
    Ok(config.get("base_model_name_or_path").cloned().unwrap_or_default())
}
