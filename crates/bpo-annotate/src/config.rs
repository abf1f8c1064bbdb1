//! What a recipe says about the annotator, and how it becomes one.

mod build;
mod local;
mod parse;
mod remote;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use build::Parts;
pub use local::{JudgeConfig, PairRankerConfig, PairTemplate, Reading};
pub use remote::{CacheChoice, ChatConfig, RewardEndpointConfig, ServiceConfig};

use crate::{Combine, Counting, Prefer, Sign, Unit};

/// The `annotator` of a recipe: a string, a table, or a list of these.
///
/// As a string: `"lexicon"`, `"length"`, the path of a `.txt` file (a lexicon), the address of an OpenAI-compatible
/// server (`http://…`: a model there judges), or the path of a folder (a reward model; anything else with a `/` in
/// it). A list is a panel that decides by majority. As a table:
///
/// ```toml
/// [annotator]
/// kind = "command"                    # or lexicon, length, regex, reward_model, judge, pair_ranker, chat, …
/// program = ["python3", "judge.py"]
/// mode = "compare"
/// both_orders = true
/// ```
///
/// A key that its kind does not know is an error.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnnotatorConfig {
    /// What judges.
    #[serde(flatten)]
    pub kind: AnnotatorKind,
    /// Ask in both orders and let contradictions tie. Only for judges that compare.
    pub both_orders: bool,
    /// Which response a judge that compares sees first; by default `random` for `chat` and `judge` and `given`
    /// for `command`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// How a service is asked; for `chat` and `reward_endpoint`, and for nothing else.
    #[serde(flatten)]
    pub service: Option<ServiceConfig>,
}

/// Which of two responses is shown first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// A hash of the texts decides, so that the same pair is always shown the same way.
    Random,
    /// The one that was given first.
    Given,
}

/// What judges, with the settings of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum AnnotatorKind {
    /// Sentiment by lexicon.
    Lexicon(LexiconConfig),
    /// The length of the response.
    Length(LengthConfig),
    /// What a regular expression finds in the response.
    Regex(RegexConfig),
    /// A program that speaks JSON lines.
    Command(CommandConfig),
    /// A local reward model.
    RewardModel(RewardModelConfig),
    /// A language model of this machine.
    Judge(JudgeConfig),
    /// A model of this machine that reads both responses at once.
    PairRanker(PairRankerConfig),
    /// A language model behind HTTP.
    Chat(ChatConfig),
    /// A reward model behind HTTP.
    RewardEndpoint(RewardEndpointConfig),
    /// Several annotators.
    Panel(PanelConfig),
}

/// Settings of a [`Panel`](crate::Panel).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PanelConfig {
    /// How they decide; `majority` of the verdicts unless given.
    #[serde(default)]
    pub combine: Combine,
    /// What each member weighs; the same for all unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<f64>,
    /// The annotators.
    pub members: Vec<AnnotatorConfig>,
}

/// Settings of [`Lexicon`](crate::Lexicon).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LexiconConfig {
    /// The lexicon's file; without one, the lexicon that comes with the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

/// Settings of [`Length`](crate::Length).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LengthConfig {
    /// Which length wins; longer by default. Not together with `target`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefer: Option<Prefer>,
    /// The nearer to this length, the better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<usize>,
    /// What the length is counted in; characters by default.
    #[serde(default)]
    pub unit: Unit,
}

/// Settings of [`RegexRule`](crate::RegexRule).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegexConfig {
    /// The pattern, in the syntax of the `regex` crate.
    pub pattern: String,
    /// Whether matches are counted or only noticed (the default).
    #[serde(default)]
    pub count: Counting,
    /// Whether a match is good (the default) or bad.
    #[serde(default)]
    pub prefer: Sign,
}

/// How a program is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It scores one response at a time.
    #[default]
    Score,
    /// It compares two responses.
    Compare,
}

/// Settings of [`CommandScorer`](crate::CommandScorer) and [`CommandJudge`](crate::CommandJudge).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandConfig {
    /// The program and its arguments: a list, or one string that is split as a shell would.
    #[serde(deserialize_with = "parse::program")]
    pub program: Vec<String>,
    /// How it is asked.
    #[serde(default)]
    pub mode: Mode,
    /// Seconds that one answer may take, the first one with the program's getting ready.
    #[serde(default = "a_minute")]
    pub timeout_s: f64,
    /// The folder it runs in; by default that of the recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
}

fn a_minute() -> f64 {
    60.0
}

/// Settings of a reward model, which [`Parts::reward_model`] loads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardModelConfig {
    /// The model's folder.
    pub path: PathBuf,
}

impl From<AnnotatorKind> for AnnotatorConfig {
    fn from(kind: AnnotatorKind) -> Self {
        let service = kind.is_remote().then(ServiceConfig::default);
        Self { kind, both_orders: false, order: None, service }
    }
}

impl AnnotatorKind {
    /// Whether it is a service.
    pub(crate) fn is_remote(&self) -> bool {
        matches!(self, Self::Chat(_) | Self::RewardEndpoint(_))
    }
}

