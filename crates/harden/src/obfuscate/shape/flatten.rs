//! Flattening: a run of statements becomes blocks that a loop runs, each of which computes which one is next.
//!
//! The number of the next block is a value of the program's state, so that the order of the blocks stands nowhere.
//! What moves is only what cannot tell: a declaration moves to the start of its list when nothing can meet it
//! before its place, and a list in which one cannot is flattened round it.

use std::collections::{HashMap, HashSet};

use swc_core::ecma::{
    ast::*,
    utils::find_pat_ids,
    visit::{VisitMut, VisitMutWith},
};

use super::{
    Shaper,
    build::{
        again, arm, assign, block, branch, choose, declare, forever, fresh, give, label, leave, name, run,
        set, switch, until, while_,
    },
    scope::{Order, Rename, has_scope},
};
use crate::{
    js::hazards::naming,
    obfuscate::state::{binary, number},
};

/// What comes after a list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// The function ends.
    Return,
    /// Something else follows.
    More,
}

/// Flattens the statements of a function's body that follow its directives, or returns false if nothing in them is
/// worth it.
pub(super) fn flatten(shaper: &mut Shaper<'_, '_>, stmts: &mut Vec<Stmt>, after: After) -> bool {
    // A function is set up before the body runs, wherever it stands.
    let (functions, rest): (Vec<Stmt>, Vec<Stmt>) =
        stmts.drain(..).partition(|statement| matches!(statement, Stmt::Decl(Decl::Fn(_))));
    let functions_end = functions.len();
    let mut all = functions;
    all.extend(rest);
    let order = Order::of(&all);
    let moves: Vec<bool> = (0..all.len())
        .map(|index| match &all[index] {
            Stmt::Decl(Decl::Var(variables)) if variables.kind == VarDeclKind::Var => true,
            Stmt::Decl(Decl::Var(_)) => order.may_open(&all, index),
            Stmt::Decl(_) => false,
            _ => true,
        })
        .collect();
    let mut flat = false;
    let mut made: Vec<Stmt> = Vec::new();
    let mut list: Vec<Stmt> = Vec::new();
    let count = all.len();
    for (index, statement) in all.into_iter().enumerate() {
        if index < functions_end || !moves[index] {
            flat |= close(shaper, &mut list, &mut made, After::More);
            made.push(statement);
        } else {
            list.push(statement);
            if index + 1 == count {
                flat |= close(shaper, &mut list, &mut made, after);
            }
        }
    }
    *stmts = made;
    flat
}

/// Ends a run of statements that may move.
fn close(shaper: &mut Shaper<'_, '_>, list: &mut Vec<Stmt>, made: &mut Vec<Stmt>, after: After) -> bool {
    if list.is_empty() {
        return false;
    }
    let before = shaper.flattened;
    let mut flow = Flow::new(shaper.blocks_at_most());
    for statement in list.iter().cloned() {
        flow.statement(shaper, statement);
    }
    flow.finish();
    if flow.blocks.len() > 1 {
        list.clear();
        emit(shaper, flow, made, after);
        return true;
    }
    if shaper.flattened == before {
        made.append(list);
        return false;
    }
    // One block, in which something is flat now.
    list.clear();
    let lets = flow.open(shaper, made);
    if !lets.is_empty() {
        made.push(declare(VarDeclKind::Let, lets.into_iter().map(|name| (name, None)).collect()));
    }
    made.extend(flow.blocks.into_iter().flat_map(|block| block.stmts));
    false
}

enum End {
    /// Not known yet.
    Open,
    /// Its last statement leaves the function.
    Leaves,
    Goes(usize),
    Branches {
        test: Box<Expr>,
        yes: usize,
        no: usize,
    },
    /// The list ends.
    Ends,
}

struct Block {
    stmts: Vec<Stmt>,
    end: End,
}

/// Statements as blocks.
struct Flow {
    blocks: Vec<Block>,
    /// The block that statements are added to; none after one that leaves the function.
    current: Option<usize>,
    /// How many statements the current block takes.
    room: usize,
    at_most: usize,
    /// Names to declare before the blocks.
    vars: Vec<Ident>,
    lets: Vec<Ident>,
    /// New names for what was declared in a block of its own.
    renamed: HashMap<Id, Ident>,
}

