//! Programs on tensors.
//!
//! A value that no result uses at some pair must not reach that pair's gradient, not even as 0·∞. So conditions are
//! evaluated first, without a gradient; they say at which pairs each operation is *active*, that is, reaches the
//! result; and at the others every operation whose derivative depends on its operands gets 1 for each of them. All
//! derivatives there are then finite, and zero times them is zero.
use burn::tensor::{Bool, Tensor};

use super::{
    kernels::{Value, add, batch, compare, divide, map, multiply, negate, subtract},
    names::Variable,
    program::{Id, Op, Program, Shape},
};
use crate::PairLogps;

/// What the variables stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub policy: &'a PairLogps,
    pub reference: &'a PairLogps,
    pub beta: f64,
    /// `[pairs]` each; 1 where absent.
    pub lengths: Option<(&'a Tensor<1>, &'a Tensor<1>)>,
}

impl Inputs<'_> {
    /// `[pairs]`
    fn variable(&self, variable: Variable) -> Tensor<1> {
        let (policy, reference) = (self.policy, self.reference);
        let length = |length: Option<&Tensor<1>>| match length {
            Some(length) => length.clone().clamp_min(1.0),
            None => policy.chosen.ones_like(),
        };
        match variable {
            Variable::Rho => policy.margin() - reference.margin(),
            Variable::Lc => policy.chosen.clone() - reference.chosen.clone(),
            Variable::Lr => policy.rejected.clone() - reference.rejected.clone(),
            Variable::Pc => policy.chosen.clone(),
            Variable::Pr => policy.rejected.clone(),
            Variable::LenC => length(self.lengths.map(|(chosen, _)| chosen)),
            Variable::LenR => length(self.lengths.map(|(_, rejected)| rejected)),
        }
    }
}

/// `[pairs]`, the program's result.
pub(super) fn evaluate(program: &Program, inputs: Inputs<'_>) -> Tensor<1> {
    let plain = plain_values(program, &inputs);
    let activities = activities(program, &inputs, &plain);
    let mut values = plain.clone();
    for (at, op) in program.ops.iter().enumerate().filter(|(at, _)| program.graph[*at]) {
        values[at] = match *op {
            Op::Detach(x) => plain[x.0].clone(),
            Op::Select(condition, x, y) => select(&inputs, &plain[condition.0], &values[x.0], &values[y.0]),
            _ if bends(op) => apply(op, &inputs, |operand: Id| {
                neutral(values[operand.0].clone(), &activities[at], &inputs.policy.chosen)
            }),
            _ => apply(op, &inputs, |operand: Id| values[operand.0].clone()),
        };
    }
    let result = values.swap_remove(program.result.0).tensor(&inputs.policy.chosen);
    result.expand([inputs.policy.pairs()])
}

/// What conditions and `detach` need, detached; elsewhere 0.
fn plain_values(program: &Program, inputs: &Inputs<'_>) -> Vec<Value> {
    let mut values = vec![Value::Scalar(0.0); program.ops.len()];
    for (at, op) in program.ops.iter().enumerate().filter(|(at, _)| program.plain[*at]) {
        values[at] = match *op {
            Op::Detach(x) => values[x.0].clone(),
            Op::Select(condition, x, y) => select(inputs, &values[condition.0], &values[x.0], &values[y.0]),
            _ => apply(op, inputs, |operand: Id| values[operand.0].clone()).detach(),
        };
    }
    values
}

/// An operation that is neither a choice nor detached.
fn apply(op: &Op, inputs: &Inputs<'_>, operand: impl Fn(Id) -> Value) -> Value {
    let tensor = |id: Id| operand(id).tensor(&inputs.policy.chosen);
    match *op {
        Op::Number(value) => Value::Scalar(value),
        Op::Beta => Value::Scalar(inputs.beta),
        Op::Variable(variable) => Value::Tensor(inputs.variable(variable)),
        Op::Negate(x) => negate(operand(x)),
        Op::Add(x, y) => add(operand(x), operand(y)),
        Op::Subtract(x, y) => subtract(operand(x), operand(y)),
        // Conditions are 1 or 0.
        Op::Multiply(x, y) | Op::And(x, y) => multiply(operand(x), operand(y)),
        Op::Not(x) => subtract(Value::Scalar(1.0), operand(x)),
        Op::Divide(x, y) => divide(operand(x), operand(y)),
        Op::Power(x, exponent) => match operand(x) {
            Value::Scalar(base) => Value::Scalar(base.powf(exponent)),
            Value::Tensor(base) => Value::Tensor(base.powf_scalar(exponent)),
        },
        Op::Map(function, x) => map(function, operand(x)),
        Op::Batch(function, x) => Value::Tensor(batch(function, tensor(x))),
        Op::Compare(comparison, x, y) => Value::Tensor(compare(comparison, tensor(x), tensor(y))),
        Op::Detach(x) | Op::Select(_, x, _) => operand(x),
    }
}

