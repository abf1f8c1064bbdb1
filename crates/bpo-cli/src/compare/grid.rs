//! What is compared: methods, seeds, and the one annotation budget they share.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use bpo_train::Recipe;
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use crate::{
    failure::{Failure, Kind, warn},
    recipe, train,
};

/// The grid of a comparison without a file.
const DEFAULT: &str = include_str!("../../recipes/compare-story.toml");
/// Longest folder name made of a method's name.
const SLUG: usize = 60;
/// The key that `seeds` stands for.
const SEED: &str = "seed";

/// Methods × seeds.
#[derive(Debug)]
pub struct Grid {
    /// In the order of the file; products of `[grid]` beside each other.
    pub methods: Vec<Method>,
    /// Every method runs with each of them.
    pub seeds: Vec<u64>,
}

/// One way to train.
#[derive(Debug)]
pub struct Method {
    /// For people.
    pub name: String,
    /// For folders.
    pub slug: String,
    /// Its recipe; the seed is a cell's.
    pub recipe: Recipe,
    /// Its values of the keys in which the methods differ.
    pub settings: BTreeMap<String, Value>,
}

/// A grid file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// A recipe that all methods start from.
    recipe: Option<PathBuf>,
    /// Keys of all methods, over `recipe`.
    #[serde(default)]
    base: Table,
    /// Lists of values: every method is run with each combination.
    #[serde(default)]
    grid: Table,
    /// A `name` and the keys that make the method.
    #[serde(default)]
    method: Vec<Table>,
    seeds: Option<Seeds>,
    /// Compares methods that ask the annotator for different numbers of verdicts.
    #[serde(default)]
    allow_unequal_budget: bool,
}

/// Seeds: a list, or how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeds(Vec<u64>);

impl Seeds {
    fn new(seeds: Vec<u64>) -> Result<Self, String> {
        let different: BTreeSet<u64> = seeds.iter().copied().collect();
        match (seeds.is_empty(), different.len() == seeds.len()) {
            (true, _) => Err("at least one seed is needed".into()),
            (_, false) => Err("a seed is given twice".into()),
            _ => Ok(Self(seeds)),
        }
    }
}

impl FromStr for Seeds {
    type Err = String;

    /// `1,2,5` or `8`, which is `1,2,…,8`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<u64>().map_err(|_| format!("`{text}` is no seed"));
        match text.contains(',') {
            true => Self::new(text.split(',').map(number).collect::<Result<_, _>>()?),
            false => Self::new((1..=number(text)?).collect()),
        }
    }
}

impl<'de> Deserialize<'de> for Seeds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Count(u64),
            List(Vec<u64>),
        }
        let seeds = match Written::deserialize(deserializer) {
            Ok(Written::Count(count)) => Self::new((1..=count).collect()),
            Ok(Written::List(list)) => Self::new(list),
            Err(_) => Err("seeds must be a list of whole numbers, or how many".to_owned()),
        };
        seeds.map_err(serde::de::Error::custom)
    }
}

impl Grid {
    /// The grid in `file`, or the built-in one, with `sets` on top of what all methods share.
    ///
    /// # Errors
    /// A file that cannot be read is bad input; anything wrong in it is a usage error that names the method.
    pub fn load(file: Option<&Path>, sets: &[String], seeds: Option<Seeds>) -> Result<Self, Failure> {
        let written = recipe::read(DEFAULT, file)?;
        let mut written: Written = recipe::parse(&written, "grid")?;
        let folder = file.and_then(Path::parent).unwrap_or(Path::new(""));
        recipe::resolve(&mut written.base, folder)?;
        let mut base = match &written.recipe {
            Some(path) => recipe::read("", Some(&folder.join(path)))?,
            None => Table::new(),
        };
        base.extend(written.base.clone());
        written.refuse_seeds()?;
        written.refuse_overruled(sets)?;
        recipe::apply(&mut base, sets)?;
        if file.is_none() && train::drop_foreign_references(&mut base, sets, "prompts") {
            warn("the built-in references belong to the built-in model and prompts, and are left out");
        }
        let seeds = seeds.or(written.seeds.clone()).unwrap_or(Seeds(vec![1]));
        written.expand(&base, folder, seeds)
    }
}

