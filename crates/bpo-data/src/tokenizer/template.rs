//! Chat templates: the model's own Jinja, under limits.

mod budget;
mod globals;
mod guard;

use minijinja::machinery::{CodeGenerator, eval, make_string_output, parse};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, Value, context};

use crate::{Error, Message};

/// The longest template that is compiled, in bytes.
const MAX_SOURCE: usize = 1 << 20;
/// How long a rendering may be beyond the contents it repeats, in bytes.
const MAX_OUTPUT: usize = 1 << 20;
/// How often a rendering may repeat the contents.
const MAX_REPEATS: usize = 4;
/// What a rendering may make on its way to the output, in bytes: a base and a multiple of the contents.
const MAX_MADE: usize = 64 << 20;
const MAX_REMADE: usize = 64;
/// Instructions of a rendering: a base and a share for each message.
const FUEL: u64 = 200_000;
const FUEL_PER_MESSAGE: u64 = 5_000;
const MAX_RECURSION: usize = 100;
const NAME: &str = "chat";

/// A chat template that parses, or why it does not.
///
/// A broken template is an error only when a conversation is rendered: runs on plain text do not
/// need it.
pub(super) struct Template {
    source: Result<String, String>,
    environment: Environment<'static>,
    /// Texts of BOS, EOS and padding.
    names: [Option<String>; 3],
}

impl Template {
    pub(super) fn new(source: &str, names: &[Option<String>; 3]) -> Self {
        Self { source: checked(source), environment: environment(), names: names.clone() }
    }

    /// Renders a conversation.
    pub(super) fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, Error> {
        let source = self.source.as_ref().map_err(|e| Error::ChatTemplate(e.clone()))?;
        self.try_render(source, messages, add_generation_prompt).map_err(|e| failed(&e))
    }

    /// Compiled anew each time, which takes less than the rendering: what is compiled borrows its source.
    fn try_render(
        &self,
        source: &str,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, minijinja::Error> {
        let mut generator = CodeGenerator::new(NAME, source);
        generator.compile_stmt(&guard::guarded(&parse(source, NAME, syntax()?)?)?);
        let (instructions, blocks) = generator.finish();
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + FUEL_PER_MESSAGE * messages.len() as u64));
        let contents: usize = messages.iter().map(|m| m.role.len() + m.content.len()).sum();
        let limit = MAX_OUTPUT.saturating_add(contents.saturating_mul(MAX_REPEATS));
        budget::begin(MAX_MADE.saturating_add(contents.saturating_mul(MAX_REMADE)), limit);
        let (mut output, root) = (String::new(), self.context(messages, add_generation_prompt));
        eval(&environment, &instructions, root, &blocks, &mut make_string_output(&mut output), AutoEscape::None)?;
        if output.len() > limit { Err(ErrorKind::WriteFailure.into()) } else { Ok(output) }
    }

    fn context(&self, messages: &[Message], add_generation_prompt: bool) -> Value {
        let [bos_token, eos_token, pad_token] =
            self.names.each_ref().map(|name| name.clone().map_or(Value::UNDEFINED, Value::from));
        context! {
            messages => messages.iter().map(turn).collect::<Vec<Value>>(),
            add_generation_prompt => add_generation_prompt,
            bos_token,
            eos_token,
            pad_token,
            // `transformers` defines both, as None.
            tools => Value::from(()),
            documents => Value::from(()),
        }
    }
}

fn turn(message: &Message) -> Value {
    Value::from_pairs([("role", message.role.as_str()), ("content", message.content.as_str())])
}

/// The source as it is parsed, if it can be.
fn checked(source: &str) -> Result<String, String> {
    if source.len() > MAX_SOURCE {
        return Err(format!("longer than {MAX_SOURCE} bytes"));
    }
    let source = without_generation_tags(source);
    let parsed = syntax().and_then(|syntax| guard::guarded(&parse(&source, NAME, syntax)?).map(|_| ()));
    parsed.map(|()| source.clone()).map_err(|e| short(&e.to_string()))
}

fn syntax() -> Result<SyntaxConfig, minijinja::Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_recursion_limit(MAX_RECURSION);
    globals::add(&mut environment);
    budget::add(&mut environment);
    environment
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

#[cfg(test)]
mod tests;
