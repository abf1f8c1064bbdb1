//! Pre-tokenizers by the names that llama.cpp has for them (`llm_tokenizer_bpe` in its `llama-vocab.cpp`), for the
//! architectures that bpo-model reads. Where an original composes texts first or says letters more exactly than
//! llama.cpp's expressions do, it is the original that is followed: the model was trained with it.

use serde_json::{Value, json};

/// How texts are split before merges act.
pub(super) struct Split {
    names: &'static [&'static str],
    /// Regular expressions; each splits what the one before it left, and what it does not match stays a piece.
    regexes: &'static [&'static str],
    /// Texts are composed first (NFC).
    composed: bool,
    /// A word that is a token is that token, whatever the merges say.
    pub whole_words: bool,
    /// Texts begin with BOS where the file does not say.
    pub begins: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SEED_CODER: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK_LLM: [&str; 6] = [
    r"[\r\n]",
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\x{1F7D}ᾀ-ᾴᾶ-ᾼ\x{1FBE}ῂ-ῄῆ-ῌῐ-\x{1FD3}ῖ-\x{1FDB}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\x{2126}ℨ\x{212A}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
    r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
    r"\s+$",
    r"[一-龥ࠀ-一가-퟿]+",
    r"\p{N}",
];
const DEEPSEEK_CODER: [&str; 5] = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}"];
const DEEPSEEK_V3: [&str; 3] = [
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
];
const DEFAULT: [&str; 4] = [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"];

const fn plain(names: &'static [&'static str], regexes: &'static [&'static str]) -> Split {
    Split { names, regexes, composed: false, whole_words: false, begins: false }
}

const SPLITS: [Split; 13] = [
    plain(&["gpt-2", "gpt2", "phi-2", "a.x-4.0", "mellum", "trillion"], &[GPT2]),
    Split { composed: true, ..plain(&["olmo", "mpt"], &[GPT2]) },
    plain(&["smollm", "starcoder", "refact", "minerva-7b"], &[r"\p{N}", GPT2]),
    Split {
        whole_words: true,
        begins: true,
        ..plain(&["llama-bpe", "llama3", "llama-v3", "falcon3", "midm-2.0"], &[LLAMA3])
    },
    plain(&["dbrx", "smaug-bpe"], &[LLAMA3]),
    Split { composed: true, ..plain(&["qwen2", "deepseek-r1-qwen"], &[QWEN2]) },
    plain(&["megrez"], &[QWEN2]),
    plain(&["seed-coder"], &[SEED_CODER]),
    plain(&["gpt-4o"], &[GPT4O]),
    Split { whole_words: true, begins: true, ..plain(&["tekken"], &[TEKKEN]) },
    plain(&["deepseek-llm"], &DEEPSEEK_LLM),
    plain(&["deepseek-coder"], &DEEPSEEK_CODER),
    plain(&["deepseek-v3"], &DEEPSEEK_V3),
];

/// What llama.cpp does for the name `default`; no model was trained with it.
const BY_DEFAULT: Split = plain(&["default"], &DEFAULT);

/// The splitter of that name.
pub(super) fn named(name: &str) -> Option<&'static Split> {
    const ALL: &[Split] = &SPLITS;
    ALL.iter().chain([&BY_DEFAULT]).find(|split| split.names.contains(&name))
}

/// The splitter of a file that names none, or nothing better than `default`: that of the models which alone have this
/// architecture. Others may have any.
pub(super) fn of_architecture(architecture: &str) -> Option<&'static Split> {
    match architecture {
        "gpt2" => named("gpt-2"),
        "gptneox" => named("olmo"),
        _ => None,
    }
}

/// Every name that is known, for errors.
pub(super) fn names() -> Vec<&'static str> {
    SPLITS.iter().flat_map(|split| split.names).chain(BY_DEFAULT.names).copied().collect()
}

impl Split {
    pub fn normalizer(&self) -> Value {
        if self.composed { json!({"type": "NFC"}) } else { Value::Null }
    }

    pub fn pre_tokenizer(&self) -> Value {
        let split = |regex: &&str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        let mut steps: Vec<Value> = self.regexes.iter().map(split).collect();
        steps.push(json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}));
        json!({"type": "Sequence", "pretokenizers": steps})
    }
}
