//! A value that is named to be read once, at once, stands where it is read.
//!
//! `let a = f(); return a.b` does the same as `return f().b`, where nothing runs between the two that could see or
//! change anything: what is passed over on the way are literals, functions that are made, and names that nothing is
//! assigned to and that have their values by then.

use rustc_hash::{FxHashMap, FxHashSet};
use swc_core::ecma::{ast::*, utils::find_pat_ids};

use super::{expressions::number, facts::Facts};

/// Inlines what the declarations of a list name for the statement after them.
///
/// `ready`: what has its value before the list runs, or is declared by the list itself.
pub(super) fn inline(statements: &mut Vec<Stmt>, facts: &Facts<'_>, ready: &FxHashSet<Id>) {
    let mut declared: FxHashMap<Id, usize> = FxHashMap::default();
    for (index, statement) in statements.iter().enumerate() {
        match statement {
            Stmt::Decl(Decl::Var(variables)) => {
                let ids: Vec<Id> = find_pat_ids(&variables.decls);
                declared.extend(ids.into_iter().map(|id| (id, index)));
            }
            Stmt::Decl(Decl::Class(class)) => drop(declared.insert(class.ident.to_id(), index)),
            _ => {}
        }
    }
    for index in (0..statements.len()).rev() {
        let (before, after) = statements.split_at_mut(index + 1);
        let Some(Stmt::Decl(Decl::Var(variables))) = before.last_mut() else { continue };
        for at in (0..variables.decls.len()).rev() {
            let (declarators, later) = variables.decls.split_at_mut(at + 1);
            let Some(declarator) = declarators.last_mut() else { continue };
            let target = match later.first_mut() {
                Some(next) => next.init.as_mut(),
                None => after.first_mut().and_then(first_expression),
            };
            if let Some(target) = target
                && let Some((id, value)) = candidate(declarator, facts)
                && !is_risky(&value)
            {
                let mut walk = Walk { id, value: Some(value), facts, ready, declared: &declared, index };
                walk.expr(target, Place::Value);
                if let Some(value) = walk.value {
                    declarator.init = Some(value);
                } else {
                    variables.decls.remove(at);
                }
            }
        }
        if variables.decls.is_empty() {
            statements.remove(index);
        }
    }
}

/// Takes the value of a variable that one other place names.
fn candidate(declarator: &mut VarDeclarator, facts: &Facts<'_>) -> Option<(Id, Box<Expr>)> {
    let Pat::Ident(name) = &declarator.name else { return None };
    let once = facts.stands(name, 2) && !facts.is_assigned(&name.to_id()) && !facts.is_read_name(name);
    let value = declarator.init.as_deref()?;
    if !once || is_risky(value) {
        return None;
    }
    Some((name.to_id(), declarator.init.take()?))
}

/// Whether the value means something else in another place.
fn is_risky(value: &Expr) -> bool {
    match value {
        // (a?.b).c is not a?.b.c
        Expr::OptChain(_) => true,
        // eval(x) is not (0, eval)(x)
        Expr::Ident(name) => name.sym == "eval" || name.sym == "arguments",
        // Where a class is made, its name is known.
        Expr::Class(_) => true,
        _ => false,
    }
}

/// The expression that a statement runs first, and once.
fn first_expression(statement: &mut Stmt) -> Option<&mut Box<Expr>> {
    match statement {
        Stmt::Expr(statement) => Some(&mut statement.expr),
        Stmt::Return(ReturnStmt { arg, .. }) => arg.as_mut(),
        Stmt::Throw(statement) => Some(&mut statement.arg),
        Stmt::If(statement) => Some(&mut statement.test),
        Stmt::Switch(statement) => Some(&mut statement.discriminant),
        Stmt::Decl(Decl::Var(variables)) => variables.decls.first_mut()?.init.as_mut(),
        Stmt::For(ForStmt { init: Some(VarDeclOrExpr::Expr(init)), .. }) => Some(init),
        Stmt::For(ForStmt { init: Some(VarDeclOrExpr::VarDecl(variables)), .. }) => {
            variables.decls.first_mut()?.init.as_mut()
        }
        _ => None,
    }
}

/// How an expression is used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Value,
    /// It is called: `a.b()` gives `a` to the function, which `let c = a.b; c()` does not. The trace of a function
    /// that is called where it is made does not say where it is called.
    Callee,
}

/// Whether what comes next may still be looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Nothing happened yet.
    Go,
    /// The value was put in its place, or may not be moved further.
    Stop,
}

struct Walk<'a, 'b> {
    id: Id,
    value: Option<Box<Expr>>,
    facts: &'a Facts<'b>,
    ready: &'a FxHashSet<Id>,
    /// What the list declares, and where.
    declared: &'a FxHashMap<Id, usize>,
    /// Where the value is made.
    index: usize,
}

impl Walk<'_, '_> {
    /// Whether to read the name is to read a constant.
    fn is_settled(&self, name: &Ident) -> bool {
        let id = name.to_id();
        let made = || self.declared.get(&id).is_none_or(|&index| index < self.index);
        self.facts.is_settled(&id) || self.ready.contains(&id) && made()
    }