impl Written {
    /// The seed is the other side of the grid.
    fn refuse_seeds(&self) -> Result<(), Failure> {
        let named = [("[base]".to_owned(), &self.base), ("[grid]".to_owned(), &self.grid)];
        let mut tables = named.into_iter().chain(self.method.iter().map(|method| (title(method), method)));
        match tables.find(|(_, table)| table.contains_key(SEED)) {
            Some((place, _)) => Err(Failure::usage(format!("{place}: `seed` is given by `seeds`, at the top"))),
            None => Ok(()),
        }
    }

    /// A `--set` below which a method or `[grid]` has its own value would change nothing there.
    fn refuse_overruled(&self, sets: &[String]) -> Result<(), Failure> {
        for set in sets {
            let key = set.split(['=', '.']).next().unwrap_or_default().trim();
            if key == SEED {
                return Err(Failure::usage(format!("--set {set}: the seeds of a grid are given by --seeds")));
            }
            if self.grid.contains_key(key) {
                return Err(Failure::usage(format!("--set {set}: [grid] varies `{key}`")));
            }
            if let Some(method) = self.method.iter().find(|method| method.contains_key(key)) {
                return Err(Failure::usage(format!("--set {set}: {} has its own `{key}`", title(method))));
            }
        }
        Ok(())
    }

    /// All methods, checked.
    fn expand(self, base: &Table, folder: &Path, seeds: Seeds) -> Result<Grid, Failure> {
        if self.method.is_empty() {
            return Err(Failure::usage("the grid has no [[method]]"));
        }
        let mut methods = Vec::new();
        for table in &self.method {
            for (name, mut varied) in self.varied(table)? {
                recipe::resolve(&mut varied, folder)?;
                let mut table = base.clone();
                table.extend(varied);
                methods.push(Method::new(name, &table)?);
            }
        }
        refuse_twins(&methods)?;
        refuse_another_measure(&methods)?;
        if !self.allow_unequal_budget {
            refuse_unequal_budgets(&methods)?;
        }
        describe(&mut methods)?;
        Ok(Grid { methods, seeds: seeds.0 })
    }

    /// A method with every combination of `[grid]`, and its name with them.
    fn varied(&self, method: &Table) -> Result<Vec<(String, Table)>, Failure> {
        let mut method = method.clone();
        let name = match method.remove("name") {
            Some(Value::String(name)) if !name.trim().is_empty() => name.trim().to_owned(),
            _ => return Err(Failure::usage("a [[method]] has no name")),
        };
        let mut products = vec![(name.clone(), method)];
        for (key, values) in &self.grid {
            let values = values.as_array().filter(|values| !values.is_empty());
            let values = values.ok_or_else(|| Failure::usage(format!("[grid] `{key}` must be a list of values")))?;
            if products[0].1.contains_key(key) {
                return Err(Failure::usage(format!("method \"{name}\" has its own `{key}`, which [grid] varies")));
            }
            let with = |(name, table): &(String, Table), value: &Value| {
                let mut table = table.clone();
                table.insert(key.clone(), value.clone());
                (format!("{name}, {key}={}", plain(value)), table)
            };
            products = products.iter().flat_map(|product| values.iter().map(|value| with(product, value))).collect();
        }
        Ok(products)
    }
}

/// How a method's table is called in errors.
fn title(method: &Table) -> String {
    format!("method \"{}\"", method.get("name").and_then(Value::as_str).unwrap_or_default())
}

impl Method {
    fn new(name: String, table: &Table) -> Result<Self, Failure> {
        let what = format!("method \"{name}\"");
        let mut recipe: Recipe = recipe::parse(table, &what)?;
        recipe.seed = Recipe::default().seed;
        recipe.validate().map_err(|error| Failure::from(error).context(&what))?;
        if recipe.eval_size == 0 {
            return Err(Failure::usage(format!("{what}: eval_size = 0 leaves nothing to compare")));
        }
        Ok(Self { slug: slug(&name), name, recipe, settings: BTreeMap::new() })
    }

    /// What the annotator is asked about.
    fn budget(&self) -> Budget {
        let recipe = &self.recipe;
        let per_prompt = recipe.judged_per_prompt() as u64;
        let amount = match recipe.max_steps {
            0 => Amount::Epochs(recipe.num_train_epochs, per_prompt),
            steps => Amount::Responses(steps * recipe.prompts_per_step() as u64 * per_prompt),
        };
        Budget { amount, anew: recipe.regenerate_fraction }
    }
}

