//! Dispatchers: several functions of one scope become one, which is told by a number of the program's state what
//! to do; and the order of a scope's functions.

use std::collections::{HashMap, HashSet};

use swc_core::{
    common::DUMMY_SP,
    ecma::{
        ast::*,
        utils::find_pat_ids,
        visit::{Visit, VisitMut, VisitMutWith, VisitWith},
    },
};

use super::{
    Shaper,
    build::{block, directives, fresh, give, name, switch},
    scope::{Rename, reads_arguments, vars},
};
use crate::{
    Profile,
    js::hazards::{naming, unwrapped},
    obfuscate::{
        Cost, Often,
        state::{binary, number},
    },
};

/// How many functions one dispatcher holds at most.
const MOST: usize = 6;

/// Merges what can be merged. `seen`: whether others see the functions of the top level.
pub(super) fn merge(program: &mut Program, shaper: &mut Shaper<'_, '_>, seen: bool) {
    let mut uses = Uses::default();
    program.visit_with(&mut uses);
    let mut merger = Merger { shaper, uses, calls: HashMap::new() };
    match program {
        Program::Script(script) if !seen => merger.list(&mut script.body),
        Program::Module(module) => merger.items(&mut module.body),
        Program::Script(_) => {}
    }
    program.visit_mut_with(&mut merger);
    let Merger { shaper, calls, .. } = merger;
    if !calls.is_empty() {
        program.visit_mut_with(&mut Calls { shaper, calls });
    }
}

/// How the functions of a program are used.
#[derive(Default)]
struct Uses {
    declared: HashMap<Id, usize>,
    /// Names that do more than be called.
    values: HashSet<Id>,
}

impl Uses {
    fn is_called_only(&self, id: &Id) -> bool {
        self.declared.get(id) == Some(&1) && !self.values.contains(id)
    }
}

impl Visit for Uses {
    fn visit_fn_decl(&mut self, node: &FnDecl) {
        *self.declared.entry(node.ident.to_id()).or_default() += 1;
        node.function.visit_with(self);
    }

    fn visit_call_expr(&mut self, node: &CallExpr) {
        match &node.callee {
            Callee::Expr(callee) if unwrapped(callee).is_ident() => {}
            callee => callee.visit_with(self),
        }
        node.args.visit_with(self);
    }

    fn visit_ident(&mut self, node: &Ident) {
        self.values.insert(node.to_id());
    }
}

struct Merger<'s, 'a, 'w> {
    shaper: &'s mut Shaper<'a, 'w>,
    uses: Uses,
    /// The dispatcher of each function that was merged, and its number there.
    calls: HashMap<Id, (Ident, i32)>,
}

