//! A template whose every product is counted.
//!
//! Fuel bounds how many instructions a template runs, not how much one of them makes: forty lines that double a
//! string fill any memory. The parsed template is therefore rewritten: whatever makes a new value (`+`, `~`, a
//! filter, a call, a slice, a literal list) goes through the filter [`COUNT`], a `*` becomes the filter [`TIMES`],
//! and text between tags is emitted like any other value, through the formatter that counts. Filters cannot be
//! redefined by a template, and these have names that no template can spell.

use minijinja::Error;
use minijinja::machinery::ast::{
    AutoEscape, BinOp, BinOpKind, Break, Call, CallArg, CallBlock, Compare, CompareOp, Const, Continue, Do, EmitExpr,
    Expr, Filter, FilterBlock, ForLoop, GetAttr, GetItem, IfCond, IfExpr, List, Macro, Map, Set, SetBlock, Slice,
    Spanned, Stmt, Template, Test, Tuple, UnaryOp, UnaryOpKind, Var, WithBlock,
};
use minijinja::{ErrorKind, Value};

/// Counts its operand and gives it back.
pub(super) const COUNT: &str = "bpo:count";
/// Gives its operand back unless it holds a namespace: only those can be made to hold themselves.
pub(super) const HELD: &str = "bpo:held";
/// Multiplies its operand by its argument.
pub(super) const TIMES: &str = "bpo:times";

/// The template with its products counted.
///
/// # Errors
/// For statements that would need another template.
pub(super) fn guarded<'a>(statement: &Stmt<'a>) -> Result<Stmt<'a>, Error> {
    Ok(match statement {
        Stmt::Template(s) => Stmt::Template(with(s, Template { children: body(&s.children)? })),
        Stmt::EmitExpr(s) => Stmt::EmitExpr(with(s, EmitExpr { expr: emitted(&s.expr) })),
        Stmt::EmitRaw(s) => {
            let text = Expr::Const(with(s, Const { value: Value::from(s.raw) }));
            Stmt::EmitExpr(with(s, EmitExpr { expr: text }))
        }
        Stmt::ForLoop(s) => Stmt::ForLoop(with(
            s,
            ForLoop {
                target: copy(&s.target),
                iter: held(&s.target, &s.iter),
                filter_expr: optional(&s.filter_expr),
                recursive: s.recursive,
                body: body(&s.body)?,
                else_body: body(&s.else_body)?,
            },
        )),
        Stmt::IfCond(s) => Stmt::IfCond(with(
            s,
            IfCond { expr: expr(&s.expr), true_body: body(&s.true_body)?, false_body: body(&s.false_body)? },
        )),
        Stmt::WithBlock(s) => {
            let assignments = s.assignments.iter().map(|(target, value)| (copy(target), held(target, value))).collect();
            Stmt::WithBlock(with(s, WithBlock { assignments, body: body(&s.body)? }))
        }
        Stmt::Set(s) => Stmt::Set(with(s, Set { target: copy(&s.target), expr: held(&s.target, &s.expr) })),
        Stmt::SetBlock(s) => Stmt::SetBlock(with(
            s,
            SetBlock { target: copy(&s.target), filter: s.filter.as_ref().map(copy), body: body(&s.body)? },
        )),
        Stmt::AutoEscape(s) => {
            Stmt::AutoEscape(with(s, AutoEscape { enabled: expr(&s.enabled), body: body(&s.body)? }))
        }
        Stmt::FilterBlock(s) => {
            Stmt::FilterBlock(with(s, FilterBlock { filter: copy(&s.filter), body: body(&s.body)? }))
        }
        Stmt::Macro(s) => Stmt::Macro(with(s, declared(s)?)),
        Stmt::CallBlock(s) => Stmt::CallBlock(with(
            s,
            CallBlock { call: with(&s.call, call(&s.call)), macro_decl: with(&s.macro_decl, declared(&s.macro_decl)?) },
        )),
        Stmt::Continue(s) => Stmt::Continue(with(s, Continue)),
        Stmt::Break(s) => Stmt::Break(with(s, Break)),
        Stmt::Do(s) => Stmt::Do(with(s, Do { call: with(&s.call, call(&s.call)) })),
        Stmt::Block(_) | Stmt::Import(_) | Stmt::FromImport(_) | Stmt::Extends(_) | Stmt::Include(_) => {
            let reason = "a chat template stands alone: no block, import, extends or include";
            return Err(Error::new(ErrorKind::InvalidOperation, reason));
        }
    })
}

/// A node in the place of another.
fn with<T, U>(place: &Spanned<T>, node: U) -> Spanned<U> {
    Spanned::new(node, place.span())
}

fn body<'a>(statements: &[Stmt<'a>]) -> Result<Vec<Stmt<'a>>, Error> {
    statements.iter().map(guarded).collect()
}

fn declared<'a>(s: &Macro<'a>) -> Result<Macro<'a>, Error> {
    let each = |list: &[Expr<'a>]| list.iter().map(expr).collect();
    Ok(Macro {
        name: s.name,
        args: s.args.iter().map(copy).collect(),
        defaults: each(&s.defaults),
        body: body(&s.body)?,
    })
}

