//! Algebra applied while a program is built, so that factors which overflow one by one are evaluated together.
use super::program::{Builder, Comparison, Id, Map, Op, Split};

/// Up to here an integer power is a product: exact, and defined for negative bases on every device.
const LARGEST_PRODUCT: f64 = 16.0;

impl Builder {
    fn split(&self, id: Id) -> Option<Split> {
        self.splits[id.0]
    }

    /// `rest · exp(log)` as one multiplication.
    fn joined(&mut self, rest: Option<Id>, log: Id) -> Id {
        let exp = self.exp(log);
        match rest {
            Some(rest) => self.with_split(Op::Multiply(rest, exp), Split { rest: Some(rest), log, overflows: true }),
            None => exp,
        }
    }

    fn with_split(&mut self, op: Op, split: Split) -> Id {
        let id = self.emit(op);
        self.splits[id.0] = Some(split);
        id
    }

    pub fn exp(&mut self, x: Id) -> Id {
        self.with_split(Op::Map(Map::Exp, x), Split { rest: None, log: x, overflows: true })
    }

    pub fn sigmoid(&mut self, x: Id) -> Id {
        let log = self.log_sigmoid(x);
        self.with_split(Op::Map(Map::Sigmoid, x), Split { rest: None, log, overflows: false })
    }

    pub fn log_sigmoid(&mut self, x: Id) -> Id {
        self.emit(Op::Map(Map::LogSigmoid, x))
    }

    /// −logsigmoid(−x): the gradient at 0 of max(x, 0) + log1p(e^−|x|) would be 0, not ½.
    pub fn softplus(&mut self, x: Id) -> Id {
        let flipped = self.negate(x);
        let log = self.log_sigmoid(flipped);
        self.negate(log)
    }

    pub fn negate(&mut self, x: Id) -> Id {
        if let Op::Negate(inner) = self.op(x) {
            return inner;
        }
        let op = Op::Negate(x);
        let Some(split) = self.split(x) else { return self.emit(op) };
        let rest = match split.rest {
            Some(rest) => self.negate(rest),
            None => self.number(-1.0),
        };
        self.with_split(op, Split { rest: Some(rest), ..split })
    }

    pub fn add(&mut self, x: Id, y: Id) -> Id {
        self.emit(Op::Add(x, y))
    }

    /// 1 − sigmoid(a) = sigmoid(−a)
    pub fn subtract(&mut self, x: Id, y: Id) -> Id {
        match (self.op(x), self.op(y)) {
            (Op::Number(1.0), Op::Map(Map::Sigmoid, a)) => {
                let flipped = self.negate(a);
                self.sigmoid(flipped)
            }
            _ => self.emit(Op::Subtract(x, y)),
        }
    }

    /// e^a · e^b = e^(a + b), sigmoid(a) · e^b = e^(logsigmoid(a) + b)
    pub fn multiply(&mut self, x: Id, y: Id) -> Id {
        let op = Op::Multiply(x, y);
        let (split, other) = match (self.split(x), self.split(y)) {
            (Some(left), Some(right)) => {
                let rest = self.product(left.rest, right.rest);
                let log = self.add(left.log, right.log);
                if left.overflows || right.overflows {
                    return self.joined(rest, log);
                }
                return self.with_split(op, Split { rest, log, overflows: false });
            }
            (Some(split), None) => (split, y),
            (None, Some(split)) => (split, x),
            (None, None) => return self.emit(op),
        };
        let rest = self.product(split.rest, Some(other));
        self.with_split(op, Split { rest, ..split })
    }

    fn product(&mut self, x: Option<Id>, y: Option<Id>) -> Option<Id> {
        match (x, y) {
            (Some(x), Some(y)) => Some(self.emit(Op::Multiply(x, y))),
            (one, None) | (None, one) => one,
        }
    }

    /// x / (1 + e^a) = x · sigmoid(−a), x / e^a = x · e^−a, x / sigmoid(a) = x · e^−logsigmoid(a)
    pub fn divide(&mut self, x: Id, y: Id) -> Id {
        if let Some(a) = self.above_one(y) {
            let flipped = self.negate(a);
            let share = self.sigmoid(flipped);
            return if self.op(x) == Op::Number(1.0) { share } else { self.multiply(x, share) };
        }
        match (self.split(x), self.split(y)) {
            (None, None) => self.emit(Op::Divide(x, y)),
            (Some(left), None) => {
                let rest = self.quotient(left.rest, Some(y));
                self.with_split(Op::Divide(x, y), Split { rest, ..left })
            }
            (Some(left), Some(right)) => {
                let rest = self.quotient(left.rest, right.rest);
                let log = self.emit(Op::Subtract(left.log, right.log));
                self.joined(rest, log)
            }
            (None, Some(right)) => {
                let numerator = (self.op(x) != Op::Number(1.0)).then_some(x);
                let rest = self.quotient(numerator, right.rest);
                let log = self.negate(right.log);
                self.joined(rest, log)
            }
        }
    }

    fn quotient(&mut self, x: Option<Id>, y: Option<Id>) -> Option<Id> {
        let y = match y {
            Some(y) => y,
            None => return x,
        };
        let x = x.unwrap_or_else(|| self.number(1.0));
        Some(self.emit(Op::Divide(x, y)))
    }

    /// `a` of 1 + e^a.
    fn above_one(&self, id: Id) -> Option<Id> {
        let Op::Add(x, y) = self.op(id) else { return None };
        match (self.op(x), self.op(y)) {
            (Op::Number(1.0), Op::Map(Map::Exp, a)) | (Op::Map(Map::Exp, a), Op::Number(1.0)) => Some(a),
            _ => None,
        }
    }

