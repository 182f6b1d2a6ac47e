//! Syntax that the passes make.

use swc_core::{
    common::DUMMY_SP,
    ecma::{ast::*, atoms::Atom, utils::private_ident},
};

/// Returns a new variable.
///
/// Its name is none that a program can hold, so that no name that is kept is ever the same; the pass that shortens
/// names gives it another.
pub(super) fn fresh(purpose: &str) -> Ident {
    private_ident!(Atom::from(format!("@{purpose}")))
}

pub(super) fn name(ident: &Ident) -> Box<Expr> {
    Box::new(Expr::Ident(ident.clone()))
}

pub(super) fn run(expr: Box<Expr>) -> Stmt {
    Stmt::Expr(ExprStmt { span: DUMMY_SP, expr })
}

pub(super) fn block(stmts: Vec<Stmt>) -> Stmt {
    Stmt::Block(BlockStmt { stmts, ..Default::default() })
}

/// Returns the one statement that does what `stmts` do; it declares nothing for its surroundings.
pub(super) fn arm(mut stmts: Vec<Stmt>) -> Box<Stmt> {
    // A declaration needs its block, and an `if` would take the `else` that follows.
    let bare = matches!(stmts.as_slice(), [Stmt::Expr(_) | Stmt::Return(_) | Stmt::Throw(_)]);
    Box::new(match stmts.pop() {
        Some(statement) if bare => statement,
        last => {
            stmts.extend(last);
            block(stmts)
        }
    })
}

pub(super) fn branch(test: Box<Expr>, yes: Box<Stmt>, no: Option<Box<Stmt>>) -> Stmt {
    Stmt::If(IfStmt { span: DUMMY_SP, test, cons: yes, alt: no })
}

pub(super) fn choose(test: Box<Expr>, yes: Box<Expr>, no: Box<Expr>) -> Box<Expr> {
    Box::new(Expr::Cond(CondExpr { span: DUMMY_SP, test, cons: yes, alt: no }))
}

pub(super) fn give(value: Option<Box<Expr>>) -> Stmt {
    Stmt::Return(ReturnStmt { span: DUMMY_SP, arg: value })
}

pub(super) fn assign(op: AssignOp, variable: &Ident, value: Box<Expr>) -> Box<Expr> {
    set(op, AssignTarget::Simple(SimpleAssignTarget::Ident(variable.clone().into())), value)
}

pub(super) fn set(op: AssignOp, left: AssignTarget, right: Box<Expr>) -> Box<Expr> {
    Box::new(Expr::Assign(AssignExpr { span: DUMMY_SP, op, left, right }))
}

pub(super) fn declare(kind: VarDeclKind, variables: Vec<(Ident, Option<Box<Expr>>)>) -> Stmt {
    let decls = variables
        .into_iter()
        .map(|(variable, init)| VarDeclarator {
            span: DUMMY_SP,
            name: Pat::Ident(variable.into()),
            init,
            definite: false,
        })
        .collect();
    Stmt::Decl(Decl::Var(Box::new(VarDecl { kind, decls, ..Default::default() })))
}

pub(super) fn label(label: &Ident, body: Stmt) -> Stmt {
    Stmt::Labeled(LabeledStmt { span: DUMMY_SP, label: label.clone(), body: Box::new(body) })
}

pub(super) fn leave(label: Option<&Ident>) -> Stmt {
    Stmt::Break(BreakStmt { span: DUMMY_SP, label: label.cloned() })
}

pub(super) fn again(label: Option<&Ident>) -> Stmt {
    Stmt::Continue(ContinueStmt { span: DUMMY_SP, label: label.cloned() })
}

/// `for (;;) body`
pub(super) fn forever(body: Stmt) -> Stmt {
    Stmt::For(ForStmt { span: DUMMY_SP, init: None, test: None, update: None, body: Box::new(body) })
}

pub(super) fn while_(test: Box<Expr>, body: Stmt) -> Stmt {
    Stmt::While(WhileStmt { span: DUMMY_SP, test, body: Box::new(body) })
}

pub(super) fn until(body: Stmt, test: Box<Expr>) -> Stmt {
    Stmt::DoWhile(DoWhileStmt { span: DUMMY_SP, test, body: Box::new(body) })
}

pub(super) fn switch(discriminant: Box<Expr>, cases: Vec<(Option<Box<Expr>>, Vec<Stmt>)>) -> Stmt {
    let cases = cases.into_iter().map(|(test, cons)| SwitchCase { span: DUMMY_SP, test, cons }).collect();
    Stmt::Switch(SwitchStmt { span: DUMMY_SP, body_ctxt: Default::default(), discriminant, cases })
}

/// Returns how many of the first statements are directives.
pub(super) fn directives(stmts: &[Stmt]) -> usize {
    stmts.iter().take_while(|statement| statement.can_precede_directive()).count()
}
