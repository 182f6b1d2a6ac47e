//! Where a program's state and table are computed: the statement list that everything else of it runs after.

use swc_core::{
    common::Spanned,
    ecma::{
        ast::*,
        visit::{Visit, VisitMut, VisitMutWith, VisitWith},
    },
};

use crate::js::hazards::unwrapped;

/// Runs `work` on the body of the function that holds most of a script whose top level others see, or on the
/// script itself where no function is called at its top level. `work` is told whether names of its top level are seen.
pub(crate) fn with_host<E>(
    program: &mut Program,
    private: bool,
    work: impl FnOnce(&mut Program, bool) -> Result<(), E>,
) -> Result<(), E> {
    if private {
        return work(program, true);
    }
    let mut largest = Largest::default();
    program.visit_with(&mut largest);
    let whole = program.span_hi().0 - program.span_lo().0;
    let Some(host) = largest.found.filter(|&(size, _)| size > whole / 2) else {
        return work(program, false);
    };
    let mut taker = Body { at: host.1, body: Body::TAKE, taken: None };
    program.visit_mut_with(&mut taker);
    let Some(body) = taker.taken else { return work(program, false) };
    let mut inner = Program::Script(Script { body, ..Default::default() });
    let outcome = work(&mut inner, true);
    if let Program::Script(inner) = inner {
        program.visit_mut_with(&mut Body { at: host.1, body: Some(inner.body), taken: None });
    }
    outcome
}

/// The largest function that a statement of the top level calls or hands to a call.
#[derive(Default)]
struct Largest {
    found: Option<(u32, swc_core::common::BytePos)>,
    in_call: bool,
}

impl Largest {
    fn offer(&mut self, body: &FunctionBody) {
        let size = body.span.hi.0.saturating_sub(body.span.lo.0);
        if self.in_call && self.found.is_none_or(|(largest, _)| size > largest) {
            self.found = Some((size, body.span.lo));
        }
    }
}

impl Visit for Largest {
    fn visit_call_expr(&mut self, node: &CallExpr) {
        // `(function (factory) { … })(function () { … })`: both run here and now, and once.
        let Callee::Expr(callee) = &node.callee else { return };
        let function = match unwrapped(callee) {
            Expr::Member(MemberExpr { obj, .. }) => unwrapped(obj),
            other => other,
        };
        if matches!(function, Expr::Fn(_) | Expr::Arrow(_)) {
            let before = std::mem::replace(&mut self.in_call, true);
            node.visit_children_with(self);
            self.in_call = before;
        }
    }

    fn visit_fn_expr(&mut self, node: &FnExpr) {
        // A generator's body runs later.
        if let Some(body) = &node.function.body
            && !node.function.is_generator
        {
            self.offer(body);
        }
    }

    fn visit_arrow_expr(&mut self, node: &ArrowExpr) {
        if let ArrowFunctionBody::FunctionBody(body) = &*node.body {
            self.offer(body);
        }
    }

    // Below these nothing runs at the top level.
    fn visit_fn_decl(&mut self, _: &FnDecl) {}
    fn visit_class(&mut self, _: &Class) {}
    fn visit_object_lit(&mut self, _: &ObjectLit) {}
}

/// Takes the statements of the function body at a place, or puts them back.
struct Body {
    at: swc_core::common::BytePos,
    /// `None` to take.
    body: Option<Vec<Stmt>>,
    taken: Option<Vec<Stmt>>,
}

impl Body {
    const TAKE: Option<Vec<Stmt>> = None;
}

impl VisitMut for Body {
    fn visit_mut_function_body(&mut self, node: &mut FunctionBody) {
        if node.span_lo() == self.at {
            match self.body.take() {
                Some(body) => node.stmts = body,
                None => self.taken = Some(std::mem::take(&mut node.stmts)),
            }
            return;
        }
        node.visit_mut_children_with(self);
    }
}
