//! Numbers that are known here and at run time, and that nobody can read in the code.

use std::cell::Cell;

use swc_core::{
    common::DUMMY_SP,
    ecma::ast::{BinExpr, BinaryOp, Expr, Ident, Lit, Number},
};

use super::{mark::Constants, random::Random};

/// Variables of the program whose value is set by a computation that runs once, at its start.
///
/// They are in scope, and set, wherever a pass may ask for a number.
pub(crate) struct State {
    variables: Vec<(Ident, i32)>,
    used: Cell<bool>,
}

impl State {
    /// `variables` and their values, one at least.
    pub(crate) fn new(variables: Vec<(Ident, i32)>) -> Self {
        Self { variables, used: Cell::new(false) }
    }

    /// Returns the variables and what the program sets them to.
    pub(crate) fn variables(&self) -> &[(Ident, i32)] {
        &self.variables
    }

    /// Whether an expression reads the state.
    pub(crate) fn is_used(&self) -> bool {
        self.used.get()
    }

    /// Returns a variable and its value.
    pub(crate) fn any(&self, random: &mut Random) -> (Ident, i32) {
        self.used.set(true);
        random.pick(&self.variables).clone()
    }

    fn variable(&self, random: &mut Random) -> (Box<Expr>, i32) {
        let (variable, value) = self.any(random);
        (Box::new(Expr::Ident(variable)), value)
    }

    /// Returns an expression that is `value` at run time and reads the state.
    pub(crate) fn number(&self, random: &mut Random, value: i32) -> Box<Expr> {
        let (variable, known) = self.variable(random);
        let difference = i64::from(known) - i64::from(value);
        match random.below(3) {
            0 => binary(BinaryOp::BitXor, variable, number(i64::from(known ^ value))),
            1 => binary(BinaryOp::Sub, variable, number(difference)),
            _ => binary(BinaryOp::Add, number(-difference), variable),
        }
    }

    /// Returns a condition that is `holds` at run time.
    pub(crate) fn condition(&self, random: &mut Random, constants: &mut Constants, holds: bool) -> Box<Expr> {
        let (variable, known) = self.variable(random);
        let bound = constants.next();
        // The state is compared with a number of the mark, whichever way round holds.
        let op = if (known > bound) == holds { BinaryOp::Gt } else { BinaryOp::LtEq };
        binary(op, variable, number(i64::from(bound)))
    }
}

pub(crate) fn binary(op: BinaryOp, left: Box<Expr>, right: Box<Expr>) -> Box<Expr> {
    Box::new(Expr::Bin(BinExpr { span: DUMMY_SP, op, left, right }))
}

/// Returns a number literal, negative ones as the parser would have them.
pub(crate) fn number(value: i64) -> Box<Expr> {
    let literal =
        |value: i64| Box::new(Expr::Lit(Lit::Num(Number { span: DUMMY_SP, value: value as f64, raw: None })));
    if value < 0 {
        return Box::new(Expr::Unary(swc_core::ecma::ast::UnaryExpr {
            span: DUMMY_SP,
            op: swc_core::ecma::ast::UnaryOp::Minus,
            arg: literal(-value),
        }));
    }
    literal(value)
}
