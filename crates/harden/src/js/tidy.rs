//! Rewrites that keep what every program does and take fewer bytes.
//!
//! Each is a rule of syntax: none needs to know what a value is, what a call does or whether a name is used, and
//! none drops, repeats or reorders anything that runs. Names must be resolved, and not yet shortened.

mod expressions;
mod statements;

use std::collections::HashSet;

use swc_core::{
    common::{Mark, SyntaxContext},
    ecma::{
        ast::*,
        visit::{Visit, VisitMut, VisitMutWith, VisitWith},
    },
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

/// Tidies a program. `private`: whether nobody else sees the names that its top level declares.
pub(crate) fn tidy(program: &mut Program, unresolved: Mark, top_level: Mark, private: bool) {
    let assigned = assigned(program);
    let shared = (!private).then(|| SyntaxContext::empty().apply_mark(top_level));
    let unresolved = SyntaxContext::empty().apply_mark(unresolved);
    program.visit_mut_with(&mut Tidy { unresolved, assigned, shared });
}

/// The names that something in `node` is assigned to after their declaration.
pub(crate) fn assigned<T: VisitWith<Assigned>>(node: &T) -> HashSet<Id> {
    let mut assigned = Assigned::default();
    node.visit_with(&mut assigned);
    assigned.0
}

#[derive(Default)]
pub(crate) struct Assigned(HashSet<Id>);

impl Assigned {
    fn pattern(&mut self, pattern: &Pat) {
        let ids: Vec<Id> = swc_core::ecma::utils::find_pat_ids(pattern);
        self.0.extend(ids);
    }
}

impl Visit for Assigned {
    fn visit_assign_expr(&mut self, node: &AssignExpr) {
        let ids: Vec<Id> = swc_core::ecma::utils::find_pat_ids(&node.left);
        self.0.extend(ids);
        node.visit_children_with(self);
    }

    fn visit_update_expr(&mut self, node: &UpdateExpr) {
        if let Expr::Ident(name) = unwrapped(&node.arg) {
            self.0.insert(name.to_id());
        }
        node.visit_children_with(self);
    }

    fn visit_for_head(&mut self, node: &ForHead) {
        if let ForHead::Pat(pattern) = node {
            self.pattern(pattern);
        }
        node.visit_children_with(self);
    }
}

struct Tidy {
    unresolved: SyntaxContext,
    assigned: HashSet<Id>,
    /// The scope whose names other files see.
    shared: Option<SyntaxContext>,
}

impl Tidy {
    /// `const` becomes `let` where nothing is assigned to it, so that no error is lost.
    fn unlock(&self, node: &mut VarDecl) {
        if node.kind != VarDeclKind::Const {
            return;
        }
        let ids: Vec<Id> = swc_core::ecma::utils::find_pat_ids(&node.decls);
        if ids.iter().all(|id| !self.assigned.contains(id) && Some(id.1) != self.shared) {
            node.kind = VarDeclKind::Let;
        }
    }
}

impl VisitMut for Tidy {
    fn visit_mut_expr(&mut self, node: &mut Expr) {
        match node {
            // What stands here is a place, not a value.
            Expr::Unary(UnaryExpr { op: UnaryOp::Delete, arg, .. })
            | Expr::Update(UpdateExpr { arg, .. }) => {
                arg.visit_mut_children_with(self);
            }
            _ => node.visit_mut_children_with(self),
        }
        expressions::tidy(node, self.unresolved);
    }

    fn visit_mut_member_expr(&mut self, node: &mut MemberExpr) {
        node.visit_mut_children_with(self);
        expressions::member(&mut node.prop);
    }

    fn visit_mut_key_value_prop(&mut self, node: &mut KeyValueProp) {
        node.key.visit_mut_with(self);
        // Node's lexer knows a getter among the exports by this very word, and hides a name that has another.
        let is_enumerable = matches!(&node.key, PropName::Ident(key) if key.sym == "enumerable");
        if !(is_enumerable && matches!(&*node.value, Expr::Lit(Lit::Bool(_)))) {
            node.value.visit_mut_with(self);
        }
    }

    fn visit_mut_prop_name(&mut self, node: &mut PropName) {
        node.visit_mut_children_with(self);
        expressions::key(node);
    }

    fn visit_mut_arrow_expr(&mut self, node: &mut ArrowExpr) {
        node.visit_mut_children_with(self);
        statements::arrow(node);
    }

    fn visit_mut_var_decl(&mut self, node: &mut VarDecl) {
        node.visit_mut_children_with(self);
        self.unlock(node);
    }

    fn visit_mut_function_body(&mut self, node: &mut FunctionBody) {
        for statement in &mut node.stmts {
            statement.visit_mut_with(self);
        }
        statements::body(&mut node.stmts);
    }

    fn visit_mut_stmts(&mut self, node: &mut Vec<Stmt>) {
        node.visit_mut_children_with(self);
        statements::list(node);
    }

    fn visit_mut_module_items(&mut self, node: &mut Vec<ModuleItem>) {
        node.visit_mut_children_with(self);
        statements::items(node);
    }

    fn visit_mut_script(&mut self, node: &mut Script) {
        if self.shared.is_none() {
            // CommonJS: the body of a function.
            for statement in &mut node.body {
                statement.visit_mut_with(self);
            }
            statements::body(&mut node.body);
            return;
        }
        // The value of a script is that of its last statement, which `vm` and `eval` return: its own list stays.
        for statement in &mut node.body {
            statement.visit_mut_children_with(self);
        }
    }

    fn visit_mut_stmt(&mut self, node: &mut Stmt) {
        node.visit_mut_children_with(self);
        statements::tidy(node);
    }
}
