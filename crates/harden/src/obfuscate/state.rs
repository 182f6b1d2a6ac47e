//! Numbers that are known here and at run time, and that nobody can read in the code.

use std::cell::Cell;

use swc_core::{
    common::DUMMY_SP,
    ecma::ast::{BinExpr, BinaryOp, Expr, Ident, Lit, Number},
};

use super::{mark::Constants, random::Random};

/// Variables of the program whose value is set by a computation that runs once, at its start.
///
/// They are in scope, and set, wherever a pass may ask for a number. The first is never set again, so that an engine
/// takes what is computed from it for a constant; code that never runs assigns to the others.
pub(crate) struct State {
    variables: Vec<(Ident, i32)>,
    used: Cell<bool>,
}

/// How often an expression over the state is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Often {
    /// Seldom: it may read any variable.
    No,
    /// It reads the one that costs nothing.
    Yes,
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
    pub(crate) fn any(&self, random: &mut Random, often: Often) -> (Ident, i32) {
        self.used.set(true);
        match often {
            Often::No => random.pick(&self.variables).clone(),
            Often::Yes => self.variables[0].clone(),
        }
    }

    /// Returns the variable that code which never runs may assign to.
    pub(crate) fn loose(&self) -> Ident {
        self.used.set(true);
        self.variables[self.variables.len() - 1].0.clone()
    }

    fn variable(&self, random: &mut Random, often: Often) -> (Box<Expr>, i32) {
        let (variable, value) = self.any(random, often);
        (Box::new(Expr::Ident(variable)), value)
    }

    /// Returns an expression that is `value` at run time and reads the state.
    pub(crate) fn number(&self, random: &mut Random, value: i32, often: Often) -> Box<Expr> {
        let (variable, known) = self.variable(random, often);
        let difference = i64::from(known) - i64::from(value);
        match random.below(3) {
            0 => binary(BinaryOp::BitXor, variable, number(i64::from(known ^ value))),
            1 => binary(BinaryOp::Sub, variable, number(difference)),
            _ => binary(BinaryOp::Add, number(-difference), variable),
        }
    }

    /// Returns a condition that is `holds` at run time.
    pub(crate) fn condition(
        &self,
        random: &mut Random,
        constants: &mut Constants,
        holds: bool,
        often: Often,
    ) -> Box<Expr> {
        let (variable, known) = self.variable(random, often);
        let bound = constants.next();
        // The state is compared with a number of the mark, whichever way round holds.
        let op = if (known > bound) == holds { BinaryOp::Gt } else { BinaryOp::LtEq };
        binary(op, variable, number(i64::from(bound)))
    }

    /// Returns an expression that is `value` at run time, takes few bytes and reads the state.
    pub(crate) fn boolean(&self, random: &mut Random, value: bool) -> Box<Expr> {
        let (one, other) = (self.any(random, Often::No), self.any(random, Often::No));
        if one.0.to_id() == other.0.to_id() || one.1 == other.1 {
            // Of one variable alone: each is above every such number.
            let bound = number(random.below(1 << 16) as i64);
            let op = *random.pick(if value {
                &[BinaryOp::Gt, BinaryOp::GtEq]
            } else {
                &[BinaryOp::Lt, BinaryOp::LtEq]
            });
            return binary(op, Box::new(Expr::Ident(one.0)), bound);
        }
        let ops = if (one.1 > other.1) == value {
            [BinaryOp::Gt, BinaryOp::GtEq]
        } else {
            [BinaryOp::Lt, BinaryOp::LtEq]
        };
        let op = *random.pick(&ops);
        binary(op, Box::new(Expr::Ident(one.0)), Box::new(Expr::Ident(other.0)))
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