impl Flow {
    fn new(at_most: usize) -> Self {
        Self {
            blocks: Vec::new(),
            current: None,
            room: 0,
            at_most,
            vars: Vec::new(),
            lets: Vec::new(),
            renamed: HashMap::new(),
        }
    }

    fn start(&mut self) -> usize {
        self.blocks.push(Block { stmts: Vec::new(), end: End::Open });
        self.blocks.len() - 1
    }

    fn has_room(&self) -> bool {
        self.blocks.len() < self.at_most
    }

    fn end(&mut self, end: End) {
        if let Some(current) = self.current {
            self.blocks[current].end = end;
        }
    }

    fn push(&mut self, shaper: &mut Shaper<'_, '_>, statement: Stmt) {
        let current = match self.current {
            Some(current) if self.room > 0 || !self.has_room() => current,
            _ => {
                let next = self.start();
                self.end(End::Goes(next));
                self.room = 1 + shaper.work.random.below(2);
                next
            }
        };
        self.room = self.room.saturating_sub(1);
        self.current = Some(current);
        let statement = inside(shaper, statement);
        let leaves = is_end(&statement);
        self.blocks[current].stmts.push(statement);
        if leaves {
            self.end(End::Leaves);
            self.current = None;
        }
    }

    fn statement(&mut self, shaper: &mut Shaper<'_, '_>, statement: Stmt) {
        match statement {
            Stmt::Empty(_) => {}
            Stmt::Decl(Decl::Var(variables)) => self.declaration(shaper, *variables),
            Stmt::Block(inner) if opens(&inner.stmts) => {
                for statement in &inner.stmts {
                    self.rename(statement);
                }
                for statement in inner.stmts {
                    self.statement(shaper, statement);
                }
            }
            Stmt::Expr(expression) => self.expression(shaper, *expression.expr),
            Stmt::Return(ReturnStmt { arg: Some(value), .. }) => match *value {
                Expr::Seq(sequence) => {
                    let last = self.all_but_last(shaper, sequence);
                    self.statement(shaper, give(last));
                }
                Expr::Cond(choice) if self.has_room() => {
                    self.fork(
                        shaper,
                        choice.test,
                        vec![give(Some(choice.cons))],
                        vec![give(Some(choice.alt))],
                    );
                }
                value => self.push(shaper, give(Some(Box::new(value)))),
            },
            Stmt::Throw(ThrowStmt { span, arg }) => match *arg {
                Expr::Seq(sequence) => {
                    if let Some(arg) = self.all_but_last(shaper, sequence) {
                        self.push(shaper, Stmt::Throw(ThrowStmt { span, arg }));
                    }
                }
                arg => self.push(shaper, Stmt::Throw(ThrowStmt { span, arg: Box::new(arg) })),
            },
            Stmt::If(choice)
                if self.has_room()
                    && is_plain(&choice.cons)
                    && choice.alt.as_deref().is_none_or(is_plain) =>
            {
                let test = match *choice.test {
                    Expr::Seq(sequence) => self.all_but_last(shaper, sequence),
                    test => Some(Box::new(test)),
                };
                if let Some(test) = test {
                    self.fork(
                        shaper,
                        test,
                        vec![*choice.cons],
                        choice.alt.into_iter().map(|alt| *alt).collect(),
                    );
                }
            }
            other => self.push(shaper, other),
        }
    }

    fn all_but_last(&mut self, shaper: &mut Shaper<'_, '_>, mut sequence: SeqExpr) -> Option<Box<Expr>> {
        let last = sequence.exprs.pop();
        for expr in sequence.exprs {
            self.expression(shaper, *expr);
        }
        last
    }