fn optional<'a>(node: &Option<Expr<'a>>) -> Option<Expr<'a>> {
    node.as_ref().map(expr)
}

/// What is assigned to `target`, which may be an attribute of a namespace.
fn held<'a>(target: &Expr<'a>, value: &Expr<'a>) -> Expr<'a> {
    if matches!(target, Expr::Var(_)) { expr(value) } else { filtered(HELD, expr(value)) }
}

fn filtered<'a>(name: &'static str, value: Expr<'a>) -> Expr<'a> {
    let span = value.span();
    Expr::Filter(Spanned::new(Filter { name, expr: Some(value), args: Vec::new() }, span))
}

/// What `{{ … }}` holds: a call there is the formatter's to count, and `loop(…)` is only known as such bare.
fn emitted<'a>(node: &Expr<'a>) -> Expr<'a> {
    if matches!(node, Expr::Call(_)) { copy(node) } else { expr(node) }
}

/// An expression whose value is counted, if it is a new one.
fn expr<'a>(node: &Expr<'a>) -> Expr<'a> {
    let copied = copy(node);
    let makes = match node {
        Expr::Slice(_) | Expr::Filter(_) | Expr::Call(_) | Expr::List(_) | Expr::Tuple(_) | Expr::Map(_) => true,
        Expr::BinOp(s) => matches!(s.op, BinOpKind::Add | BinOpKind::Concat | BinOpKind::Mul),
        _ => false,
    };
    if !makes {
        return copied;
    }
    filtered(COUNT, copied)
}

/// An expression as it stands, its parts counted.
fn copy<'a>(node: &Expr<'a>) -> Expr<'a> {
    let each = |list: &[Expr<'a>]| list.iter().map(expr).collect();
    match node {
        Expr::Var(s) => Expr::Var(with(s, Var { id: s.id })),
        Expr::Const(s) => Expr::Const(with(s, Const { value: s.value.clone() })),
        Expr::Slice(s) => {
            let (start, stop, step) = (optional(&s.start), optional(&s.stop), optional(&s.step));
            Expr::Slice(with(s, Slice { expr: expr(&s.expr), start, stop, step }))
        }
        Expr::UnaryOp(s) => {
            // It cannot be copied.
            let op = if matches!(s.op, UnaryOpKind::Not) { UnaryOpKind::Not } else { UnaryOpKind::Neg };
            Expr::UnaryOp(with(s, UnaryOp { op, expr: expr(&s.expr) }))
        }
        Expr::BinOp(s) if matches!(s.op, BinOpKind::Mul) => {
            let args = vec![CallArg::Pos(expr(&s.right))];
            Expr::Filter(with(s, Filter { name: TIMES, expr: Some(expr(&s.left)), args }))
        }
        Expr::BinOp(s) => Expr::BinOp(with(s, BinOp { op: s.op, left: expr(&s.left), right: expr(&s.right) })),
        Expr::Compare(s) => {
            let ops = s.ops.iter().map(|op| CompareOp { op: op.op, expr: expr(&op.expr) }).collect();
            Expr::Compare(with(s, Compare { expr: expr(&s.expr), ops }))
        }
        Expr::IfExpr(s) => {
            let (test_expr, true_expr) = (expr(&s.test_expr), expr(&s.true_expr));
            Expr::IfExpr(with(s, IfExpr { test_expr, true_expr, false_expr: optional(&s.false_expr) }))
        }
        Expr::Filter(s) => {
            Expr::Filter(with(s, Filter { name: s.name, expr: optional(&s.expr), args: arguments(&s.args) }))
        }
        Expr::Test(s) => Expr::Test(with(s, Test { name: s.name, expr: expr(&s.expr), args: arguments(&s.args) })),
        Expr::GetAttr(s) => Expr::GetAttr(with(s, GetAttr { expr: expr(&s.expr), name: s.name })),
        Expr::GetItem(s) => {
            Expr::GetItem(with(s, GetItem { expr: expr(&s.expr), subscript_expr: expr(&s.subscript_expr) }))
        }
        Expr::Call(s) => Expr::Call(with(s, call(s))),
        Expr::List(s) => Expr::List(with(s, List { items: each(&s.items) })),
        Expr::Tuple(s) => Expr::Tuple(with(s, Tuple { items: each(&s.items) })),
        Expr::Map(s) => Expr::Map(with(s, Map { keys: each(&s.keys), values: each(&s.values) })),
    }
}

fn call<'a>(s: &Call<'a>) -> Call<'a> {
    Call { expr: expr(&s.expr), args: arguments(&s.args) }
}

fn arguments<'a>(list: &[CallArg<'a>]) -> Vec<CallArg<'a>> {
    let each = |argument: &CallArg<'a>| match argument {
        CallArg::Pos(value) => CallArg::Pos(expr(value)),
        CallArg::Kwarg(name, value) => CallArg::Kwarg(name, expr(value)),
        CallArg::PosSplat(value) => CallArg::PosSplat(expr(value)),
        CallArg::KwargSplat(value) => CallArg::KwargSplat(expr(value)),
    };
    list.iter().map(each).collect()
}
