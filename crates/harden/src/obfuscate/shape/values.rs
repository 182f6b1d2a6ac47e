//! Functions that are used as values: what they do moves into functions of the top level, which are only called and so
//! can be merged. What is left hands over its arguments: its name, its length and who it is are the same.

use std::collections::HashSet;

use swc_core::{
    common::{BytePos, DUMMY_SP, SyntaxContext},
    ecma::{
        ast::*,
        utils::find_pat_ids,
        visit::{Visit, VisitMut, VisitMutWith, VisitWith},
    },
};

use super::{
    Shaper,
    build::{directives, fresh, give, name},
    outline::declared,
};
use crate::{Profile, js::hazards::unwrapped, obfuscate::Cost};

/// Moves what functions of `program` do to its top level, which only it sees.
pub(super) fn part(program: &mut Program, shaper: &mut Shaper<'_, '_>) {
    let unresolved = SyntaxContext::empty().apply_mark(shaper.work.session.unresolved);
    let is_strict = match program {
        Program::Module(_) => true,
        Program::Script(script) => directives(&script.body) > 0,
    };
    let shared = declared(program);
    let mut parter = Parter { shaper, unresolved, shared, differs: 0, is_strict, moved: Vec::new() };
    program.visit_mut_with(&mut parter);
    let moved = parter.moved.into_iter().map(|function| Stmt::Decl(Decl::Fn(function)));
    match program {
        Program::Script(script) => script.body.extend(moved),
        Program::Module(module) => module.body.extend(moved.map(ModuleItem::Stmt)),
    }
}

struct Parter<'s, 'a, 'w> {
    shaper: &'s mut Shaper<'a, 'w>,
    unresolved: SyntaxContext,
    /// Names that every function of the program sees.
    shared: HashSet<Id>,
    /// Whether the top level is strict.
    is_strict: bool,
    /// How many things the visitor is in that may be strict where the top level is not.
    differs: usize,
    moved: Vec<FnDecl>,
}

impl Parter<'_, '_, '_> {
    fn within<T: VisitMutWith<Self>>(&mut self, differs: bool, node: &mut T) {
        let differs = usize::from(differs && !self.is_strict);
        self.differs += differs;
        node.visit_mut_children_with(self);
        self.differs -= differs;
    }

    /// Parts a function, if nothing can tell.
    fn function(&mut self, node: &mut Function) {
        if node.is_async || node.is_generator || !node.params.iter().all(|parameter| parameter.pat.is_ident())
        {
            return;
        }
        let Some(body) = &mut node.body else { return };
        let mut names: Vec<Ident> = find_pat_ids(&node.params);
        if !self.may_move(node.span.lo, &names, body) {
            return;
        }
        let receiver = fresh("receiver");
        let mut stmts = std::mem::take(&mut body.stmts);
        let mut receives = Receives { receiver: &receiver, found: false };
        stmts.visit_mut_with(&mut receives);
        let has_receiver = receives.found;
        let mut arguments: Vec<Box<Expr>> = Vec::new();
        if has_receiver {
            arguments.push(Box::new(Expr::This(ThisExpr { span: DUMMY_SP })));
        }
        let handed: Vec<Ident> = names.iter().map(|_| fresh("handed")).collect();
        arguments.extend(handed.iter().map(name));
        node.params = handed.into_iter().map(|name| Pat::Ident(name.into()).into()).collect();
        if has_receiver {
            names.insert(0, receiver);
        }
        let ident = fresh("moved");
        let args = arguments.into_iter().map(ExprOrSpread::from).collect();
        let callee = Callee::Expr(name(&ident));
        body.stmts = vec![give(Some(Box::new(Expr::Call(CallExpr { callee, args, ..Default::default() }))))];
        let params = names.into_iter().map(|name| Pat::Ident(name.into()).into()).collect();
        let body = Some(FunctionBody { span: DUMMY_SP, stmts });
        // What moves keeps what is said of the function.
        let span = std::mem::replace(&mut node.span, DUMMY_SP);
        let function = Box::new(Function { span, params, body, ..Default::default() });
        self.moved.push(FnDecl { ident, declare: false, function });
    }

    fn may_move(&mut self, at: BytePos, parameters: &[Ident], body: &FunctionBody) -> bool {
        let mut once = HashSet::new();
        if self.differs > 0
            || at.is_dummy()
            || body.stmts.len() < 2
            || directives(&body.stmts) > 0
            || self.shaper.cost(at) >= Cost::Hot
            || self.shaper.profile(at) != Profile::Strong
            || self.shaper.work.functions.has_plain_parameters(at)
            || !parameters.iter().all(|name| once.insert(name.to_id()))
        {
            return false;
        }
        let mut reads = Reads { own: once, named: Vec::new(), moves: true };
        body.visit_with(&mut reads);
        let Reads { own, named, moves } = reads;
        let is_seen = |name: &Ident| {
            name.ctxt == self.unresolved || self.shared.contains(&name.to_id()) || own.contains(&name.to_id())
        };
        moves && named.iter().all(is_seen) && self.shaper.work.random.one_in(2)
    }
}

