//! Text to tree. The tree holds what was written, names unresolved; parentheses and layout are gone.
use winnow::{
    LocatingSlice, Parser, Stateful,
    ascii::{digit0, digit1, multispace0},
    combinator::{alt, eof, not, opt, preceded},
    error::ParserError,
    stream::Location,
    token::{any, one_of, take_while},
};

use super::{Expression, error::Fault};

/// What was written, and where.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Byte offset of the number, the name or the operator.
    pub at: usize,
    pub kind: Kind,
}

/// Two trees are equal when they say the same, wherever it stood.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Number(f64),
    Name(String),
    Call(String, Vec<Node>),
    Prefix(Prefix, Box<Node>),
    Infix(Infix, Box<Node>, Box<Node>),
}

impl Node {
    /// The value of a number, possibly negated.
    pub fn literal(&self) -> Option<f64> {
        match &self.kind {
            Kind::Number(value) => Some(*value),
            Kind::Prefix(Prefix::Negate, operand) => match operand.kind {
                Kind::Number(value) => Some(-value),
                _ => None,
            },
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefix {
    Not,
    Negate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Infix {
    Or,
    And,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Equal,
    NotEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
}

impl Prefix {
    /// Least binding power of the operand.
    pub fn power(self) -> u8 {
        match self {
            Self::Not => 4,
            Self::Negate => 8,
        }
    }
}

impl Infix {
    /// Binding power: the tighter, the greater.
    pub fn power(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            Self::Less | Self::LessEqual | Self::Greater | Self::GreaterEqual | Self::Equal | Self::NotEqual => 5,
            Self::Add | Self::Subtract => 6,
            Self::Multiply | Self::Divide => 7,
            Self::Power => 9,
        }
    }

    /// Least binding power of the left operand.
    pub fn left(self) -> u8 {
        self.power() + u8::from(self == Self::Power)
    }

    /// Least binding power of the right operand.
    pub fn right(self) -> u8 {
        self.power() + u8::from(self != Self::Power)
    }

    pub fn symbol(self) -> &'static str {
        match self {
            Self::Or => "or",
            Self::And => "and",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Power => "^",
        }
    }
}

/// `name = value;`
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Binding {
    pub name: String,
    pub value: Node,
}

/// A whole text: bindings, each with the offset of its name, then the result.
pub(super) struct Tree {
    pub bindings: Vec<(usize, Binding)>,
    pub result: Node,
}

pub(super) fn parse(text: &str) -> Result<Tree, Fault> {
    let mut input = Stateful { input: LocatingSlice::new(text), state: Spent::default() };
    program(&mut input).map_err(|failure| match failure {
        Failure::Definite(fault) => fault,
        Failure::Backtrack => unexpected(&input, "an expression"),
    })
}

/// What of the bounds is used up.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    nodes: usize,
    depth: usize,
}

type Input<'t> = Stateful<LocatingSlice<&'t str>, Spent>;

enum Failure {
    /// Not this; perhaps something else.
    Backtrack,
    Definite(Fault),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Definite(fault)
    }
}

