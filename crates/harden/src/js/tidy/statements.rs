//! Shorter statements.

use swc_core::{common::DUMMY_SP, ecma::ast::*};

use super::expressions::{and, choose, number, sequence};

/// A function's body: its first texts are directives, and nothing follows its last statement.
pub(super) fn body(statements: &mut Vec<Stmt>) {
    list_after_directives(statements);
    while let Some(Stmt::Return(ReturnStmt { arg: None, .. })) = statements.last() {
        statements.pop();
    }
}

/// The items of a module: its statements between two declarations are a list.
pub(super) fn items(items: &mut Vec<ModuleItem>) {
    let mut tidied = Vec::with_capacity(items.len());
    let mut run = Vec::new();
    let end = |run: &mut Vec<Stmt>, tidied: &mut Vec<ModuleItem>| {
        if tidied.is_empty() {
            list_after_directives(run)
        } else {
            list(run)
        }
        tidied.extend(run.drain(..).map(ModuleItem::Stmt));
    };
    for item in items.drain(..) {
        match item {
            ModuleItem::Stmt(statement) => run.push(statement),
            declaration => {
                end(&mut run, &mut tidied);
                tidied.push(declaration);
            }
        }
    }
    end(&mut run, &mut tidied);
    *items = tidied;
}

fn list_after_directives(statements: &mut Vec<Stmt>) {
    let directives = statements.iter().take_while(|statement| is_text_statement(statement)).count();
    let mut rest = statements.split_off(directives);
    list(&mut rest);
    statements.extend(rest);
}

/// Statements that run one after the other. A text among them does nothing, and must not become a directive.
pub(super) fn list(statements: &mut Vec<Stmt>) {
    let mut tidied: Vec<Stmt> = Vec::with_capacity(statements.len());
    for statement in statements.drain(..) {
        add(&mut tidied, statement);
    }
    fold_returns(&mut tidied);
    *statements = tidied;
}

fn add(list: &mut Vec<Stmt>, statement: Stmt) {
    match (list.last_mut(), statement) {
        (_, Stmt::Empty(_)) => {}
        (_, statement) if is_text_statement(&statement) => {}
        (_, Stmt::Block(block)) if is_scopeless(&block.stmts) => {
            for inner in block.stmts {
                add(list, inner);
            }
        }
        // let a = 1; let b = 2 -> let a = 1, b = 2
        (Some(Stmt::Decl(Decl::Var(last))), Stmt::Decl(Decl::Var(next))) if last.kind == next.kind => {
            last.decls.extend(next.decls);
        }
        (last, next) => match last.and_then(|last| taken(last, &next)) {
            None => list.push(next),
            Some(before) => {
                list.pop();
                add(list, after(before, next));
            }
        },
    }
}

/// Takes the expression out of the statement before `next`, if `next` can run it first itself.
fn taken(last: &mut Stmt, next: &Stmt) -> Option<Box<Expr>> {
    let Stmt::Expr(expression) = last else { return None };
    let takes = matches!(
        next,
        Stmt::Expr(_) | Stmt::Return(ReturnStmt { arg: Some(_), .. }) | Stmt::Throw(_) | Stmt::If(_)
    );
    takes.then(|| std::mem::replace(&mut expression.expr, Box::new(number(0.0))))
}

/// a; return b -> return a, b
fn after(before: Box<Expr>, next: Stmt) -> Stmt {
    match next {
        Stmt::Expr(next) => expression(sequence(before, next.expr)),
        Stmt::Return(ReturnStmt { span, arg: Some(value) }) => {
            Stmt::Return(ReturnStmt { span, arg: Some(sequence(before, value)) })
        }
        Stmt::Throw(next) => Stmt::Throw(ThrowStmt { arg: sequence(before, next.arg), ..next }),
        Stmt::If(next) => Stmt::If(IfStmt { test: sequence(before, next.test), ..next }),
        other => other,
    }
}

/// if (a) return b; return c -> return a ? b : c
fn fold_returns(list: &mut Vec<Stmt>) {
    while let [.., Stmt::If(IfStmt { cons, alt: None, .. }), Stmt::Return(ReturnStmt { arg: Some(_), .. })] =
        list.as_slice()
        && matches!(&**cons, Stmt::Return(ReturnStmt { arg: Some(_), .. }))
    {
        let (Some(Stmt::Return(ReturnStmt { arg: Some(no), .. })), Some(Stmt::If(IfStmt { test, cons, .. }))) =
            (list.pop(), list.pop())
        else {
            return;
        };
        let Stmt::Return(ReturnStmt { arg: Some(yes), .. }) = *cons else { return };
        let value = choose(*test, yes, no);
        add(list, Stmt::Return(ReturnStmt { span: DUMMY_SP, arg: Some(value) }));
    }
}

