//! What the program brings along: a tiny model that tells stories, its prompts, and a lexicon.

/// The name that stands for what is built in, wherever a path could be.
pub const NAME: &str = "embedded";

/// `tokenizer.json`.
pub const TOKENIZER: &[u8] = include_bytes!("../assets/story/tokenizer.json");
/// `tokenizer_config.json`.
pub const TOKENIZER_CONFIG: &[u8] = include_bytes!("../assets/story/tokenizer_config.json");
/// Openings of stories, `{"prompt"}`.
pub const PROMPTS: &[u8] = include_bytes!("../assets/story/prompts.jsonl");
/// Preference pairs: two responses of the story model to its prompts, by its lexicon.
pub const PAIRS: &[u8] = include_bytes!("../assets/story/pairs.jsonl");
/// Openings that are in no training data, `{"prompt","reference"}`.
pub const EVAL_PROMPTS: &[u8] = include_bytes!("../assets/story/eval-prompts.jsonl");
/// Stories of the model with their lexicon scores, `{"prompt","response","outcome"}`.
pub const OUTCOMES: &[u8] = include_bytes!("../assets/story/outcomes.jsonl");
/// Words and their sentiment.
pub const LEXICON: &[u8] = include_bytes!("../assets/story/lexicon.txt");

/// `config.json`.
pub const CONFIG: &[u8] = include_bytes!("../assets/story/model/config.json");
/// `model.safetensors`, in half precision.
pub const WEIGHTS: &[u8] = include_bytes!("../assets/story/model/model.safetensors");
