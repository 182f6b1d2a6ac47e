//! Shorter expressions.

use swc_core::{
    common::{DUMMY_SP, SyntaxContext},
    ecma::{
        ast::*,
        visit::{Visit, VisitWith},
    },
};

use super::facts::Facts;

pub(super) fn tidy(node: &mut Expr, unresolved: SyntaxContext) {
    match node {
        // true, false -> !0, !1
        Expr::Lit(Lit::Bool(Bool { value, span })) => {
            let arg = Box::new(number(if *value { 0.0 } else { 1.0 }));
            *node = Expr::Unary(UnaryExpr { span: *span, op: UnaryOp::Bang, arg });
        }
        // The global `undefined` and `Infinity` are constants of the language.
        Expr::Ident(name) if name.ctxt == unresolved && name.sym == "undefined" => {
            *node = Expr::Unary(UnaryExpr { span: name.span, op: UnaryOp::Void, arg: Box::new(number(0.0)) });
        }
        Expr::Ident(name) if name.ctxt == unresolved && name.sym == "Infinity" => {
            let (left, right) = (Box::new(number(1.0)), Box::new(number(0.0)));
            *node = Expr::Bin(BinExpr { span: name.span, op: BinaryOp::Div, left, right });
        }
        // -(1 / 0) -> (-1) / 0, for the sake of what it stands in: typeof -1 / 0 is another thing
        Expr::Unary(UnaryExpr { op: UnaryOp::Minus, arg, span }) if is_infinity(arg) => {
            let left = Expr::Unary(UnaryExpr { span: *span, op: UnaryOp::Minus, arg: Box::new(number(1.0)) });
            let (left, right) = (Box::new(left), Box::new(number(0.0)));
            *node = Expr::Bin(BinExpr { span: *span, op: BinaryOp::Div, left, right });
        }
        Expr::Bin(binary) => {
            compare_types(binary);
            if let Some(folded) = folded(binary) {
                *node = folded;
            }
        }
        // !(a == b) -> a != b
        Expr::Unary(UnaryExpr { op: UnaryOp::Bang, arg, .. }) => {
            bare(arg);
            if let Expr::Bin(binary) = &mut **arg
                && let Some(op) = opposite(binary)
            {
                binary.op = op;
                *node = Expr::Bin(binary.clone());
            }
        }
        Expr::Cond(conditional) => {
            bare(&mut conditional.test);
            if let Some(truth) = truth_of(&conditional.test) {
                let chosen = if truth { &mut conditional.cons } else { &mut conditional.alt };
                if stands_alone(chosen) {
                    *node = std::mem::replace(&mut **chosen, number(0.0));
                }
            } else if let Some(shorter) = truth(conditional) {
                *node = shorter;
            }
        }
        _ => {}
    }
}

