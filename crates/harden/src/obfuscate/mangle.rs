//! Takes the names of provably private properties away: an object that only its own scope knows becomes variables.
//!
//! Private is an object literal that a `let` or `const` is given, and of which nothing is ever done but to read and to
//! write the properties that the literal lists, by name. Nobody can see that there is no object.

use std::collections::{BTreeMap, HashMap};

use swc_core::{
    common::{DUMMY_SP, SyntaxContext},
    ecma::{
        ast::*,
        atoms::Atom,
        visit::{Visit, VisitMut, VisitMutWith, VisitWith},
    },
};

use super::fresh;
use crate::js::hazards::unwrapped;

/// Replaces the private objects of `program`. `seen` is the scope whose names others see, if there is one.
pub(crate) fn replace(program: &mut Program, seen: Option<SyntaxContext>) {
    let mut finder = Finder { seen, found: HashMap::new(), uses: HashMap::new() };
    program.visit_with(&mut finder);
    let Finder { mut found, uses, .. } = finder;
    // The declaration is the one use that is no property.
    found.retain(|id, _| uses.get(id).is_some_and(|uses| uses.all == uses.properties + 1));
    if !found.is_empty() {
        program.visit_mut_with(&mut Replacer { found });
    }
}

#[derive(Default)]
struct Uses {
    all: usize,
    properties: usize,
}

struct Finder {
    seen: Option<SyntaxContext>,
    /// The variables of each object, by the property that they stand for.
    found: HashMap<Id, BTreeMap<Atom, Ident>>,
    uses: HashMap<Id, Uses>,
}

impl Finder {
    fn candidate(&mut self, declarator: &VarDeclarator) {
        let Pat::Ident(name) = &declarator.name else { return };
        let Some(Expr::Object(object)) = declarator.init.as_deref() else { return };
        let mut variables = BTreeMap::new();
        let is_plain = object.props.iter().all(|property| {
            property_of(property).is_some_and(|(key, value)| {
                key != "__proto__" && is_quiet(value) && variables.insert(key, fresh()).is_none()
            })
        });
        if is_plain && !variables.is_empty() && Some(name.ctxt) != self.seen {
            self.found.insert(name.to_id(), variables);
        }
    }

    /// Visits what stands where a property is read or written, without taking its use for a safe one.
    fn unsafe_place(&mut self, place: &Expr) {
        match unwrapped(place) {
            Expr::Member(member) => member.visit_children_with(self),
            other => other.visit_with(self),
        }
    }
}

impl Visit for Finder {
    fn visit_ident(&mut self, node: &Ident) {
        self.uses.entry(node.to_id()).or_default().all += 1;
    }

    fn visit_stmt(&mut self, node: &Stmt) {
        if let Stmt::Decl(Decl::Var(variables)) = node
            && (variables.kind == VarDeclKind::Let
                || variables.kind == VarDeclKind::Const && variables.decls.len() == 1)
        {
            variables.decls.iter().for_each(|declarator| self.candidate(declarator));
        }
        node.visit_children_with(self);
    }

    fn visit_member_expr(&mut self, node: &MemberExpr) {
        if let Expr::Ident(object) = unwrapped(&node.obj)
            && let Some(key) = name_of(&node.prop)
            // What is used before it is declared is not looked for.
            && self.found.get(&object.to_id()).is_some_and(|variables| variables.contains_key(&key))
        {
            self.uses.entry(object.to_id()).or_default().properties += 1;
        }
        node.visit_children_with(self);
    }

    /// A method gets the object as `this`.
    fn visit_call_expr(&mut self, node: &CallExpr) {
        match &node.callee {
            Callee::Expr(callee) => self.unsafe_place(callee),
            other => other.visit_with(self),
        }
        node.args.visit_with(self);
    }

    fn visit_tagged_tpl(&mut self, node: &TaggedTpl) {
        self.unsafe_place(&node.tag);
        node.tpl.visit_with(self);
    }

    fn visit_opt_chain_expr(&mut self, node: &OptChainExpr) {
        match &*node.base {
            OptChainBase::Member(member) => member.visit_children_with(self),
            OptChainBase::Call(call) => {
                self.unsafe_place(&call.callee);
                call.args.visit_with(self);
            }
        }
    }

    fn visit_unary_expr(&mut self, node: &UnaryExpr) {
        if node.op == UnaryOp::Delete {
            self.unsafe_place(&node.arg);
        } else {
            node.visit_children_with(self);
        }
    }