/// One statement, whose parts are tidy.
pub(super) fn tidy(node: &mut Stmt) {
    match node {
        Stmt::If(branch) => {
            unwrap(&mut branch.cons);
            branch.alt.iter_mut().for_each(|alt| unwrap(alt));
            if branch.alt.as_ref().is_some_and(|alt| alt.is_empty()) {
                branch.alt = None;
            }
            if let Some(shorter) = shorter(branch) {
                *node = shorter;
            }
        }
        Stmt::For(ForStmt { body, .. })
        | Stmt::ForIn(ForInStmt { body, .. })
        | Stmt::ForOf(ForOfStmt { body, .. })
        | Stmt::While(WhileStmt { body, .. })
        | Stmt::DoWhile(DoWhileStmt { body, .. }) => unwrap(body),
        _ => {}
    }
}

/// { a } -> a, where one statement is asked for
fn unwrap(node: &mut Stmt) {
    if let Stmt::Block(block) = node
        && is_scopeless(&block.stmts)
        && block.stmts.len() < 2
    {
        *node = block.stmts.pop().unwrap_or(Stmt::Empty(EmptyStmt { span: DUMMY_SP }));
    }
}

/// An `if` as an expression or a `return`.
fn shorter(branch: &mut IfStmt) -> Option<Stmt> {
    let IfStmt { test, cons, alt, .. } = branch;
    let take = |expr: &mut Box<Expr>| std::mem::replace(expr, Box::new(number(0.0)));
    match (&mut **cons, alt.as_deref_mut()) {
        (Stmt::Empty(_), None) => Some(expression(take(test))),
        (Stmt::Expr(yes), None) => Some(expression(and(*take(test), take(&mut yes.expr)))),
        (Stmt::Expr(yes), Some(Stmt::Expr(no))) => {
            Some(expression(choose(*take(test), take(&mut yes.expr), take(&mut no.expr))))
        }
        (
            Stmt::Return(ReturnStmt { arg: Some(yes), .. }),
            Some(Stmt::Return(ReturnStmt { arg: Some(no), .. })),
        ) => {
            let value = choose(*take(test), take(yes), take(no));
            Some(Stmt::Return(ReturnStmt { span: DUMMY_SP, arg: Some(value) }))
        }
        // if (a) if (b) c -> if (a && b) c
        (Stmt::If(inner), None) if inner.alt.is_none() => {
            let both = Expr::Bin(BinExpr {
                span: DUMMY_SP,
                op: BinaryOp::LogicalAnd,
                left: take(test),
                right: take(&mut inner.test),
            });
            let cons =
                std::mem::replace(&mut inner.cons, Box::new(Stmt::Empty(EmptyStmt { span: DUMMY_SP })));
            Some(Stmt::If(IfStmt { span: DUMMY_SP, test: Box::new(both), cons, alt: None }))
        }
        _ => None,
    }
}

/// () => { return a } -> () => a
pub(super) fn arrow(node: &mut ArrowExpr) {
    if let ArrowFunctionBody::FunctionBody(body) = &mut *node.body
        && let [Stmt::Return(ReturnStmt { arg: Some(value), .. })] = body.stmts.as_mut_slice()
    {
        let value = std::mem::replace(value, Box::new(number(0.0)));
        *node.body = ArrowFunctionBody::Expr(value);
    }
}

/// Whether statements mean the same without a block round them: none declares a name for the block alone.
fn is_scopeless(statements: &[Stmt]) -> bool {
    statements.iter().all(|statement| match statement {
        Stmt::Decl(Decl::Var(variables)) => variables.kind == VarDeclKind::Var,
        Stmt::Decl(_) => false,
        // A function may stand below labels.
        Stmt::Labeled(labeled) => is_scopeless(std::slice::from_ref(&labeled.body)),
        _ => true,
    })
}

fn is_text_statement(statement: &Stmt) -> bool {
    matches!(statement, Stmt::Expr(ExprStmt { expr, .. }) if matches!(&**expr, Expr::Lit(Lit::Str(_))))
}

fn expression(expr: Box<Expr>) -> Stmt {
    Stmt::Expr(ExprStmt { span: DUMMY_SP, expr })
}
