//! Functions and literals that one other place names stand in that place.
//!
//! A function declaration is there from the start of the function around it, so it may stand wherever that function
//! itself runs it at most once: not in a loop, and not in another function. A variable that is given a literal may
//! stand wherever the code comes later in the same list: also in functions that are made there, but not in
//! declarations, which may run before.

use rustc_hash::FxHashMap;
use swc_core::ecma::{
    ast::*,
    visit::{Visit, VisitMut, VisitMutWith, VisitWith},
};

use super::facts::Facts;

pub(super) fn place(program: &mut Program, facts: &Facts<'_>) {
    program.visit_mut_with(&mut Lists { facts });
}

/// Goes through the lists of statements, those outside first.
struct Lists<'a, 'b> {
    facts: &'a Facts<'b>,
}

impl VisitMut for Lists<'_, '_> {
    fn visit_mut_function_body(&mut self, node: &mut FunctionBody) {
        functions(&mut node.stmts, self.facts);
        literals(&mut node.stmts, self.facts);
        for statement in &mut node.stmts {
            statement.visit_mut_with(self);
        }
    }

    fn visit_mut_stmts(&mut self, node: &mut Vec<Stmt>) {
        literals(node, self.facts);
        node.visit_mut_children_with(self);
    }

    fn visit_mut_module_items(&mut self, node: &mut Vec<ModuleItem>) {
        let mut placed = Vec::with_capacity(node.len());
        let mut run = Vec::new();
        let facts = self.facts;
        let end = |run: &mut Vec<Stmt>, placed: &mut Vec<ModuleItem>| {
            functions(run, facts);
            literals(run, facts);
            placed.extend(run.drain(..).map(ModuleItem::Stmt));
        };
        for item in node.drain(..) {
            match item {
                ModuleItem::Stmt(statement) => run.push(statement),
                declaration => {
                    end(&mut run, &mut placed);
                    placed.push(declaration);
                }
            }
        }
        end(&mut run, &mut placed);
        *node = placed;
        for item in node {
            item.visit_mut_children_with(self);
        }
    }

    fn visit_mut_script(&mut self, node: &mut Script) {
        if !self.facts.shares_top_level() {
            functions(&mut node.body, self.facts);
            literals(&mut node.body, self.facts);
        }
        for statement in &mut node.body {
            statement.visit_mut_with(self);
        }
    }
}

fn functions(statements: &mut Vec<Stmt>, facts: &Facts<'_>) {
    let once = |statement: &Stmt| match statement {
        Stmt::Decl(Decl::Fn(function)) => {
            facts.stands(&function.ident, 2)
                && facts.is_settled(&function.ident.to_id())
                && !facts.is_read_name(&function.ident)
        }
        _ => false,
    };
    if !statements.iter().any(once) {
        return;
    }
    let mut places = Places { waiting: FxHashMap::default(), away: 0, hoisted: 0 };
    for statement in statements.iter().filter(|statement| once(statement)) {
        if let Stmt::Decl(Decl::Fn(function)) = statement {
            places.waiting.insert(function.ident.to_id(), Waiting::Function(None));
        }
    }
    // First where they are called for: a function that stands in a loop only stays where it is.
    let mut seen = Seen { places: &places, found: Vec::new() };
    for statement in statements.iter().filter(|statement| !once(statement)) {
        statement.visit_with(&mut seen);
    }
    let found = seen.found;
    places.waiting.clear();
    let mut rest = Vec::with_capacity(statements.len());
    for statement in statements.drain(..) {
        match statement {
            Stmt::Decl(Decl::Fn(function)) if found.contains(&function.ident.to_id()) => {
                let value = Expr::Fn(FnExpr { ident: None, function: function.function });
                places.waiting.insert(function.ident.to_id(), Waiting::Function(Some(Box::new(value))));
            }
            other => rest.push(other),
        }
    }
    if !places.waiting.is_empty() {
        rest.iter_mut().for_each(|statement| statement.visit_mut_with(&mut places));
    }
    *statements = rest;
}

fn literals(statements: &mut [Stmt], facts: &Facts<'_>) {
    let mut places = Places { waiting: FxHashMap::default(), away: 0, hoisted: 0 };
    for statement in statements.iter_mut() {
        if let Stmt::Decl(Decl::Var(variables)) = statement {
            for declarator in &mut variables.decls {
                if !places.waiting.is_empty() {
                    declarator.visit_mut_with(&mut places);
                }
                if let (Pat::Ident(name), Some(value)) = (&declarator.name, &declarator.init)
                    && is_literal(value)
                    && facts.stands(name, 2)
                    && !facts.is_assigned(&name.to_id())
                {
                    places.waiting.insert(name.to_id(), Waiting::Literal(value.clone()));
                }
            }
        } else if !places.waiting.is_empty() {
            statement.visit_mut_with(&mut places);
        }
    }
    // What was placed is gone from the list of those that wait; its variable goes too.
    for statement in statements.iter_mut() {
        if let Stmt::Decl(Decl::Var(variables)) = statement {
            variables.decls.retain(|declarator| match &declarator.name {
                Pat::Ident(name) => !matches!(places.waiting.get(&name.to_id()), Some(Waiting::Placed)),
                _ => true,
            });
            if variables.decls.is_empty() {
                *statement = Stmt::Empty(EmptyStmt { span: variables.span });
            }
        }
    }
}

