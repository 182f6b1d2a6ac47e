//! Outlining: what a function computes on its way moves into functions of its own, which are then merged.

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
    build::{fresh, give},
    scope::{Rename, reads_arguments},
};
use crate::{Profile, js::tidy::assigned, obfuscate::Cost};

/// How large an expression is that moves, in expressions.
const SMALLEST: usize = 4;
const LARGEST: usize = 40;

/// Moves expressions of `program` into functions at its top level, which only it sees.
pub(super) fn outline(program: &mut Program, shaper: &mut Shaper<'_, '_>) {
    let unresolved = SyntaxContext::empty().apply_mark(shaper.work.session.unresolved);
    let mut shared = declared(program);
    shared.extend(shaper.state.variables().iter().map(|(name, _)| name.to_id()));
    let mut set = assigned(program);
    let mut again = Again::default();
    program.visit_with(&mut again);
    set.extend(again.0);
    let mut outliner =
        Outliner { shaper, unresolved, shared, set, inside: Vec::new(), functions: Vec::new() };
    program.visit_mut_with(&mut outliner);
    let functions = outliner.functions.into_iter().map(|function| Stmt::Decl(Decl::Fn(function)));
    match program {
        Program::Script(script) => script.body.extend(functions),
        Program::Module(module) => module.body.extend(functions.map(ModuleItem::Stmt)),
    }
}

/// The names that the top level of a program declares.
pub(super) fn declared(program: &Program) -> HashSet<Id> {
    let mut ids = HashSet::new();
    match program {
        Program::Script(script) => {
            for statement in &script.body {
                if let Stmt::Decl(declaration) = statement {
                    ids.extend(declared_by(declaration));
                }
            }
        }
        Program::Module(module) => {
            for item in &module.body {
                match item {
                    ModuleItem::Stmt(Stmt::Decl(declaration))
                    | ModuleItem::ModuleDecl(ModuleDecl::ExportDecl(ExportDecl {
                        decl: declaration, ..
                    })) => {
                        ids.extend(declared_by(declaration));
                    }
                    ModuleItem::ModuleDecl(ModuleDecl::Import(import)) => {
                        ids.extend(import.specifiers.iter().map(|specifier| specifier.local().to_id()));
                    }
                    _ => {}
                }
            }
        }
    }
    ids
}

fn declared_by(declaration: &Decl) -> Vec<Id> {
    match declaration {
        Decl::Fn(function) => vec![function.ident.to_id()],
        Decl::Class(class) => vec![class.ident.to_id()],
        Decl::Var(variables) => find_pat_ids(&variables.decls),
        _ => Vec::new(),
    }
}

/// Names that a declaration gives a value to; a parameter among them is declared again in its function's body.
#[derive(Default)]
struct Again(HashSet<Id>);

impl Visit for Again {
    fn visit_var_declarator(&mut self, node: &VarDeclarator) {
        let ids: Vec<Id> = find_pat_ids(&node.name);
        self.0.extend(ids);
        node.visit_children_with(self);
    }

    fn visit_fn_decl(&mut self, node: &FnDecl) {
        self.0.insert(node.ident.to_id());
        node.visit_children_with(self);
    }
}

/// A function that the visitor is in.
struct Inside {
    /// Parameters whose value never changes.
    fixed: HashSet<Id>,
    /// Whether what it computes stays.
    stays: bool,
}

struct Outliner<'s, 'a, 'w> {
    shaper: &'s mut Shaper<'a, 'w>,
    unresolved: SyntaxContext,
    /// Names that every function of the program sees.
    shared: HashSet<Id>,
    /// Names that may get a value more than once.
    set: HashSet<Id>,
    inside: Vec<Inside>,
    functions: Vec<FnDecl>,
}

impl Outliner<'_, '_, '_> {
    fn within<T: VisitMutWith<Self> + ?Sized>(&mut self, inside: Inside, body: &mut T) {
        self.inside.push(inside);
        body.visit_mut_with(self);
        self.inside.pop();
    }

    fn stays(&self, at: BytePos) -> bool {
        self.shaper.cost(at) >= Cost::Loops || self.shaper.profile(at) != Profile::Strong
    }

    /// Parameters that are set before anything can read them, and never again.
    fn fixed<'p>(&self, params: impl Iterator<Item = &'p Pat>) -> HashSet<Id> {
        let mut fixed = HashSet::new();
        for pattern in params {
            match pattern {
                Pat::Ident(name) if !self.set.contains(&name.to_id()) => {
                    // Two parameters of one name: the last one counts, which is fixed as well.
                    fixed.insert(name.to_id());
                }
                Pat::Ident(_) => {}
                // A default can run what reads a parameter too early.
                _ => return HashSet::new(),
            }
        }
        fixed
    }

    /// Returns the variables to hand over, if an expression may move.
    fn given(&self, node: &Expr) -> Option<Vec<Ident>> {
        let mut movable = Movable { size: 0, moves: true, names: Vec::new() };
        movable.visit_expr(node);
        if !movable.moves || movable.size < SMALLEST {
            return None;
        }
        let mut given: Vec<Ident> = Vec::new();
        for name in movable.names {
            let id = name.to_id();
            if self.inside.iter().any(|inside| inside.fixed.contains(&id)) {
                if !given.iter().any(|other| other.to_id() == id) {
                    given.push(name);
                }
            } else if name.ctxt != self.unresolved && !self.shared.contains(&id) {
                return None;
            }
        }
        (!given.is_empty()).then_some(given)
    }
}