impl AnnotatorConfig {
    /// Makes relative paths relative to `base`, the folder of the recipe.
    ///
    /// A command runs in that folder unless it names one. The path of a reward model that does
    /// not exist there is left as it is, since it may be the id of a model on a hub.
    pub fn resolve_paths(&mut self, base: &Path) {
        match &mut self.kind {
            AnnotatorKind::Lexicon(LexiconConfig { path: Some(path) }) => *path = base.join(&path),
            AnnotatorKind::RewardModel(model) => {
                let joined = base.join(&model.path);
                if joined.exists() {
                    model.path = joined;
                }
            }
            AnnotatorKind::Judge(judge) => {
                judge.template.iter_mut().for_each(|path| *path = base.join(&*path));
                if judge.model != Path::new(local::EMBEDDED) {
                    judge.model = base.join(&judge.model);
                }
            }
            AnnotatorKind::PairRanker(ranker) => {
                ranker.template.iter_mut().for_each(|path| *path = base.join(&*path));
                ranker.path = base.join(&ranker.path);
            }
            AnnotatorKind::Command(command) => command.resolve_paths(base),
            AnnotatorKind::Chat(ChatConfig { template: Some(path), .. })
            | AnnotatorKind::RewardEndpoint(RewardEndpointConfig { template: Some(path), .. }) => {
                *path = base.join(&path)
            }
            AnnotatorKind::Panel(panel) => panel.members.iter_mut().for_each(|member| member.resolve_paths(base)),
            AnnotatorKind::Lexicon(_) | AnnotatorKind::Length(_) | AnnotatorKind::Regex(_) => {}
            AnnotatorKind::Chat(_) | AnnotatorKind::RewardEndpoint(_) => {}
        }
        if let Some(service) = &mut self.service {
            service.resolve_paths(base);
        }
    }

    /// The files that decide its answers, with what each of them is: a lexicon, a template, the files of a reward model,
    /// a program and those of its arguments that are files. What a program reads of its own accord cannot be known here.
    pub fn files(&self) -> Vec<(String, PathBuf)> {
        match &self.kind {
            AnnotatorKind::Lexicon(LexiconConfig { path: Some(path) }) => vec![("lexicon".into(), path.clone())],
            AnnotatorKind::Chat(ChatConfig { template: Some(path), .. })
            | AnnotatorKind::RewardEndpoint(RewardEndpointConfig { template: Some(path), .. }) => {
                vec![("template".into(), path.clone())]
            }
            AnnotatorKind::Panel(panel) => {
                let named = |(index, member): (usize, &Self)| {
                    let name = move |(what, path)| (format!("member {} {what}", index + 1), path);
                    member.files().into_iter().map(name).collect::<Vec<_>>()
                };
                panel.members.iter().enumerate().flat_map(named).collect()
            }
            AnnotatorKind::RewardModel(model) => model_files(&model.path),
            AnnotatorKind::Judge(judge) => with_template(model_files(&judge.model), judge.template.as_ref()),
            AnnotatorKind::PairRanker(ranker) => with_template(model_files(&ranker.path), ranker.template.as_ref()),
            AnnotatorKind::Command(command) => {
                let folder = command.cwd.as_deref().unwrap_or(Path::new("."));
                let files = command.program.iter().enumerate().map(|(at, word)| (at, folder.join(word)));
                files.filter(|(_, path)| path.is_file()).map(|(at, path)| (format!("program[{at}]"), path)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Where its reward models are: folders, or ids on a hub.
    pub fn reward_models(&self) -> Vec<&Path> {
        match &self.kind {
            AnnotatorKind::RewardModel(model) => vec![&model.path],
            AnnotatorKind::Panel(panel) => panel.members.iter().flat_map(Self::reward_models).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether it needs the lexicon that comes with the program.
    pub fn needs_embedded_lexicon(&self) -> bool {
        match &self.kind {
            AnnotatorKind::Lexicon(LexiconConfig { path }) => path.is_none(),
            AnnotatorKind::Panel(panel) => panel.members.iter().any(Self::needs_embedded_lexicon),
            _ => false,
        }
    }
}

/// Configuration, tokenizer and weights of a model that judges; none of a folder that cannot be read, which is noticed
/// where the model is.
fn model_files(folder: &Path) -> Vec<(String, PathBuf)> {
    let paths = std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let is_read =
        |path: &PathBuf| path.extension().is_some_and(|of| of == "json" || of == "safetensors" || of == "jinja");
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    paths.filter(|path| is_read(path) && path.is_file()).map(|path| (name(&path), path)).collect()
}

fn with_template(mut files: Vec<(String, PathBuf)>, template: Option<&PathBuf>) -> Vec<(String, PathBuf)> {
    files.extend(template.map(|path| ("template".into(), path.clone())));
    files
}

impl CommandConfig {
    fn resolve_paths(&mut self, base: &Path) {
        // A bare name is looked up by the system, and the folder of the child must not count.
        let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
        if let Some(program) = self.program.first_mut()
            && program.contains('/')
        {
            *program = base.join(&*program).to_string_lossy().into_owned();
        }
        self.cwd = Some(match &self.cwd {
            Some(cwd) => base.join(cwd),
            None => base,
        });
    }
}

#[cfg(test)]
mod tests;
