//! The questions of `bpo init`, on a terminal.
use std::path::Path;

use bpo_data::{FromRow, OutcomeRow, PreferenceRow, PromptRow, RowReader, TextRow};
use bpo_train::Tuning;
use dialoguer::{Input, Select, theme::SimpleTheme};

use super::{Procedure, Rows};
use crate::{
    annotator, embedded,
    failure::{Failure, Kind},
    hub,
};

/// The model.
pub fn model() -> Result<String, Failure> {
    let is_model = |text: &String| if hub::named(text).is_some() { Ok(()) } else { exists(text) };
    Input::<String>::with_theme(&SimpleTheme)
        .with_prompt("Model (a Hugging Face directory, a GGUF file, OWNER/NAME on the hub, or `embedded`)")
        .default(embedded::NAME.to_owned())
        .validate_with(is_model)
        .interact_text()
        .map_err(failed)
}

/// Gives the terminal its cursor back when it is interrupted; menus hide it.
pub fn show_cursor_when_interrupted() {
    // Where there is a handler already, it is that of a run, which draws no menus.
    let _ = ctrlc::set_handler(|| {
        let _ = console::Term::stderr().show_cursor();
        std::process::exit(Kind::Interrupted as i32)
    });
}

/// What is trained on; the built-in prompts are for the built-in model.
pub fn rows(model: &str) -> Result<Rows, Failure> {
    let default = (model == embedded::NAME).then_some(embedded::NAME);
    let kinds = [
        "prompts: responses are sampled and judged",
        "preference pairs: prompt, chosen, rejected",
        "texts to imitate: prompts with completions, conversations or plain texts",
        "texts with outcomes: a number says how good each turned out to be",
    ];
    match select("You have", &kinds)? {
        0 => Ok(Rows::Prompts(path::<PromptRow>("File of prompts", default)?)),
        1 => Ok(Rows::Pairs(path::<PreferenceRow>("File of pairs", default)?)),
        2 => Ok(Rows::Data(path::<TextRow>("File of texts", None)?)),
        _ => Ok(Rows::Outcomes(path::<OutcomeRow>("File of texts with outcomes", default)?)),
    }
}

/// The procedure, where the rows leave a choice.
pub fn procedure(rows: &Rows) -> Result<Procedure, Failure> {
    match rows {
        Rows::Prompts(_) => {
            let kinds = [
                "BPO: the reference is the behaviour policy, refreshed a few times",
                "online DPO: the reference stays the model as it starts",
                "offline DPO: all responses come from the model as it starts",
            ];
            Ok([Procedure::Bpo, Procedure::OnlineDpo, Procedure::OfflineDpo][select("Procedure", &kinds)?])
        }
        Rows::Pairs(_) => {
            let kinds =
                ["DPO: the model learns to prefer as the pairs do", "a reward model, which judges in other runs"];
            Ok([Procedure::Dpo, Procedure::Reward][select("Procedure", &kinds)?])
        }
        Rows::Data(_) => Ok(Procedure::Sft),
        Rows::Outcomes(_) => Ok(Procedure::Causal),
    }
}

/// What is trained.
pub fn tuning(procedure: Procedure) -> Result<Tuning, Failure> {
    let kinds = ["LoRA branches: little memory", "all weights", "the head alone: fastest"];
    let shown = if procedure == Procedure::Reward { &kinds[..] } else { &kinds[..2] };
    Ok([Tuning::Lora, Tuning::Full, Tuning::Head][select("Train", shown)?])
}

/// The value of `--tuning`.
pub fn tuning_of(text: &str) -> Result<Tuning, String> {
    match text {
        "lora" => Ok(Tuning::Lora),
        "full" => Ok(Tuning::Full),
        "head" => Ok(Tuning::Head),
        _ => Err("give lora, full or head".to_owned()),
    }
}

/// Reference texts, where there are such.
pub fn references() -> Result<Option<String>, Failure> {
    let file = Input::<String>::with_theme(&SimpleTheme)
        .with_prompt("File of held-out prompts with reference texts (empty: an eighth of the prompts is held out)")
        .allow_empty(true)
        .validate_with(|file: &String| if file.is_empty() { Ok(()) } else { exists(file) })
        .interact_text();
    file.map(|file| Some(file).filter(|file| !file.is_empty())).map_err(failed)
}

/// Who prefers.
pub fn annotator() -> Result<String, Failure> {
    Input::<String>::with_theme(&SimpleTheme)
        .with_prompt("Who prefers (lexicon, FILE.txt, a reward model's folder, http://…/v1, a TOML table)")
        .default("lexicon".into())
        .validate_with(|text: &String| annotator::parse_flag(text).map(drop).map_err(|error| error.text()))
        .interact_text()
        .map_err(failed)
}

/// A file whose rows are of a kind.
fn path<T: FromRow>(prompt: &str, default: Option<&str>) -> Result<String, Failure> {
    let is_read = |path: &String| exists(path).and_then(|()| begins_with::<T>(path));
    let mut input = Input::<String>::with_theme(&SimpleTheme).with_prompt(prompt).validate_with(is_read);
    if let Some(default) = default {
        input = input.default(default.to_owned());
    }
    input.interact_text().map_err(failed)
}

fn exists(path: &str) -> Result<(), String> {
    if path == embedded::NAME || Path::new(path).exists() { Ok(()) } else { Err(format!("{path} is not there")) }
}

/// Whether the first row that is not left out is one of a kind.
fn begins_with<T: FromRow>(path: &str) -> Result<(), String> {
    /// Why the reading ended: `None` when there was a row.
    struct End(Option<String>);
    impl From<bpo_data::Error> for End {
        fn from(error: bpo_data::Error) -> Self {
            Self(Some(error.to_string()))
        }
    }
    if path == embedded::NAME {
        return Ok(());
    }
    match RowReader::file(Path::new(path)).each(|_: T| Err(End(None))) {
        Ok(_) | Err(End(None)) => Ok(()),
        Err(End(Some(reason))) => Err(reason),
    }
}

fn select(prompt: &str, items: &[&str]) -> Result<usize, Failure> {
    Select::with_theme(&SimpleTheme).with_prompt(prompt).items(items).default(0).interact().map_err(failed)
}

fn failed(error: dialoguer::Error) -> Failure {
    let dialoguer::Error::IO(error) = error;
    match error.kind() {
        std::io::ErrorKind::Interrupted => Failure::message(Kind::Interrupted, "interrupted; nothing was written"),
        _ => Failure::usage(format!("the terminal cannot be asked: {error}; give the answers as flags")),
    }
}