/// Responses that a run has judged for training.
#[derive(Debug, PartialEq)]
struct Budget {
    amount: Amount,
    /// Share of the prompts seen before that are answered anew.
    anew: f64,
}

#[derive(Debug, PartialEq)]
enum Amount {
    Responses(u64),
    /// So many epochs of so many per prompt.
    Epochs(f64, u64),
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.amount {
            Amount::Responses(responses) => write!(f, "{responses} responses")?,
            Amount::Epochs(epochs, responses) => write!(f, "{epochs} epochs of {responses} responses per prompt")?,
        }
        if self.anew < 1.0 { write!(f, " at regenerate_fraction {}", self.anew) } else { Ok(()) }
    }
}

/// What is measured must be one thing, or a ranking means nothing.
fn refuse_another_measure(methods: &[Method]) -> Result<(), Failure> {
    let Some((first, rest)) = methods.split_first() else { return Ok(()) };
    for other in rest {
        let (a, b) = (&first.recipe, &other.recipe);
        let keys = [
            ("annotator", a.annotator != b.annotator),
            ("references", a.references != b.references),
            ("eval_size", a.eval_size != b.eval_size),
            ("eval_temperature", a.eval_temperature != b.eval_temperature),
            ("max_new_tokens", a.max_new_tokens != b.max_new_tokens),
            ("min_new_tokens", a.min_new_tokens != b.min_new_tokens),
        ];
        if let Some((key, _)) = keys.into_iter().find(|(_, differs)| *differs) {
            return Err(Failure::usage(format!(
                "\"{}\" and \"{}\" differ in {key}: they would not be measured alike",
                first.name, other.name
            )));
        }
    }
    Ok(())
}

fn refuse_unequal_budgets(methods: &[Method]) -> Result<(), Failure> {
    let Some((first, rest)) = methods.split_first() else { return Ok(()) };
    match rest.iter().find(|method| method.budget() != first.budget()) {
        None => Ok(()),
        Some(other) => Err(Failure::usage(format!(
            "the methods have no common annotation budget: \"{}\" has {} judged, \"{}\" {}; \
             `allow_unequal_budget = true` in the grid compares them all the same",
            first.name,
            first.budget(),
            other.name,
            other.budget()
        ))),
    }
}

/// Two methods in one folder would be taken for one.
fn refuse_twins(methods: &[Method]) -> Result<(), Failure> {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for Method { name, slug, .. } in methods {
        match seen.insert(slug, name) {
            Some(twin) if twin == name => return Err(Failure::usage(format!("two methods are called \"{name}\""))),
            Some(twin) => {
                let reason = format!("methods \"{twin}\" and \"{name}\" would share the folder {slug}: rename one");
                return Err(Failure::usage(reason));
            }
            None if slug.is_empty() => {
                return Err(Failure::usage(format!("method \"{name}\" has neither a letter nor a digit in its name")));
            }
            None => {}
        }
    }
    Ok(())
}

/// Fills in the settings: the keys in which the methods differ.
fn describe(methods: &mut [Method]) -> Result<(), Failure> {
    let table = |method: &Method| Table::try_from(&method.recipe).map_err(|error| Failure::new(Kind::Internal, error));
    let tables: Vec<Table> = methods.iter().map(table).collect::<Result<_, _>>()?;
    let keys: BTreeSet<&String> = tables.iter().flat_map(Table::keys).collect();
    for key in keys.into_iter().filter(|key| tables.iter().any(|table| table.get(*key) != tables[0].get(*key))) {
        for (method, value) in methods.iter_mut().zip(tables.iter().map(|table| table.get(key))) {
            method.settings.extend(value.map(|value| (key.clone(), value.clone())));
        }
    }
    Ok(())
}

/// Letters and digits in lower case with single hyphens between them. What is too long for a folder's name
/// is told apart by its hash.
fn slug(name: &str) -> String {
    let lower = name.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let slug = words.join("-");
    if slug.chars().count() <= SLUG {
        return slug;
    }
    let short: String = slug.chars().take(SLUG).collect();
    format!("{short}-{}", &blake3::hash(slug.as_bytes()).to_hex()[..8])
}

/// A value as people write it: strings without quotes.
pub fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests;
