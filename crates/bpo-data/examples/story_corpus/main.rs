//! Makes the story corpus of the built-in model, and its tokenizer, from a seed.
//!
//!     cargo run --release -p bpo-data --example story_corpus -- OUT_DIR
//!
//! Writes `corpus.jsonl`, `tokenizer.json`, `tokenizer_config.json`, `prompts.jsonl` and
//! `eval-prompts.jsonl`, the same bytes on every run, and prints statistics to stderr. It is no
//! part of the library: it shares bpo-data's dependencies and none of its code.

#![allow(clippy::disallowed_methods, reason = "a one-off tool writes plain files")]

mod dice;
mod grammar;
mod statistics;
mod story;
mod template;
mod tokenizer;

use std::{
    collections::HashSet,
    error::Error,
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    dice::Dice,
    grammar::{Grammar, Tone},
    statistics::Lexicon,
    story::{Scene, Story},
};

const SEED: u64 = 20_240_618;
const STORIES: usize = 48_000;
const PROMPTS: usize = 1_200;
const EVAL_PROMPTS: usize = 201;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A row of `prompts.jsonl`.
#[derive(Serialize)]
struct Prompt {
    prompt: String,
}

/// A row of `eval-prompts.jsonl`.
#[derive(Serialize)]
struct EvalPrompt {
    prompt: String,
    reference: String,
}

fn main() -> Outcome<()> {
    let out = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: story_corpus OUT_DIR")?);
    fs::create_dir_all(&out)?;
    let grammar = Grammar::parse(&[include_str!("world.txt"), include_str!("plots.txt")])?;

    let mut used = HashSet::new();
    let eval = eval_prompts(&grammar, &mut used)?;
    let held_out = used.clone();
    let prompts = prompts(&grammar, &mut used)?;
    let (corpus, drawn) = corpus(&grammar, &held_out)?;
    write_rows(&out.join("eval-prompts.jsonl"), &eval)?;
    write_rows(&out.join("prompts.jsonl"), &prompts)?;
    write_rows(&out.join("corpus.jsonl"), corpus.iter().map(|(_, story)| story))?;

    let texts: Vec<_> = corpus.iter().map(|(_, s)| format!("{}{}", s.prompt, s.completion)).collect();
    let tokenizer = tokenizer::train(&texts)?;
    fs::write(out.join("tokenizer.json"), tokenizer.to_string(false)?)?;
    let config = serde_json::to_string_pretty(&tokenizer::config())?;
    fs::write(out.join("tokenizer_config.json"), config + "\n")?;

    let lexicon = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/story/lexicon.txt");
    let lexicon = Lexicon::parse(&fs::read_to_string(lexicon)?)?;
    let mut err = io::stderr().lock();
    let distinct = 100.0 * corpus.len() as f64 / drawn as f64;
    writeln!(err, "{} stories, {distinct:.2} % of {drawn} drawn", corpus.len())?;
    statistics::report(&mut err, &corpus, &tokenizer, &lexicon)
}

/// Openings that neither the corpus nor the prompts contain, with references of every tone in turn.
fn eval_prompts(grammar: &Grammar, used: &mut HashSet<String>) -> Outcome<Vec<EvalPrompt>> {
    let mut dice = Dice::new(SEED, 0);
    let mut rows = Vec::with_capacity(EVAL_PROMPTS);
    while rows.len() < EVAL_PROMPTS {
        let mut scene = Scene::draw(grammar, &mut dice)?;
        let prompt = scene.open(&mut dice)?;
        let reference = scene.go_on(Tone::ALL[rows.len() % 3], &mut dice)?;
        if used.insert(prompt.clone()) {
            rows.push(EvalPrompt { prompt, reference });
        }
    }
    Ok(rows)
}

/// Distinct openings that are not in `used` yet.
fn prompts(grammar: &Grammar, used: &mut HashSet<String>) -> Outcome<Vec<Prompt>> {
    let mut dice = Dice::new(SEED, 1);
    let mut rows = Vec::with_capacity(PROMPTS);
    while rows.len() < PROMPTS {
        let prompt = Scene::draw(grammar, &mut dice)?.open(&mut dice)?;
        if used.insert(prompt.clone()) {
            rows.push(Prompt { prompt });
        }
    }
    Ok(rows)
}

/// Distinct stories with other openings than `held_out`, and how many had to be drawn for them.
fn corpus(grammar: &Grammar, held_out: &HashSet<String>) -> Outcome<(Vec<(Tone, Story)>, usize)> {
    let mut dice = Dice::new(SEED, 2);
    let mut seen = HashSet::new();
    let mut stories = Vec::with_capacity(STORIES);
    let mut drawn = 0;
    while stories.len() < STORIES {
        let mut scene = Scene::draw(grammar, &mut dice)?;
        let prompt = scene.open(&mut dice)?;
        // The tone comes after the opening, which so cannot know it.
        let tone = *dice.pick(&Tone::ALL).ok_or("no tones")?;
        let completion = scene.go_on(tone, &mut dice)?;
        drawn += 1;
        if !held_out.contains(&prompt) && seen.insert(format!("{prompt}{completion}")) {
            stories.push((tone, Story { prompt, completion }));
        }
    }
    Ok((stories, drawn))
}

/// One JSON object a line.
fn write_rows<T: Serialize>(path: &Path, rows: impl IntoIterator<Item = T>) -> Outcome<()> {
    let mut file = BufWriter::new(fs::File::create(path)?);
    for row in rows {
        serde_json::to_writer(&mut file, &row)?;
        file.write_all(b"\n")?;
    }
    Ok(file.flush()?)
}
