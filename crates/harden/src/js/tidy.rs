//! Rewrites that keep what every program does and take fewer bytes.
//!
//! Each is a rule of syntax, or of names that nothing else can see: none needs to know what a value is or what a
//! call does, and none drops, repeats or reorders anything that runs. Names must be resolved, and not yet shortened.

mod expressions;
mod facts;
mod inline;
mod place;
mod statements;
mod unused;

use std::collections::{BTreeSet, HashSet};

use rustc_hash::FxHashSet;
use swc_core::{
    common::Mark,
    ecma::{
        ast::*,
        visit::{Visit, VisitMut, VisitMutWith, VisitWith},
    },
};

use self::{facts::Facts, statements::Lists};
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

/// Tidies a program. `private`: whether nobody else sees the names that its top level declares. `names`: those of
/// functions and classes that somebody reads.
pub(crate) fn tidy(
    program: &mut Program,
    unresolved: Mark,
    top_level: Mark,
    private: bool,
    names: &BTreeSet<String>,
) {
    let mut facts = Facts::of(program, unresolved, top_level, private, names);
    unused::drop_unused(program, &mut facts);
    place::place(program, &facts);
    let mut tidy = Tidy {
        facts: &facts,
        depth: 0,
        async_generator: false,
        ready: FxHashSet::default(),
        latest: Vec::new(),
    };
    program.visit_mut_with(&mut tidy);
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

struct Tidy<'a, 'b> {
    facts: &'a Facts<'b>,
    /// How many functions deep.
    depth: usize,
    async_generator: bool,
    /// Constants that have their values where the visit is.
    ready: FxHashSet<Id>,
    /// The same, in the order of the text.
    latest: Vec<Id>,
}

impl<'b> Tidy<'_, 'b> {
    fn lists(&self) -> Lists<'_, 'b> {
        Lists {
            facts: self.facts,
            ready: &self.ready,
            valueless: self.depth > 0 || !self.facts.shares_top_level(),
            plain_return: !self.async_generator,
            own_scope: true,
        }
    }

    fn forget_since(&mut self, before: usize) {
        for id in self.latest.drain(before..) {
            self.ready.remove(&id);
        }
    }

    fn function(&mut self, async_generator: bool, visit: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.async_generator, async_generator);
        self.depth += 1;
        visit(self);
        self.depth -= 1;
        self.async_generator = outer;
    }

    /// `const` becomes `let` where nothing is assigned to it, so that no error is lost.
    fn unlock(&self, node: &mut VarDecl) {
        if node.kind == VarDeclKind::Const {
            let ids: Vec<Id> = swc_core::ecma::utils::find_pat_ids(&node.decls);
            if ids.iter().any(|id| self.facts.is_assigned(id) || self.facts.is_shared(id)) {
                return;
            }
            node.kind = VarDeclKind::Let;
        }
        // let a = undefined -> let a
        if node.kind == VarDeclKind::Let {
            for declarator in node.decls.iter_mut().filter(|declarator| declarator.name.is_ident()) {
                declarator.init.take_if(|value| statements::is_void(value));
            }
        }
    }
}

/// How many directives statements start with. What becomes a text later is none.
fn directives<'a>(statements: impl Iterator<Item = &'a Stmt>) -> usize {
    statements.take_while(|statement| statements::is_text_statement(statement)).count()
}

impl VisitMut for Tidy<'_, '_> {
    fn visit_mut_expr(&mut self, node: &mut Expr) {
        match node {
            // What stands here is a place, not a value.
            Expr::Unary(UnaryExpr { op: UnaryOp::Delete, arg, .. })
            | Expr::Update(UpdateExpr { arg, .. }) => {
                arg.visit_mut_children_with(self);
            }
            _ => node.visit_mut_children_with(self),
        }
        expressions::tidy(node, self.facts.unresolved);
    }

    fn visit_mut_expr_stmt(&mut self, node: &mut ExprStmt) {
        if matches!(&*node.expr, Expr::Bin(BinExpr { op: BinaryOp::Add, .. })) {
            // "use" + " strict" is no directive.
            node.expr.visit_mut_children_with(self);
        } else {
            node.expr.visit_mut_with(self);
        }
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
        self.function(false, |tidy| node.visit_mut_children_with(tidy));
        statements::arrow(node);
    }

