//! Shorter expressions.

use swc_core::{
    common::{DUMMY_SP, SyntaxContext},
    ecma::ast::*,
};

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
        // typeof a === "b" -> typeof a == "b": two strings
        Expr::Bin(binary) => compare_types(binary),
        // !(a == b) -> a != b
        Expr::Unary(UnaryExpr { op: UnaryOp::Bang, arg, .. }) => {
            if let Expr::Bin(binary) = &mut **arg
                && let Some(op) = inverse(binary.op)
            {
                binary.op = op;
                *node = Expr::Bin(binary.clone());
            }
        }
        _ => {}
    }
}

fn is_infinity(expr: &Expr) -> bool {
    let is = |expr: &Expr, wanted: f64| matches!(expr, Expr::Lit(Lit::Num(it)) if it.value == wanted);
    matches!(expr, Expr::Bin(BinExpr { op: BinaryOp::Div, left, right, .. }) if is(left, 1.0) && is(right, 0.0))
}

fn compare_types(binary: &mut BinExpr) {
    let op = match binary.op {
        BinaryOp::EqEqEq => BinaryOp::EqEq,
        BinaryOp::NotEqEq => BinaryOp::NotEq,
        _ => return,
    };
    let is_type = |expr: &Expr| matches!(expr, Expr::Unary(UnaryExpr { op: UnaryOp::TypeOf, .. }));
    let is_text = |expr: &Expr| matches!(expr, Expr::Lit(Lit::Str(_)));
    if is_type(&binary.left) && is_text(&binary.right) || is_text(&binary.left) && is_type(&binary.right) {
        binary.op = op;
    }
}

/// The operator that is true where `op` is false. `<` has none, for the sake of `NaN`.
pub(super) fn inverse(op: BinaryOp) -> Option<BinaryOp> {
    Some(match op {
        BinaryOp::EqEq => BinaryOp::NotEq,
        BinaryOp::NotEq => BinaryOp::EqEq,
        BinaryOp::EqEqEq => BinaryOp::NotEqEq,
        BinaryOp::NotEqEq => BinaryOp::EqEqEq,
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

/// `test && value`, or `test || value` for a test that starts with `!`.
pub(super) fn and(test: Expr, value: Box<Expr>) -> Box<Expr> {
    let (op, left) = match test {
        Expr::Unary(UnaryExpr { op: UnaryOp::Bang, arg, .. }) => (BinaryOp::LogicalOr, arg),
        other => (BinaryOp::LogicalAnd, Box::new(other)),
    };
    Box::new(Expr::Bin(BinExpr { span: DUMMY_SP, op, left, right: value }))
}

/// `test ? yes : no`, the other way round for a test that starts with `!`.
pub(super) fn choose(test: Expr, yes: Box<Expr>, no: Box<Expr>) -> Box<Expr> {
    let (test, cons, alt) = match test {
        Expr::Unary(UnaryExpr { op: UnaryOp::Bang, arg, .. }) => (arg, no, yes),
        other => (Box::new(other), yes, no),
    };
    Box::new(Expr::Cond(CondExpr { span: DUMMY_SP, test, cons, alt }))
}
