//! Shorter statements.

use rustc_hash::FxHashSet;
use swc_core::{
    common::{DUMMY_SP, EqIgnoreSpan},
    ecma::{
        ast::*,
        utils::find_pat_ids,
        visit::{Visit, VisitWith},
    },
};

use super::{
    expressions::{and, bare, choose, is_written, negated, number, or, sequence, truth_of, void},
    facts::Facts,
    inline::{inline, nothing},
};

/// How many `if (a) return;` at the end of a function are turned round: each nests what follows deeper.
const TURNS: usize = 200;

/// Where statements stand.
#[derive(Clone, Copy)]
pub(super) struct Lists<'a, 'b> {
    pub(super) facts: &'a Facts<'b>,
    /// Whether nobody sees the value of a statement, as `eval` and `vm` do outside functions.
    pub(super) valueless: bool,
    /// What `let` and `class` declare outside the list, and what has its value before the list runs.
    pub(super) ready: &'a FxHashSet<Id>,
    /// Whether `return` and `return undefined` are the same: an async generator waits for what it returns.
    pub(super) plain_return: bool,
    /// Whether nothing outside the list sees what `let` in it declares.
    pub(super) own_scope: bool,
}

impl Lists<'_, '_> {
    /// The same for a list whose declarations others see.
    pub(super) fn shared(self) -> Self {
        Self { own_scope: false, ..self }
    }

    /// A function's body: it starts with directives, and nothing follows its last statement.
    pub(super) fn body(self, statements: &mut Vec<Stmt>, directives: usize) {
        self.list_after(directives, statements);
        self.end(statements, &mut |statement| {
            matches!(statement, Stmt::Return(ReturnStmt { arg: None, .. }))
        });
    }

    /// The body of a loop, which goes on where it ends.
    pub(super) fn round(self, body: &mut Stmt) {
        if let Stmt::Block(block) = body {
            self.end(&mut block.stmts, &mut |statement| {
                matches!(statement, Stmt::Continue(ContinueStmt { label: None, .. }))
            });
            unwrap(body);
        }
    }

