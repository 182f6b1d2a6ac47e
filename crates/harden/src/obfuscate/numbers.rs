//! Writes numbers as expressions over the state.

use swc_core::ecma::{
    ast::*,
    visit::{VisitMut, VisitMutWith},
};

use super::{State, Work};
use crate::Profile;

/// Hides integers of `program`: in code that runs often none, elsewhere some or, in `strong`, most.
pub(crate) fn encode(program: &mut Program, work: &mut Work<'_>, state: &State) {
    let (smallest, one_in) = match work.profile {
        Profile::Light => return,
        Profile::Standard => (16, 2),
        Profile::Strong => (2, 1),
    };
    program.visit_mut_with(&mut Numbers { work, state, smallest, one_in, loops: 0 });
}

struct Numbers<'a, 'b> {
    work: &'a mut Work<'b>,
    state: &'a State,
    /// What is smaller says nothing.
    smallest: i32,
    one_in: usize,
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
            if self.loops == 0 && value >= self.smallest && self.work.random.one_in(self.one_in) {
                *node = *self.state.number(&mut self.work.random, value);
            }
            return;
        }
        node.visit_mut_children_with(self);
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