/// What an operation on literals gives, where that is shorter.
fn folded(binary: &mut BinExpr) -> Option<Expr> {
    let (left, right) = (&*binary.left, &*binary.right);
    match (binary.op, left, right) {
        // 0 && a -> 0: `a` never runs
        (BinaryOp::LogicalAnd | BinaryOp::LogicalOr, test, _) if truth_of(test).is_some() => {
            if truth_of(test) == Some(binary.op == BinaryOp::LogicalOr) {
                return Some(left.clone());
            }
            let right = &mut *binary.right;
            stands_alone(right).then(|| std::mem::replace(right, number(0.0)))
        }
        // "development" !== "production" -> true
        (
            BinaryOp::EqEq | BinaryOp::EqEqEq | BinaryOp::NotEq | BinaryOp::NotEqEq,
            Expr::Lit(Lit::Str(left)),
            Expr::Lit(Lit::Str(right)),
        ) => {
            let equal = matches!(binary.op, BinaryOp::EqEq | BinaryOp::EqEqEq);
            let truth = equal == (left.value == right.value);
            Some(not(number(if truth { 0.0 } else { 1.0 })))
        }
        (BinaryOp::Add, Expr::Lit(Lit::Str(left)), Expr::Lit(Lit::Str(right))) => {
            Some(text(joined(left, right)?, left))
        }
        // a + "b" + "c" -> a + "bc": the first sum is a text already
        (
            BinaryOp::Add,
            Expr::Bin(BinExpr { op: BinaryOp::Add, right: middle, .. }),
            Expr::Lit(Lit::Str(right)),
        ) => {
            let Expr::Lit(Lit::Str(middle)) = &**middle else { return None };
            let end = text(joined(middle, right)?, middle);
            let Expr::Bin(mut sum) = std::mem::replace(&mut *binary.left, number(0.0)) else { return None };
            *sum.right = end;
            Some(Expr::Bin(sum))
        }
        (op, Expr::Lit(Lit::Num(left)), Expr::Lit(Lit::Num(right))) => {
            let (left, right) = (whole(left.value)?, whole(right.value)?);
            let value = match op {
                BinaryOp::BitOr => i64::from(left as i32 | right as i32),
                BinaryOp::BitAnd => i64::from(left as i32 & right as i32),
                BinaryOp::BitXor => i64::from(left as i32 ^ right as i32),
                BinaryOp::LShift => i64::from((left as i32) << (right & 31)),
                BinaryOp::Add => left + right,
                BinaryOp::Sub => left - right,
                BinaryOp::Mul => left * right,
                _ => return None,
            };
            let shorter = value.to_string().len() <= left.to_string().len() + right.to_string().len();
            (value >= 0 && shorter).then(|| number(value as f64))
        }
        _ => None,
    }
}

/// A number without sign and fraction whose sums and products are exact.
fn whole(value: f64) -> Option<i64> {
    let fits =
        value >= 0.0 && value <= f64::from(i32::MAX) && value.fract() == 0.0 && !value.is_sign_negative();
    fits.then_some(value as i64)
}

/// Two texts as one. Halves of a character, which no text of ours can hold, stay apart.
fn joined(first: &Str, second: &Str) -> Option<String> {
    Some(format!("{}{}", first.value.as_str()?, second.value.as_str()?))
}

fn text(value: String, like: &Str) -> Expr {
    Expr::Lit(Lit::Str(Str { span: like.span, value: value.into(), raw: None }))
}

/// a ? true : false -> !!a, and the like
fn truth(conditional: &mut CondExpr) -> Option<Expr> {
    let CondExpr { test, cons, alt, .. } = conditional;
    let take = |expr: &mut Box<Expr>| std::mem::replace(expr, Box::new(number(0.0)));
    let truth_of = |expr: &Expr| if expr.is_lit() { None } else { truth_of(expr) };
    match (truth_of(cons), truth_of(alt)) {
        (Some(true), Some(false)) if is_boolean(test) => Some(*take(test)),
        (Some(true), Some(false)) => Some(not(not(*take(test)))),
        (Some(false), Some(true)) => {
            let has_opposite = matches!(&**test, Expr::Bin(binary) if opposite(binary).is_some());
            Some(if has_opposite { negated(*take(test)) } else { not(*take(test)) })
        }
        // a == b ? c : false -> a == b && c
        (None, Some(false)) if is_boolean(test) => {
            Some(logical(BinaryOp::LogicalAnd, *take(test), take(cons)))
        }
        // a == b ? true : c -> a == b || c
        (Some(true), None) if is_boolean(test) => Some(or(*take(test), take(alt))),
        _ => None,
    }
}

/// Whether a value means the same without what chose it: `(0, a.b)()` is not `a.b()`, and a function that is chosen
/// gets no name.
fn stands_alone(value: &Expr) -> bool {
    matches!(
        value,
        Expr::Lit(_)
            | Expr::Bin(_)
            | Expr::Unary(_)
            | Expr::Call(_)
            | Expr::New(_)
            | Expr::Assign(_)
            | Expr::Seq(_)
    )
}

