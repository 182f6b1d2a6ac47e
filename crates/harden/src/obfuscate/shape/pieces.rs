//! Code that never runs and looks as if it did: made of the module's own expressions.

use swc_core::{
    common::{DUMMY_SP, Span, SyntaxContext},
    ecma::{
        ast::*,
        visit::{Visit, VisitMut, VisitMutWith, VisitWith},
    },
};

use crate::obfuscate::Random;

/// How many expressions are kept to choose from.
const AT_MOST: usize = 96;
/// How large one is at most, in expressions.
const LARGEST: usize = 9;

/// Expressions of a module, each small and free to stand in any function.
pub(super) struct Pieces {
    found: Vec<Expr>,
    unresolved: SyntaxContext,
}

impl Pieces {
    pub(super) fn of(program: &Program, unresolved: SyntaxContext, random: &mut Random) -> Self {
        let mut collector = Collector { found: Vec::new(), seen: 0, random };
        program.visit_with(&mut collector);
        Self { found: collector.found, unresolved }
    }

    /// Returns one of the expressions, about `variables`.
    pub(super) fn one(&self, random: &mut Random, variables: &[Ident]) -> Option<Box<Expr>> {
        if self.found.is_empty() || variables.is_empty() {
            return None;
        }
        let mut piece = random.pick(&self.found).clone();
        piece.visit_mut_with(&mut Rename { unresolved: self.unresolved, random, variables });
        Some(Box::new(piece))
    }
}

struct Collector<'a> {
    found: Vec<Expr>,
    seen: usize,
    random: &'a mut Random,
}

impl Visit for Collector<'_> {
    fn visit_expr(&mut self, node: &Expr) {
        node.visit_children_with(self);
        let is_work = match node {
            Expr::Call(CallExpr { callee: Callee::Expr(callee), .. }) => callee.is_member(),
            Expr::Assign(assignment) => {
                matches!(assignment.left, AssignTarget::Simple(SimpleAssignTarget::Member(_)))
            }
            Expr::Bin(_) => true,
            _ => false,
        };
        if !is_work || !Fit::holds(node) {
            return;
        }
        self.seen += 1;
        if self.found.len() < AT_MOST {
            self.found.push(node.clone());
        } else {
            // Each expression is as likely to be kept as any other.
            let place = self.random.below(self.seen);
            if place < AT_MOST {
                self.found[place] = node.clone();
            }
        }
    }
}

/// Whether an expression may stand anywhere.
struct Fit {
    size: usize,
    variables: usize,
    fits: bool,
}

impl Fit {
    fn holds(node: &Expr) -> bool {
        let mut fit = Self { size: 0, variables: 0, fits: true };
        node.visit_with(&mut fit);
        fit.fits && fit.variables > 0
    }
}

/// Names that tell Node what a CommonJS module exports, or that mean something of their own.
const AVOIDED: &[&str] =
    &["exports", "module", "require", "define", "arguments", "eval", "undefined", "__esModule"];

impl Visit for Fit {
    fn visit_expr(&mut self, node: &Expr) {
        self.size += 1;
        self.fits &= self.size <= LARGEST
            && matches!(
                node,
                Expr::Ident(_)
                    | Expr::Member(_)
                    | Expr::Call(_)
                    | Expr::Bin(_)
                    | Expr::Assign(_)
                    | Expr::Lit(_)
                    | Expr::Cond(_)
                    | Expr::Array(_)
                    | Expr::Unary(_)
            );
        if self.fits {
            node.visit_children_with(self);
        }
    }

    fn visit_ident(&mut self, node: &Ident) {
        self.variables += 1;
        self.fits &= !AVOIDED.contains(&node.sym.as_str());
    }

    fn visit_ident_name(&mut self, node: &IdentName) {
        self.fits &= !AVOIDED.contains(&node.sym.as_str());
    }

    fn visit_lit(&mut self, node: &Lit) {
        self.fits &= match node {
            Lit::Str(text) => text.value.as_str().is_some_and(|text| !AVOIDED.contains(&text)),
            Lit::Num(_) | Lit::Bool(_) | Lit::Null(_) => true,
            _ => false,
        };
    }

    fn visit_callee(&mut self, node: &Callee) {
        self.fits &= node.is_expr();
        node.visit_children_with(self);
    }

    fn visit_unary_expr(&mut self, node: &UnaryExpr) {
        self.fits &= node.op != UnaryOp::Delete;
        node.visit_children_with(self);
    }

    fn visit_private_name(&mut self, _: &PrivateName) {
        self.fits = false;
    }

    fn visit_assign_target(&mut self, node: &AssignTarget) {
        self.fits &= matches!(node, AssignTarget::Simple(SimpleAssignTarget::Member(_)));
        node.visit_children_with(self);
    }
}

/// Puts variables that are in scope in the place of others.
struct Rename<'a> {
    unresolved: SyntaxContext,
    random: &'a mut Random,
    variables: &'a [Ident],
}

impl VisitMut for Rename<'_> {
    fn visit_mut_ident(&mut self, node: &mut Ident) {
        if node.ctxt != self.unresolved {
            *node = self.random.pick(self.variables).clone();
        }
    }

    fn visit_mut_span(&mut self, node: &mut Span) {
        // It is no place of the source.
        *node = DUMMY_SP;
    }
}