impl Merger<'_, '_, '_> {
    fn items(&mut self, items: &mut Vec<ModuleItem>) {
        let mut places: Vec<usize> = Vec::new();
        let mut functions: Vec<Stmt> = Vec::new();
        for (place, item) in items.iter_mut().enumerate() {
            if let ModuleItem::Stmt(Stmt::Decl(Decl::Fn(_))) = item
                && let ModuleItem::Stmt(statement) =
                    std::mem::replace(item, ModuleItem::Stmt(Stmt::default()))
            {
                places.push(place);
                functions.push(statement);
            }
        }
        self.functions(&mut functions);
        for (place, function) in places.into_iter().zip(functions) {
            items[place] = ModuleItem::Stmt(function);
        }
        items.retain(|item| !matches!(item, ModuleItem::Stmt(Stmt::Empty(_))));
    }

    /// A list that runs as the body of a function, or as if it did.
    fn list(&mut self, stmts: &mut Vec<Stmt>) {
        let places: Vec<usize> =
            (0..stmts.len()).filter(|&at| matches!(stmts[at], Stmt::Decl(Decl::Fn(_)))).collect();
        if places.len() < 2 {
            return;
        }
        let mut functions: Vec<Stmt> = places.iter().map(|&at| std::mem::take(&mut stmts[at])).collect();
        self.functions(&mut functions);
        for (place, function) in places.into_iter().zip(functions) {
            stmts[place] = function;
        }
        stmts.retain(|statement| !statement.is_empty());
    }

    /// Merges the functions of a scope and brings what is left into another order.
    fn functions(&mut self, functions: &mut Vec<Stmt>) {
        let mut seen = HashSet::new();
        let is_clear = functions.iter().all(|statement| match statement {
            Stmt::Decl(Decl::Fn(function)) => seen.insert(function.ident.to_id()),
            _ => false,
        });
        if !is_clear {
            return;
        }
        let (mut merged, mut others): (Vec<FnDecl>, Vec<Stmt>) = (Vec::new(), Vec::new());
        for statement in functions.drain(..) {
            match statement {
                Stmt::Decl(Decl::Fn(function)) if self.may_merge(&function) => merged.push(function),
                other => others.push(other),
            }
        }
        self.shaper.work.random.shuffle(&mut merged);
        while merged.len() > 1 {
            let count = 2 + self.shaper.work.random.below(MOST - 1);
            // One alone is no dispatcher.
            let count = if merged.len() <= count + 1 { merged.len() } else { count };
            let group = merged.split_off(merged.len() - count);
            others.push(self.dispatcher(group));
        }
        others.extend(merged.into_iter().map(|function| Stmt::Decl(Decl::Fn(function))));
        self.shaper.work.random.shuffle(&mut others);
        *functions = others;
    }

    fn may_merge(&self, node: &FnDecl) -> bool {
        let function = &*node.function;
        let Some(body) = &function.body else { return false };
        let mut parameters = HashSet::new();
        let is_simple = function.params.iter().all(|parameter| match &parameter.pat {
            Pat::Ident(name) => parameters.insert(name.to_id()),
            _ => false,
        });
        is_simple
            && !function.is_async
            && !function.is_generator
            // One that may run before the state is set is called where a selector cannot be computed.
            && !self.shaper.work.functions.has_plain_parameters(function.span.lo)
            && self.uses.is_called_only(&node.ident.to_id())
            && self.shaper.cost(function.span.lo) < Cost::Hot
            && self.shaper.profile(function.span.lo) == Profile::Strong
            && directives(&body.stmts) == 0
            && !body.stmts.iter().any(|statement| matches!(statement, Stmt::Decl(Decl::Fn(_))))
            && !reads_arguments(function)
            && !Own::is_asked(body)
            && {
                // Parameters and `var` get other names, which nothing may be called after.
                let naming = naming(&body.stmts);
                !parameters.iter().any(|id| naming.contains(id))
                    && !vars(body).iter().any(|id| naming.contains(id))
            }
    }

    /// function merged(which, a, b) { switch (which) { case 1: … case 2: … } }
    fn dispatcher(&mut self, group: Vec<FnDecl>) -> Stmt {
        let most = group.iter().map(|function| function.function.params.len()).max().unwrap_or_default();
        let parameters: Vec<Ident> = (0..most).map(|_| fresh("given")).collect();
        let (ident, which) = (fresh("merged"), fresh("which"));
        let numbers = self.shaper.distinct(group.len());
        let (variable, known) = self.shaper.state.any(&mut self.shaper.work.random, Often::Yes);
        let masks = self.shaper.work.random.one_in(2);
        let mut cases = Vec::new();
        for (number_, function) in numbers.into_iter().zip(group) {
            self.calls.insert(function.ident.to_id(), (ident.clone(), number_));
            let Function { params, body, .. } = *function.function;
            let Some(mut body) = body else { continue };
            let mut renamed: HashMap<Id, Ident> = HashMap::new();
            for id in vars(&body) {
                renamed.insert(id, fresh("own"));
            }
            let given: Vec<Id> = find_pat_ids(&params);
            renamed.extend(given.into_iter().zip(parameters.iter().cloned()));
            body.stmts.visit_mut_with(&mut Rename(&renamed));
            if !matches!(body.stmts.last(), Some(Stmt::Return(_) | Stmt::Throw(_))) {
                body.stmts.push(give(None));
            }
            let label = if masks { number_ ^ known } else { number_ };
            cases.push((Some(number(label.into())), vec![block(body.stmts)]));
        }
        let discriminant =
            if masks { binary(BinaryOp::BitXor, name(&which), name(&variable)) } else { name(&which) };
        let stmts = vec![switch(discriminant, cases)];
        let params =
            std::iter::once(which).chain(parameters).map(|name| Pat::Ident(name.into()).into()).collect();
        let function =
            Function { params, body: Some(FunctionBody { span: DUMMY_SP, stmts }), ..Default::default() };
        Stmt::Decl(Decl::Fn(FnDecl { ident, declare: false, function: Box::new(function) }))
    }
}

impl VisitMut for Merger<'_, '_, '_> {
    fn visit_mut_function_body(&mut self, node: &mut FunctionBody) {
        node.visit_mut_children_with(self);
        self.list(&mut node.stmts);
    }
}

/// Whether a body asks how it was called: `this`, `new.target`.
#[derive(Default)]
struct Own(bool);

impl Own {
    fn is_asked(body: &FunctionBody) -> bool {
        let mut own = Self::default();
        body.visit_with(&mut own);
        own.0
    }
}

impl Visit for Own {
    fn visit_this_expr(&mut self, _: &ThisExpr) {
        self.0 = true;
    }

    fn visit_meta_prop_expr(&mut self, node: &MetaPropExpr) {
        self.0 |= node.kind == MetaPropKind::NewTarget;
    }

    // What stands in these has its own.
    fn visit_function(&mut self, _: &Function) {}

    fn visit_class(&mut self, node: &Class) {
        node.super_class.visit_with(self);
        // A computed key is read outside.
        self.0 |= node.body.iter().any(|member| match member {
            ClassMember::Method(method) => method.key.is_computed(),
            ClassMember::ClassProp(property) => property.key.is_computed(),
            ClassMember::AutoAccessor(_) => true,
            _ => false,
        });
    }

    fn visit_prop(&mut self, node: &Prop) {
        match node {
            Prop::Getter(GetterProp { key, .. }) | Prop::Setter(SetterProp { key, .. }) => {
                key.visit_with(self)
            }
            other => other.visit_children_with(self),
        }
    }
}

/// Sends calls to the dispatchers.
struct Calls<'s, 'a, 'w> {
    shaper: &'s mut Shaper<'a, 'w>,
    calls: HashMap<Id, (Ident, i32)>,
}

impl VisitMut for Calls<'_, '_, '_> {
    fn visit_mut_call_expr(&mut self, node: &mut CallExpr) {
        node.visit_mut_children_with(self);
        if let Callee::Expr(callee) = &mut node.callee
            && let Expr::Ident(called) = unwrapped(callee)
            && let Some((dispatcher, which)) = self.calls.get(&called.to_id())
        {
            let span = called.span;
            **callee = Expr::Ident(Ident { span, ..dispatcher.clone() });
            let which = self.shaper.number(*which);
            node.args.insert(0, ExprOrSpread { spread: None, expr: which });
        }
    }
}
