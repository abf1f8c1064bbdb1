//! Names and types; what is well typed goes straight to the [`Builder`].
use super::{
    error::{Fault, unknown},
    names::{BETA, Function, Variable, functions, variables},
    program::{Batch, Builder, Comparison, Id, Map, Op, Program, Shape},
    syntax::{Infix, Kind, Node, Prefix, Tree},
};

/// Compiles a parsed text.
pub(super) fn check(tree: &Tree) -> Result<Program, Fault> {
    let mut checker = Checker::default();
    for (at, binding) in &tree.bindings {
        checker.bindable(*at, &binding.name)?;
        let value = checker.value(&binding.value)?;
        checker.scope.push(Bound { at: *at, name: binding.name.clone(), value, used: false });
    }
    let result = checker.loss(&tree.result)?;
    if let Some(unused) = checker.scope.iter().find(|bound| !bound.used) {
        return Err(Fault::new(unused.at, format!("\"{}\" is never used", unused.name)));
    }
    Ok(checker.builder.finish(result))
}

#[derive(Debug, Clone, Copy)]
struct Value {
    id: Id,
    condition: bool,
    /// A gradient reaches the policy's log-probs.
    policy: bool,
}

impl Value {
    fn number(id: Id, policy: bool) -> Self {
        Self { id, condition: false, policy }
    }

    fn condition(id: Id) -> Self {
        Self { id, condition: true, policy: false }
    }
}

struct Bound {
    at: usize,
    name: String,
    value: Value,
    used: bool,
}

#[derive(Default)]
struct Checker {
    builder: Builder,
    scope: Vec<Bound>,
}

impl Checker {
    fn bindable(&self, at: usize, name: &str) -> Result<(), Fault> {
        let taken = if name == BETA || Variable::named(name).is_some() {
            "is a variable and cannot be bound"
        } else if Function::named(name).is_some() {
            "is a function and cannot be bound"
        } else if self.scope.iter().any(|bound| bound.name == name) {
            "is bound twice"
        } else {
            return Ok(());
        };
        Err(Fault::new(at, format!("\"{name}\" {taken}")))
    }

    fn loss(&mut self, node: &Node) -> Result<Id, Fault> {
        let value = self.number("the loss", node)?;
        if !value.policy {
            let needed = "it must use rho, lc, lr, pc or pr outside detach and conditions";
            return Err(Fault::new(node.at, format!("the loss does not depend on the policy: {needed}")));
        }
        Ok(value.id)
    }

    fn value(&mut self, node: &Node) -> Result<Value, Fault> {
        match &node.kind {
            Kind::Number(value) => Ok(Value::number(self.builder.number(*value), false)),
            Kind::Name(name) => self.name(node.at, name),
            Kind::Call(name, arguments) => self.call(node.at, name, arguments),
            Kind::Prefix(Prefix::Not, operand) => {
                let operand = self.condition("\"not\"", operand)?;
                Ok(Value::condition(self.builder.not(operand)))
            }
            Kind::Prefix(Prefix::Negate, operand) => {
                let operand = self.number("\"-\"", operand)?;
                Ok(Value::number(self.builder.negate(operand.id), operand.policy))
            }
            Kind::Infix(infix, left, right) => self.infix(*infix, left, right),
        }
    }

