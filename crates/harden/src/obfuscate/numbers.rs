//! Writes numbers as expressions over the state.

use swc_core::ecma::{
    ast::*,
    visit::{VisitMut, VisitMutWith},
};

use super::{Level, State, Work};
use crate::Profile;

/// Hides integers of `program`: in code that runs often none, elsewhere some or, in `strong`, most.
pub(crate) fn encode(program: &mut Program, work: &mut Work<'_>, state: &State) {
    let level = work.level();
    program.visit_mut_with(&mut Numbers { work, state, level, loops: 0 });
}

struct Numbers<'a, 'b> {
    work: &'a mut Work<'b>,
    state: &'a State,
    level: Level,
    /// How many loops deep.
    loops: usize,
}

impl Numbers<'_, '_> {
    fn looping<T: VisitMutWith<Self>>(&mut self, node: &mut T) {
        self.loops += 1;
        node.visit_mut_children_with(self);
        self.loops -= 1;
    }
}

impl VisitMut for Numbers<'_, '_> {
    fn visit_mut_expr(&mut self, node: &mut Expr) {
        if let Expr::Lit(Lit::Num(number)) = node
            && let Some(value) = integer(number.value)
        {
            // What is smaller says nothing.
            let (smallest, one_in) = match self.level.profile {
                Profile::Light => return,
                Profile::Standard => (16, 2),
                Profile::Strong => (2, 1),
            };
            let often = self.level.hot || self.loops > 0;
            if !often && value >= smallest && self.work.random.one_in(one_in) {
                *node = *self.state.number(&mut self.work.random, value);
            }
            return;
        }
        node.visit_mut_children_with(self);
    }

    fn visit_mut_function(&mut self, node: &mut Function) {
        let around = self.level;
        self.level = self.work.enter(around, node.span.lo);
        if !self.work.functions.has_plain_parameters(node.span.lo) {
            node.params.visit_mut_with(self);
        }
        node.decorators.visit_mut_with(self);
        node.body.visit_mut_with(self);
        self.level = around;
    }

    fn visit_mut_arrow_expr(&mut self, node: &mut ArrowExpr) {
        let around = self.level;
        self.level = self.work.enter(around, node.span.lo);
        node.visit_mut_children_with(self);
        self.level = around;
    }

    fn visit_mut_constructor(&mut self, node: &mut Constructor) {
        let around = self.level;
        self.level = self.work.enter(around, node.span.lo);
        node.visit_mut_children_with(self);
        self.level = around;
    }

    fn visit_mut_for_stmt(&mut self, node: &mut ForStmt) {
        self.looping(node);
    }

    fn visit_mut_for_in_stmt(&mut self, node: &mut ForInStmt) {
        self.looping(node);
    }

    fn visit_mut_for_of_stmt(&mut self, node: &mut ForOfStmt) {
        self.looping(node);
    }

    fn visit_mut_while_stmt(&mut self, node: &mut WhileStmt) {
        self.looping(node);
    }

    fn visit_mut_do_while_stmt(&mut self, node: &mut DoWhileStmt) {
        self.looping(node);
    }
}

fn integer(value: f64) -> Option<i32> {
    let whole = value as i32;
    (f64::from(whole) == value && whole >= 0 && !(whole == 0 && value.is_sign_negative())).then_some(whole)
}
