//! How much a rendering may make, and the operations that could make too much at once.

use std::cell::Cell;
use std::fmt::Write;
use std::io;

use minijinja::value::{Kwargs, StringInput, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};
use minijinja_contrib::pycompat;

use super::guard::{COUNT, HELD, TIMES};

/// Deepest nesting of lists and maps: values are shown, compared and dropped by recursion.
const MAX_DEPTH: usize = 64;
/// What a value costs beside its text, in bytes.
const PER_VALUE: usize = 32;
/// Digits that a width in a format may have.
const MAX_WIDTH_DIGITS: usize = 3;

thread_local! {
    /// Bytes that the rendering on this thread may still make.
    static LEFT: Cell<usize> = const { Cell::new(0) };
    /// Bytes that one value of it may be shown as.
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// Begins a rendering: it may make `total` bytes, and no value longer than `largest`.
pub(super) fn begin(total: usize, largest: usize) {
    LEFT.set(total);
    LARGEST.set(largest);
}

/// Makes the environment count, and replaces what makes more than it is given.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.set_formatter(emit);
    environment.add_filter(COUNT, |value: Value| counted(value));
    environment.add_filter(HELD, held);
    environment.add_filter(TIMES, times);
    environment.add_filter("replace", replace);
    environment.add_filter("join", join);
    environment.add_filter("indent", indent);
    // Nothing that a chat template is known to need: they pad, or show values at length.
    for name in ["batch", "slice", "pprint", "format"] {
        environment.remove_filter(name);
    }
    environment.remove_global("debug");
    environment.set_unknown_method_callback(method);
}

fn too_much() -> Error {
    ErrorKind::WriteFailure.into()
}

fn spend(bytes: usize) -> Result<(), Error> {
    let left = LEFT.get().checked_sub(bytes).ok_or_else(too_much)?;
    LEFT.set(left);
    Ok(())
}

