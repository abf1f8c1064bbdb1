//! Chat templates: the model's own Jinja, under limits.

mod globals;

use std::io::{self, Write};

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, Value, context};

use crate::{Error, Message};

/// The longest template that is compiled, in bytes.
const MAX_SOURCE: usize = 1 << 20;
/// How long a rendering may be beyond the contents it repeats, in bytes.
const MAX_OUTPUT: usize = 1 << 20;
/// How often a rendering may repeat the contents.
const MAX_REPEATS: usize = 4;
/// Instructions of a rendering: a base and a share for each message.
const FUEL: u64 = 200_000;
const FUEL_PER_MESSAGE: u64 = 5_000;
const MAX_RECURSION: usize = 100;
const NAME: &str = "chat";

/// A compiled chat template, or why it does not compile.
///
/// A broken template is an error only when a conversation is rendered: runs on plain text do not
/// need it.
pub(super) struct Template {
    environment: Result<Environment<'static>, String>,
    bos_token: Option<String>,
    eos_token: Option<String>,
    pad_token: Option<String>,
}

impl Template {
    pub(super) fn new(
        source: &str,
        bos_token: &Option<String>,
        eos_token: &Option<String>,
        pad_token: &Option<String>,
    ) -> Self {
        Self {
            environment: compile(source),
            bos_token: bos_token.clone(),
            eos_token: eos_token.clone(),
            pad_token: pad_token.clone(),
        }
    }

    /// Renders a conversation.
    pub(super) fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, Error> {
        let compiled = self.environment.as_ref().map_err(|e| Error::ChatTemplate(e.clone()))?;
        let mut environment = compiled.clone();
        environment.set_fuel(Some(FUEL + FUEL_PER_MESSAGE * messages.len() as u64));
        let template = environment.get_template(NAME).map_err(|e| failed(&e))?;
        let mut output = Capped { bytes: Vec::new(), limit: output_limit(messages) };
        template
            .render_captured_to(self.context(messages, add_generation_prompt), &mut output)
            .map_err(|e| failed(&e))?;
        String::from_utf8(output.bytes).map_err(|e| Error::ChatTemplate(e.to_string()))
    }

    fn context(&self, messages: &[Message], add_generation_prompt: bool) -> Value {
        let token = |token: &Option<String>| token.clone().map_or(Value::UNDEFINED, Value::from);
        context! {
            messages => messages.iter().map(turn).collect::<Vec<Value>>(),
            add_generation_prompt => add_generation_prompt,
            bos_token => token(&self.bos_token),
            eos_token => token(&self.eos_token),
            pad_token => token(&self.pad_token),
            // `transformers` defines both, as None.
            tools => Value::from(()),
            documents => Value::from(()),
        }
    }
}

fn turn(message: &Message) -> Value {
    Value::from_pairs([("role", message.role.as_str()), ("content", message.content.as_str())])
}

fn compile(source: &str) -> Result<Environment<'static>, String> {
    if source.len() > MAX_SOURCE {
        return Err(format!("longer than {MAX_SOURCE} bytes"));
    }
    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(|e| short(&e.to_string()))?,
    );
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    globals::add(&mut environment);
    environment.add_template_owned(NAME, without_generation_tags(source)).map_err(|e| short(&e.to_string()))?;
    Ok(environment)
}

/// Replaces `{% generation %}`, which marks what the assistant says and renders nothing.
fn without_generation_tags(source: &str) -> String {
    let mut parts = source.split("{%");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (tag, rest) = part.split_once("%}").map_or((part, None), |(tag, rest)| (tag, Some(rest)));
        let word = tag.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        out.push_str("{%");
        match word {
            "generation" => out.push_str(&tag.replace(word, "if true")),
            "endgeneration" => out.push_str(&tag.replace(word, "endif")),
            _ => out.push_str(tag),
        }
        if let Some(rest) = rest {
            out.push_str("%}");
            out.push_str(rest);
        }
    }
    out
}

fn output_limit(messages: &[Message]) -> usize {
    let contents: usize = messages.iter().map(|m| m.role.len() + m.content.len()).sum();
    MAX_OUTPUT.saturating_add(contents.saturating_mul(MAX_REPEATS))
}

fn failed(error: &minijinja::Error) -> Error {
    Error::ChatTemplate(match error.kind() {
        ErrorKind::OutOfFuel => "runs for too long".to_owned(),
        ErrorKind::WriteFailure => "renders too much text".to_owned(),
        _ => short(&error.to_string()),
    })
}

/// Templates write their own messages: a few words of them are enough.
fn short(message: &str) -> String {
    message.chars().take(300).collect()
}

/// A buffer that refuses to grow over its limit.
struct Capped {
    bytes: Vec<u8>,
    limit: usize,
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            return Err(io::Error::other("over the limit"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