    fn expression(&mut self, shaper: &mut Shaper<'_, '_>, expr: Expr) {
        match expr {
            Expr::Seq(sequence) => {
                for expr in sequence.exprs {
                    self.expression(shaper, *expr);
                }
            }
            Expr::Cond(choice) if self.has_room() => {
                self.fork(shaper, choice.test, vec![run(choice.cons)], vec![run(choice.alt)]);
            }
            Expr::Bin(BinExpr { op: BinaryOp::LogicalAnd, left, right, .. }) if self.has_room() => {
                self.fork(shaper, left, vec![run(right)], Vec::new());
            }
            Expr::Bin(BinExpr { op: BinaryOp::LogicalOr, left, right, .. }) if self.has_room() => {
                self.fork(shaper, left, Vec::new(), vec![run(right)]);
            }
            expr => self.push(shaper, run(Box::new(expr))),
        }
    }

    /// The names are declared before the blocks; what is left of the declaration are assignments.
    fn declaration(&mut self, shaper: &mut Shaper<'_, '_>, variables: VarDecl) {
        for declarator in variables.decls {
            let ids: Vec<Ident> = find_pat_ids(&declarator.name);
            let list = if variables.kind == VarDeclKind::Var { &mut self.vars } else { &mut self.lets };
            list.extend(ids.into_iter().map(|id| Ident { span: Default::default(), ..id }));
            let Some(value) = declarator.init else { continue };
            match AssignTarget::try_from(declarator.name) {
                Ok(target) => self.push(shaper, run(set(AssignOp::Assign, target, value))),
                // Every pattern of a declaration is one of an assignment.
                Err(pattern) => {
                    let decls = vec![VarDeclarator {
                        span: declarator.span,
                        name: pattern,
                        init: Some(value),
                        definite: false,
                    }];
                    self.push(
                        shaper,
                        Stmt::Decl(Decl::Var(Box::new(VarDecl {
                            kind: VarDeclKind::Var,
                            decls,
                            ..Default::default()
                        }))),
                    );
                }
            }
        }
    }

    /// Gives what a block declares for itself names that nothing outside has.
    fn rename(&mut self, statement: &Stmt) {
        if let Stmt::Decl(Decl::Var(variables)) = statement
            && variables.kind != VarDeclKind::Var
        {
            let ids: Vec<Id> = find_pat_ids(&variables.decls);
            self.renamed.extend(ids.into_iter().map(|id| (id, fresh("inner"))));
        }
    }

    fn fork(&mut self, shaper: &mut Shaper<'_, '_>, test: Box<Expr>, yes: Vec<Stmt>, no: Vec<Stmt>) {
        if self.current.is_none() {
            let first = self.start();
            self.current = Some(first);
        }
        let from = self.current;
        let mut ends = Vec::new();
        let mut arms = [None, None];
        for (place, stmts) in arms.iter_mut().zip([yes, no]) {
            if stmts.is_empty() {
                continue;
            }
            let first = self.start();
            *place = Some(first);
            (self.current, self.room) = (Some(first), 1 + shaper.work.random.below(2));
            for statement in stmts {
                self.statement(shaper, statement);
            }
            ends.extend(self.current);
        }
        let join = self.start();
        for end in ends {
            self.blocks[end].end = End::Goes(join);
        }
        if let Some(from) = from {
            let [yes, no] = arms;
            self.blocks[from].end = End::Branches { test, yes: yes.unwrap_or(join), no: no.unwrap_or(join) };
        }
        (self.current, self.room) = (Some(join), 1 + shaper.work.random.below(2));
    }

    /// Declares what the blocks assign to, but for what `let` has to, which it returns.
    fn open(&mut self, shaper: &mut Shaper<'_, '_>, made: &mut Vec<Stmt>) -> Vec<Ident> {
        shaper.add_vars(std::mem::take(&mut self.vars), made);
        if !self.renamed.is_empty() {
            let mut rename = Rename(&self.renamed);
            for block in &mut self.blocks {
                block.stmts.visit_mut_with(&mut rename);
                if let End::Branches { test, .. } = &mut block.end {
                    test.visit_mut_with(&mut rename);
                }
            }
            self.lets.iter_mut().for_each(|name| name.visit_mut_with(&mut rename));
        }
        std::mem::take(&mut self.lets)
    }