fn select(inputs: &Inputs<'_>, condition: &Value, x: &Value, y: &Value) -> Value {
    let like = &inputs.policy.chosen;
    let [condition, x, y] = [condition, x, y].map(|value| value.clone().tensor(like));
    let length = [&condition, &x, &y].map(|value| value.dims()[0]).into_iter().max().unwrap_or(1);
    let [condition, x, y] = [condition, x, y].map(|value| value.expand([length]));
    Value::Tensor(y.mask_where(holds(condition), x))
}

fn holds(condition: Tensor<1>) -> Tensor<1, Bool> {
    condition.greater_elem(0.5)
}

/// Whether the derivative depends on the operands.
fn bends(op: &Op) -> bool {
    matches!(op, Op::Multiply(..) | Op::Divide(..) | Op::Power(..) | Op::Map(..) | Op::Batch(..))
}

/// Where an operation reaches the result.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "a tensor is a handle, and there are few")]
enum Activity {
    Nowhere,
    Everywhere,
    /// `[1]` or `[pairs]`
    Where(Tensor<1, Bool>),
}

impl Activity {
    /// Only where `condition` (`[1]` or `[pairs]`) holds as well.
    fn and(&self, condition: Tensor<1, Bool>) -> Self {
        match self {
            Self::Nowhere => Self::Nowhere,
            Self::Everywhere => Self::Where(condition),
            Self::Where(active) => {
                let (active, condition) = matched(active.clone(), condition);
                Self::Where(active.bool_and(condition))
            }
        }
    }

    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Everywhere, _) | (_, Self::Everywhere) => Self::Everywhere,
            (Self::Nowhere, one) | (one, Self::Nowhere) => one,
            (Self::Where(left), Self::Where(right)) => {
                let (left, right) = matched(left, right);
                Self::Where(left.bool_or(right))
            }
        }
    }

    /// One value that any pair may need is needed if some pair does.
    fn of_batch(self) -> Self {
        match self {
            Self::Where(active) => Self::Where(active.any()),
            other => other,
        }
    }
}

fn matched(left: Tensor<1, Bool>, right: Tensor<1, Bool>) -> (Tensor<1, Bool>, Tensor<1, Bool>) {
    let length = left.dims()[0].max(right.dims()[0]);
    (left.expand([length]), right.expand([length]))
}

fn activities(program: &Program, inputs: &Inputs<'_>, plain: &[Value]) -> Vec<Activity> {
    let mut activities = vec![Activity::Nowhere; program.ops.len()];
    activities[program.result.0] = Activity::Everywhere;
    let mark = |activities: &mut [Activity], id: Id, activity: Activity| {
        let activity = if program.shapes[id.0] == Shape::Pairs { activity } else { activity.of_batch() };
        let before = std::mem::replace(&mut activities[id.0], Activity::Nowhere);
        activities[id.0] = before.or(activity);
    };
    for (at, op) in program.ops.iter().enumerate().rev().filter(|(at, _)| program.graph[*at]) {
        let activity = activities[at].clone();
        match *op {
            Op::Detach(_) => {}
            Op::Select(condition, x, y) => {
                let condition = holds(plain[condition.0].clone().tensor(&inputs.policy.chosen));
                mark(&mut activities, x, activity.and(condition.clone()));
                mark(&mut activities, y, activity.and(condition.bool_not()));
            }
            Op::Batch(_, x) => mark(&mut activities, x, activity.of_batch()),
            _ => op.operands().for_each(|operand| mark(&mut activities, operand, activity.clone())),
        }
    }
    activities
}

/// 1 where the operation is not active; a number stays as it is if neither it nor its reciprocal can overflow.
fn neutral(value: Value, activity: &Activity, like: &Tensor<1>) -> Value {
    let harmless = f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX);
    match (value, activity) {
        (Value::Scalar(value), _) if harmless.contains(&value.abs()) => Value::Scalar(value),
        (value, Activity::Where(active)) => {
            let tensor = value.tensor(like);
            let length = tensor.dims()[0].max(active.dims()[0]);
            let active = active.clone().expand([length]);
            Value::Tensor(tensor.expand([length]).mask_fill(active.bool_not(), 1.0))
        }
        (value, _) => value,
    }
}