/// A value that can be made anywhere. A long number is not made shorter by standing elsewhere, but no longer either.
fn is_literal(value: &Expr) -> bool {
    match value {
        Expr::Lit(literal) => matches!(literal, Lit::Str(_) | Lit::Num(_) | Lit::Bool(_) | Lit::Null(_)),
        _ => false,
    }
}

enum Waiting {
    Function(Option<Box<Expr>>),
    Literal(Box<Expr>),
    Placed,
}

/// Which functions are named where they may stand.
struct Seen<'a> {
    places: &'a Places,
    found: Vec<Id>,
}

impl Visit for Seen<'_> {
    fn visit_expr(&mut self, node: &Expr) {
        match node {
            Expr::Ident(name) => {
                if self.places.waiting.contains_key(&name.to_id()) {
                    self.found.push(name.to_id());
                }
            }
            Expr::Unary(UnaryExpr { op: UnaryOp::Delete, .. }) => {}
            _ => node.visit_children_with(self),
        }
    }

    // The trace of a function that is called where it is made does not say where it is called.
    fn visit_callee(&mut self, node: &Callee) {
        if !matches!(node, Callee::Expr(callee) if callee.is_ident()) {
            node.visit_children_with(self);
        }
    }

    fn visit_expr_stmt(&mut self, node: &ExprStmt) {
        if !node.expr.is_ident() {
            node.visit_children_with(self);
        }
    }

    fn visit_function(&mut self, _: &Function) {}

    fn visit_arrow_expr(&mut self, _: &ArrowExpr) {}

    fn visit_class(&mut self, _: &Class) {}

    fn visit_for_stmt(&mut self, _: &ForStmt) {}

    fn visit_for_in_stmt(&mut self, _: &ForInStmt) {}

    fn visit_for_of_stmt(&mut self, _: &ForOfStmt) {}

    fn visit_while_stmt(&mut self, _: &WhileStmt) {}

    fn visit_do_while_stmt(&mut self, _: &DoWhileStmt) {}
}

/// Puts what waits into its place.
struct Places {
    waiting: FxHashMap<Id, Waiting>,
    /// How many loops and functions deep.
    away: usize,
    /// How many declarations of functions deep.
    hoisted: usize,
}

impl Places {
    fn take(&mut self, id: &Id) -> Option<Box<Expr>> {
        let waiting = self.waiting.get_mut(id)?;
        let taken = match waiting {
            Waiting::Function(value) if self.away == 0 => value.take()?,
            Waiting::Literal(value) if self.hoisted == 0 => value.clone(),
            _ => return None,
        };
        *waiting = Waiting::Placed;
        Some(taken)
    }

    fn away<T: VisitMutWith<Self>>(&mut self, node: &mut T) {
        self.away += 1;
        node.visit_mut_children_with(self);
        self.away -= 1;
    }
}

impl VisitMut for Places {
    fn visit_mut_expr(&mut self, node: &mut Expr) {
        match node {
            Expr::Ident(name) => {
                if let Some(value) = self.take(&name.to_id()) {
                    *node = *value;
                }
            }
            // `delete a` is no, `delete "text"` is yes.
            Expr::Unary(UnaryExpr { op: UnaryOp::Delete, .. }) => {}
            _ => node.visit_mut_children_with(self),
        }
    }

    fn visit_mut_expr_stmt(&mut self, node: &mut ExprStmt) {
        // A text alone could become a directive.
        if !node.expr.is_ident() {
            node.visit_mut_children_with(self);
        }
    }

    fn visit_mut_prop(&mut self, node: &mut Prop) {
        if let Prop::Shorthand(name) = node {
            // { __proto__: a } is no property.
            if name.sym != "__proto__"
                && let Some(value) = self.take(&name.to_id())
            {
                let key = PropName::Ident(IdentName::new(name.sym.clone(), name.span));
                *node = Prop::KeyValue(KeyValueProp { key, value });
            }
        } else {
            node.visit_mut_children_with(self);
        }
    }

    fn visit_mut_fn_decl(&mut self, node: &mut FnDecl) {
        self.hoisted += 1;
        self.away(&mut node.function);
        self.hoisted -= 1;
    }

    fn visit_mut_function(&mut self, node: &mut Function) {
        self.away(node);
    }

    fn visit_mut_arrow_expr(&mut self, node: &mut ArrowExpr) {
        self.away(node);
    }

    fn visit_mut_class(&mut self, node: &mut Class) {
        self.away(node);
    }

    fn visit_mut_for_stmt(&mut self, node: &mut ForStmt) {
        self.away(node);
    }

    fn visit_mut_for_in_stmt(&mut self, node: &mut ForInStmt) {
        self.away(node);
    }

    fn visit_mut_for_of_stmt(&mut self, node: &mut ForOfStmt) {
        self.away(node);
    }

    fn visit_mut_while_stmt(&mut self, node: &mut WhileStmt) {
        self.away(node);
    }

    fn visit_mut_do_while_stmt(&mut self, node: &mut DoWhileStmt) {
        self.away(node);
    }
}
