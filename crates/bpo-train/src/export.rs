//! What a run leaves for other tools.
use bpo_model::{Decoder, WeightDtype, write_model};
use bpo_store::RunDir;

use crate::{Error, Trainable};

/// Writes what was trained into the run, below `inside`: a PEFT folder `adapter/`, or a Hugging Face folder `model/` in
/// f32, training's own precision.
pub(crate) fn export(
    dir: &RunDir,
    inside: &str,
    policy: &Trainable,
    base: &Decoder,
    base_name: &str,
    companions: &[(String, Vec<u8>)],
) -> Result<String, Error> {
    let (folder, files): (&str, [(&str, Vec<u8>); 2]) = match policy {
        Trainable::Lora(adapter) => ("adapter", adapter.to_peft(base_name)?),
        Trainable::Full(_) => ("model", write_model(&policy.model(base)?, WeightDtype::F32)?),
    };
    for (name, bytes) in &files {
        dir.write(&format!("{inside}{folder}/{name}"), bytes)?;
    }
    if folder == "model" {
        for (name, bytes) in companions {
            dir.write(&format!("{inside}model/{name}"), bytes)?;
        }
    }
    Ok(folder.into())
}
