//! Functions that can run before their module does.
//!
//! In a cycle of imports a module's exported functions may be called before its first statement has run, and so before
//! its strings are decoded. Where that can be, decoding is a function, which the first of them to run calls.

use std::collections::HashSet;

use swc_core::{
    common::{BytePos, DUMMY_SP},
    ecma::{
        ast::*,
        visit::{VisitMut, VisitMutWith},
    },
};

use super::is_directive;
use crate::js::hazards::unwrapped;

/// Returns where the functions start that other modules could call too early: none without an internal import.
pub(crate) fn find(program: &Program) -> HashSet<BytePos> {
    let Program::Module(module) = program else { return HashSet::new() };
    let is_internal =
        |source: &Str| source.value.as_str().is_none_or(|source| source.starts_with(['.', '#']));
    let imports = module.body.iter().any(|item| match item {
        ModuleItem::ModuleDecl(ModuleDecl::Import(import)) => is_internal(&import.src),
        ModuleItem::ModuleDecl(ModuleDecl::ExportAll(export)) => is_internal(&export.src),
        ModuleItem::ModuleDecl(ModuleDecl::ExportNamed(export)) => {
            export.src.as_deref().is_some_and(is_internal)
        }
        _ => false,
    });
    if !imports {
        return HashSet::new();
    }
    let listed = listed(module);
    let mut found = HashSet::new();
    for item in &module.body {
        if let Some(function) = exported(item, &listed) {
            found.insert(function.span.lo);
        }
    }
    found
}

/// Lets each function of `starts` decode first.
pub(crate) fn decode_early(program: &mut Program, starts: &HashSet<BytePos>, early: &[Stmt]) {
    struct Insert<'a> {
        starts: &'a HashSet<BytePos>,
        early: &'a [Stmt],
    }
    impl VisitMut for Insert<'_> {
        fn visit_mut_function(&mut self, node: &mut Function) {
            if !self.starts.contains(&node.span.lo) {
                return;
            }
            if let [Stmt::Expr(call)] = self.early {
                // What a parameter is without an argument may be computed by functions that need their strings.
                node.params.visit_mut_with(&mut Defaults { call: &call.expr });
            }
            if let Some(body) = &mut node.body {
                let at = body.stmts.iter().take_while(|statement| is_directive(statement)).count();
                body.stmts.splice(at..at, self.early.iter().cloned());
            }
        }
    }
    program.visit_mut_with(&mut Insert { starts, early });
}

/// Puts a call before each default value of a parameter, but for functions, which take their name from it.
struct Defaults<'a> {
    call: &'a Expr,
}

impl Defaults<'_> {
    fn precede(&self, value: &mut Box<Expr>) {
        if !matches!(unwrapped(value), Expr::Arrow(_) | Expr::Fn(_) | Expr::Class(_) | Expr::Lit(_)) {
            let exprs = vec![Box::new(self.call.clone()), std::mem::take(value)];
            **value = Expr::Seq(SeqExpr { span: DUMMY_SP, exprs });
        }
    }
}

impl VisitMut for Defaults<'_> {
    fn visit_mut_assign_pat(&mut self, node: &mut AssignPat) {
        node.left.visit_mut_with(self);
        self.precede(&mut node.right);
    }

    fn visit_mut_assign_pat_prop(&mut self, node: &mut AssignPatProp) {
        if let Some(value) = &mut node.value {
            self.precede(value);
        }
    }

    fn visit_mut_expr(&mut self, _: &mut Expr) {}
}

/// The names that `export { … }` lists.
fn listed(module: &Module) -> HashSet<Id> {
    let mut found = HashSet::new();
    for item in &module.body {
        let ModuleItem::ModuleDecl(ModuleDecl::ExportNamed(NamedExport { specifiers, src: None, .. })) = item
        else {
            continue;
        };
        for specifier in specifiers {
            if let ExportSpecifier::Named(ExportNamedSpecifier {
                orig: ModuleExportName::Ident(name), ..
            }) = specifier
            {
                found.insert(name.to_id());
            }
        }
    }
    found
}

/// Returns the function that an item of the top level declares and exports.
fn exported<'a>(item: &'a ModuleItem, listed: &HashSet<Id>) -> Option<&'a Function> {
    match item {
        ModuleItem::ModuleDecl(ModuleDecl::ExportDecl(ExportDecl { decl: Decl::Fn(it), .. })) => {
            Some(&it.function)
        }
        ModuleItem::ModuleDecl(ModuleDecl::ExportDefaultDecl(ExportDefaultDecl {
            decl: DefaultDecl::Fn(it),
            ..
        })) => Some(&it.function),
        ModuleItem::Stmt(Stmt::Decl(Decl::Fn(it))) if listed.contains(&it.ident.to_id()) => {
            Some(&it.function)
        }
        _ => None,
    }
}
