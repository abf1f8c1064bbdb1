//! What a judge is asked: a Jinja template over prompt and responses, under limits.

use std::io::{self, Write};
use std::path::Path;

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};

use crate::Error;

/// The longest template that is read, in bytes.
const LONGEST_SOURCE: u64 = 1 << 18;
/// How much longer a question may be than what it is about, in bytes.
const LONGEST_FRAME: usize = 1 << 20;
/// Instructions that one rendering may take.
const FUEL: u64 = 100_000;
const NAME: &str = "judge";

/// A compiled template.
#[derive(Debug)]
pub(crate) struct Template {
    name: String,
    source: String,
    environment: Environment<'static>,
}

impl Template {
    /// Reads a template and tries it with the names that it may use.
    pub fn read(path: &Path, names: &[&'static str]) -> Result<Self, Error> {
        let failed = |source| Error::Read { path: path.to_owned(), source };
        let length = std::fs::metadata(path).map_err(failed)?.len();
        if length > LONGEST_SOURCE {
            let reason = format!("longer than {LONGEST_SOURCE} bytes");
            return Err(Error::Template { name: path.display().to_string(), reason });
        }
        let source = std::fs::read_to_string(path).map_err(failed)?;
        let template = Self::new(&path.display().to_string(), &source)?;
        // What is spelt wrong is found out before anything is asked; so is a template that shows nothing.
        let marks: Vec<String> = names.iter().map(|name| format!("<{name}>")).collect();
        let values: Vec<(&'static str, &str)> = names.iter().copied().zip(marks.iter().map(String::as_str)).collect();
        let shown = template.render(&values)?;
        match names.iter().zip(&marks).find(|(name, mark)| !shown.contains(*mark) && needed(name)) {
            Some((name, _)) => Err(template.failed(format!("it does not show {{{{ {name} }}}}"))),
            None => Ok(template),
        }
    }

    /// Compiles `source`, which is called `name` in errors.
    pub fn new(name: &str, source: &str) -> Result<Self, Error> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(50);
        let fault =
            |error: minijinja::Error| Error::Template { name: name.to_owned(), reason: short(&error.to_string()) };
        environment.add_template_owned(NAME, source.to_owned()).map_err(fault)?;
        Ok(Self { name: name.to_owned(), source: source.to_owned(), environment })
    }

    /// The template as written: it decides the answers.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Fills the template.
    pub fn render(&self, values: &[(&'static str, &str)]) -> Result<String, Error> {
        let template = self.environment.get_template(NAME).map_err(|error| self.failed(short(&error.to_string())))?;
        let contents: usize = values.iter().map(|(_, text)| text.len()).sum();
        let mut out = Capped { bytes: Vec::new(), limit: LONGEST_FRAME.saturating_add(contents.saturating_mul(4)) };
        let context = Value::from_pairs(values.iter().copied());
        let reason = |error: minijinja::Error| match error.kind() {
            ErrorKind::OutOfFuel => "runs for too long".to_owned(),
            ErrorKind::WriteFailure => "renders too much text".to_owned(),
            ErrorKind::UndefinedError => {
                let known: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
                format!("{}; it may use {}", short(&error.to_string()), known.join(", "))
            }
            _ => short(&error.to_string()),
        };
        template.render_captured_to(context, &mut out).map_err(|error| self.failed(reason(error)))?;
        String::from_utf8(out.bytes).map_err(|error| self.failed(error.to_string()))
    }

    fn failed(&self, reason: String) -> Error {
        Error::Template { name: self.name.clone(), reason }
    }
}

/// The scale may be left out; what is judged may not.
fn needed(name: &str) -> bool {
    !matches!(name, "prompt" | "lowest" | "highest")
}

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
mod tests {
    use super::*;

    const NAMES: [&str; 3] = ["prompt", "first", "second"];

    fn read(source: &str) -> Result<Template, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("judge.jinja");
        std::fs::write(&path, source).unwrap();
        Template::read(&path, &NAMES)
    }

    #[test]
    fn texts_go_in_as_they_are() {
        let template = read("{{ prompt }}|{{ first }}|{{ second }}").unwrap();
        let values = [("prompt", "{{ 1 + 1 }} <b>"), ("first", "{% if %}"), ("second", "\"&\"")];
        assert_eq!(template.render(&values).unwrap(), "{{ 1 + 1 }} <b>|{% if %}|\"&\"");
    }

    #[test]
    fn a_template_that_cannot_be_used_is_refused_before_anything_is_asked() {
        for (source, word) in [
            ("{{ prompt }} {{ frist }} {{ second }}", "it may use prompt, first, second"),
            ("{{ prompt }} {{ first }}", "does not show {{ second }}"),
            ("{% if %}", "syntax error"),
            ("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", "judge.jinja"),
            ("{{ 'x' * 999999999 }}{{ first }}{{ second }}", "judge.jinja"),
            ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "judge.jinja"),
            ("{% include '/etc/passwd' %}", "judge.jinja"),
        ] {
            let started = std::time::Instant::now();
            let refused = read(source).unwrap_err().to_string();
            assert!(refused.contains(word), "{source}: {refused}");
            assert!(started.elapsed().as_secs_f64() < 1.0, "{source}");
        }
    }

    #[test]
    fn the_built_in_templates_show_what_is_judged() {
        for (source, names) in [
            (include_str!("compare.jinja"), &NAMES[..]),
            (include_str!("rate.jinja"), &["prompt", "response", "lowest", "highest"]),
        ] {
            let values: Vec<(&'static str, &str)> = names.iter().map(|name| (*name, *name)).collect();
            let shown = Template::new("built in", source).unwrap().render(&values).unwrap();
            assert!(names.iter().all(|name| shown.contains(name)), "{shown}");
        }
    }
}
