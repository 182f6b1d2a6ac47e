//! Rewrites that keep what every program does and take fewer bytes.

use swc_core::ecma::{
    ast::*,
    visit::{VisitMut, VisitMutWith},
};

use super::hazards::unwrapped;

/// Drops statements such as `("use strict");`.
///
/// They do nothing; without its parentheses one would be a directive.
pub(crate) fn drop_wrapped_strings(program: &mut Program) {
    struct Dropper;
    impl VisitMut for Dropper {
        fn visit_mut_stmt(&mut self, node: &mut Stmt) {
            if let Stmt::Expr(statement) = node
                && statement.expr.is_paren()
                && matches!(unwrapped(&statement.expr), Expr::Lit(Lit::Str(_)))
            {
                *node = Stmt::Empty(EmptyStmt { span: statement.span });
            }
            node.visit_mut_children_with(self);
        }
    }
    program.visit_mut_with(&mut Dropper);
}
