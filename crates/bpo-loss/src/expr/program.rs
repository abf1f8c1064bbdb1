//! What an expression evaluates: a list of operations, each on earlier ones, no two alike.
use super::names::Variable;

/// An operation's place in its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(pub usize);

/// How many values there are, from fewest to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shape {
    /// One, the same for every batch.
    Scalar,
    /// One for the batch.
    Statistic,
    /// One for each pair.
    Pairs,
}

/// Functions of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Map {
    Sigmoid,
    LogSigmoid,
    Exp,
    Log,
    Log1p,
    Tanh,
    Abs,
    Sqrt,
}

/// Functions of all pairs at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Batch {
    Mean,
    Std,
    Var,
    Sort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Less,
    LessEqual,
    Equal,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Op {
    Number(f64),
    Beta,
    Variable(Variable),
    Negate(Id),
    Add(Id, Id),
    Subtract(Id, Id),
    Multiply(Id, Id),
    Divide(Id, Id),
    Power(Id, f64),
    Map(Map, Id),
    Batch(Batch, Id),
    Detach(Id),
    Compare(Comparison, Id, Id),
    And(Id, Id),
    Not(Id),
    /// Condition, value where it holds, value where it does not.
    Select(Id, Id, Id),
}

impl Op {
    /// What it is computed from.
    pub fn operands(&self) -> impl Iterator<Item = Id> + use<> {
        let operands = match *self {
            Self::Number(_) | Self::Beta | Self::Variable(_) => [None; 3],
            Self::Negate(x)
            | Self::Power(x, _)
            | Self::Map(_, x)
            | Self::Batch(_, x)
            | Self::Detach(x)
            | Self::Not(x) => [Some(x), None, None],
            Self::Add(x, y)
            | Self::Subtract(x, y)
            | Self::Multiply(x, y)
            | Self::Divide(x, y)
            | Self::Compare(_, x, y)
            | Self::And(x, y) => [Some(x), Some(y), None],
            Self::Select(condition, x, y) => [Some(condition), Some(x), Some(y)],
        };
        operands.into_iter().flatten()
    }
}

/// A compiled expression.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub ops: Vec<Op>,
    pub shapes: Vec<Shape>,
    pub result: Id,
    /// Operations on the way from the log-probs to the result: evaluated with their gradient.
    pub graph: Vec<bool>,
    /// Operations below conditions and `detach`: evaluated without one.
    pub plain: Vec<bool>,
}

impl Program {
    fn new(ops: Vec<Op>, shapes: Vec<Shape>, result: Id) -> Self {
        let (mut graph, mut plain) = (vec![false; ops.len()], vec![false; ops.len()]);
        graph[result.0] = true;
        for (at, op) in ops.iter().enumerate().rev() {
            for operand in op.operands() {
                let value_only = match *op {
                    Op::Detach(_) => true,
                    Op::Select(condition, ..) => operand == condition,
                    _ => false,
                };
                graph[operand.0] |= graph[at] && !value_only;
                plain[operand.0] |= plain[at] || (graph[at] && value_only);
            }
        }
        Self { ops, shapes, result, graph, plain }
    }

    /// Whether any operation in use satisfies `predicate`.
    pub fn uses(&self, predicate: impl Fn(&Op) -> bool) -> bool {
        self.ops.iter().enumerate().any(|(at, op)| (self.graph[at] || self.plain[at]) && predicate(op))
    }
}

/// Appends operations. What is a rule of algebra rather than an operation is in `rewrite.rs`.
#[derive(Debug, Default)]
pub(super) struct Builder {
    ops: Vec<Op>,
    shapes: Vec<Shape>,
    /// For each operation, itself as a product with an exponential, where it is one.
    pub(super) splits: Vec<Option<Split>>,
}

/// `rest · e^log`
#[derive(Debug, Clone, Copy)]
pub(super) struct Split {
    /// 1 where absent.
    pub rest: Option<Id>,
    pub log: Id,
    /// An `exp` is among the factors, not only sigmoids, so that some factor may overflow.
    pub overflows: bool,
}

impl Builder {
    pub fn finish(self, result: Id) -> Program {
        Program::new(self.ops, self.shapes, result)
    }

    pub fn op(&self, id: Id) -> Op {
        self.ops[id.0]
    }

    pub fn shape(&self, id: Id) -> Shape {
        self.shapes[id.0]
    }

    /// The operation's place, a new one only if there was none like it.
    pub fn emit(&mut self, op: Op) -> Id {
        if let Some(known) = self.ops.iter().position(|known| *known == op) {
            return Id(known);
        }
        self.shapes.push(self.shape_of(&op));
        self.ops.push(op);
        self.splits.push(None);
        Id(self.ops.len() - 1)
    }

    fn shape_of(&self, op: &Op) -> Shape {
        let widest = op.operands().map(|operand| self.shape(operand)).max();
        match op {
            Op::Variable(_) | Op::Batch(Batch::Sort, _) => Shape::Pairs,
            Op::Batch(..) => Shape::Statistic,
            // Conditions are tensors, and so is what they choose.
            Op::Compare(..) | Op::And(..) | Op::Not(_) | Op::Select(..) => {
                widest.unwrap_or(Shape::Statistic).max(Shape::Statistic)
            }
            _ => widest.unwrap_or(Shape::Scalar),
        }
    }

    pub fn number(&mut self, value: f64) -> Id {
        self.emit(Op::Number(value))
    }

    pub fn compare(&mut self, comparison: Comparison, x: Id, y: Id) -> Id {
        self.emit(Op::Compare(comparison, x, y))
    }

    pub fn not(&mut self, x: Id) -> Id {
        self.emit(Op::Not(x))
    }

    /// x or y = not (not x and not y)
    pub fn or(&mut self, x: Id, y: Id) -> Id {
        let (x, y) = (self.not(x), self.not(y));
        let neither = self.emit(Op::And(x, y));
        self.not(neither)
    }

    pub fn select(&mut self, condition: Id, x: Id, y: Id) -> Id {
        self.emit(Op::Select(condition, x, y))
    }
}
