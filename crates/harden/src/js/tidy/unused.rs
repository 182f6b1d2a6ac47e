//! What nothing asks for: functions and variables that no code names, and the names of function expressions.
//!
//! A declaration goes where its value is made without an effect, and no other place names it. What it held alone
//! goes in the next round.

use swc_core::ecma::{
    ast::*,
    visit::{VisitMut, VisitMutWith},
};

use super::facts::Facts;

/// Rounds at most: each finds what the one before left alone.
const ROUNDS: usize = 8;

pub(super) fn drop_unused(program: &mut Program, facts: &mut Facts<'_>) {
    for _ in 0..ROUNDS {
        let mut unused = Unused { facts, depth: 0, dropped: false };
        program.visit_mut_with(&mut unused);
        if !unused.dropped {
            return;
        }
    }
}

struct Unused<'a, 'b> {
    facts: &'a mut Facts<'b>,
    /// How many functions deep.
    depth: usize,
    dropped: bool,
}

impl Unused<'_, '_> {
    /// The statements of a function or of the top level. A function in a block is more than a function.
    fn functions(&mut self, statements: &mut Vec<Stmt>) {
        statements.retain(|statement| {
            let Stmt::Decl(Decl::Fn(function)) = statement else { return true };
            let unused = self.facts.stands(&function.ident, 1);
            if unused {
                self.facts.forget(function);
                self.dropped = true;
            }
            !unused
        });
    }

    fn is_unused(&self, declarator: &VarDeclarator) -> bool {
        matches!(&declarator.name, Pat::Ident(name) if self.facts.stands(name, 1))
    }

    fn variables(&mut self, statement: &mut Stmt) {
        let Stmt::Decl(Decl::Var(variables)) = statement else { return };
        variables.decls.retain(|declarator| {
            let goes = self.is_unused(declarator)
                && declarator.init.as_ref().is_none_or(|value| is_made_without_effect(value));
            if goes {
                self.facts.forget(declarator);
                self.dropped = true;
            }
            !goes
        });
        match variables.decls.as_mut_slice() {
            [] => *statement = Stmt::Empty(EmptyStmt { span: variables.span }),
            // The value of a statement outside functions may be seen.
            [only] if self.is_unused(only) && (self.depth > 0 || !self.facts.shares_top_level()) => {
                if let (Some(expr), Pat::Ident(name)) = (only.init.take(), &only.name) {
                    self.facts.forget(&name.id);
                    self.dropped = true;
                    *statement = Stmt::Expr(ExprStmt { span: variables.span, expr });
                }
            }
            _ => {}
        }
    }
}

impl VisitMut for Unused<'_, '_> {
    fn visit_mut_function_body(&mut self, node: &mut FunctionBody) {
        self.depth += 1;
        node.visit_mut_children_with(self);
        self.depth -= 1;
        self.functions(&mut node.stmts);
    }

    fn visit_mut_script(&mut self, node: &mut Script) {
        node.visit_mut_children_with(self);
        self.functions(&mut node.body);
    }

    fn visit_mut_module_items(&mut self, node: &mut Vec<ModuleItem>) {
        node.visit_mut_children_with(self);
        node.retain(|item| {
            let ModuleItem::Stmt(Stmt::Decl(Decl::Fn(function))) = item else { return true };
            let unused = self.facts.stands(&function.ident, 1);
            if unused {
                self.facts.forget(function);
                self.dropped = true;
            }
            !unused
        });
    }

    fn visit_mut_stmt(&mut self, node: &mut Stmt) {
        node.visit_mut_children_with(self);
        self.variables(node);
    }

    fn visit_mut_fn_expr(&mut self, node: &mut FnExpr) {
        node.visit_mut_children_with(self);
        if let Some(name) = &node.ident
            && !self.facts.is_read_name(name)
            && self.facts.stands(name, 1)
        {
            node.ident = None;
        }
    }

    // `export default function name() {}` keeps its name, which is not the one of an expression.
    fn visit_mut_export_default_decl(&mut self, node: &mut ExportDefaultDecl) {
        match &mut node.decl {
            DefaultDecl::Fn(function) => function.function.visit_mut_with(self),
            DefaultDecl::Class(class) => class.class.visit_mut_with(self),
            DefaultDecl::TsInterfaceDecl(_) => {}
        }
    }
}

/// Whether nothing happens when the value is made.
pub(super) fn is_made_without_effect(value: &Expr) -> bool {
    match value {
        Expr::Lit(literal) => !matches!(literal, Lit::Regex(_)),
        Expr::Fn(_) | Expr::Arrow(_) => true,
        Expr::Unary(UnaryExpr { op: UnaryOp::Bang | UnaryOp::Void, arg, .. }) => is_made_without_effect(arg),
        Expr::Array(array) => array
            .elems
            .iter()
            .flatten()
            .all(|element| element.spread.is_none() && is_made_without_effect(&element.expr)),
        Expr::Object(object) => object.props.iter().all(|property| match property {
            PropOrSpread::Prop(property) => match &**property {
                Prop::KeyValue(KeyValueProp { key, value }) => {
                    !key.is_computed() && is_made_without_effect(value)
                }
                Prop::Method(MethodProp { key, .. }) => !key.is_computed(),
                _ => false,
            },
            PropOrSpread::Spread(_) => false,
        }),
        _ => false,
    }
}
