//! Guards: cheap changes of shape for functions that are small or run often.
//!
//! Each makes the body depend on a comparison with the program's state, which only a run can decide. What stands on
//! the side that never runs is made of the module's own code.

use swc_core::{common::DUMMY_SP, ecma::ast::*};

use super::{
    Shaper,
    build::{arm, assign, block, branch, declare, fresh, give, leave, name, run, switch, until, while_},
    scope::has_scope,
};
use crate::{js::hazards::unwrapped, obfuscate::state::number};

/// Changes the shape of a function's statements that follow its directives.
pub(super) fn guard(shaper: &mut Shaper<'_, '_>, stmts: &mut Vec<Stmt>, is_hot: bool) {
    // Functions stay in the body's own scope, so only what they cannot name may go into a block.
    let (mut functions, mut rest): (Vec<Stmt>, Vec<Stmt>) =
        stmts.drain(..).partition(|statement| matches!(statement, Stmt::Decl(Decl::Fn(_))));
    let nests = functions.is_empty() || !has_scope(&rest);
    // A small function with a branch looks like many others; with a loop or a `switch` it does not.
    let is_small = rest.len() < 3;
    let mut forms = vec![Form::Aside, Form::Aside];
    if nests && !rest.is_empty() {
        // What is alone in the body would only become alone in one of its own kind.
        let alone = if let [statement] = rest.as_slice() { Some(statement) } else { None };
        if !is_small {
            forms.extend([Form::Otherwise, Form::Otherwise]);
        }
        if !is_hot && !alone.is_some_and(Stmt::is_switch) {
            forms.push(Form::Case);
        }
        if !is_hot && !alone.is_some_and(is_loop) {
            forms.push(Form::Round);
        }
    }
    if !is_small && !is_hot && result(&mut rest).is_some() {
        forms.extend([Form::Result, Form::Result]);
    }
    let form = *shaper.work.random.pick(&forms);
    match form {
        Form::Aside => {
            // One comparison is all that a function which runs often is asked for.
            let kinds = if is_hot {
                1
            } else if is_small {
                2
            } else {
                4
            };
            aside(shaper, &mut rest, kinds)
        }
        Form::Otherwise => {
            let holds = shaper.work.random.one_in(2);
            let (test, other) = (shaper.condition(holds), shaper.junk(false));
            let rest = std::mem::take(&mut rest);
            let (yes, no) = if holds { (rest, other) } else { (other, rest) };
            functions.push(branch(test, arm(yes), Some(arm(no))));
        }
        Form::Case => {
            let value = shaper.work.constants.next();
            let other = shaper.distinct_from(value);
            let discriminant = shaper.number(value);
            let mut taken = std::mem::take(&mut rest);
            let mut never = shaper.junk(true);
            for list in [&mut taken, &mut never] {
                if !leaves(list) {
                    list.push(leave(None));
                }
            }
            let mut cases =
                vec![(Some(number(value.into())), vec![block(taken)]), (Some(number(other.into())), never)];
            shaper.work.random.shuffle(&mut cases);
            functions.push(switch(discriminant, cases));
        }
        Form::Round => {
            let rest = std::mem::take(&mut rest);
            functions.push(round(shaper, rest));
        }
        Form::Result => {
            if let Some(value) = result(&mut rest) {
                let value = std::mem::replace(value, number(0));
                rest.pop();
                through(shaper, &mut rest, value);
            }
        }
    }
    functions.append(&mut rest);
    *stmts = functions;
}

#[derive(Clone, Copy)]
enum Form {
    /// A branch that is never taken.
    Aside,
    /// The body in one arm of a branch.
    Otherwise,
    /// The body in a case of a `switch`.
    Case,
    /// The body in a loop that runs once.
    Round,
    /// What is returned goes through a variable.
    Result,
}

/// while (state > 1) other(); body
fn aside(shaper: &mut Shaper<'_, '_>, rest: &mut Vec<Stmt>, kinds: usize) {
    let reached = rest.iter().position(|statement| leaves(std::slice::from_ref(statement)));
    let at = shaper.work.random.below(reached.unwrap_or(rest.len()) + 1);
    let other = shaper.junk(true);
    let form = shaper.work.random.below(kinds);
    let statement = match form {
        0 => while_(shaper.condition(false), *arm(other)),
        1 => {
            let value = shaper.work.constants.next();
            let never = shaper.distinct_from(value);
            switch(shaper.number(value), vec![(Some(number(never.into())), other)])
        }
        _ => branch(shaper.condition(false), arm(other), None),
    };
    rest.insert(at, statement);
}

/// do { body } while (state > 1)
fn round(shaper: &mut Shaper<'_, '_>, mut rest: Vec<Stmt>) -> Stmt {
    if shaper.work.random.one_in(2) {
        let test = shaper.condition(false);
        return until(block(rest), test);
    }
    if !leaves(&rest) {
        rest.push(leave(None));
    }
    let test = shaper.condition(true);
    while_(test, block(rest))
}

/// let result; if (state > 1) result = value; else result = other; return result
fn through(shaper: &mut Shaper<'_, '_>, rest: &mut Vec<Stmt>, value: Box<Expr>) {
    let variable = fresh("result");
    let holds = shaper.work.random.one_in(2);
    let test = shaper.condition(holds);
    let value = run(assign(AssignOp::Assign, &variable, value));
    let other = run(match shaper.piece() {
        Some(piece) => assign(AssignOp::Assign, &variable, piece),
        None => {
            let constant = shaper.work.constants.next();
            let piece = shaper.number(constant);
            assign(AssignOp::Assign, &variable, piece)
        }
    });
    let (yes, no) = if holds { (value, other) } else { (other, value) };
    let choice = branch(test, arm(vec![yes]), Some(arm(vec![no])));
    // The variable may be declared before everything else.
    let at = shaper.work.random.below(rest.len() + 1);
    rest.insert(at, declare(VarDeclKind::Let, vec![(variable.clone(), None)]));
    rest.push(choice);
    rest.push(give(Some(name(&variable))));
}

/// Returns what the last statement returns, unless it is a function that a variable would give its name to.
fn result(stmts: &mut [Stmt]) -> Option<&mut Box<Expr>> {
    match stmts.last_mut() {
        Some(Stmt::Return(ReturnStmt { arg: Some(value), .. }))
            if !matches!(unwrapped(value), Expr::Fn(_) | Expr::Arrow(_) | Expr::Class(_)) =>
        {
            Some(value)
        }
        _ => None,
    }
}

fn is_loop(statement: &Stmt) -> bool {
    matches!(statement, Stmt::For(_) | Stmt::ForIn(_) | Stmt::ForOf(_) | Stmt::While(_) | Stmt::DoWhile(_))
}

fn leaves(stmts: &[Stmt]) -> bool {
    matches!(stmts.last(), Some(Stmt::Return(_) | Stmt::Throw(_)))
}

/// Returns a parameter that nobody gives, and that `length` does not count.
pub(super) fn parameter(shaper: &mut Shaper<'_, '_>) -> (Ident, Pat) {
    let variable = fresh("more");
    let constant = shaper.work.constants.next();
    let value = shaper.number(constant);
    let pattern = Pat::Assign(AssignPat {
        span: DUMMY_SP,
        left: Box::new(Pat::Ident(variable.clone().into())),
        right: value,
    });
    (variable, pattern)
}