    /// The items of a module: its statements between two declarations are a list.
    pub(super) fn items(self, items: &mut Vec<ModuleItem>, directives: usize) {
        let mut tidied = Vec::with_capacity(items.len());
        let mut run = Vec::new();
        let end = |run: &mut Vec<Stmt>, tidied: &mut Vec<ModuleItem>| {
            if tidied.is_empty() {
                self.list_after(directives, run)
            } else {
                self.list(run)
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

    fn list_after(self, directives: usize, statements: &mut Vec<Stmt>) {
        let mut rest = statements.split_off(directives.min(statements.len()));
        self.list(&mut rest);
        statements.extend(rest);
    }

    /// Statements that run one after the other. A text among them does nothing, and must not become a directive.
    pub(super) fn list(self, statements: &mut Vec<Stmt>) {
        if self.valueless {
            drop_unreachable(statements);
        }
        inline(statements, self.facts, self.ready);
        if self.valueless {
            self.declare_first(statements);
        }
        let mut tidied: Vec<Stmt> = Vec::with_capacity(statements.len());
        for statement in statements.drain(..) {
            self.add(&mut tidied, statement);
        }
        self.fold_returns(&mut tidied);
        *statements = tidied;
    }

    /// let a = 1; f(); let b = 2; -> let a = 1, b; f(); b = 2;
    ///
    /// Where nothing before, and no function that is there from the start, names what is declared later: it would
    /// find it without a value where it found it missing.
    fn declare_first(self, statements: &mut [Stmt]) {
        let is_plain = |variables: &VarDecl| {
            variables.kind != VarDeclKind::Const
                && variables.decls.iter().all(|declarator| declarator.name.is_ident())
        };
        let mut first: [Option<usize>; 2] = [None; 2];
        let mut named: Option<FxHashSet<Id>> = None;
        let mut until = 0;
        for index in 0..statements.len() {
            let Stmt::Decl(Decl::Var(variables)) = &statements[index] else { continue };
            let place = usize::from(variables.kind == VarDeclKind::Let);
            let Some(at) = first[place] else {
                if variables.kind != VarDeclKind::Const {
                    first[place] = Some(index);
                }
                continue;
            };
            let values = variables.decls.iter().filter(|declarator| declarator.init.is_some()).count();
            let follows =
                matches!(&statements[index - 1], Stmt::Decl(Decl::Var(last)) if last.kind == variables.kind);
            if values > 1 || follows || !is_plain(variables) {
                continue;
            }
            if variables.kind == VarDeclKind::Let {
                if !self.own_scope {
                    continue;
                }
                let named = named.get_or_insert_with(|| {
                    let hoisted =
                        statements.iter().filter(|statement| matches!(statement, Stmt::Decl(Decl::Fn(_))));
                    hoisted.flat_map(Facts::names).collect()
                });
                for statement in &statements[until..index] {
                    named.extend(Facts::names(statement));
                }
                until = index;
                let is_early = |declarator: &VarDeclarator| match &declarator.name {
                    Pat::Ident(name) => {
                        let itself = declarator.init.as_ref().is_some_and(|value| {
                            !value.is_fn_expr()
                                && !value.is_arrow()
                                && Facts::names(value).contains(&name.to_id())
                        });
                        itself || named.contains(&name.to_id())
                    }
                    _ => true,
                };
                if variables.decls.iter().any(is_early) {
                    continue;
                }
            }
            let empty = Stmt::Empty(EmptyStmt { span: variables.span });
            let Stmt::Decl(Decl::Var(variables)) = std::mem::replace(&mut statements[index], empty) else {
                continue;
            };
            let mut moved = Vec::new();
            for declarator in variables.decls {
                let VarDeclarator { span, name: Pat::Ident(name), init, .. } = declarator else { continue };
                moved.push(VarDeclarator {
                    span,
                    name: Pat::Ident(name.clone()),
                    init: None,
                    definite: false,
                });
                if let Some(right) = init {
                    let left = AssignTarget::Simple(SimpleAssignTarget::Ident(name));
                    let assigned = AssignExpr { span, op: AssignOp::Assign, left, right };
                    statements[index] = expression(Box::new(Expr::Assign(assigned)));
                }
            }
            if let Stmt::Decl(Decl::Var(first)) = &mut statements[at] {
                for declarator in moved {
                    let is_known = first.decls.iter().any(|known| match (&known.name, &declarator.name) {
                        (Pat::Ident(known), Pat::Ident(name)) => known.to_id() == name.to_id(),
                        _ => false,
                    });
                    if !is_known {
                        first.decls.push(declarator);
                    }
                }
            }
        }
    }

    fn add(self, list: &mut Vec<Stmt>, mut statement: Stmt) {
        if let Stmt::Expr(ExprStmt { expr, .. }) = &mut statement
            && self.valueless
        {
            drop_first_literals(expr);
        }
        match (list.last_mut(), statement) {
            (_, Stmt::Empty(_)) => {}
            (_, statement) if is_text_statement(&statement) => {}
            (_, Stmt::Expr(ExprStmt { expr, .. })) if self.valueless && expr.is_lit() => {}
            (_, Stmt::Block(block)) if is_scopeless(&block.stmts) => {
                for inner in block.stmts {
                    self.add(list, inner);
                }
            }
            // let a = 1; let b = 2 -> let a = 1, b = 2
            (Some(Stmt::Decl(Decl::Var(last))), Stmt::Decl(Decl::Var(next))) if last.kind == next.kind => {
                last.decls.extend(next.decls);
            }
            // if (a) return b; else c -> if (a) return b; c
            (_, Stmt::If(IfStmt { test, cons, alt: Some(alt), span })) if jumps(&cons) && !alt.is_decl() => {
                self.add(list, Stmt::If(IfStmt { test, cons, alt: None, span }));
                self.add(list, *alt);
            }
            // if (a) b; else return c -> if (!a) return c; b
            (_, Stmt::If(IfStmt { test, cons, alt: Some(alt), span })) if jumps(&alt) && !cons.is_decl() => {
                let test = Box::new(negated(*test));
                self.add(list, Stmt::If(IfStmt { test, cons: alt, alt: None, span }));
                self.add(list, *cons);
            }
            // if (a) return; if (b) return -> if (a || b) return
            (
                Some(Stmt::If(IfStmt { test, cons, alt: None, .. })),
                Stmt::If(IfStmt { test: next_test, cons: next_cons, alt: None, .. }),
            ) if jumps(cons) && cons.eq_ignore_span(&next_cons) => {
                let first = std::mem::replace(test, nothing());
                **test = or(*first, next_test);
            }
            // for (var a = 1, b = 2;;)
            (Some(last), Stmt::For(mut next)) if starts_loop(last, &next) => {
                let first = list.pop();
                start_loop(first, &mut next);
                list.push(Stmt::For(next));
            }
            (Some(last), Stmt::While(next)) if starts_while(last) && !is_written(BinaryOp::In, last) => {
                let mut turned = ForStmt {
                    span: next.span,
                    init: None,
                    test: Some(next.test),
                    update: None,
                    body: next.body,
                };
                let first = list.pop();
                start_loop(first, &mut turned);
                list.push(Stmt::For(turned));
            }
            (last, next) => match last.and_then(|last| taken(last, &next)) {
                None => list.push(next),
                Some(before) => {
                    list.pop();
                    self.add(list, after(before, next));
                }
            },
        }
    }

    /// if (a) return b; return c -> return a ? b : c
    fn fold_returns(self, list: &mut Vec<Stmt>) {
        while let [
            ..,
            Stmt::If(IfStmt { cons, alt: None, .. }),
            Stmt::Return(ReturnStmt { arg: Some(_), .. }),
        ] = list.as_slice()
            && let Stmt::Return(ReturnStmt { arg: yes, .. }) = &**cons
            && (yes.is_some() || self.plain_return)
        {
            let (
                Some(Stmt::Return(ReturnStmt { arg: Some(no), .. })),
                Some(Stmt::If(IfStmt { test, cons, .. })),
            ) = (list.pop(), list.pop())
            else {
                return;
            };
            let Stmt::Return(ReturnStmt { arg: yes, .. }) = *cons else { return };
            let yes = yes.unwrap_or_else(|| Box::new(void()));
            let value = choose(*test, yes, no, self.facts);
            self.add(list, Stmt::Return(ReturnStmt { span: DUMMY_SP, arg: Some(value) }));
        }
    }

    /// The end of a list that `jump` leaves for the place where it ends anyway.
    fn end(self, list: &mut Vec<Stmt>, jump: &mut dyn FnMut(&Stmt) -> bool) {
        for _ in 0..TURNS {
            while list.last().is_some_and(&mut *jump) {
                list.pop();
            }
            if let Some(last) = list.last_mut() {
                let was_if = last.is_if_stmt();
                self.end_of(last, jump);
                if was_if {
                    let last = list.pop().unwrap_or(Stmt::Empty(EmptyStmt { span: DUMMY_SP }));
                    self.add(list, last);
                }
            }
            // if (a) return; b -> if (!a) b
            let turned = list.iter().rposition(
                |statement| matches!(statement, Stmt::If(IfStmt { cons, alt: None, .. }) if jump(cons)),
            );
            let Some(at) = turned else { return };
            let rest = &list[at + 1..];
            if !is_scopeless(rest) || rest.iter().any(is_text_statement) {
                return;
            }
            let mut rest = list.split_off(at + 1);
            let Some(Stmt::If(IfStmt { span, test, .. })) = list.pop() else { return };
            let cons = match (rest.pop(), rest.is_empty()) {
                (None, _) => Stmt::Empty(EmptyStmt { span: DUMMY_SP }),
                (Some(only), true) => only,
                (Some(last), false) => {
                    rest.push(last);
                    Stmt::Block(BlockStmt { span: DUMMY_SP, stmts: rest, ..BlockStmt::default() })
                }
            };
            let mut turned =
                Stmt::If(IfStmt { span, test: Box::new(negated(*test)), cons: Box::new(cons), alt: None });
            self.tidy(&mut turned);
            self.add(list, turned);
        }
    }

    fn end_of(self, statement: &mut Stmt, jump: &mut dyn FnMut(&Stmt) -> bool) {
        match statement {
            Stmt::Block(block) => self.end(&mut block.stmts, jump),
            Stmt::If(branch) => {
                for part in [Some(&mut branch.cons), branch.alt.as_mut()].into_iter().flatten() {
                    if jump(part) {
                        **part = Stmt::Empty(EmptyStmt { span: DUMMY_SP });
                    } else {
                        self.end_of(part, jump);
                    }
                }
                self.tidy(statement);
            }
            _ => {}
        }
    }

    /// One statement, whose parts are tidy.
    pub(super) fn tidy(self, node: &mut Stmt) {
        match node {
            Stmt::If(branch) => {
                bare(&mut branch.test);
                unwrap(&mut branch.cons);
                branch.alt.iter_mut().for_each(|alt| unwrap(alt));
                if branch.alt.as_ref().is_some_and(|alt| alt.is_empty()) {
                    branch.alt = None;
                }
                if branch.cons.is_empty()
                    && let Some(alt) = branch.alt.take()
                {
                    let test = std::mem::replace(&mut branch.test, nothing());
                    *branch.test = negated(*test);
                    branch.cons = alt;
                }
                let chosen = if self.valueless { chosen(branch) } else { None };
                if let Some(chosen) = chosen {
                    *node = chosen;
                } else if let Some(shorter) = self.shorter(branch) {
                    *node = shorter;
                }
            }
            Stmt::Return(ReturnStmt { arg, .. })
                if self.plain_return && arg.as_deref().is_some_and(is_void) =>
            {
                *arg = None;
            }
            Stmt::For(ForStmt { body, .. })
            | Stmt::ForIn(ForInStmt { body, .. })
            | Stmt::ForOf(ForOfStmt { body, .. })
            | Stmt::While(WhileStmt { body, .. })
            | Stmt::DoWhile(DoWhileStmt { body, .. }) => unwrap(body),
            _ => {}
        }
    }

    /// An `if` as an expression or a `return`.
    fn shorter(self, branch: &mut IfStmt) -> Option<Stmt> {
        let IfStmt { test, cons, alt, .. } = branch;
        let take = |expr: &mut Box<Expr>| std::mem::replace(expr, nothing());
        match (&mut **cons, alt.as_deref_mut()) {
            (Stmt::Empty(_), None) => Some(expression(take(test))),
            (Stmt::Expr(yes), None) => Some(expression(Box::new(and(*take(test), take(&mut yes.expr))))),
            (Stmt::Expr(yes), Some(Stmt::Expr(no))) => {
                Some(expression(choose(*take(test), take(&mut yes.expr), take(&mut no.expr), self.facts)))
            }
            (
                Stmt::Return(ReturnStmt { arg: Some(yes), .. }),
                Some(Stmt::Return(ReturnStmt { arg: Some(no), .. })),
            ) => {
                let value = choose(*take(test), take(yes), take(no), self.facts);
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
}

/// The part of an `if` that a constant chooses, where the other declares nothing.
fn chosen(branch: &mut IfStmt) -> Option<Stmt> {
    let truth = truth_of(&branch.test)?;
    let (taken, left) = if truth {
        (Some(&mut branch.cons), branch.alt.as_mut())
    } else {
        (branch.alt.as_mut(), Some(&mut branch.cons))
    };
    let mut variables = Variables::default();
    if let Some(left) = left {
        left.visit_with(&mut variables);
    }
    if variables.function || !variables.names.is_empty() {
        return None;
    }
    let nothing = Stmt::Empty(EmptyStmt { span: DUMMY_SP });
    match taken {
        None => Some(nothing),
        Some(taken) if taken.is_decl() => None,
        Some(taken) => Some(std::mem::replace(&mut **taken, nothing)),
    }
}

/// Takes the expression out of the statement before `next`, if `next` can run it first itself.
fn taken(last: &mut Stmt, next: &Stmt) -> Option<Box<Expr>> {
    let Stmt::Expr(expression) = last else { return None };
    let takes = matches!(
        next,
        Stmt::Expr(_)
            | Stmt::Return(ReturnStmt { arg: Some(_), .. })
            | Stmt::Throw(_)
            | Stmt::If(_)
            | Stmt::Switch(_)
    );
    takes.then(|| std::mem::replace(&mut expression.expr, nothing()))
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
        Stmt::Switch(next) => {
            Stmt::Switch(SwitchStmt { discriminant: sequence(before, next.discriminant), ..next })
        }
        other => other,
    }
}

/// Whether `last` can stand in the head of the loop after it. `in` means another thing there.
fn starts_loop(last: &Stmt, next: &ForStmt) -> bool {
    let fits = match (last, &next.init) {
        (Stmt::Expr(_), None | Some(VarDeclOrExpr::Expr(_))) => true,
        (Stmt::Decl(Decl::Var(_)), None) => starts_while(last),
        (Stmt::Decl(Decl::Var(last)), Some(VarDeclOrExpr::VarDecl(init))) => {
            last.kind == VarDeclKind::Var && init.kind == VarDeclKind::Var
        }
        _ => false,
    };
    fits && !is_written(BinaryOp::In, last)
}

fn starts_while(last: &Stmt) -> bool {
    match last {
        Stmt::Expr(_) => true,
        Stmt::Decl(Decl::Var(last)) => last.kind == VarDeclKind::Var,
        _ => false,
    }
}

fn start_loop(first: Option<Stmt>, next: &mut ForStmt) {
    next.init = match (first, next.init.take()) {
        (Some(Stmt::Decl(Decl::Var(mut first))), Some(VarDeclOrExpr::VarDecl(init))) => {
            first.decls.extend(init.decls);
            Some(VarDeclOrExpr::VarDecl(first))
        }
        (Some(Stmt::Decl(Decl::Var(first))), _) => Some(VarDeclOrExpr::VarDecl(first)),
        (Some(Stmt::Expr(first)), Some(VarDeclOrExpr::Expr(init))) => {
            Some(VarDeclOrExpr::Expr(sequence(first.expr, init)))
        }
        (Some(Stmt::Expr(first)), _) => Some(VarDeclOrExpr::Expr(first.expr)),
        (_, init) => init,
    };
}

/// Drops what follows a jump, but for the variables that it declares for the whole function.
fn drop_unreachable(statements: &mut Vec<Stmt>) {
    let Some(at) = statements.iter().position(jumps) else { return };
    // A function is there before the jump; what `let` and `class` declare hides a name outside.
    if !is_scopeless(&statements[at + 1..]) {
        return;
    }
    let mut variables = Variables::default();
    statements[at + 1..].iter().for_each(|statement| statement.visit_with(&mut variables));
    if variables.function {
        return;
    }
    statements.truncate(at + 1);
    let decls: Vec<VarDeclarator> = variables
        .names
        .into_iter()
        .map(|name| VarDeclarator { span: DUMMY_SP, name: Pat::Ident(name), init: None, definite: false })
        .collect();
    if !decls.is_empty() {
        let kind = VarDeclKind::Var;
        statements.push(Stmt::Decl(Decl::Var(Box::new(VarDecl { kind, decls, ..VarDecl::default() }))));
    }
}

/// The variables that statements declare for the function they stand in.
#[derive(Default)]
struct Variables {
    names: Vec<BindingIdent>,
    /// Whether a block holds a function, which in sloppy code is a variable too.
    function: bool,
}

impl Visit for Variables {
    fn visit_var_decl(&mut self, node: &VarDecl) {
        if node.kind == VarDeclKind::Var {
            let names: Vec<Ident> = find_pat_ids(&node.decls);
            for name in names {
                if !self.names.iter().any(|known| known.to_id() == name.to_id()) {
                    self.names.push(name.into());
                }
            }
        }
    }

    fn visit_fn_decl(&mut self, _: &FnDecl) {
        self.function = true;
    }

    fn visit_function(&mut self, _: &Function) {}

    fn visit_expr(&mut self, _: &Expr) {}
}

/// Leaves out numbers and the like that a sequence starts with.
fn drop_first_literals(expr: &mut Box<Expr>) {
    let Expr::Seq(sequence) = &mut **expr else { return };
    let literals = sequence.exprs.iter().take_while(|expr| expr.is_lit()).count();
    sequence.exprs.drain(..literals);
    if sequence.exprs.len() < 2 {
        *expr = sequence.exprs.pop().unwrap_or_else(nothing);
    }
}

/// Whether what follows a statement is never reached from it.
fn jumps(statement: &Stmt) -> bool {
    match statement {
        Stmt::Return(_) | Stmt::Throw(_) | Stmt::Break(_) | Stmt::Continue(_) => true,
        Stmt::Block(block) => block.stmts.last().is_some_and(jumps),
        Stmt::If(IfStmt { cons, alt: Some(alt), .. }) => jumps(cons) && jumps(alt),
        _ => false,
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

/// () => { return a } -> () => a
pub(super) fn arrow(node: &mut ArrowExpr) {
    if let ArrowFunctionBody::FunctionBody(body) = &mut *node.body
        && let [Stmt::Return(ReturnStmt { arg: Some(value), .. })] = body.stmts.as_mut_slice()
    {
        let value = std::mem::replace(value, Box::new(number(0.0)));
        *node.body = ArrowFunctionBody::Expr(value);
    }
}

pub(super) fn is_void(expr: &Expr) -> bool {
    matches!(expr, Expr::Unary(UnaryExpr { op: UnaryOp::Void, arg, .. }) if arg.is_lit())
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

pub(super) fn is_text_statement(statement: &Stmt) -> bool {
    matches!(statement, Stmt::Expr(ExprStmt { expr, .. }) if matches!(&**expr, Expr::Lit(Lit::Str(_))))
}

fn expression(expr: Box<Expr>) -> Stmt {
    Stmt::Expr(ExprStmt { span: DUMMY_SP, expr })
}
