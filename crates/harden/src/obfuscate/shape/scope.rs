//! What a statement list declares and reads: whether a declaration may move, and which names it may get.

use std::collections::{HashMap, HashSet};

use swc_core::{
    common::DUMMY_SP,
    ecma::{
        ast::*,
        utils::find_pat_ids,
        visit::{Visit, VisitMut, VisitMutWith, VisitWith},
    },
};

use crate::js::tidy::assigned;

/// The variables that a piece of a program names, its own and others.
pub(super) fn names<T: VisitWith<Names>>(node: &T) -> HashSet<Id> {
    let mut names = Names::default();
    node.visit_with(&mut names);
    names.0
}

#[derive(Default)]
pub(super) struct Names(HashSet<Id>);

impl Visit for Names {
    fn visit_ident(&mut self, node: &Ident) {
        self.0.insert(node.to_id());
    }
}

/// Returns whether a function, or an arrow function in it, may read `arguments`.
pub(super) fn reads_arguments<T: VisitWith<Names>>(node: &T) -> bool {
    names(node).iter().any(|(name, _)| name == "arguments")
}

/// Returns whether a list declares something that is seen in its block alone.
pub(super) fn has_scope(stmts: &[Stmt]) -> bool {
    stmts.iter().any(|statement| match statement {
        Stmt::Decl(Decl::Var(variables)) => variables.kind != VarDeclKind::Var,
        Stmt::Decl(_) => true,
        _ => false,
    })
}

/// What a list's function declarations and lexical declarations mean for moving its statements.
pub(super) struct Order {
    /// The names of each statement.
    names: Vec<HashSet<Id>>,
    /// The names in function declarations, which may be called before the statement that they stand at.
    early: HashSet<Id>,
    assigned: HashSet<Id>,
}

impl Order {
    pub(super) fn of(stmts: &[Stmt]) -> Self {
        let mut early = HashSet::new();
        for statement in stmts {
            if let Stmt::Decl(Decl::Fn(function)) = statement {
                early.extend(names(&function.function));
            }
        }
        let mut written = HashSet::new();
        for statement in stmts {
            written.extend(assigned(statement));
        }
        Self { names: stmts.iter().map(names).collect(), early, assigned: written }
    }

    /// Returns whether nothing tells when the names of the declaration at `index` are set up as the list begins:
    /// nothing can read or write one before its declaration ran, and none refuses to be assigned to.
    pub(super) fn may_open(&self, stmts: &[Stmt], index: usize) -> bool {
        let Stmt::Decl(Decl::Var(variables)) = &stmts[index] else { return false };
        let mut declared = HashSet::new();
        for declarator in variables.decls.iter().rev() {
            let ids: Vec<Id> = find_pat_ids(&declarator.name);
            let own: HashSet<Id> = ids.iter().cloned().collect();
            declared.extend(ids);
            // The names of this declarator and of those after it, read by what runs before they are set.
            if let Some(value) = &declarator.init
                && !names(value).is_disjoint(&declared)
            {
                return false;
            }
            if !declarator.name.is_ident() && !pattern_reads(&declarator.name).is_disjoint(&declared) {
                return false;
            }
            if own.iter().any(|(name, _)| matches!(name.as_str(), "arguments" | "eval" | "let")) {
                return false;
            }
        }
        let read_before =
            |id: &Id| self.early.contains(id) || self.names[..index].iter().any(|names| names.contains(id));
        let is_constant = variables.kind == VarDeclKind::Const;
        !declared.iter().any(|id| read_before(id) || is_constant && self.assigned.contains(id))
    }
}

/// The names that a pattern reads: in its defaults and computed keys.
fn pattern_reads(pattern: &Pat) -> HashSet<Id> {
    struct Reads(HashSet<Id>);
    impl Visit for Reads {
        fn visit_expr(&mut self, node: &Expr) {
            self.0.extend(names(node));
        }
    }
    let mut reads = Reads(HashSet::new());
    pattern.visit_with(&mut reads);
    reads.0
}

/// The names that a function's body declares with `var`.
pub(super) fn vars(body: &FunctionBody) -> Vec<Id> {
    let mut vars = Vars::default();
    body.visit_with(&mut vars);
    vars.0
}

#[derive(Default)]
struct Vars(Vec<Id>);

impl Visit for Vars {
    fn visit_var_decl(&mut self, node: &VarDecl) {
        if node.kind == VarDeclKind::Var {
            let ids: Vec<Id> = find_pat_ids(&node.decls);
            self.0.extend(ids);
        }
        node.visit_children_with(self);
    }

    fn visit_function(&mut self, _: &Function) {}
    fn visit_arrow_expr(&mut self, _: &ArrowExpr) {}
    fn visit_class(&mut self, _: &Class) {}
}

/// Puts new names in the place of others.
pub(super) struct Rename<'a>(pub(super) &'a HashMap<Id, Ident>);

impl VisitMut for Rename<'_> {
    fn visit_mut_ident(&mut self, node: &mut Ident) {
        if let Some(new) = self.0.get(&node.to_id()) {
            (node.sym, node.ctxt) = (new.sym.clone(), new.ctxt);
        }
    }

    fn visit_mut_prop(&mut self, node: &mut Prop) {
        // `{ a }` is the property `a`, whatever the variable is called.
        if let Prop::Shorthand(name) = node
            && self.0.contains_key(&name.to_id())
        {
            let key = PropName::Ident(IdentName::new(name.sym.clone(), name.span));
            *node = Prop::KeyValue(KeyValueProp { key, value: Box::new(Expr::Ident(name.clone())) });
        }
        node.visit_mut_children_with(self);
    }

    fn visit_mut_object_pat_prop(&mut self, node: &mut ObjectPatProp) {
        if let ObjectPatProp::Assign(AssignPatProp { key, value, .. }) = node
            && self.0.contains_key(&key.to_id())
        {
            let name = PropName::Ident(IdentName::new(key.sym.clone(), key.span));
            let target = Pat::Ident(key.clone());
            let target = match value.take() {
                Some(right) => Pat::Assign(AssignPat { span: DUMMY_SP, left: Box::new(target), right }),
                None => target,
            };
            *node = ObjectPatProp::KeyValue(KeyValuePatProp { key: name, value: Box::new(target) });
        }
        node.visit_mut_children_with(self);
    }
}
