//! What a program tells about its names.

use std::collections::{BTreeSet, HashSet};

use rustc_hash::FxHashMap;
use swc_core::{
    common::{Mark, SyntaxContext},
    ecma::{
        ast::*,
        utils::find_pat_ids,
        visit::{Visit, VisitWith},
    },
};

use super::assigned;

/// Known of the names of one program before it is tidied.
pub(super) struct Facts<'a> {
    /// The names that no scope declares.
    pub(super) unresolved: SyntaxContext,
    /// The scope whose names other files see.
    shared: Option<SyntaxContext>,
    /// Names of functions and classes that somebody reads.
    kept: &'a BTreeSet<String>,
    /// How often each name stands in the program, its declarations included.
    counts: FxHashMap<Id, u32>,
    /// What something is assigned to after its declaration.
    assigned: HashSet<Id>,
    /// Parameters and functions that nothing is assigned to: to read one is to read a constant.
    settled: HashSet<Id>,
}

impl<'a> Facts<'a> {
    pub(super) fn of(
        program: &Program,
        unresolved: Mark,
        top_level: Mark,
        private: bool,
        kept: &'a BTreeSet<String>,
    ) -> Self {
        let assigned = assigned(program);
        let mut finder = Finder::default();
        program.visit_with(&mut finder);
        finder.settled.retain(|id| !assigned.contains(id));
        // A `var` with the name of a parameter or a function gives it another value.
        for id in &finder.variables {
            finder.settled.remove(id);
        }
        Self {
            unresolved: SyntaxContext::empty().apply_mark(unresolved),
            shared: (!private).then(|| SyntaxContext::empty().apply_mark(top_level)),
            kept,
            counts: finder.counts,
            assigned,
            settled: finder.settled,
        }
    }

    /// Whether the top level's names are seen by others.
    pub(super) fn shares_top_level(&self) -> bool {
        self.shared.is_some()
    }

    pub(super) fn is_shared(&self, id: &Id) -> bool {
        Some(id.1) == self.shared
    }

    pub(super) fn is_assigned(&self, id: &Id) -> bool {
        self.assigned.contains(id)
    }

    pub(super) fn is_settled(&self, id: &Id) -> bool {
        self.settled.contains(id)
    }

    /// The names that stand in a part of the program.
    pub(super) fn names<T: VisitWith<Named>>(part: &T) -> Vec<Id> {
        let mut names = Named(Vec::new());
        part.visit_with(&mut names);
        names.0
    }

    /// Whether some scope of the program declares the name.
    pub(super) fn is_declared(&self, name: &Ident) -> bool {
        name.ctxt != self.unresolved && name.ctxt != SyntaxContext::empty()
    }

    /// Whether a function or class takes this name, and somebody reads it.
    pub(super) fn is_read_name(&self, name: &Ident) -> bool {
        self.kept.contains(name.sym.as_str())
    }

    /// Whether the name stands in `times` places only, and nobody else sees it.
    pub(super) fn stands(&self, name: &Ident, times: u32) -> bool {
        let id = name.to_id();
        self.is_declared(name) && !self.is_shared(&id) && self.counts.get(&id) == Some(&times)
    }

    /// Takes note that a part of the program is no more.
    pub(super) fn forget<T: VisitWith<Named>>(&mut self, part: &T) {
        for id in Self::names(part) {
            if let Some(count) = self.counts.get_mut(&id) {
                *count = count.saturating_sub(1);
            }
        }
    }
}

/// The names in a part of the program.
pub(super) struct Named(Vec<Id>);

impl Visit for Named {
    fn visit_ident(&mut self, node: &Ident) {
        self.0.push(node.to_id());
    }
}

#[derive(Default)]
struct Finder {
    counts: FxHashMap<Id, u32>,
    settled: HashSet<Id>,
    variables: HashSet<Id>,
    in_block: bool,
}

impl Finder {
    fn settle(&mut self, pattern: &Pat) {
        let ids: Vec<Id> = find_pat_ids(pattern);
        self.settled.extend(ids);
    }

    fn inside<T: VisitWith<Self>>(&mut self, in_block: bool, node: &T) {
        let before = std::mem::replace(&mut self.in_block, in_block);
        node.visit_children_with(self);
        self.in_block = before;
    }
}

impl Visit for Finder {
    fn visit_ident(&mut self, node: &Ident) {
        *self.counts.entry(node.to_id()).or_default() += 1;
    }

    fn visit_param(&mut self, node: &Param) {
        // One with a default value can be read before it has its value.
        if node.pat.is_ident() {
            self.settle(&node.pat);
        }
        node.visit_children_with(self);
    }

    fn visit_arrow_expr(&mut self, node: &ArrowExpr) {
        node.params.iter().filter(|parameter| parameter.is_ident()).for_each(|each| self.settle(each));
        self.inside(false, node);
    }

    fn visit_function(&mut self, node: &Function) {
        self.inside(false, node);
    }

    fn visit_constructor(&mut self, node: &Constructor) {
        self.inside(false, node);
    }

    fn visit_block_stmt(&mut self, node: &BlockStmt) {
        self.inside(true, node);
    }

    fn visit_switch_stmt(&mut self, node: &SwitchStmt) {
        self.inside(true, node);
    }

    fn visit_if_stmt(&mut self, node: &IfStmt) {
        self.inside(true, node);
    }

    fn visit_labeled_stmt(&mut self, node: &LabeledStmt) {
        self.inside(true, node);
    }

    fn visit_fn_decl(&mut self, node: &FnDecl) {
        let id = node.ident.to_id();
        if self.in_block || !self.settled.insert(id.clone()) {
            // In a block it may be a `var` too; declared twice it has two values.
            self.variables.insert(id);
        }
        node.visit_children_with(self);
    }

    fn visit_var_decl(&mut self, node: &VarDecl) {
        let ids: Vec<Id> = find_pat_ids(&node.decls);
        self.variables.extend(ids);
        node.visit_children_with(self);
    }
}