    /// (e^a)^n = e^(n·a)
    pub fn power(&mut self, x: Id, exponent: f64) -> Id {
        let whole = exponent.fract() == 0.0 && exponent.abs() <= LARGEST_PRODUCT;
        match self.split(x) {
            Some(Split { rest: None, log, overflows }) if overflows || !whole || exponent < 0.0 => {
                let exponent = self.number(exponent);
                let log = self.multiply(exponent, log);
                self.joined(None, log)
            }
            _ if whole && exponent > 0.0 => self.repeated(x, exponent as u32),
            _ if whole => {
                let (one, power) = (self.number(1.0), self.repeated(x, -exponent as u32));
                self.divide(one, power)
            }
            _ => self.emit(Op::Power(x, exponent)),
        }
    }

    /// x^times by squaring; `times` ≥ 1.
    fn repeated(&mut self, x: Id, times: u32) -> Id {
        if times <= 1 {
            return x;
        }
        let half = self.repeated(x, times / 2);
        let square = self.multiply(half, half);
        if times.is_multiple_of(2) { square } else { self.multiply(square, x) }
    }

    /// √e^a = e^(a/2)
    pub fn sqrt(&mut self, x: Id) -> Id {
        match self.split(x) {
            Some(Split { rest: None, .. }) => self.power(x, 0.5),
            _ => self.emit(Op::Map(Map::Sqrt, x)),
        }
    }

    /// log e^a = a, log sigmoid(a) = logsigmoid(a), log (1 + e^a) = softplus(a)
    pub fn log(&mut self, x: Id) -> Id {
        match (self.split(x), self.above_one(x)) {
            (Some(Split { rest: None, log, .. }), _) => log,
            (_, Some(a)) => self.softplus(a),
            _ => self.emit(Op::Map(Map::Log, x)),
        }
    }

    /// log1p(e^a) = softplus(a), log1p(−sigmoid(a)) = logsigmoid(−a)
    pub fn log1p(&mut self, x: Id) -> Id {
        match self.op(x) {
            Op::Map(Map::Exp, a) => self.softplus(a),
            Op::Negate(share) => match self.op(share) {
                Op::Map(Map::Sigmoid, a) => {
                    let flipped = self.negate(a);
                    self.log_sigmoid(flipped)
                }
                _ => self.emit(Op::Map(Map::Log1p, x)),
            },
            _ => self.emit(Op::Map(Map::Log1p, x)),
        }
    }

    /// Of a factor of a product, the factor's argument is detached, so that the product still sees what it is.
    pub fn detach(&mut self, x: Id) -> Id {
        match (self.op(x), self.split(x)) {
            (Op::Map(Map::Exp, a), _) => {
                let a = self.detach(a);
                self.exp(a)
            }
            (Op::Map(Map::Sigmoid, a), _) => {
                let a = self.detach(a);
                self.sigmoid(a)
            }
            (_, Some(Split { rest, log, overflows })) => {
                let (rest, log) = (rest.map(|rest| self.detach(rest)), self.detach(log));
                self.with_split(Op::Detach(x), Split { rest, log, overflows })
            }
            _ => self.emit(Op::Detach(x)),
        }
    }

    /// e^x − 1 = tanh(x/2) · (e^x + 1), which keeps its digits near 0.
    pub fn expm1(&mut self, x: Id) -> Id {
        let (one, two) = (self.number(1.0), self.number(2.0));
        let exp = self.exp(x);
        let (above, below) = (self.add(exp, one), self.subtract(exp, one));
        let half = self.divide(x, two);
        let tanh = self.emit(Op::Map(Map::Tanh, half));
        let near = self.multiply(tanh, above);
        let distance = self.emit(Op::Map(Map::Abs, x));
        let is_near = self.compare(Comparison::Less, distance, one);
        self.select(is_near, near, below)
    }

    /// 0 where x ≤ 0, so that the gradient at the kink is 0.
    pub fn relu(&mut self, x: Id) -> Id {
        let zero = self.number(0.0);
        let off = self.compare(Comparison::LessEqual, x, zero);
        self.select(off, zero, x)
    }

    pub fn min(&mut self, x: Id, y: Id) -> Id {
        let first = self.compare(Comparison::Less, x, y);
        let second = self.compare(Comparison::Less, y, x);
        self.extreme(first, second, x, y)
    }

    pub fn max(&mut self, x: Id, y: Id) -> Id {
        let first = self.compare(Comparison::Less, y, x);
        let second = self.compare(Comparison::Less, x, y);
        self.extreme(first, second, x, y)
    }

    /// x, y, or where neither is chosen (they are equal, or one is NaN) half of each.
    fn extreme(&mut self, first: Id, second: Id, x: Id, y: Id) -> Id {
        let half = self.number(0.5);
        let (half_x, half_y) = (self.multiply(half, x), self.multiply(half, y));
        let tie = self.add(half_x, half_y);
        let rest = self.select(second, y, tie);
        self.select(first, x, rest)
    }

    /// The bounds themselves let the gradient pass.
    pub fn clamp(&mut self, x: Id, low: f64, high: f64) -> Id {
        let (low, high) = (self.number(low), self.number(high));
        let below = self.compare(Comparison::Less, x, low);
        let above = self.compare(Comparison::Less, high, x);
        let capped = self.select(above, high, x);
        self.select(below, low, capped)
    }
}
