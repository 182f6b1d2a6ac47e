//! Short names for classes whose names are read.
//!
//! `class Name {}` becomes `let a = class Name {}` where its name stands outside it often enough. Within the class
//! the name is the class's own, as before.

use std::collections::{BTreeSet, HashSet};

use rustc_hash::FxHashMap;
use swc_core::{
    common::{DUMMY_SP, Mark, SyntaxContext, util::take::Take as _},
    ecma::{
        ast::*,
        visit::{Visit, VisitMut, VisitMutWith, VisitWith},
    },
};

use crate::js::tidy::assigned;

/// What `let a=` and `;` add.
const COST: usize = 8;

/// Separates variables from the names of their classes, and returns the variables.
pub(super) fn free(
    program: &mut Program,
    names: &BTreeSet<String>,
    shared: Option<SyntaxContext>,
) -> HashSet<Id> {
    if names.is_empty() {
        return HashSet::new();
    }
    let mut uses = Uses { names, counts: FxHashMap::default() };
    program.visit_with(&mut uses);
    let mut freer =
        Freer { names, shared, assigned: assigned(program), counts: uses.counts, freed: HashSet::new() };
    program.visit_mut_with(&mut freer);
    freer.freed
}

struct Uses<'a> {
    names: &'a BTreeSet<String>,
    counts: FxHashMap<Id, usize>,
}

impl Visit for Uses<'_> {
    fn visit_ident(&mut self, node: &Ident) {
        if self.names.contains(node.sym.as_str()) {
            *self.counts.entry(node.to_id()).or_default() += 1;
        }
    }
}

struct Freer<'a> {
    names: &'a BTreeSet<String>,
    shared: Option<SyntaxContext>,
    assigned: HashSet<Id>,
    counts: FxHashMap<Id, usize>,
    freed: HashSet<Id>,
}

impl Freer<'_> {
    /// Whether a variable of its own is worth it, where the name stands so often in the class itself.
    fn pays(&self, id: &Id, within: usize) -> bool {
        let outside = self.counts.get(id).map_or(0, |count| count.saturating_sub(within));
        outside * id.0.len().saturating_sub(2) > COST
    }
}

impl VisitMut for Freer<'_> {
    fn visit_mut_stmt(&mut self, node: &mut Stmt) {
        node.visit_mut_children_with(self);
        let Stmt::Decl(Decl::Class(class)) = node else { return };
        let id = class.ident.to_id();
        if !self.names.contains(id.0.as_str()) || Some(id.1) == self.shared || self.assigned.contains(&id) {
            return;
        }
        let own = SyntaxContext::empty().apply_mark(Mark::new());
        let mut within = Within { id: id.clone(), own: None, count: 1 };
        class.class.visit_mut_with(&mut within);
        if !self.pays(&id, within.count) {
            return;
        }
        within.own = Some(own);
        class.class.visit_mut_with(&mut within);
        let span = class.class.span;
        let ident = Ident { ctxt: own, ..class.ident.clone() };
        let value = Expr::Class(ClassExpr { ident: Some(ident), class: class.class.take() });
        let declarator = VarDeclarator {
            span: DUMMY_SP,
            name: Pat::Ident(class.ident.clone().into()),
            init: Some(Box::new(value)),
            definite: false,
        };
        let kind = VarDeclKind::Let;
        *node = Stmt::Decl(Decl::Var(Box::new(VarDecl {
            span,
            kind,
            decls: vec![declarator],
            ..VarDecl::default()
        })));
        self.freed.insert(id);
    }
}

/// Counts a class's name in the class, or gives it the scope of the class there.
struct Within {
    id: Id,
    own: Option<SyntaxContext>,
    count: usize,
}

impl VisitMut for Within {
    fn visit_mut_ident(&mut self, node: &mut Ident) {
        if node.to_id() == self.id {
            self.count += 1;
            if let Some(own) = self.own {
                node.ctxt = own;
            }
        }
    }
}