/// Whether a constant is true or false as a test.
pub(super) fn truth_of(expr: &Expr) -> Option<bool> {
    match expr {
        Expr::Lit(Lit::Num(number)) => Some(number.value != 0.0),
        Expr::Unary(UnaryExpr { op: UnaryOp::Bang, arg, .. }) => match &**arg {
            Expr::Lit(Lit::Num(number)) => Some(number.value == 0.0),
            _ => None,
        },
        _ => None,
    }
}

/// Whether the value can only be true or false.
fn is_boolean(expr: &Expr) -> bool {
    match expr {
        Expr::Unary(unary) => matches!(unary.op, UnaryOp::Bang | UnaryOp::Delete),
        Expr::Bin(binary) => match binary.op {
            BinaryOp::LogicalAnd | BinaryOp::LogicalOr => {
                is_boolean(&binary.left) && is_boolean(&binary.right)
            }
            BinaryOp::EqEq
            | BinaryOp::NotEq
            | BinaryOp::EqEqEq
            | BinaryOp::NotEqEq
            | BinaryOp::Lt
            | BinaryOp::LtEq
            | BinaryOp::Gt
            | BinaryOp::GtEq
            | BinaryOp::In
            | BinaryOp::InstanceOf => true,
            _ => false,
        },
        _ => false,
    }
}

/// !!a -> a, where only the truth of a value is asked for
pub(super) fn bare(test: &mut Box<Expr>) {
    match &mut **test {
        Expr::Unary(UnaryExpr { op: UnaryOp::Bang, arg, .. }) => {
            if let Expr::Unary(UnaryExpr { op: UnaryOp::Bang, arg: inner, .. }) = &mut **arg
                && !inner.is_lit()
            {
                **test = std::mem::replace(&mut **inner, number(0.0));
                bare(test);
            }
        }
        Expr::Bin(BinExpr { op: BinaryOp::LogicalAnd | BinaryOp::LogicalOr, left, right, .. }) => {
            bare(left);
            bare(right);
        }
        _ => {}
    }
}

fn is_infinity(expr: &Expr) -> bool {
    let is = |expr: &Expr, wanted: f64| matches!(expr, Expr::Lit(Lit::Num(it)) if it.value == wanted);
    matches!(expr, Expr::Bin(BinExpr { op: BinaryOp::Div, left, right, .. }) if is(left, 1.0) && is(right, 0.0))
}

/// typeof a === "b" -> typeof a == "b": two texts. Of all types, "undefined" alone comes after "u".
fn compare_types(binary: &mut BinExpr) {
    let equal = match binary.op {
        BinaryOp::EqEqEq | BinaryOp::EqEq => true,
        BinaryOp::NotEqEq | BinaryOp::NotEq => false,
        _ => return,
    };
    let is_type = |expr: &Expr| matches!(expr, Expr::Unary(UnaryExpr { op: UnaryOp::TypeOf, .. }));
    let (turned, literal) = match (&*binary.left, &mut *binary.right) {
        (left, Expr::Lit(Lit::Str(text))) if is_type(left) => (false, text),
        (Expr::Lit(Lit::Str(_)), right) if is_type(right) => match &mut *binary.left {
            Expr::Lit(Lit::Str(text)) => (true, text),
            _ => return,
        },
        _ => return,
    };
    if literal.value.as_str() == Some("undefined") {
        literal.value = "u".into();
        literal.raw = None;
        binary.op = if equal != turned { BinaryOp::Gt } else { BinaryOp::Lt };
    } else {
        binary.op = if equal { BinaryOp::EqEq } else { BinaryOp::NotEq };
    }
}

