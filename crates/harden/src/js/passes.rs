//! The compiler's passes that every step runs, and what they get wrong put right.
//!
//! Each correction says which program shows it; test262 holds them all.

use std::collections::HashSet;

use swc_core::{
    common::{DUMMY_SP, util::take::Take as _},
    ecma::{
        ast::*,
        transforms::base::{
            fixer::{fixer, paren_remover},
            resolver,
        },
        visit::{Visit, VisitMut, VisitMutWith, VisitWith},
    },
};

use super::{Session, hazards::unwrapped};

/// Tells every name which declaration it means.
pub(crate) fn resolve(session: &Session, program: &mut Program, typescript: bool) {
    program.mutate(resolver(session.unresolved, session.top_level, typescript));
    program.visit_mut_with(&mut Heritage);
}

/// Takes out the parentheses that the source has; [`parenthesize`] sets those that the syntax needs.
pub(crate) fn unparenthesize(session: &Session, program: &mut Program) {
    program.visit_mut_with(&mut Unnamed);
    program.mutate(paren_remover(Some(&session.comments)));
}

/// Sets the parentheses that the syntax needs.
pub(crate) fn parenthesize(session: &Session, program: &mut Program) {
    program.mutate(fixer(Some(&session.comments)));
    program.visit_mut_with(&mut Parentheses);
}

/// `(class A extends A {})`: in its own heritage a class expression's name is that of the class, which the
/// compiler takes for the name outside.
struct Heritage;

impl VisitMut for Heritage {
    fn visit_mut_class_expr(&mut self, node: &mut ClassExpr) {
        if let (Some(name), Some(heritage)) = (&node.ident, &mut node.class.super_class) {
            let mut declared = Declared(HashSet::new());
            heritage.visit_with(&mut declared);
            heritage.visit_mut_with(&mut Rebind { name, declared: declared.0 });
        }
        node.visit_mut_children_with(self);
    }
}

/// The names that a piece of code declares.
struct Declared(HashSet<Id>);

impl Visit for Declared {
    fn visit_binding_ident(&mut self, node: &BindingIdent) {
        self.0.insert(node.id.to_id());
    }

    fn visit_fn_expr(&mut self, node: &FnExpr) {
        self.0.extend(node.ident.as_ref().map(Ident::to_id));
        node.visit_children_with(self);
    }

    fn visit_class_expr(&mut self, node: &ClassExpr) {
        self.0.extend(node.ident.as_ref().map(Ident::to_id));
        node.visit_children_with(self);
    }

    fn visit_fn_decl(&mut self, node: &FnDecl) {
        self.0.insert(node.ident.to_id());
        node.visit_children_with(self);
    }

    fn visit_class_decl(&mut self, node: &ClassDecl) {
        self.0.insert(node.ident.to_id());
        node.visit_children_with(self);
    }
}

struct Rebind<'a> {
    name: &'a Ident,
    declared: HashSet<Id>,
}

impl VisitMut for Rebind<'_> {
    fn visit_mut_ident(&mut self, node: &mut Ident) {
        if node.sym == self.name.sym && !self.declared.contains(&node.to_id()) {
            node.ctxt = self.name.ctxt;
        }
    }
}

/// `(a) = function () {}`: no function takes the name of what is parenthesised.
struct Unnamed;

impl VisitMut for Unnamed {
    fn visit_mut_assign_expr(&mut self, node: &mut AssignExpr) {
        node.visit_mut_children_with(self);
        let anonymous = match unwrapped(&node.right) {
            Expr::Fn(function) => function.ident.is_none(),
            Expr::Class(class) => class.ident.is_none(),
            Expr::Arrow(_) => true,
            _ => false,
        };
        if anonymous && matches!(node.left, AssignTarget::Simple(SimpleAssignTarget::Paren(_))) {
            let zero = Expr::Lit(Lit::Num(Number { span: DUMMY_SP, value: 0.0, raw: None }));
            let exprs = vec![Box::new(zero), node.right.take()];
            *node.right = Expr::Seq(SeqExpr { span: DUMMY_SP, exprs });
        }
    }
}

struct Parentheses;

impl VisitMut for Parentheses {
    fn visit_mut_class(&mut self, node: &mut Class) {
        node.visit_mut_children_with(self);
        // class A extends (() => {}) {}
        if let Some(heritage) = &mut node.super_class
            && heritage.is_arrow()
        {
            wrap(heritage);
        }
    }

    fn visit_mut_export_default_expr(&mut self, node: &mut ExportDefaultExpr) {
        node.visit_mut_children_with(self);
        // export default (function () {}): without them it is a declaration, which is there before it is reached.
        if node.expr.is_fn_expr() || node.expr.is_class() {
            wrap(&mut node.expr);
        }
    }
}

fn wrap(expr: &mut Box<Expr>) {
    let inner = expr.take();
    **expr = Expr::Paren(ParenExpr { span: DUMMY_SP, expr: inner });
}

/// Splits `export var { a = b } = c` into the declaration and `export { a }`: what renames names passes over the
/// expressions in such a pattern.
pub(crate) fn split_exported_patterns(program: &mut Program) {
    let Program::Module(module) = program else { return };
    let items = module.body.take();
    for item in items {
        let variables = match item {
            ModuleItem::ModuleDecl(ModuleDecl::ExportDecl(ExportDecl {
                decl: Decl::Var(variables), ..
            })) if !variables.decls.iter().all(|variable| variable.name.is_ident()) => variables,
            other => {
                module.body.push(other);
                continue;
            }
        };
        let mut names = PatternNames(Vec::new());
        variables.decls.iter().for_each(|variable| variable.name.visit_with(&mut names));
        let specifiers = names.0.into_iter().map(|orig| {
            let named = ExportNamedSpecifier {
                span: DUMMY_SP,
                orig: ModuleExportName::Ident(orig),
                exported: None,
                is_type_only: false,
            };
            ExportSpecifier::Named(named)
        });
        let export = NamedExport {
            span: DUMMY_SP,
            specifiers: specifiers.collect(),
            src: None,
            type_only: false,
            with: None,
        };
        module.body.push(ModuleItem::Stmt(Stmt::Decl(Decl::Var(variables))));
        module.body.push(ModuleItem::ModuleDecl(ModuleDecl::ExportNamed(export)));
    }
}

/// The names that patterns declare, in their order.
struct PatternNames(Vec<Ident>);

impl Visit for PatternNames {
    fn visit_binding_ident(&mut self, node: &BindingIdent) {
        self.0.push(node.id.clone());
    }

    // What a computed key or a default value names is not declared there.
    fn visit_expr(&mut self, _: &Expr) {}
}