impl ParserError<Input<'_>> for Failure {
    type Inner = Self;

    fn from_input(_: &Input<'_>) -> Self {
        Self::Backtrack
    }

    fn is_backtrack(&self) -> bool {
        matches!(self, Self::Backtrack)
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

type Parsed<T> = Result<T, Failure>;

fn program(input: &mut Input<'_>) -> Parsed<Tree> {
    let mut bindings = Vec::new();
    while let Some((at, name)) = opt(binder).parse_next(input)? {
        if bindings.len() == Expression::MAX_BINDINGS {
            return Err(Fault::new(at, format!("more than {} bindings", Expression::MAX_BINDINGS)).into());
        }
        let value = expression(input, 0)?;
        expect(input, ';', "an operator or \";\"")?;
        bindings.push((at, Binding { name, value }));
    }
    let result = expression(input, 0)?;
    if opt((space, eof)).parse_next(input)?.is_none() {
        return Err(unexpected(input, "an operator or the end").into());
    }
    Ok(Tree { bindings, result })
}

/// The `name =` of a binding.
fn binder(input: &mut Input<'_>) -> Parsed<(usize, String)> {
    let at = start(input)?;
    let name = name(input)?;
    (symbol('='), not('=')).parse_next(input)?;
    Ok((at, name))
}

/// Precedence climbing: operands joined by operators that bind at least as tightly as `power`.
fn expression(input: &mut Input<'_>, power: u8) -> Parsed<Node> {
    let mut left = operand(input)?;
    while let Some((at, infix)) = opt(located(infix).verify(|(_, infix)| infix.power() >= power)).parse_next(input)? {
        let right = if infix == Infix::Power {
            nested(input, at, |input| expression(input, infix.right()))?
        } else {
            expression(input, infix.right())?
        };
        left = node(input, at, Kind::Infix(infix, Box::new(left), Box::new(right)))?;
    }
    Ok(left)
}

fn operand(input: &mut Input<'_>) -> Parsed<Node> {
    let at = start(input)?;
    if let Some(prefix) = opt(prefix).parse_next(input)? {
        let operand = nested(input, at, |input| expression(input, prefix.power()))?;
        node(input, at, Kind::Prefix(prefix, Box::new(operand)))
    } else if let Some(digits) = opt(number).parse_next(input)? {
        let value = value(digits).map_err(|message| Fault::new(at, message))?;
        node(input, at, Kind::Number(value))
    } else if let Some(name) = opt(name).parse_next(input)? {
        match opt(symbol('(')).parse_next(input)? {
            Some(_) => {
                let arguments = nested(input, at, arguments)?;
                node(input, at, Kind::Call(name, arguments))
            }
            None => node(input, at, Kind::Name(name)),
        }
    } else if opt(symbol('(')).parse_next(input)?.is_some() {
        let inner = nested(input, at, |input| expression(input, 0))?;
        expect(input, ')', "an operator or \")\"")?;
        Ok(inner)
    } else {
        Err(unexpected(input, "a number, a name or \"(\"").into())
    }
}

/// What stands between the parentheses of a call, and the closing one.
fn arguments(input: &mut Input<'_>) -> Parsed<Vec<Node>> {
    let mut arguments = Vec::new();
    if opt(symbol(')')).parse_next(input)?.is_some() {
        return Ok(arguments);
    }
    loop {
        arguments.push(expression(input, 0)?);
        if opt(symbol(',')).parse_next(input)?.is_none() {
            expect(input, ')', "an operator, \",\" or \")\"")?;
            return Ok(arguments);
        }
    }
}

fn node(input: &mut Input<'_>, at: usize, kind: Kind) -> Parsed<Node> {
    input.state.nodes += 1;
    if input.state.nodes > Expression::MAX_NODES {
        let message = format!("more than {} numbers, names and operators", Expression::MAX_NODES);
        return Err(Fault::new(at, message).into());
    }
    Ok(Node { at, kind })
}

/// Whatever makes the parser call itself passes here, so that no text exhausts the stack.
fn nested<'t, T>(input: &mut Input<'t>, at: usize, parse: impl FnOnce(&mut Input<'t>) -> Parsed<T>) -> Parsed<T> {
    input.state.depth += 1;
    if input.state.depth > Expression::MAX_DEPTH {
        return Err(Fault::new(at, format!("nested more than {} deep", Expression::MAX_DEPTH)).into());
    }
    let parsed = parse(input)?;
    input.state.depth -= 1;
    Ok(parsed)
}

fn expect(input: &mut Input<'_>, wanted: char, or: &str) -> Parsed<()> {
    match opt(symbol(wanted)).parse_next(input)? {
        Some(()) => Ok(()),
        None => Err(unexpected(input, or).into()),
    }
}

fn space(input: &mut Input<'_>) -> Parsed<()> {
    multispace0.void().parse_next(input)
}

/// A character, white space before it skipped.
fn symbol<'t>(symbol: char) -> impl Parser<Input<'t>, (), Failure> {
    preceded(space, symbol).void()
}

fn unexpected(input: &Input<'_>, wanted: &str) -> Fault {
    let mut rest = *input;
    let (at, token) = located(opt(alt((word, number, any.take())))).parse_next(&mut rest).unwrap_or_default();
    let found = token.map_or_else(|| "the end".to_string(), |token| format!("\"{token}\""));
    Fault::new(at, format!("expected {wanted}, found {found}"))
}

/// Skips white space and says where the next token starts.
fn start(input: &mut Input<'_>) -> Parsed<usize> {
    space(input)?;
    Ok(input.current_token_start())
}

fn located<'t, T>(mut parser: impl Parser<Input<'t>, T, Failure>) -> impl FnMut(&mut Input<'t>) -> Parsed<(usize, T)> {
    move |input| Ok((start(input)?, parser.parse_next(input)?))
}

fn word<'t>(input: &mut Input<'t>) -> Parsed<&'t str> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    (one_of(first), take_while(0.., |c: char| c.is_ascii_alphanumeric() || c == '_')).take().parse_next(input)
}

fn name(input: &mut Input<'_>) -> Parsed<String> {
    word.verify(|word: &str| !matches!(word, "and" | "or" | "not")).map(str::to_string).parse_next(input)
}

fn number<'t>(input: &mut Input<'t>) -> Parsed<&'t str> {
    let mantissa = alt(((digit1, opt(('.', digit0))).void(), ('.', digit1).void()));
    let exponent = (one_of(['e', 'E']), opt(one_of(['+', '-'])), digit1);
    (mantissa, opt(exponent)).take().parse_next(input)
}

fn value(digits: &str) -> Result<f64, String> {
    let value: f64 = digits.parse().map_err(|_| format!("\"{digits}\" is not a number"))?;
    let zero =
        value == 0.0 && !digits.split(['e', 'E']).next().unwrap_or_default().contains(|c| matches!(c, '1'..='9'));
    let held = f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX);
    if zero || held.contains(&value) { Ok(value) } else { Err(format!("{digits} lies outside what an f32 holds")) }
}

fn prefix(input: &mut Input<'_>) -> Parsed<Prefix> {
    let not = alt((word.verify(|word: &str| word == "not").void(), ('!', not('=')).void()));
    alt((not.value(Prefix::Not), '-'.value(Prefix::Negate))).parse_next(input)
}

fn infix(input: &mut Input<'_>) -> Parsed<Infix> {
    alt((
        alt((word.verify(|word: &str| word == "or"), "||")).value(Infix::Or),
        alt((word.verify(|word: &str| word == "and"), "&&")).value(Infix::And),
        // The longer of two that start alike comes first.
        "<=".value(Infix::LessEqual),
        '<'.value(Infix::Less),
        ">=".value(Infix::GreaterEqual),
        '>'.value(Infix::Greater),
        "==".value(Infix::Equal),
        "!=".value(Infix::NotEqual),
        arithmetic,
    ))
    .parse_next(input)
}

fn arithmetic(input: &mut Input<'_>) -> Parsed<Infix> {
    alt((
        '+'.value(Infix::Add),
        '-'.value(Infix::Subtract),
        '*'.value(Infix::Multiply),
        '/'.value(Infix::Divide),
        '^'.value(Infix::Power),
    ))
    .parse_next(input)
}
