//! The shape of functions: what a function's statements are, and in which order they stand.
//!
//! Every function gets another shape. Which one follows from the seed and from what it may cost: functions that run
//! seldom are flattened, those that are small or run often get a guard. A pass that is not sure that nothing can
//! tell the difference leaves the function to another.

mod build;
mod dispatch;
mod flatten;
mod guard;
mod outline;
mod pieces;
mod scope;
#[cfg(test)]
mod tests;
mod values;

use std::collections::{HashMap, HashSet};

use swc_core::{
    common::{BytePos, DUMMY_SP, SyntaxContext},
    ecma::{
        ast::*,
        utils::find_pat_ids,
        visit::{VisitMut, VisitMutWith},
    },
};

use self::{
    build::{assign, directives, give, run},
    flatten::After,
    pieces::Pieces,
};
use super::{Cost, Level, Often, State, Work, heat::levels};
use crate::Profile;

/// Changes the shape of every function of a program.
pub(crate) fn reshape(program: &mut Program, work: &mut Work<'_>, state: &State) {
    let levels = levels(program, work);
    let unresolved = SyntaxContext::empty().apply_mark(work.session.unresolved);
    let pieces = Pieces::of(program, unresolved, &mut work.random);
    let mut shaper = Shaper {
        work,
        state,
        pieces,
        levels,
        is_strong: false,
        often: Often::Yes,
        may_return: true,
        flattens_loops: false,
        is_module: program.is_module(),
        in_scope: Vec::new(),
        labels: 0,
        flattened: 0,
        has_fixed_parameters: false,
    };
    let seen = shaper.work.names.prefix.is_some();
    let any_is_strong = shaper.levels.values().any(|level| level.profile == Profile::Strong);
    if any_is_strong && !seen {
        values::part(program, &mut shaper);
        outline::outline(program, &mut shaper);
    }
    program.visit_mut_with(&mut shaper);
    if any_is_strong {
        dispatch::merge(program, &mut shaper, seen);
    }
}

struct Shaper<'a, 'w> {
    work: &'a mut Work<'w>,
    state: &'a State,
    pieces: Pieces,
    levels: HashMap<BytePos, Level>,
    /// Whether the function being changed may become slower and larger than in `standard`.
    is_strong: bool,
    /// Whether the bodies of its loops are flattened too.
    flattens_loops: bool,
    /// How often it runs.
    often: Often,
    /// Whether it is a function, and not a static block.
    may_return: bool,
    is_module: bool,
    /// Variables of the function being changed.
    in_scope: Vec<Ident>,
    labels: usize,
    /// How many lists are flat.
    flattened: usize,
    /// Whether the next function is a getter or setter.
    has_fixed_parameters: bool,
}

impl Shaper<'_, '_> {
    fn number(&mut self, value: i32) -> Box<Expr> {
        self.state.number(&mut self.work.random, value, self.often)
    }

    fn condition(&mut self, holds: bool) -> Box<Expr> {
        self.state.condition(&mut self.work.random, &mut self.work.constants, holds, self.often)
    }

    /// Returns an expression of the module about this function's variables.
    fn piece(&mut self) -> Option<Box<Expr>> {
        let mut variables = self.in_scope.clone();
        variables.push(self.state.any(&mut self.work.random, Often::No).0);
        self.pieces.one(&mut self.work.random, &variables)
    }

    /// Returns statements that must not run; they may return.
    fn junk(&mut self, returns: bool) -> Vec<Stmt> {
        let piece = self.piece();
        let form = self.work.random.below(4);
        if let Some(piece) = piece
            && form < 3
        {
            if returns && self.may_return && form == 0 {
                return vec![give(Some(piece))];
            }
            // A statement that does nothing tells that it never runs.
            if !piece.is_bin() {
                return vec![run(piece)];
            }
            let variable = self.loose();
            return vec![run(assign(AssignOp::Assign, &variable, piece))];
        }
        let variable = self.loose();
        let constant = self.work.constants.next();
        let ops = [AssignOp::AddAssign, AssignOp::BitXorAssign, AssignOp::SubAssign];
        let op = *self.work.random.pick(&ops);
        vec![run(assign(op, &variable, super::state::number(constant.into())))]
    }