    fn visit_assign_expr(&mut self, node: &AssignExpr) {
        // A function that is given to a variable takes its name, one that is given to a property does not.
        match &node.left {
            AssignTarget::Simple(SimpleAssignTarget::Member(member))
                if is_anonymous(unwrapped(&node.right)) =>
            {
                member.visit_children_with(self);
            }
            left => left.visit_with(self),
        }
        node.right.visit_with(self);
    }

    fn visit_pat(&mut self, node: &Pat) {
        match node {
            Pat::Expr(place) => self.unsafe_place(place),
            _ => node.visit_children_with(self),
        }
    }
}

struct Replacer {
    found: HashMap<Id, BTreeMap<Atom, Ident>>,
}

impl Replacer {
    fn variable(&self, node: &MemberExpr) -> Option<Ident> {
        let Expr::Ident(object) = unwrapped(&node.obj) else { return None };
        self.found.get(&object.to_id())?.get(&name_of(&node.prop)?).cloned()
    }
}

impl VisitMut for Replacer {
    fn visit_mut_expr(&mut self, node: &mut Expr) {
        if let Expr::Member(member) = node
            && let Some(variable) = self.variable(member)
        {
            *node = Expr::Ident(Ident { span: member.span, ..variable });
            return;
        }
        node.visit_mut_children_with(self);
    }

    fn visit_mut_simple_assign_target(&mut self, node: &mut SimpleAssignTarget) {
        if let SimpleAssignTarget::Member(member) = node
            && let Some(variable) = self.variable(member)
        {
            *node = SimpleAssignTarget::Ident(Ident { span: member.span, ..variable }.into());
            return;
        }
        node.visit_mut_children_with(self);
    }

    fn visit_mut_var_decl(&mut self, node: &mut VarDecl) {
        node.visit_mut_children_with(self);
        let mut declarators = Vec::with_capacity(node.decls.len());
        for declarator in std::mem::take(&mut node.decls) {
            let variables = match &declarator.name {
                Pat::Ident(name) => self.found.get(&name.to_id()),
                _ => None,
            };
            let (Some(variables), Some(init)) = (variables, &declarator.init) else {
                declarators.push(declarator);
                continue;
            };
            node.kind = VarDeclKind::Let;
            let Expr::Object(object) = &**init else { continue };
            for (key, value) in object.props.iter().filter_map(property_of) {
                let Some(variable) = variables.get(&key) else { continue };
                declarators.push(VarDeclarator {
                    span: DUMMY_SP,
                    name: Pat::Ident(variable.clone().into()),
                    init: Some(Box::new(value.clone())),
                    definite: false,
                });
            }
        }
        node.decls = declarators;
    }
}

fn name_of(property: &MemberProp) -> Option<Atom> {
    match property {
        MemberProp::Ident(name) => Some(name.sym.clone()),
        _ => None,
    }
}

/// `key: value`, with a key that is a name.
fn property_of(property: &PropOrSpread) -> Option<(Atom, &Expr)> {
    let PropOrSpread::Prop(property) = property else { return None };
    match &**property {
        Prop::KeyValue(KeyValueProp { key: PropName::Ident(name), value }) => Some((name.sym.clone(), value)),
        _ => None,
    }
}

/// Whether evaluating `value` runs no code, which could look at the object before it is there.
fn is_quiet(value: &Expr) -> bool {
    match unwrapped(value) {
        Expr::Lit(_) | Expr::Ident(_) => true,
        Expr::Fn(function) => function.ident.is_some(),
        Expr::Unary(UnaryExpr { op: UnaryOp::Minus | UnaryOp::Bang | UnaryOp::Void, arg, .. }) => {
            arg.is_lit()
        }
        Expr::Array(list) => {
            list.elems.iter().flatten().all(|element| element.spread.is_none() && is_quiet(&element.expr))
        }
        Expr::Object(object) => object.props.iter().all(|property| {
            property_of(property).is_some_and(|(key, value)| key != "__proto__" && is_quiet(value))
        }),
        _ => false,
    }
}

fn is_anonymous(value: &Expr) -> bool {
    match unwrapped(value) {
        Expr::Arrow(_) => true,
        Expr::Fn(function) => function.ident.is_none(),
        Expr::Class(class) => class.ident.is_none(),
        _ => false,
    }
}
