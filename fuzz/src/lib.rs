//! What holds for every input of a reader, as functions that panic where it does not.
//!
//! Each function is the body of the fuzz target of its name; the workspace's tests run them over `corpus/` and
//! `regressions/` on a stable toolchain (`tests/fuzz.rs`), which includes this file by its path.

mod chat_template;
mod config;
mod gguf;
mod journal;
mod jsonl;
mod judge_reply;
mod loss_expression;
mod safetensors;
mod tokenizer_json;

pub use chat_template::chat_template;
pub use config::config;
pub use gguf::gguf;
pub use journal::journal;
pub use jsonl::jsonl;
pub use judge_reply::judge_reply;
pub use loss_expression::loss_expression;
pub use safetensors::safetensors;
pub use tokenizer_json::tokenizer_json;
