//! Where a program's state and table are computed: the statement list that everything else of it runs after.

use swc_core::{
    common::{BytePos, Spanned},
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
    let Some(host) = largest.found.filter(|&(size, _)| size > whole / 3) else {
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
    found: Option<(u32, BytePos)>,
}

impl Largest {
    fn offer(&mut self, function: &Expr) {
        let body = match function {
            // A generator's body runs later.
            Expr::Fn(function) if !function.function.is_generator => function.function.body.as_ref(),
            Expr::Arrow(ArrowExpr { body, .. }) => match &**body {
                ArrowFunctionBody::FunctionBody(body) => Some(body),
                ArrowFunctionBody::Expr(_) => None,
            },
            _ => None,
        };
        let Some(body) = body else { return };
        let size = body.span.hi.0.saturating_sub(body.span.lo.0);
        if self.found.is_none_or(|(largest, _)| size > largest) {
            self.found = Some((size, body.span.lo));
        }
    }
}

impl Visit for Largest {
    /// `(function () { … })()`, or `(function (factory) { … })(function () { … })`, whose argument holds the program and
    /// whose callee is what bundlers read.
    fn visit_call_expr(&mut self, node: &CallExpr) {
        let Callee::Expr(callee) = &node.callee else { return };
        let function = match unwrapped(callee) {
            Expr::Member(MemberExpr { obj, .. }) => unwrapped(obj),
            other => other,
        };
        if !matches!(function, Expr::Fn(_) | Expr::Arrow(_)) {
            return;
        }
        let arguments = || node.args.iter().map(|argument| unwrapped(&argument.expr));
        if arguments().any(|argument| matches!(argument, Expr::Fn(_) | Expr::Arrow(_))) {
            arguments().for_each(|argument| self.offer(argument));
        } else {
            self.offer(function);
        }
    }

    // Below these nothing runs at the top level.
    fn visit_function(&mut self, _: &Function) {}
    fn visit_arrow_expr(&mut self, _: &ArrowExpr) {}
    fn visit_class(&mut self, _: &Class) {}
}

/// Takes the statements of the function body at a place, or puts them back.
struct Body {
    at: BytePos,
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
