//! What the model and the data are: sizes and lengths.
use bpo_data::Prompt;
use bpo_model::DecoderConfig;
use bpo_store::RowFile;
use bpo_train::{Recipe, Silent, TrainRows};
use burn::tensor::FloatDType;

use super::Answers;
pub use crate::check::Looked;
use crate::{args::Globals, check, data, failure::Failure, recipe, source::ModelSource, train};

/// The model.
pub fn source(answers: &Answers) -> ModelSource {
    answers.model.parse().unwrap_or(ModelSource::Embedded)
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The model's configuration.
    pub config: DecoderConfig,
    /// Numbers in its weights.
    pub parameters: usize,
    /// What they are stored as.
    pub stored: String,
    /// Bytes of each while they are frozen.
    pub weight_bytes: usize,
    /// The tokenizer has a chat template, and prompts are plain text.
    pub wants_template: bool,
    /// Tokens of each prompt that fits the context, sorted.
    pub prompts: Vec<usize>,
    /// Tokens of responses that came with the data, sorted.
    pub completions: Vec<usize>,
    /// Rows of reference texts.
    pub references: usize,
    /// Bytes of memory of this machine.
    pub memory: Option<u64>,
}

/// Reads the model's configuration and all rows.
pub fn at(answers: &Answers, globals: &Globals) -> Result<Found, Failure> {
    let settings = settings(answers)?;
    let source: ModelSource = settings.model.parse().unwrap_or(ModelSource::Embedded);
    let config = source.load_config()?;
    let checkpoint = source.checkpoint()?;
    let tokenizer = source.load_matching_tokenizer(None, &config)?;
    let progress = globals.progress();
    let rows = train::rows(&settings, &progress)?;
    let references = data::references(settings.references.as_deref(), settings.bad_lines, &progress)?;
    let wants_template = tokenizer.has_chat_template() && has_text(&rows)?;
    let wanted = Recipe { apply_chat_template: wants_template, ..settings };
    let context = config.max_position_embeddings;
    let train = RowFile::temporary();
    let prepared = bpo_train::prepare(&wanted, &tokenizer, context, rows, None, train, &mut Silent)?;
    let (mut prompts, mut completions) = (Vec::new(), Vec::new());
    for prompt in prepared.train.iter() {
        let prompt = prompt?;
        prompts.push(prompt.ids.len());
        completions.extend(prompt.given.iter().map(|sample| sample.tokens.len()));
    }
    if let Some(references) = &references {
        references.each(|row| -> Result<(), Failure> {
            completions.push(tokenizer.encode_completion(&row.text, true)?.len());
            Ok(())
        })?;
    }
    prompts.sort_unstable();
    completions.sort_unstable();
    let kept = settings_dtype(&wanted, &checkpoint, globals)?;
    Ok(Found {
        parameters: checkpoint.parameters(),
        stored: checkpoint.dtype().unwrap_or_default(),
        weight_bytes: if kept == FloatDType::F32 { 4 } else { 2 },
        config,
        wants_template,
        prompts,
        completions,
        references: references.map_or(0, |rows| rows.len()),
        memory: check::memory().map(|(total, _)| total),
    })
}

fn settings_dtype(
    settings: &Recipe,
    checkpoint: &bpo_model::Checkpoint,
    globals: &Globals,
) -> Result<FloatDType, Failure> {
    Ok(settings.dtype.precision(checkpoint, &globals.device()?).weights)
}

/// A recipe that reads what the answers name and lets every length pass.
fn settings(answers: &Answers) -> Result<Recipe, Failure> {
    let mut sets = vec![format!("model={}", answers.model), format!("annotator={}", super::write::annotator(answers)?)];
    sets.push(format!("{}={}", answers.rows.key(), answers.rows.file()));
    sets.extend(answers.references.iter().map(|file| format!("references={file}")));
    let settings: Recipe = recipe::parse(&recipe::load("", None, &sets)?, "bpo init")?;
    Ok(Recipe { max_prompt_length: usize::MAX, max_new_tokens: 1, eval_size: 0, ..settings })
}

fn has_text(rows: &TrainRows) -> Result<bool, Failure> {
    let mut found = false;
    let mut look = |prompt: Prompt| {
        found |= matches!(prompt, Prompt::Text(_));
        Ok::<(), Failure>(())
    };
    match rows {
        TrainRows::Prompts(rows) => rows.each(|row| look(row.prompt))?,
        TrainRows::Pairs(rows) => rows.each(|row| look(row.prompt))?,
    }
    Ok(found)
}