    /// Returns a variable that code which never runs may assign to.
    fn loose(&mut self) -> Ident {
        if !self.in_scope.is_empty() && self.work.random.one_in(2) {
            return self.work.random.pick(&self.in_scope).clone();
        }
        self.state.loose()
    }

    /// Returns `count` different numbers.
    fn distinct(&mut self, count: usize) -> Vec<i32> {
        let mut seen = HashSet::new();
        let mut numbers = Vec::with_capacity(count);
        while numbers.len() < count {
            let number = self.work.constants.next();
            if seen.insert(number) {
                numbers.push(number);
            }
        }
        numbers
    }

    fn distinct_from(&mut self, taken: i32) -> i32 {
        loop {
            let number = self.work.constants.next();
            if number != taken {
                return number;
            }
        }
    }

    fn next_label(&mut self) -> usize {
        self.labels += 1;
        self.labels
    }

    /// Returns how far the function that starts at `at` is changed.
    fn profile(&self, at: BytePos) -> Profile {
        self.levels.get(&at).map_or(self.work.profile, |level| level.profile)
    }

    fn cost(&self, at: BytePos) -> Cost {
        self.levels.get(&at).map_or_else(|| self.work.heat.cost(at), |level| level.cost)
    }

    fn blocks_at_most(&self) -> usize {
        if self.is_strong { 40 } else { 12 }
    }

    fn false_blocks(&self) -> usize {
        if self.is_strong { 2 } else { 1 }
    }

    fn add_vars(&mut self, vars: Vec<Ident>, made: &mut Vec<Stmt>) {
        let mut seen = HashSet::new();
        let vars: Vec<_> =
            vars.into_iter().filter(|name| seen.insert(name.to_id())).map(|name| (name, None)).collect();
        if !vars.is_empty() {
            made.push(build::declare(VarDeclKind::Var, vars));
        }
    }

    /// Changes a function's body.
    fn body(&mut self, at: BytePos, stmts: &mut Vec<Stmt>) {
        let mut rest = stmts.split_off(directives(stmts));
        if stmts.iter().any(is_asm) {
            stmts.append(&mut rest);
            return;
        }
        let cost = self.cost(at);
        self.is_strong = self.profile(at) == Profile::Strong;
        self.often = if cost == Cost::Cold { Often::No } else { Often::Yes };
        let flattens = match cost {
            Cost::Cold | Cost::Loops => true,
            Cost::Warm => self.is_strong,
            Cost::Hot | Cost::Hottest => false,
        };
        self.flattens_loops = flattens && self.is_strong;
        // One expression that runs in loops of loops is worth less than what a comparison in each round costs.
        let is_left = cost == Cost::Hottest && !self.is_strong;
        let is_flat = flattens && flatten::flatten(self, &mut rest, After::Return);
        if !is_flat && !is_left {
            guard::guard(self, &mut rest, cost >= Cost::Hot);
        }
        self.often = Often::Yes;
        stmts.append(&mut rest);
    }

    /// Returns a parameter to add, now and then, to a function that cannot tell.
    fn parameter(&mut self, at: BytePos, last: Option<&Pat>, is_free: bool) -> Option<Pat> {
        let is_hot = self.cost(at) >= Cost::Hot;
        if !is_free || is_hot || last.is_some_and(Pat::is_rest) || !self.work.random.one_in(3) {
            return None;
        }
        let (variable, pattern) = guard::parameter(self);
        self.in_scope.push(variable);
        Some(pattern)
    }
}

/// `"use asm"` is checked by the engine against a grammar of its own.
fn is_asm(statement: &Stmt) -> bool {
    matches!(statement, Stmt::Expr(ExprStmt { expr, .. })
        if matches!(&**expr, Expr::Lit(Lit::Str(text)) if text.value.as_str() == Some("use asm")))
}

/// Whether parameters may become a list with a default: two of them with one name may not, nor may a body that
/// begins with a directive follow.
fn may_have_default(names: &[Ident], body: &FunctionBody) -> bool {
    let mut seen = HashSet::new();
    directives(&body.stmts) == 0 && names.iter().all(|name| seen.insert(name.to_id()))
}

