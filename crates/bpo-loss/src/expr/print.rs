//! Tree to canonical text: single spaces, no parenthesis that parsing does not need, shortest numbers.
use std::fmt::{Display, Formatter, Result};

use super::{
    Expression,
    syntax::{Infix, Kind, Node, Prefix},
};

impl Display for Expression {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for binding in &self.bindings {
            write!(f, "{} = {}; ", binding.name, binding.value)?;
        }
        write!(f, "{}", self.result)
    }
}

impl Display for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.kind {
            Kind::Number(value) => number(f, *value),
            Kind::Name(name) => f.write_str(name),
            Kind::Call(name, arguments) => {
                let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
                write!(f, "{name}({})", arguments.join(", "))
            }
            Kind::Prefix(prefix, operand) => {
                f.write_str(if *prefix == Prefix::Not { "not " } else { "-" })?;
                side(f, operand, prefix.power())
            }
            Kind::Infix(infix, left, right) => {
                side(f, left, infix.left())?;
                if *infix == Infix::Power {
                    f.write_str("^")?
                } else {
                    write!(f, " {} ", infix.symbol())?
                }
                // A prefix operator needs no parentheses to the right of anything.
                let power = if matches!(right.kind, Kind::Prefix(..)) { 0 } else { infix.right() };
                side(f, right, power)
            }
        }
    }
}

/// One operand, in parentheses where it binds less tightly than `power`.
fn side(f: &mut Formatter<'_>, node: &Node, power: u8) -> Result {
    let own = match &node.kind {
        Kind::Infix(infix, ..) => infix.power(),
        Kind::Prefix(prefix, _) => prefix.power(),
        _ => u8::MAX,
    };
    if own < power { write!(f, "({node})") } else { write!(f, "{node}") }
}

fn number(f: &mut Formatter<'_>, value: f64) -> Result {
    let (plain, scientific) = (value.to_string(), format!("{value:e}"));
    f.write_str(if scientific.len() < plain.len() { &scientific } else { &plain })
}