impl VisitMut for Parter<'_, '_, '_> {
    fn visit_mut_fn_expr(&mut self, node: &mut FnExpr) {
        node.function.visit_mut_with(self);
        self.function(&mut node.function);
    }

    fn visit_mut_method_prop(&mut self, node: &mut MethodProp) {
        node.key.visit_mut_with(self);
        node.function.visit_mut_with(self);
        self.function(&mut node.function);
    }

    fn visit_mut_class_method(&mut self, node: &mut ClassMethod) {
        node.key.visit_mut_with(self);
        node.function.visit_mut_with(self);
        if node.kind == MethodKind::Method {
            self.function(&mut node.function);
        }
    }

    fn visit_mut_function(&mut self, node: &mut Function) {
        let differs = node.body.as_ref().is_some_and(|body| directives(&body.stmts) > 0);
        self.within(differs, node);
    }

    fn visit_mut_arrow_expr(&mut self, node: &mut ArrowExpr) {
        let differs = matches!(&*node.body,
            ArrowFunctionBody::FunctionBody(body) if directives(&body.stmts) > 0);
        self.within(differs, node);
    }

    fn visit_mut_class(&mut self, node: &mut Class) {
        self.within(true, node);
    }
}

/// What a body declares and names, and whether it means the same elsewhere.
struct Reads {
    own: HashSet<Id>,
    named: Vec<Ident>,
    moves: bool,
}

impl Visit for Reads {
    fn visit_ident(&mut self, node: &Ident) {
        self.moves &=
            !matches!(node.sym.as_str(), "arguments" | "eval" | "require" | "module" | "exports" | "define");
        self.named.push(node.clone());
    }

    fn visit_binding_ident(&mut self, node: &BindingIdent) {
        self.own.insert(node.to_id());
    }

    fn visit_fn_decl(&mut self, node: &FnDecl) {
        self.own.insert(node.ident.to_id());
        node.function.visit_with(self);
    }

    fn visit_fn_expr(&mut self, node: &FnExpr) {
        self.own.extend(node.ident.as_ref().map(Ident::to_id));
        node.function.visit_with(self);
    }

    /// Its names, its `super` and its `this` are those of a place.
    fn visit_class(&mut self, _: &Class) {
        self.moves = false;
    }

    fn visit_private_name(&mut self, _: &PrivateName) {
        self.moves = false;
    }

    fn visit_super_prop_expr(&mut self, _: &SuperPropExpr) {
        self.moves = false;
    }

    fn visit_meta_prop_expr(&mut self, _: &MetaPropExpr) {
        self.moves = false;
    }

    fn visit_unary_expr(&mut self, node: &UnaryExpr) {
        // `delete this` is true; what it would be of a variable is another thing.
        self.moves &= !(node.op == UnaryOp::Delete && unwrapped(&node.arg).is_this());
        node.visit_children_with(self);
    }

    fn visit_tagged_tpl(&mut self, _: &TaggedTpl) {
        // Each place has a list of texts of its own.
        self.moves = false;
    }
}

/// Puts a variable in the place of `this`.
struct Receives<'a> {
    receiver: &'a Ident,
    found: bool,
}

impl VisitMut for Receives<'_> {
    fn visit_mut_expr(&mut self, node: &mut Expr) {
        if node.is_this() {
            *node = Expr::Ident(self.receiver.clone());
            self.found = true;
            return;
        }
        node.visit_mut_children_with(self);
    }

    // What stands in these has its own.
    fn visit_mut_function(&mut self, _: &mut Function) {}

    fn visit_mut_getter_prop(&mut self, node: &mut GetterProp) {
        node.key.visit_mut_with(self);
    }

    fn visit_mut_setter_prop(&mut self, node: &mut SetterProp) {
        node.key.visit_mut_with(self);
    }
}