impl VisitMut for Shaper<'_, '_> {
    fn visit_mut_fn_decl(&mut self, node: &mut FnDecl) {
        // A dispatcher takes plain parameters, and an exported function may run before the state is set.
        self.has_fixed_parameters = self.is_module || self.profile(node.function.span.lo) == Profile::Strong;
        node.function.visit_mut_with(self);
    }

    fn visit_mut_function(&mut self, node: &mut Function) {
        let mut is_fixed = std::mem::take(&mut self.has_fixed_parameters);
        if self.work.functions.has_plain_parameters(node.span.lo) {
            is_fixed = true;
            node.body.visit_mut_with(self);
        } else {
            node.visit_mut_children_with(self);
        }
        if self.profile(node.span.lo) == Profile::Light {
            return;
        }
        let is_free = !is_fixed && !scope::reads_arguments(node);
        let Some(body) = &mut node.body else { return };
        self.in_scope = find_pat_ids(&node.params);
        let is_free = is_free && may_have_default(&self.in_scope, body);
        let last = node.params.last().map(|last| &last.pat);
        if let Some(pattern) = self.parameter(node.span.lo, last, is_free) {
            node.params.push(pattern.into());
        }
        self.body(node.span.lo, &mut body.stmts);
    }

    fn visit_mut_export_default_decl(&mut self, node: &mut ExportDefaultDecl) {
        self.has_fixed_parameters = node.decl.is_fn_expr();
        node.visit_mut_children_with(self);
    }

    fn visit_mut_constructor(&mut self, node: &mut Constructor) {
        node.visit_mut_children_with(self);
        if self.profile(node.span.lo) == Profile::Light {
            return;
        }
        let Some(body) = &mut node.body else { return };
        self.in_scope = find_pat_ids(&node.params);
        self.body(node.span.lo, &mut body.stmts);
    }

    fn visit_mut_arrow_expr(&mut self, node: &mut ArrowExpr) {
        self.has_fixed_parameters = false;
        node.visit_mut_children_with(self);
        if self.profile(node.span.lo) == Profile::Light {
            return;
        }
        if let ArrowFunctionBody::Expr(value) = &mut *node.body {
            let value = std::mem::take(value);
            *node.body = ArrowFunctionBody::FunctionBody(FunctionBody {
                span: DUMMY_SP,
                stmts: vec![give(Some(value))],
            });
        }
        let ArrowFunctionBody::FunctionBody(body) = &mut *node.body else { return };
        self.in_scope = find_pat_ids(&node.params);
        let is_free = may_have_default(&self.in_scope, body);
        if let Some(pattern) = self.parameter(node.span.lo, node.params.last(), is_free) {
            node.params.push(pattern);
        }
        self.body(node.span.lo, &mut body.stmts);
    }

    fn visit_mut_static_block(&mut self, node: &mut StaticBlock) {
        node.visit_mut_children_with(self);
        let profile = self.profile(node.span.lo);
        if profile == Profile::Light {
            return;
        }
        self.is_strong = profile == Profile::Strong;
        (self.often, self.flattens_loops, self.may_return) = (Often::No, self.is_strong, false);
        self.in_scope.clear();
        if !flatten::flatten(self, &mut node.body.stmts, After::More) {
            guard::guard(self, &mut node.body.stmts, false);
        }
        (self.often, self.may_return) = (Often::Yes, true);
    }

    fn visit_mut_getter_prop(&mut self, node: &mut GetterProp) {
        node.key.visit_mut_with(self);
        self.has_fixed_parameters = true;
        node.function.visit_mut_with(self);
    }

    fn visit_mut_setter_prop(&mut self, node: &mut SetterProp) {
        node.key.visit_mut_with(self);
        self.has_fixed_parameters = true;
        node.function.visit_mut_with(self);
    }

    fn visit_mut_class_method(&mut self, node: &mut ClassMethod) {
        node.key.visit_mut_with(self);
        self.has_fixed_parameters = node.kind != MethodKind::Method;
        node.function.visit_mut_with(self);
    }

    fn visit_mut_private_method(&mut self, node: &mut PrivateMethod) {
        self.has_fixed_parameters = node.kind != MethodKind::Method;
        node.function.visit_mut_with(self);
    }
}
