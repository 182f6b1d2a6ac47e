//! Functions that can run before their module does.
//!
//! In a cycle of imports a module's functions may be called before its first statement has run, and so before
//! its strings are decoded. Where that can be, decoding is a function, which the first of them to run calls.

use std::collections::HashSet;

use swc_core::{
    common::BytePos,
    ecma::{
        ast::*,
        visit::{VisitMut, VisitMutWith},
    },
};

use super::is_directive;

/// Returns where the functions start that could run too early: all that the top level declares, in a module that
/// another module of `package`, or this one again, may be in a cycle with. An exported one may call the others.
pub(crate) fn find(program: &Program, package: &str) -> HashSet<BytePos> {
    let Program::Module(module) = program else { return HashSet::new() };
    let is_internal = |source: &Str| {
        source.value.as_str().is_none_or(|source| {
            let own =
                source.strip_prefix(package).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            own || source.starts_with(['.', '#', '/']) || source.starts_with("file:")
        })
    };
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
    module.body.iter().filter_map(declared).map(|function| function.span.lo).collect()
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
            if let Some(body) = &mut node.body {
                let at = body.stmts.iter().take_while(|statement| is_directive(statement)).count();
                body.stmts.splice(at..at, self.early.iter().cloned());
            }
        }
    }
    program.visit_mut_with(&mut Insert { starts, early });
}

/// Returns the function that an item of the top level declares.
fn declared(item: &ModuleItem) -> Option<&Function> {
    match item {
        ModuleItem::ModuleDecl(ModuleDecl::ExportDecl(ExportDecl { decl: Decl::Fn(it), .. }))
        | ModuleItem::Stmt(Stmt::Decl(Decl::Fn(it))) => Some(&it.function),
        ModuleItem::ModuleDecl(ModuleDecl::ExportDefaultDecl(ExportDefaultDecl {
            decl: DefaultDecl::Fn(it),
            ..
        })) => Some(&it.function),
        _ => None,
    }
}