/// Whether it compares a type with "u", which none is.
fn compares_with_u(binary: &BinExpr) -> bool {
    let is_type = |expr: &Expr| matches!(expr, Expr::Unary(UnaryExpr { op: UnaryOp::TypeOf, .. }));
    let is_u = |expr: &Expr| matches!(expr, Expr::Lit(Lit::Str(text)) if text.value.as_str() == Some("u"));
    is_type(&binary.left) && is_u(&binary.right) || is_u(&binary.left) && is_type(&binary.right)
}

/// The operator that is true where the operation is false. `<` has none, for the sake of `NaN`.
fn opposite(binary: &BinExpr) -> Option<BinaryOp> {
    Some(match binary.op {
        BinaryOp::EqEq => BinaryOp::NotEq,
        BinaryOp::NotEq => BinaryOp::EqEq,
        BinaryOp::EqEqEq => BinaryOp::NotEqEq,
        BinaryOp::NotEqEq => BinaryOp::EqEqEq,
        BinaryOp::Lt if compares_with_u(binary) => BinaryOp::Gt,
        BinaryOp::Gt if compares_with_u(binary) => BinaryOp::Lt,
        _ => return None,
    })
}

/// a["b"] -> a.b
pub(super) fn member(property: &mut MemberProp) {
    if let MemberProp::Computed(computed) = property
        && let Expr::Lit(Lit::Str(text)) = &*computed.expr
        && let Some(name) = word(text)
    {
        *property = MemberProp::Ident(IdentName::new(name.into(), computed.span));
    }
}

/// { "a": 1 } -> { a: 1 }
pub(super) fn key(key: &mut PropName) {
    if let PropName::Str(text) = key
        && let Some(name) = word(text)
        // Names to which the standard gives a meaning in some places only.
        && !["__proto__", "constructor", "prototype"].contains(&name)
    {
        *key = PropName::Ident(IdentName::new(name.into(), text.span));
    }
}

