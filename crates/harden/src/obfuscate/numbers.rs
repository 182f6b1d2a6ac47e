//! Writes numbers, booleans and `undefined` as expressions over the state.

use swc_core::{
    common::{DUMMY_SP, SyntaxContext},
    ecma::{
        ast::*,
        visit::{VisitMut, VisitMutWith},
    },
};

use super::{Cost, Level, Often, State, Work, level::Leveled};
use crate::{Profile, js::hazards::unwrapped};

/// Hides constants of `program`: in code that runs often none, elsewhere some or, in `strong`, most. `list` is an array
/// of the program's, where there is one that all of it sees.
pub(crate) fn encode(program: &mut Program, work: &mut Work<'_>, state: &State, list: Option<&Ident>) {
    let level = work.level();
    let unresolved = SyntaxContext::empty().apply_mark(work.session.unresolved);
    program.visit_mut_with(&mut Numbers { work, state, list, unresolved, level, loops: 0 });
}

struct Numbers<'a, 'b> {
    work: &'a mut Work<'b>,
    state: &'a State,
    list: Option<&'a Ident>,
    unresolved: SyntaxContext,
    level: Level,
    /// How many loops deep.
    loops: usize,
}

/// What says the same whatever a program is about.
enum Constant {
    Integer(i32),
    Boolean(bool),
    Undefined,
}

impl Numbers<'_, '_> {
    fn looping<T: VisitMutWith<Self>>(&mut self, node: &mut T) {
        self.loops += 1;
        node.visit_mut_children_with(self);
        self.loops -= 1;
    }

    fn constant(&self, node: &Expr) -> Option<Constant> {
        match node {
            Expr::Lit(Lit::Num(number)) => integer(number.value).map(Constant::Integer),
            Expr::Lit(Lit::Bool(boolean)) => Some(Constant::Boolean(boolean.value)),
            Expr::Ident(name) if name.ctxt == self.unresolved && name.sym == "undefined" => {
                Some(Constant::Undefined)
            }
            // How booleans and `undefined` are written shortest.
            Expr::Unary(UnaryExpr { op, arg, .. }) => match (op, unwrapped(arg)) {
                (UnaryOp::Bang, Expr::Lit(Lit::Num(number))) => Some(Constant::Boolean(number.value == 0.0)),
                (UnaryOp::Void, Expr::Lit(Lit::Num(_))) => Some(Constant::Undefined),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns what stands for a constant, unless it stays.
    fn hidden(&mut self, constant: &Constant) -> Option<Box<Expr>> {
        // A smaller number says nothing.
        let (smallest, one_in, coldest) = match self.level.profile {
            Profile::Light => return None,
            Profile::Standard => (16, 2, Cost::Hot),
            Profile::Strong => (2, 1, Cost::Hottest),
        };
        if self.level.hot || self.loops > 0 || self.level.cost >= coldest {
            return None;
        }
        let often = if self.level.cost == Cost::Cold { Often::No } else { Often::Yes };
        let random = &mut self.work.random;
        match *constant {
            Constant::Integer(value) => {
                (value >= smallest && random.one_in(one_in)).then(|| self.state.number(random, value, often))
            }
            Constant::Boolean(value) => random.one_in(one_in).then(|| self.state.boolean(random, value)),
            // The list has no such element.
            Constant::Undefined => self.list.filter(|_| random.one_in(one_in)).map(|list| {
                let (expr, _) = self.state.any(random, often);
                let prop = ComputedPropName { span: DUMMY_SP, expr: Box::new(Expr::Ident(expr)) };
                let obj = Box::new(Expr::Ident(list.clone()));
                Box::new(Expr::Member(MemberExpr { span: DUMMY_SP, obj, prop: MemberProp::Computed(prop) }))
            }),
        }
    }
}

impl<'w> Leveled<'w> for Numbers<'_, 'w> {
    fn work(&self) -> &Work<'w> {
        self.work
    }

    fn level(&mut self) -> &mut Level {
        &mut self.level
    }
}

impl VisitMut for Numbers<'_, '_> {
    fn visit_mut_expr(&mut self, node: &mut Expr) {
        match self.constant(node) {
            Some(constant) => {
                if let Some(hidden) = self.hidden(&constant) {
                    *node = *hidden;
                }
            }
            None => node.visit_mut_children_with(self),
        }
    }

    fn visit_mut_call_expr(&mut self, node: &mut CallExpr) {
        // Others read in the code what is exported and how.
        let is_exports = |argument: &ExprOrSpread| match unwrapped(&argument.expr) {
            Expr::Ident(name) => name.sym == "exports",
            Expr::Member(member) => matches!(&*member.obj, Expr::Ident(object) if object.sym == "module"),
            _ => false,
        };
        if !node.args.first().is_some_and(is_exports) {
            node.visit_mut_children_with(self);
        }
    }

    fn visit_mut_key_value_prop(&mut self, node: &mut KeyValueProp) {
        node.key.visit_mut_with(self);
        // Node's lexer knows a getter among the exports by this very word.
        let is_enumerable = matches!(&node.key, PropName::Ident(key) if key.sym == "enumerable");
        if !is_enumerable {
            node.value.visit_mut_with(self);
        }
    }

    fn visit_mut_function(&mut self, node: &mut Function) {
        self.function(node);
    }

    fn visit_mut_arrow_expr(&mut self, node: &mut ArrowExpr) {
        self.arrow(node);
    }

    fn visit_mut_constructor(&mut self, node: &mut Constructor) {
        self.constructor(node);
    }

    fn visit_mut_for_stmt(&mut self, node: &mut ForStmt) {
        self.looping(node);
    }

    fn visit_mut_for_in_stmt(&mut self, node: &mut ForInStmt) {
        self.looping(node);
    }

    fn visit_mut_for_of_stmt(&mut self, node: &mut ForOfStmt) {
        self.looping(node);
    }

    fn visit_mut_while_stmt(&mut self, node: &mut WhileStmt) {
        self.looping(node);
    }

    fn visit_mut_do_while_stmt(&mut self, node: &mut DoWhileStmt) {
        self.looping(node);
    }
}

fn integer(value: f64) -> Option<i32> {
    let whole = value as i32;
    (f64::from(whole) == value && whole >= 0 && !(whole == 0 && value.is_sign_negative())).then_some(whole)
}