    /// Ends the list and drops empty blocks that nothing leads to.
    fn finish(&mut self) {
        self.end(End::Ends);
        let reached: HashSet<usize> = self
            .blocks
            .iter()
            .flat_map(|block| match &block.end {
                End::Goes(next) => vec![*next],
                End::Branches { yes, no, .. } => vec![*yes, *no],
                _ => Vec::new(),
            })
            .collect();
        if let Some(last) = self.blocks.len().checked_sub(1)
            && last > 0
            && self.blocks[last].stmts.is_empty()
            && !reached.contains(&last)
        {
            self.blocks.pop();
        }
    }
}

/// Whether nothing runs after a statement. A `break` or `continue` of a list always names a loop round the list.
fn is_end(statement: &Stmt) -> bool {
    matches!(statement, Stmt::Return(_) | Stmt::Throw(_) | Stmt::Break(_) | Stmt::Continue(_))
}

/// Flattens the lists in a statement that stays whole.
fn inside(shaper: &mut Shaper<'_, '_>, statement: Stmt) -> Stmt {
    match statement {
        Stmt::Try(mut tries) => {
            nested(shaper, &mut tries.block.stmts);
            if let Some(handler) = &mut tries.handler {
                nested(shaper, &mut handler.body.stmts);
            }
            Stmt::Try(tries)
        }
        Stmt::Labeled(mut labeled) => {
            labeled.body = Box::new(inside(shaper, *labeled.body));
            Stmt::Labeled(labeled)
        }
        mut other if shaper.flattens_loops => {
            let name = fresh(&format!("loop{}", shaper.next_label()));
            let mut relabel = Relabel { label: name, switches: 0, used: false };
            if let Some(list) = loop_body(&mut other) {
                list.visit_mut_with(&mut relabel);
                nested(shaper, list);
            }
            if relabel.used { label(&relabel.label, other) } else { other }
        }
        other => other,
    }
}

/// Returns the list that a loop runs.
fn loop_body(statement: &mut Stmt) -> Option<&mut Vec<Stmt>> {
    let (Stmt::For(ForStmt { body, .. })
    | Stmt::ForIn(ForInStmt { body, .. })
    | Stmt::ForOf(ForOfStmt { body, .. })
    | Stmt::While(WhileStmt { body, .. })
    | Stmt::DoWhile(DoWhileStmt { body, .. })) = statement
    else {
        return None;
    };
    match &mut **body {
        Stmt::Block(list) => Some(&mut list.stmts),
        _ => None,
    }
}

/// Flattens a list in which a function's place counts.
fn nested(shaper: &mut Shaper<'_, '_>, stmts: &mut Vec<Stmt>) {
    if !stmts.iter().any(|statement| matches!(statement, Stmt::Decl(Decl::Fn(_)))) {
        flatten(shaper, stmts, After::More);
    }
}

/// Lets `break` and `continue` name the loop that they are about.
struct Relabel {
    label: Ident,
    switches: usize,
    used: bool,
}

impl VisitMut for Relabel {
    fn visit_mut_break_stmt(&mut self, node: &mut BreakStmt) {
        if node.label.is_none() && self.switches == 0 {
            node.label = Some(self.label.clone());
            self.used = true;
        }
    }

    fn visit_mut_continue_stmt(&mut self, node: &mut ContinueStmt) {
        if node.label.is_none() {
            node.label = Some(self.label.clone());
            self.used = true;
        }
    }

    fn visit_mut_switch_stmt(&mut self, node: &mut SwitchStmt) {
        self.switches += 1;
        node.cases.visit_mut_with(self);
        self.switches -= 1;
    }

    // In these they are about something else.
    fn visit_mut_for_stmt(&mut self, _: &mut ForStmt) {}
    fn visit_mut_for_in_stmt(&mut self, _: &mut ForInStmt) {}
    fn visit_mut_for_of_stmt(&mut self, _: &mut ForOfStmt) {}
    fn visit_mut_while_stmt(&mut self, _: &mut WhileStmt) {}
    fn visit_mut_do_while_stmt(&mut self, _: &mut DoWhileStmt) {}
    fn visit_mut_expr(&mut self, _: &mut Expr) {}
    fn visit_mut_decl(&mut self, _: &mut Decl) {}
}