/// Returns what can be written without quotes, in every version of the language.
fn word(text: &Str) -> Option<&str> {
    let name = text.value.as_str()?;
    let starts = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_' || first == '$');
    (starts && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$'))
        .then_some(name)
}

pub(super) fn number(value: f64) -> Expr {
    Expr::Lit(Lit::Num(Number { span: DUMMY_SP, value, raw: None }))
}

/// Puts expressions one after the other, flat.
pub(super) fn sequence(first: Box<Expr>, second: Box<Expr>) -> Box<Expr> {
    let mut exprs = Vec::new();
    for expr in [first, second] {
        match *expr {
            Expr::Seq(sequence) => exprs.extend(sequence.exprs),
            other => exprs.push(Box::new(other)),
        }
    }
    Box::new(Expr::Seq(SeqExpr { span: DUMMY_SP, exprs }))
}

pub(super) fn void() -> Expr {
    Expr::Unary(UnaryExpr { span: DUMMY_SP, op: UnaryOp::Void, arg: Box::new(number(0.0)) })
}

fn not(arg: Expr) -> Expr {
    Expr::Unary(UnaryExpr { span: DUMMY_SP, op: UnaryOp::Bang, arg: Box::new(arg) })
}

/// How many bytes longer the opposite of a test is.
fn cost_of_opposite(test: &Expr) -> i32 {
    match test {
        Expr::Unary(UnaryExpr { op: UnaryOp::Bang, .. }) => -1,
        Expr::Bin(binary) if opposite(binary).is_some() => 0,
        Expr::Bin(BinExpr { op: BinaryOp::LogicalAnd | BinaryOp::LogicalOr, left, right, .. }) => {
            (cost_of_opposite(left) + cost_of_opposite(right)).min(3)
        }
        Expr::Bin(_) | Expr::Cond(_) | Expr::Assign(_) | Expr::Seq(_) | Expr::Arrow(_) | Expr::Yield(_) => 3,
        _ => 1,
    }
}

/// What is true where a test is false. Only its truth is asked for.
pub(super) fn negated(test: Expr) -> Expr {
    match test {
        Expr::Unary(UnaryExpr { op: UnaryOp::Bang, arg, .. }) => *arg,
        Expr::Bin(mut binary) => {
            if let Some(op) = opposite(&binary) {
                binary.op = op;
                return Expr::Bin(binary);
            }
            let op = match binary.op {
                BinaryOp::LogicalAnd => BinaryOp::LogicalOr,
                BinaryOp::LogicalOr => BinaryOp::LogicalAnd,
                _ => return not(Expr::Bin(binary)),
            };
            if cost_of_opposite(&binary.left) + cost_of_opposite(&binary.right) > 2 {
                return not(Expr::Bin(binary));
            }
            let opposite_of = |side: Box<Expr>| Box::new(negated(*side));
            let BinExpr { left, right, span, .. } = binary;
            Expr::Bin(BinExpr { span, op, left: opposite_of(left), right: opposite_of(right) })
        }
        other => not(other),
    }
}

pub(super) fn or(first: Expr, second: Box<Expr>) -> Expr {
    logical(BinaryOp::LogicalOr, first, second)
}

fn logical(op: BinaryOp, left: Expr, right: Box<Expr>) -> Expr {
    Expr::Bin(BinExpr { span: DUMMY_SP, op, left: Box::new(left), right })
}

/// `test && value`, or `test || value` for a test whose opposite is shorter.
pub(super) fn and(test: Expr, value: Box<Expr>) -> Expr {
    if cost_of_opposite(&test) < 0 {
        or(negated(test), value)
    } else {
        logical(BinaryOp::LogicalAnd, test, value)
    }
}

/// `test ? yes : no`, the other way round for a test whose opposite is shorter.
pub(super) fn choose(test: Expr, yes: Box<Expr>, no: Box<Expr>, facts: &Facts<'_>) -> Box<Expr> {
    let (test, mut cons, mut alt) =
        if cost_of_opposite(&test) < 0 { (negated(test), no, yes) } else { (test, yes, no) };
    // a ? b = 1 : b = 2 -> b = a ? 1 : 2
    if let (Expr::Assign(first), Expr::Assign(second)) = (&mut *cons, &mut *alt)
        && let (Some(name), Some(other)) = (first.left.as_ident(), second.left.as_ident())
        && (first.op, second.op) == (AssignOp::Assign, AssignOp::Assign)
        && name.to_id() == other.to_id()
        && facts.is_declared(name)
        && !takes_a_name(&first.right)
        && !takes_a_name(&second.right)
    {
        let take = |expr: &mut Box<Expr>| std::mem::replace(expr, Box::new(number(0.0)));
        let (yes, no) = (take(&mut first.right), take(&mut second.right));
        let value = CondExpr { span: DUMMY_SP, test: Box::new(test), cons: yes, alt: no };
        *first.right = Expr::Cond(value);
        return cons;
    }
    let mut chosen = CondExpr { span: DUMMY_SP, test: Box::new(test), cons, alt };
    let shorter = truth(&mut chosen);
    Box::new(shorter.unwrap_or(Expr::Cond(chosen)))
}

/// Whether a function or class gets its name from what it is assigned to.
fn takes_a_name(value: &Expr) -> bool {
    match value {
        Expr::Fn(function) => function.ident.is_none(),
        Expr::Class(class) => class.ident.is_none(),
        Expr::Arrow(_) => true,
        _ => false,
    }
}

/// Whether an operator stands in `statement`, outside its functions.
pub(super) fn is_written(operator: BinaryOp, statement: &Stmt) -> bool {
    struct Written {
        operator: BinaryOp,
        found: bool,
    }
    impl Visit for Written {
        fn visit_bin_expr(&mut self, node: &BinExpr) {
            self.found |= node.op == self.operator;
            node.visit_children_with(self);
        }

        fn visit_function(&mut self, _: &Function) {}
    }
    let mut written = Written { operator, found: false };
    statement.visit_with(&mut written);
    written.found
}
