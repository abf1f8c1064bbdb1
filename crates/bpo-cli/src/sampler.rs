//! Servers that sample, as a recipe or a flag names them.
use bpo_service::{Format, Sampler, SamplerConfig};
use serde::Deserialize;

use crate::{
    annotator,
    failure::{Failure, io_failure},
    recipe,
    source::ModelSource,
};

/// The server of `config` for a model.
pub fn build(config: &SamplerConfig, source: &ModelSource) -> Result<Sampler, Failure> {
    let sampler = config.build(annotator::variable)?;
    if config.format != Format::Transformers || !config.publishes() {
        return Ok(sampler);
    }
    // It loads a folder as a model: with the adapter there have to be the files of the model itself.
    let ModelSource::Dir(dir) = source else {
        return Err(Failure::usage(
            "`publish_dir` with format \"transformers\" needs a model in a folder, not `embedded`",
        ));
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|error| io_failure(dir, &error))? {
        let path = entry.map_err(|error| io_failure(dir, &error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && !name.starts_with("adapter_") {
            let path = path.canonicalize().map_err(|error| io_failure(&path, &error))?;
            files.push((name, path));
        }
    }
    Ok(sampler.with_companions(files))
}

/// The settings that a flag names: those of a recipe (`FILE.toml`), or what `--set sampler=…` would mean.
pub fn parse_flag(text: &str) -> Result<SamplerConfig, Failure> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Only {
        sampler: SamplerConfig,
    }
    Ok(recipe::of_flag::<Only>("sampler", text)?.sampler)
}
