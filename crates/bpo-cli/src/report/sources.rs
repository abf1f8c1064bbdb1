//! The texts behind a run's numbers: its tokenizer, and the prompts it read if they are still the same.
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use bpo_data::Tokenizer;
use bpo_report::Texts;
use toml::Table;

use crate::{embedded, source::ModelSource, train::start::Identity};

/// Bytes of a prompts file beyond which it is not read again for the sake of a few prompts.
const LARGEST: u64 = 256 << 20;

/// What could be found.
#[derive(Default)]
pub struct Sources {
    tokenizer: Option<Tokenizer>,
    prompts: HashMap<usize, String>,
}

impl Sources {
    /// Those of the run in `dir`. What is gone, or is no longer what the run read, is left out: a report says less then.
    pub fn of(dir: &Path) -> Self {
        let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
        let Some(recipe) = read("recipe.toml").and_then(|text| text.parse::<Table>().ok()) else {
            return Self::default();
        };
        let inputs = read("inputs.json").and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Self { tokenizer: tokenizer(&recipe), prompts: prompts(&recipe, &inputs).unwrap_or_default() }
    }
}

impl Texts for Sources {
    fn prompt(&self, id: usize) -> Option<String> {
        self.prompts.get(&id).cloned()
    }

    fn decode(&self, tokens: &[u32]) -> Option<String> {
        self.tokenizer.as_ref()?.decode(tokens).ok()
    }
}

/// Whether it is still the run's is seen at its texts.
fn tokenizer(recipe: &Table) -> Option<Tokenizer> {
    let text = |key: &str| recipe.get(key).and_then(toml::Value::as_str);
    let model: ModelSource = text("model").unwrap_or(embedded::NAME).parse().ok()?;
    model.load_tokenizer_at(text("tokenizer").map(Path::new)).ok()
}

/// The prompts by their ids.
fn prompts(recipe: &Table, inputs: &BTreeMap<String, String>) -> Option<HashMap<usize, String>> {
    const KEY: &str = "prompts";
    if recipe.contains_key("pairs") {
        return None;
    }
    let path = recipe.get(KEY)?.as_str()?;
    if path != embedded::NAME && fs::metadata(path).ok()?.len() > LARGEST {
        return None;
    }
    let mut identity = Identity::default();
    identity.data(KEY, path, embedded::PROMPTS).ok()?;
    if !identity.is_part_of(inputs) {
        return None;
    }
    let rows = match path {
        embedded::NAME => bpo_data::read_prompts_from("(embedded prompts)", embedded::PROMPTS),
        path => bpo_data::read_prompts(Path::new(path)),
    };
    Some(rows.ok()?.into_iter().map(|row| (row.id, row.prompt.text())).collect())
}