    fn visit_mut_function(&mut self, node: &mut Function) {
        self.function(node.is_async && node.is_generator, |tidy| node.visit_mut_children_with(tidy));
    }

    fn visit_mut_constructor(&mut self, node: &mut Constructor) {
        self.function(false, |tidy| node.visit_mut_children_with(tidy));
    }

    fn visit_mut_static_block(&mut self, node: &mut StaticBlock) {
        self.function(false, |tidy| node.visit_mut_children_with(tidy));
    }

    fn visit_mut_var_decl(&mut self, node: &mut VarDecl) {
        node.visit_mut_children_with(self);
        if node.kind != VarDeclKind::Var {
            // What follows in the text runs afterwards, but for declared functions.
            let ids: Vec<Id> = swc_core::ecma::utils::find_pat_ids(&node.decls);
            for id in ids.into_iter().filter(|id| !self.facts.is_assigned(id)) {
                self.ready.insert(id.clone());
                self.latest.push(id);
            }
        }
        self.unlock(node);
    }

    fn visit_mut_fn_decl(&mut self, node: &mut FnDecl) {
        // It may run before what stands above it.
        let (ready, latest) = (std::mem::take(&mut self.ready), std::mem::take(&mut self.latest));
        node.visit_mut_children_with(self);
        (self.ready, self.latest) = (ready, latest);
    }

    fn visit_mut_export_default_decl(&mut self, node: &mut ExportDefaultDecl) {
        let (ready, latest) = (std::mem::take(&mut self.ready), std::mem::take(&mut self.latest));
        node.visit_mut_children_with(self);
        (self.ready, self.latest) = (ready, latest);
    }

    fn visit_mut_switch_case(&mut self, node: &mut SwitchCase) {
        let before = self.latest.len();
        node.test.visit_mut_with(self);
        for statement in &mut node.cons {
            statement.visit_mut_with(self);
        }
        // Another case sees what this one declares, and starts without it.
        self.lists().shared().list(&mut node.cons);
        self.forget_since(before);
    }

    fn visit_mut_for_head(&mut self, node: &mut ForHead) {
        let before = self.latest.len();
        node.visit_mut_children_with(self);
        self.forget_since(before);
    }

    fn visit_mut_function_body(&mut self, node: &mut FunctionBody) {
        let directives = directives(node.stmts.iter());
        for statement in &mut node.stmts {
            statement.visit_mut_with(self);
        }
        self.lists().body(&mut node.stmts, directives);
    }

    fn visit_mut_stmts(&mut self, node: &mut Vec<Stmt>) {
        node.visit_mut_children_with(self);
        self.lists().list(node);
    }

    fn visit_mut_module_items(&mut self, node: &mut Vec<ModuleItem>) {
        let directives = directives(node.iter().map_while(ModuleItem::as_stmt));
        node.visit_mut_children_with(self);
        // Functions that are exported see what the list declares.
        self.lists().shared().items(node, directives);
    }

    fn visit_mut_script(&mut self, node: &mut Script) {
        if !self.facts.shares_top_level() {
            // CommonJS: the body of a function.
            let directives = directives(node.body.iter());
            for statement in &mut node.body {
                statement.visit_mut_with(self);
            }
            self.lists().body(&mut node.body, directives);
            return;
        }
        // The value of a script is that of its last statement, which `vm` and `eval` return: its own list stays.
        for statement in &mut node.body {
            statement.visit_mut_children_with(self);
        }
    }

    fn visit_mut_stmt(&mut self, node: &mut Stmt) {
        node.visit_mut_children_with(self);
        let lists = self.lists();
        if let Stmt::For(ForStmt { body, .. })
        | Stmt::ForIn(ForInStmt { body, .. })
        | Stmt::ForOf(ForOfStmt { body, .. })
        | Stmt::While(WhileStmt { body, .. }) = node
        {
            lists.round(body);
        }
        lists.tidy(node);
    }
}