    fn expr(&mut self, expr: &mut Box<Expr>, place: Place) -> Then {
        match &mut **expr {
            Expr::Ident(name) if name.to_id() == self.id => {
                let fits = |value: &Expr| {
                    place == Place::Value
                        || !matches!(
                            value,
                            Expr::Member(_)
                                | Expr::SuperProp(_)
                                | Expr::Ident(_)
                                | Expr::Fn(_)
                                | Expr::Arrow(_)
                        )
                };
                if self.value.as_deref().is_some_and(fits)
                    && let Some(value) = self.value.take()
                {
                    *expr = value;
                }
                Then::Stop
            }
            Expr::Ident(name) if self.is_settled(name) => Then::Go,
            Expr::Lit(_) | Expr::Fn(_) | Expr::Arrow(_) => Then::Go,
            Expr::Seq(sequence) => self.all(&mut sequence.exprs),
            Expr::Assign(assignment) => self.assignment(assignment),
            Expr::Bin(binary) => {
                if self.expr(&mut binary.left, Place::Value) == Then::Stop
                    || matches!(
                        binary.op,
                        BinaryOp::LogicalAnd | BinaryOp::LogicalOr | BinaryOp::NullishCoalescing
                    )
                    || self.expr(&mut binary.right, Place::Value) == Then::Stop
                {
                    return Then::Stop;
                }
                let quiet = matches!(binary.op, BinaryOp::EqEqEq | BinaryOp::NotEqEq);
                if quiet { Then::Go } else { Then::Stop }
            }
            Expr::Unary(unary) => match unary.op {
                UnaryOp::Bang | UnaryOp::Void => self.expr(&mut unary.arg, Place::Value),
                UnaryOp::Minus | UnaryOp::Plus | UnaryOp::Tilde => {
                    self.expr(&mut unary.arg, Place::Value);
                    Then::Stop
                }
                UnaryOp::TypeOf | UnaryOp::Delete => Then::Stop,
            },
            Expr::Member(member) => {
                if self.expr(&mut member.obj, Place::Value) == Then::Go
                    && let MemberProp::Computed(key) = &mut member.prop
                {
                    self.expr(&mut key.expr, Place::Value);
                }
                Then::Stop
            }
            Expr::Call(CallExpr { callee: Callee::Expr(callee), args, .. }) => {
                if self.expr(callee, Place::Callee) == Then::Go {
                    self.arguments(args);
                }
                Then::Stop
            }
            Expr::New(NewExpr { callee, args: Some(args), .. }) => {
                let settled = matches!(&**callee, Expr::Ident(name) if self.is_settled(name));
                if settled {
                    self.arguments(args);
                }
                Then::Stop
            }
            Expr::Cond(conditional) => {
                self.expr(&mut conditional.test, Place::Value);
                Then::Stop
            }
            Expr::Array(array) => {
                for element in array.elems.iter_mut().flatten() {
                    if self.expr(&mut element.expr, Place::Value) == Then::Stop || element.spread.is_some() {
                        return Then::Stop;
                    }
                }
                Then::Go
            }
            Expr::Object(object) => self.object(object),
            Expr::Tpl(template) => {
                if let Some(first) = template.exprs.first_mut() {
                    self.expr(first, Place::Value);
                    return Then::Stop;
                }
                Then::Go
            }
            Expr::Await(AwaitExpr { arg, .. }) | Expr::Yield(YieldExpr { arg: Some(arg), .. }) => {
                self.expr(arg, Place::Value);
                Then::Stop
            }
            _ => Then::Stop,
        }
    }

    fn all(&mut self, exprs: &mut [Box<Expr>]) -> Then {
        for expr in exprs {
            if self.expr(expr, Place::Value) == Then::Stop {
                return Then::Stop;
            }
        }
        Then::Go
    }

    fn arguments(&mut self, arguments: &mut [ExprOrSpread]) {
        for argument in arguments {
            if self.expr(&mut argument.expr, Place::Value) == Then::Stop || argument.spread.is_some() {
                return;
            }
        }
    }

    /// `a = value`, `a.b = value` and `a[b] = value` look at their target first, but write to it last.
    fn assignment(&mut self, assignment: &mut AssignExpr) -> Then {
        if assignment.op != AssignOp::Assign {
            return Then::Stop;
        }
        match &mut assignment.left {
            AssignTarget::Simple(SimpleAssignTarget::Ident(name)) => {
                if name.to_id() == self.id || !self.facts.is_declared(name) {
                    return Then::Stop;
                }
            }
            AssignTarget::Simple(SimpleAssignTarget::Member(member)) => {
                if self.expr(&mut member.obj, Place::Value) == Then::Stop {
                    return Then::Stop;
                }
                // What the key is turned into a name by runs at another moment in each engine.
                if member.prop.is_computed() {
                    return Then::Stop;
                }
            }
            AssignTarget::Simple(_) => return Then::Stop,
            AssignTarget::Pat(_) => {}
        }
        self.expr(&mut assignment.right, Place::Value);
        Then::Stop
    }

    fn object(&mut self, object: &mut ObjectLit) -> Then {
        for property in &mut object.props {
            match property {
                PropOrSpread::Spread(spread) => {
                    self.expr(&mut spread.expr, Place::Value);
                    return Then::Stop;
                }
                PropOrSpread::Prop(property) => match &mut **property {
                    Prop::Shorthand(name) if name.to_id() == self.id => {
                        // { __proto__: a } is no property.
                        if name.sym != "__proto__"
                            && let Some(value) = self.value.take()
                        {
                            let key = PropName::Ident(IdentName::new(name.sym.clone(), name.span));
                            **property = Prop::KeyValue(KeyValueProp { key, value });
                        }
                        return Then::Stop;
                    }
                    Prop::Shorthand(name) if self.is_settled(name) => {}
                    Prop::KeyValue(KeyValueProp { key, value }) if !key.is_computed() => {
                        if self.expr(value, Place::Value) == Then::Stop {
                            return Then::Stop;
                        }
                    }
                    Prop::Method(MethodProp { key, .. }) if !key.is_computed() => {}
                    _ => return Then::Stop,
                },
            }
        }
        Then::Go
    }
}

/// What stands for an expression that was taken out.
pub(super) fn nothing() -> Box<Expr> {
    Box::new(number(0.0))
}