    fn found(&self, value: Value) -> &'static str {
        match (value.condition, self.builder.shape(value.id)) {
            (true, _) => "a condition",
            (_, Shape::Scalar) => "a number",
            (_, Shape::Statistic) => "a batch statistic",
            (_, Shape::Pairs) => "a value per pair",
        }
    }

    fn number(&mut self, user: &str, node: &Node) -> Result<Value, Fault> {
        let value = self.value(node)?;
        if value.condition {
            return Err(Fault::new(node.at, format!("{user} needs a number, found a condition")));
        }
        Ok(value)
    }

    fn condition(&mut self, user: &str, node: &Node) -> Result<Id, Fault> {
        let value = self.value(node)?;
        if !value.condition {
            let found = self.found(value);
            return Err(Fault::new(node.at, format!("{user} needs a condition, found {found}")));
        }
        Ok(value.id)
    }

    fn pairs(&mut self, user: &str, node: &Node) -> Result<Value, Fault> {
        let value = self.value(node)?;
        if value.condition || self.builder.shape(value.id) != Shape::Pairs {
            let found = self.found(value);
            return Err(Fault::new(node.at, format!("{user} needs a value per pair, found {found}")));
        }
        Ok(value)
    }

    fn name(&mut self, at: usize, name: &str) -> Result<Value, Fault> {
        if let Some(bound) = self.scope.iter_mut().find(|bound| bound.name == name) {
            bound.used = true;
            return Ok(bound.value);
        }
        if let Some(variable) = Variable::named(name) {
            return Ok(Value::number(self.builder.emit(Op::Variable(variable)), !variable.is_length()));
        }
        if name == BETA {
            return Ok(Value::number(self.builder.emit(Op::Beta), false));
        }
        let message = if Function::named(name).is_some() {
            format!("\"{name}\" is a function: {name}(...)")
        } else {
            let bound = self.scope.iter().map(|bound| bound.name.as_str());
            unknown("name", name, bound.chain(variables()))
        };
        Err(Fault::new(at, message))
    }

    fn infix(&mut self, infix: Infix, left: &Node, right: &Node) -> Result<Value, Fault> {
        let user = format!("\"{}\"", infix.symbol());
        match infix {
            Infix::Or | Infix::And => {
                let (x, y) = (self.condition(&user, left)?, self.condition(&user, right)?);
                Ok(Value::condition(match infix {
                    Infix::Or => self.builder.or(x, y),
                    _ => self.builder.emit(Op::And(x, y)),
                }))
            }
            Infix::Power => self.power(&user, left, right),
            Infix::Add | Infix::Subtract | Infix::Multiply | Infix::Divide => {
                let (x, y) = (self.number(&user, left)?, self.number(&user, right)?);
                Ok(Value::number(self.arithmetic(infix, x.id, y.id), x.policy || y.policy))
            }
            _ => {
                let (x, y) = (self.number(&user, left)?, self.number(&user, right)?);
                Ok(Value::condition(self.comparison(infix, x.id, y.id)))
            }
        }
    }

    fn arithmetic(&mut self, infix: Infix, x: Id, y: Id) -> Id {
        match infix {
            Infix::Subtract => self.builder.subtract(x, y),
            Infix::Multiply => self.builder.multiply(x, y),
            Infix::Divide => self.builder.divide(x, y),
            _ => self.builder.add(x, y),
        }
    }

    fn comparison(&mut self, infix: Infix, x: Id, y: Id) -> Id {
        match infix {
            Infix::Less => self.builder.compare(Comparison::Less, x, y),
            Infix::LessEqual => self.builder.compare(Comparison::LessEqual, x, y),
            Infix::Greater => self.builder.compare(Comparison::Less, y, x),
            Infix::GreaterEqual => self.builder.compare(Comparison::LessEqual, y, x),
            Infix::NotEqual => {
                let equal = self.builder.compare(Comparison::Equal, x, y);
                self.builder.not(equal)
            }
            _ => self.builder.compare(Comparison::Equal, x, y),
        }
    }

    fn power(&mut self, user: &str, base: &Node, exponent: &Node) -> Result<Value, Fault> {
        let base = self.number(user, base)?;
        match exponent.literal() {
            Some(0.0) => Err(Fault::new(exponent.at, "the exponent must not be 0: the power is 1")),
            Some(value) => Ok(Value::number(self.builder.power(base.id, value), base.policy)),
            None => Err(Fault::new(exponent.at, "the exponent must be a number, such as 2 or -0.5")),
        }
    }

    fn call(&mut self, at: usize, name: &str, arguments: &[Node]) -> Result<Value, Fault> {
        let Some(function) = Function::named(name) else { return Err(Fault::new(at, self.not_a_function(name))) };
        let wrong_count = || {
            let (wanted, plural) = (function.arity(), if function.arity() == 1 { "" } else { "s" });
            Fault::new(at, format!("\"{name}\" takes {wanted} argument{plural}, found {}", arguments.len()))
        };
        let user = format!("\"{name}\"");
        match (function.arity(), arguments) {
            (1, [x]) => self.unary(function, &user, x),
            (2, [x, y]) => {
                let (x, y) = (self.number(&user, x)?, self.number(&user, y)?);
                let id = match function {
                    Function::Min => self.builder.min(x.id, y.id),
                    _ => self.builder.max(x.id, y.id),
                };
                Ok(Value::number(id, x.policy || y.policy))
            }
            (3, [x, low, high]) if function == Function::Clamp => self.clamp(&user, x, low, high),
            (3, [condition, x, y]) => {
                let condition = self.condition(&user, condition)?;
                let (x, y) = (self.number(&user, x)?, self.number(&user, y)?);
                Ok(Value::number(self.builder.select(condition, x.id, y.id), x.policy || y.policy))
            }
            _ => Err(wrong_count()),
        }
    }

    fn not_a_function(&self, name: &str) -> String {
        let bound = self.scope.iter().any(|bound| bound.name == name);
        if bound || name == BETA || Variable::named(name).is_some() {
            format!("\"{name}\" is not a function")
        } else {
            unknown("function", name, functions())
        }
    }

    fn clamp(&mut self, user: &str, x: &Node, low: &Node, high: &Node) -> Result<Value, Fault> {
        let bound = |node: &Node| {
            let message = format!("the bounds of {user} must be numbers, such as -1 or 0.5");
            node.literal().ok_or(Fault::new(node.at, message))
        };
        let x = self.number(user, x)?;
        let (least, most) = (bound(low)?, bound(high)?);
        if least > most {
            return Err(Fault::new(high.at, format!("the upper bound of {user} lies below the lower one")));
        }
        Ok(Value::number(self.builder.clamp(x.id, least, most), x.policy))
    }

    fn unary(&mut self, function: Function, user: &str, argument: &Node) -> Result<Value, Fault> {
        let batch = match function {
            Function::Mean => Some(Batch::Mean),
            Function::Std => Some(Batch::Std),
            Function::Var => Some(Batch::Var),
            Function::Sort => Some(Batch::Sort),
            _ => None,
        };
        if let Some(batch) = batch {
            let x = self.pairs(user, argument)?;
            return Ok(Value::number(self.builder.emit(Op::Batch(batch, x.id)), x.policy));
        }
        let x = self.number(user, argument)?;
        let id = self.map(function, x.id);
        Ok(Value::number(id, x.policy && function != Function::Detach))
    }

    fn map(&mut self, function: Function, x: Id) -> Id {
        let builder = &mut self.builder;
        match function {
            Function::Sigmoid => builder.sigmoid(x),
            Function::LogSigmoid => builder.log_sigmoid(x),
            Function::Softplus => builder.softplus(x),
            Function::Relu => builder.relu(x),
            Function::Exp => builder.exp(x),
            Function::Log => builder.log(x),
            Function::Log1p => builder.log1p(x),
            Function::Expm1 => builder.expm1(x),
            Function::Tanh => builder.emit(Op::Map(Map::Tanh, x)),
            Function::Abs => builder.emit(Op::Map(Map::Abs, x)),
            Function::Sqrt => builder.sqrt(x),
            Function::Square => builder.multiply(x, x),
            _ => builder.detach(x),
        }
    }
}