/// Whether a statement that is an arm can be part of the list round it.
fn is_plain(statement: &Stmt) -> bool {
    match statement {
        Stmt::Block(block) => opens(&block.stmts),
        // `if (x) function f() {}`
        Stmt::Decl(_) => false,
        _ => true,
    }
}

/// Whether the statements of a block can stand in the list round it once their names are new.
fn opens(stmts: &[Stmt]) -> bool {
    if !has_scope(stmts) {
        return true;
    }
    let order = Order::of(stmts);
    // A function or class takes its name from such a variable, which then cannot get another.
    let naming = naming(stmts);
    let is_free = |variables: &VarDecl| {
        let ids: Vec<Id> = find_pat_ids(&variables.decls);
        ids.iter().all(|id| !naming.contains(id))
    };
    (0..stmts.len()).all(|index| match &stmts[index] {
        Stmt::Decl(Decl::Var(variables)) => {
            variables.kind == VarDeclKind::Var || order.may_open(stmts, index) && is_free(variables)
        }
        Stmt::Decl(_) => false,
        _ => true,
    })
}

/// How the blocks are told apart.
struct Dispatch {
    variable: Ident,
    /// What the variable is at each block, and where none of them runs.
    values: Vec<i32>,
    end: i32,
}

impl Dispatch {
    /// Returns the assignment that makes `to` the next value.
    fn go(&self, shaper: &mut Shaper<'_, '_>, from: i32, to: i32) -> Stmt {
        let (op, value) = self.step(shaper, from);
        let value = self.value(shaper, value, from, to);
        run(assign(op, &self.variable, value))
    }

    fn step(&self, shaper: &mut Shaper<'_, '_>, _from: i32) -> (AssignOp, usize) {
        let form = shaper.work.random.below(4);
        (
            *[AssignOp::Assign, AssignOp::AddAssign, AssignOp::BitXorAssign, AssignOp::SubAssign]
                .get(form)
                .unwrap_or(&AssignOp::Assign),
            form,
        )
    }

    fn value(&self, shaper: &mut Shaper<'_, '_>, form: usize, from: i32, to: i32) -> Box<Expr> {
        let value = match form {
            0 => to,
            1 => to - from,
            2 => to ^ from,
            _ => from - to,
        };
        shaper.number(value)
    }

    fn branch(&self, shaper: &mut Shaper<'_, '_>, test: Box<Expr>, from: i32, yes: i32, no: i32) -> Stmt {
        let (op, form) = self.step(shaper, from);
        let yes = self.value(shaper, form, from, yes);
        let no = self.value(shaper, form, from, no);
        run(assign(op, &self.variable, choose(test, yes, no)))
    }
}