/// A buffer that takes no more than one value may be shown as.
pub(super) struct Capped(pub(super) Vec<u8>);

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LARGEST.get() {
            return Err(io::Error::other("too much text"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a value as its text, which is counted.
fn emit(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    spend(length(value)?)?;
    write!(out, "{value}").map_err(|_| too_much())
}

/// A new value: its own size is spent, and what it would be shown as is bounded.
fn counted(value: Value) -> Result<Value, Error> {
    let shown = length(&value)?;
    spend(match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => PER_VALUE * (1 + value.len().unwrap_or(shown)),
        _ => PER_VALUE + shown,
    })?;
    Ok(value)
}

/// A value that may be put into a namespace without closing a circle.
fn held(value: Value) -> Result<Value, Error> {
    if holds_namespace(&value, MAX_DEPTH)? {
        let reason = "a chat template cannot put a namespace into a namespace";
        return Err(Error::new(ErrorKind::InvalidOperation, reason));
    }
    Ok(value)
}

fn holds_namespace(value: &Value, depth: usize) -> Result<bool, Error> {
    let Some(object) = value.as_object() else { return Ok(false) };
    if object.type_name().ends_with("Namespace") {
        return Ok(true);
    }
    let depth = depth.checked_sub(1).ok_or_else(too_much)?;
    let is_map = value.kind() == ValueKind::Map;
    if !is_map && !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Ok(false);
    }
    for item in value.try_iter()? {
        let inner = if is_map { value.get_item(&item)? } else { item };
        if holds_namespace(&inner, depth)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// About how many bytes a value is shown as; an error where that is too much, or it is nested too deeply.
fn length(value: &Value) -> Result<usize, Error> {
    let mut left = LARGEST.get();
    measure(value, MAX_DEPTH, &mut left)?;
    Ok(LARGEST.get() - left)
}

fn measure(value: &Value, depth: usize, left: &mut usize) -> Result<(), Error> {
    let mut take = |bytes: usize| {
        *left = left.checked_sub(bytes).ok_or_else(too_much)?;
        Ok::<(), Error>(())
    };
    match value.kind() {
        ValueKind::String | ValueKind::Bytes => return take(value.as_bytes().map_or(0, <[u8]>::len)),
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => take(2)?,
        _ => return take(8),
    }
    let depth = depth.checked_sub(1).ok_or_else(too_much)?;
    let is_map = value.kind() == ValueKind::Map;
    for item in value.try_iter()? {
        *left = left.checked_sub(2).ok_or_else(too_much)?;
        measure(&item, depth, left)?;
        if is_map {
            measure(&value.get_item(&item)?, depth, left)?;
        }
    }
    Ok(())
}

/// Refuses to make `count` times `bytes` bytes.
fn fits(count: usize, bytes: usize) -> Result<(), Error> {
    count.checked_mul(bytes).filter(|total| *total <= LARGEST.get()).map(|_| ()).ok_or_else(too_much)
}

/// `left * right`.
fn times(left: Value, right: Value) -> Result<Value, Error> {
    let (value, count) = if right.is_number() { (left, right) } else { (right, left) };
    if let (true, true) = (value.is_number(), count.is_number()) {
        let whole = value.is_integer() && count.is_integer();
        return match (i128::try_from(value.clone()), i128::try_from(count.clone())) {
            (Ok(a), Ok(b)) if whole => a.checked_mul(b).map(Value::from).ok_or_else(too_much),
            _ => Ok(Value::from(f64::try_from(value)? * f64::try_from(count)?)),
        };
    }
    let count = usize::try_from(count)
        .map_err(|_| Error::new(ErrorKind::InvalidOperation, "a text or a list is multiplied by a whole number"))?;
    fits(count, length(&value)? + 2)?;
    match value.kind() {
        ValueKind::String => Ok(Value::from(value.as_str().unwrap_or_default().repeat(count))),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            Ok(items.iter().cycle().take(items.len() * count).cloned().collect())
        }
        _ => Err(Error::new(ErrorKind::InvalidOperation, "only numbers, texts and lists are multiplied")),
    }
}

fn replace(text: String, from: String, to: String) -> Result<String, Error> {
    fits(text.matches(&from).count(), to.len())?;
    Ok(text.replace(&from, &to))
}

fn join(items: Value, separator: Option<String>) -> Result<String, Error> {
    if items.is_undefined() || items.is_none() {
        return Ok(String::new());
    }
    let (separator, shown) = (separator.unwrap_or_default(), length(&items)?);
    let texts: Vec<Value> = match items.as_str() {
        Some(text) => text.chars().map(Value::from).collect(),
        None => items.try_iter()?.collect(),
    };
    fits(texts.len(), separator.len())?;
    let mut out = String::with_capacity(shown);
    for (index, text) in texts.iter().enumerate() {
        let between = if index == 0 { "" } else { &separator };
        write!(out, "{between}{text}").map_err(|_| too_much())?;
    }
    Ok(out)
}

fn indent(
    text: StringInput<'_>,
    width: Option<usize>,
    first: Option<bool>,
    blank: Option<bool>,
    options: Kwargs,
) -> Result<Value, Error> {
    let asked = match width {
        Some(width) => width,
        None => options.peek::<Option<usize>>("width")?.unwrap_or(4),
    };
    fits(text.as_str().split('\n').count(), asked)?;
    minijinja::filters::indent(text, width, first, blank, options)
}

/// Python's methods of texts, lists and dicts.
fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        match (name, args) {
            ("replace", [from, to, ..]) => {
                let (from, to) = (from.as_str().unwrap_or_default(), to.as_str().unwrap_or_default());
                fits(text.matches(from).count(), to.len())?;
            }
            ("join", [items]) => fits(1 + items.len().unwrap_or(length(items)?), 2 + text.len())?,
            ("format", args) => check_format(text, args)?,
            _ => {}
        }
    }
    pycompat::unknown_method_callback(state, value, name, args)
}

/// Refuses widths that are arguments or long numbers, and arguments repeated into more than fits.
fn check_format(text: &str, args: &[Value]) -> Result<(), Error> {
    let digits = text.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0);
    let nested = text.split('{').skip(1).any(|part| part.split('}').next().is_some_and(|spec| spec.ends_with(':')));
    if digits > MAX_WIDTH_DIGITS || nested {
        return Err(Error::new(ErrorKind::InvalidOperation, "a format has widths of up to three digits"));
    }
    let shown = length(&args.iter().cloned().collect::<Value>())?;
    fits(text.matches('{').count(), shown + 10_usize.pow(MAX_WIDTH_DIGITS as u32))
}