impl VisitMut for Outliner<'_, '_, '_> {
    fn visit_mut_function(&mut self, node: &mut Function) {
        let mut fixed = self.fixed(node.params.iter().map(|parameter| &parameter.pat));
        if reads_arguments(node) {
            fixed.clear();
        }
        let stays = self.stays(node.span.lo);
        if let Some(body) = &mut node.body {
            self.within(Inside { fixed, stays }, body);
        }
    }

    fn visit_mut_constructor(&mut self, node: &mut Constructor) {
        let stays = self.stays(node.span.lo);
        if let Some(body) = &mut node.body {
            self.within(Inside { fixed: HashSet::new(), stays }, body);
        }
    }

    fn visit_mut_arrow_expr(&mut self, node: &mut ArrowExpr) {
        let fixed = self.fixed(node.params.iter());
        let stays = self.stays(node.span.lo);
        self.within(Inside { fixed, stays }, &mut *node.body);
    }

    fn visit_mut_pat(&mut self, node: &mut Pat) {
        match node {
            // `[a.b] = c`: a place.
            Pat::Expr(target) => target.visit_mut_children_with(self),
            other => other.visit_mut_children_with(self),
        }
    }

    fn visit_mut_expr(&mut self, node: &mut Expr) {
        if self.inside.last().is_some_and(|inside| !inside.stays)
            && let Some(given) = self.given(node)
            && self.shaper.work.random.one_in(2)
        {
            let ident = fresh("outlined");
            let parameters: Vec<Ident> = given.iter().map(|_| fresh("given")).collect();
            let renamed = given.iter().map(Ident::to_id).zip(parameters.iter().cloned()).collect();
            let args =
                given.into_iter().map(|name| ExprOrSpread::from(Box::new(Expr::Ident(name)))).collect();
            let callee = Callee::Expr(Box::new(Expr::Ident(ident.clone())));
            let call = Expr::Call(CallExpr { callee, args, ..Default::default() });
            let mut value = std::mem::replace(node, call);
            value.visit_mut_with(&mut Rename(&renamed));
            let stmts = vec![give(Some(Box::new(value)))];
            let params = parameters.into_iter().map(|name| Pat::Ident(name.into()).into()).collect();
            let body = Some(FunctionBody { span: DUMMY_SP, stmts });
            let function = Box::new(Function { params, body, ..Default::default() });
            self.functions.push(FnDecl { ident, declare: false, function });
            return;
        }
        match node {
            // What stands in these is a place, or part of a chain that ends as a whole.
            Expr::Update(_) | Expr::OptChain(_) => {}
            Expr::Unary(UnaryExpr { op: UnaryOp::Delete | UnaryOp::TypeOf, .. }) => {}
            Expr::Call(call) => {
                // A method is called on its object.
                if let Callee::Expr(callee) = &mut call.callee {
                    match &mut **callee {
                        Expr::Member(member) => member.visit_mut_children_with(self),
                        Expr::Ident(_) | Expr::OptChain(_) => {}
                        other => other.visit_mut_with(self),
                    }
                }
                call.args.visit_mut_with(self);
            }
            Expr::New(new) => new.args.visit_mut_with(self),
            Expr::TaggedTpl(tagged) => tagged.tpl.visit_mut_with(self),
            other => other.visit_mut_children_with(self),
        }
    }
}

/// Whether an expression means the same in any function.
struct Movable {
    size: usize,
    moves: bool,
    names: Vec<Ident>,
}

impl Visit for Movable {
    fn visit_expr(&mut self, node: &Expr) {
        self.size += 1;
        // Nothing that assigns: whether that throws depends on where it stands.
        self.moves &= self.size <= LARGEST
            && match node {
                Expr::Ident(name) => {
                    !matches!(name.sym.as_str(), "arguments" | "eval" | "require" | "module" | "exports")
                }
                Expr::Unary(unary) => !matches!(unary.op, UnaryOp::Delete | UnaryOp::TypeOf),
                Expr::Lit(literal) => !matches!(literal, Lit::JSXText(_)),
                Expr::Member(member) => !member.prop.is_private_name(),
                Expr::Call(call) => call.callee.is_expr(),
                Expr::Bin(binary) => !binary.left.is_private_name(),
                Expr::Cond(_) | Expr::Array(_) | Expr::New(_) => true,
                _ => false,
            };
        if self.moves {
            node.visit_children_with(self);
        }
    }

    fn visit_ident(&mut self, node: &Ident) {
        self.names.push(node.clone());
    }
}