fn emit(shaper: &mut Shaper<'_, '_>, mut flow: Flow, made: &mut Vec<Stmt>, after: After) {
    shaper.flattened += 1;
    let lets = flow.open(shaper, made);
    let mut blocks = flow.blocks;
    // Blocks that nothing leads to.
    for _ in 0..shaper.work.random.below(shaper.false_blocks() + 1) {
        let stmts = shaper.junk(false);
        let to = shaper.work.random.below(blocks.len());
        blocks.push(Block { stmts, end: End::Goes(to) });
    }
    let values = shaper.distinct(blocks.len() + 1);
    let dispatch = Dispatch { variable: fresh("at"), end: values[blocks.len()], values };
    let start = shaper.number(dispatch.values[0]);
    let mut opening: Vec<(Ident, Option<Box<Expr>>)> = lets.into_iter().map(|name| (name, None)).collect();
    let at = shaper.work.random.below(opening.len() + 1);
    opening.insert(at, (dispatch.variable.clone(), Some(start)));
    made.push(declare(VarDeclKind::Let, opening));

    let form = shaper.work.random.below(4);
    let outer = fresh(&format!("loop{}", shaper.next_label()));
    // Forms 0 and 1 leave from inside; 2 and 3 when the value is the last one.
    let mut uses_label = false;
    let mut pieces: Vec<(i32, Vec<Stmt>)> = Vec::new();
    let count = blocks.len();
    for (index, piece) in blocks.into_iter().enumerate() {
        let from = dispatch.values[index];
        let mut stmts = piece.stmts;
        match piece.end {
            End::Leaves | End::Open => {}
            End::Goes(to) => {
                let to = dispatch.values[to];
                // Sometimes the way looks as if it could lead elsewhere.
                if count > 2 && shaper.work.random.one_in(6) {
                    let other = dispatch.values[shaper.work.random.below(count)];
                    let holds = shaper.work.random.one_in(2);
                    let test = shaper.condition(holds);
                    let (yes, no) = if holds { (to, other) } else { (other, to) };
                    stmts.push(dispatch.branch(shaper, test, from, yes, no));
                } else {
                    stmts.push(dispatch.go(shaper, from, to));
                }
            }
            End::Branches { test, yes, no } => {
                let (yes, no) = (dispatch.values[yes], dispatch.values[no]);
                stmts.push(dispatch.branch(shaper, test, from, yes, no));
            }
            End::Ends if form >= 2 => stmts.push(dispatch.go(shaper, from, dispatch.end)),
            End::Ends if after == After::Return => stmts.push(give(None)),
            End::Ends => {
                uses_label = true;
                stmts.push(leave(Some(&outer)));
            }
        }
        pieces.push((from, stmts));
    }
    shaper.work.random.shuffle(&mut pieces);
    let ended = |shaper: &mut Shaper<'_, '_>| {
        let end = if shaper.work.random.one_in(2) {
            shaper.number(dispatch.end)
        } else {
            number(dispatch.end.into())
        };
        binary(BinaryOp::NotEqEq, name(&dispatch.variable), end)
    };
    let body = match form {
        0 => forever(block(vec![cases(shaper, &dispatch, pieces)])),
        1 => forever(tree(&dispatch, pieces)),
        2 => {
            let test = ended(shaper);
            let body = cases(shaper, &dispatch, pieces);
            if shaper.work.random.one_in(2) { until(block(vec![body]), test) } else { while_(test, body) }
        }
        _ => while_(ended(shaper), tree(&dispatch, pieces)),
    };
    made.push(if uses_label { label(&outer, body) } else { body });
}

/// Returns the blocks as the cases of a `switch`.
fn cases(shaper: &mut Shaper<'_, '_>, dispatch: &Dispatch, pieces: Vec<(i32, Vec<Stmt>)>) -> Stmt {
    let (discriminant, mask) = if shaper.work.random.one_in(2) {
        (name(&dispatch.variable), 0)
    } else {
        let (variable, known) = shaper.state.any(&mut shaper.work.random, shaper.often);
        (binary(BinaryOp::BitXor, name(&dispatch.variable), name(&variable)), known)
    };
    let mut cases: Vec<(Option<Box<Expr>>, Vec<Stmt>)> = Vec::new();
    for (value, mut stmts) in pieces {
        if !stmts.last().is_some_and(is_end) {
            stmts.push(if shaper.work.random.one_in(3) { again(None) } else { leave(None) });
        }
        cases.push((Some(number(i64::from(value ^ mask))), stmts));
    }
    switch(discriminant, cases)
}

/// Returns the blocks as the leaves of comparisons.
fn tree(dispatch: &Dispatch, mut pieces: Vec<(i32, Vec<Stmt>)>) -> Stmt {
    pieces.sort_by_key(|(value, _)| *value);
    fn half(variable: &Ident, mut pieces: Vec<(i32, Vec<Stmt>)>) -> Vec<Stmt> {
        if pieces.len() < 2 {
            return pieces.pop().map(|(_, stmts)| stmts).unwrap_or_default();
        }
        let upper = pieces.split_off(pieces.len() / 2);
        let bound = upper[0].0;
        let test = binary(BinaryOp::Lt, name(variable), number(bound.into()));
        let (low, high) = (half(variable, pieces), half(variable, upper));
        vec![branch(test, arm_of(low), Some(arm_of(high)))]
    }
    fn arm_of(stmts: Vec<Stmt>) -> Box<Stmt> {
        arm(stmts)
    }
    block(half(&dispatch.variable, pieces))
}
