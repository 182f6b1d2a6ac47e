//! Whether running a statement can be noticed by anything but a use of the names that it declares.
//!
//! Whatever could throw, call a getter, reach a proxy or run somebody's code counts as noticed.

use std::collections::BTreeSet;

use swc_core::{
    common::{
        SyntaxContext,
        comments::{Comments, SingleThreadedComments},
    },
    ecma::ast::*,
};

/// Looks at one statement.
pub(crate) struct Purity<'a> {
    top: SyntaxContext,
    unresolved: SyntaxContext,
    comments: &'a SingleThreadedComments,
    /// Names of the top level that are read when the statement runs.
    pub(crate) reads: BTreeSet<String>,
    /// What is read of names that may be namespaces: the name and the member.
    pub(crate) members: BTreeSet<(String, String)>,
    /// Names that a class in it extends.
    pub(crate) extends: BTreeSet<String>,
    /// Whether it calls a function that its author calls pure, which may still read what others change.
    pub(crate) calls: bool,
}

/// Built-in classes that can be extended.
const CLASSES: &[&str] = &[
    "Object",
    "Array",
    "Map",
    "Set",
    "WeakMap",
    "WeakSet",
    "Promise",
    "Error",
    "AggregateError",
    "EvalError",
    "RangeError",
    "ReferenceError",
    "SyntaxError",
    "TypeError",
    "URIError",
    "Number",
    "String",
    "Boolean",
    "Date",
    "RegExp",
    "Function",
    "Uint8Array",
    "ArrayBuffer",
    "DataView",
];

/// Other built-in objects.
const OBJECTS: &[&str] = &["Symbol", "BigInt", "Math", "JSON", "Reflect", "Proxy", "globalThis"];

/// Built-in objects whose own properties are all plain values.
const PLAIN: &[&str] =
    &["Object", "Array", "Symbol", "Math", "Number", "JSON", "Reflect", "String", "Date", "BigInt", "Error"];

impl<'a> Purity<'a> {
    pub(crate) fn new(
        top: SyntaxContext,
        unresolved: SyntaxContext,
        comments: &'a SingleThreadedComments,
    ) -> Self {
        Self {
            top,
            unresolved,
            comments,
            reads: BTreeSet::new(),
            members: BTreeSet::new(),
            extends: BTreeSet::new(),
            calls: false,
        }
    }

    pub(crate) fn item(&mut self, item: &ModuleItem) -> bool {
        match item {
            ModuleItem::Stmt(Stmt::Decl(declaration)) => self.declaration(declaration),
            ModuleItem::Stmt(Stmt::Empty(_)) => true,
            ModuleItem::Stmt(Stmt::Expr(statement)) => self.expr(&statement.expr),
            ModuleItem::Stmt(_) => false,
            ModuleItem::ModuleDecl(declaration) => match declaration {
                ModuleDecl::ExportDecl(export) => self.declaration(&export.decl),
                ModuleDecl::ExportDefaultDecl(export) => match &export.decl {
                    DefaultDecl::Class(class) => self.class(&class.class),
                    _ => true,
                },
                ModuleDecl::ExportDefaultExpr(export) => self.expr(&export.expr),
                _ => true,
            },
        }
    }

    fn declaration(&mut self, declaration: &Decl) -> bool {
        match declaration {
            Decl::Fn(_) => true,
            Decl::Class(class) => self.class(&class.class),
            Decl::Var(variables) => variables.decls.iter().all(|declarator| {
                declarator.name.is_ident() && declarator.init.as_ref().is_none_or(|value| self.expr(value))
            }),
            _ => false,
        }
    }

    fn all<'e>(&mut self, exprs: impl IntoIterator<Item = &'e Expr>) -> bool {
        exprs.into_iter().all(|expr| self.expr(expr))
    }

    fn arguments(&mut self, arguments: &[ExprOrSpread]) -> bool {
        arguments.iter().all(|argument| argument.spread.is_none() && self.expr(&argument.expr))
    }

    fn global<'e>(&self, expr: &'e Expr, names: &[&str]) -> Option<&'e str> {
        match expr {
            Expr::Ident(name) if name.ctxt == self.unresolved && names.contains(&name.sym.as_str()) => {
                Some(name.sym.as_str())
            }
            _ => None,
        }
    }

    fn expr(&mut self, expr: &Expr) -> bool {
        match expr {
            Expr::Lit(literal) => !literal.is_jsx_text(),
            Expr::Fn(_) | Expr::Arrow(_) | Expr::This(_) => true,
            Expr::MetaProp(_) => true,
            Expr::Paren(paren) => self.expr(&paren.expr),
            Expr::Ident(name) if name.ctxt == self.top => {
                self.reads.insert(name.sym.to_string());
                true
            }
            Expr::Ident(_) => {
                self.global(expr, &["undefined", "NaN", "Infinity"]).is_some()
                    || self.global(expr, CLASSES).is_some()
                    || self.global(expr, OBJECTS).is_some()
            }
            Expr::Member(member) => self.member(member),
            Expr::Class(class) => self.class(&class.class),
            Expr::Array(array) => {
                array.elems.iter().flatten().all(|item| item.spread.is_none() && self.expr(&item.expr))
            }
            Expr::Object(object) => object.props.iter().all(|property| match property {
                PropOrSpread::Spread(_) => false,
                PropOrSpread::Prop(property) => self.property(property),
            }),
            Expr::Unary(unary) => match unary.op {
                UnaryOp::TypeOf => match &*unary.arg {
                    Expr::Ident(name) if name.ctxt == self.unresolved => true,
                    other => self.expr(other),
                },
                UnaryOp::Bang | UnaryOp::Void => self.expr(&unary.arg),
                UnaryOp::Minus | UnaryOp::Plus | UnaryOp::Tilde => is_plain(&unary.arg),
                UnaryOp::Delete => false,
            },
            Expr::Bin(binary) => match binary.op {
                BinaryOp::LogicalAnd
                | BinaryOp::LogicalOr
                | BinaryOp::NullishCoalescing
                | BinaryOp::EqEqEq
                | BinaryOp::NotEqEq => self.expr(&binary.left) && self.expr(&binary.right),
                BinaryOp::In => is_plain(&binary.left) && self.global(&binary.right, PLAIN).is_some(),
                BinaryOp::InstanceOf => false,
                _ => is_plain(&binary.left) && is_plain(&binary.right),
            },
            Expr::Cond(condition) => self.all([&*condition.test, &*condition.cons, &*condition.alt]),
            Expr::Seq(sequence) => self.all(sequence.exprs.iter().map(|expr| &**expr)),
            Expr::Tpl(template) => template.exprs.iter().all(|expr| is_plain(expr)),
            Expr::Call(call) => self.call(call),
            Expr::New(new) => {
                let arguments = new.args.as_deref().unwrap_or_default();
                let known = match self.global(&new.callee, CLASSES) {
                    Some("Map" | "Set" | "WeakMap" | "WeakSet") => arguments.is_empty(),
                    Some("Error" | "TypeError" | "RangeError") => {
                        arguments.iter().all(|argument| is_plain(&argument.expr))
                    }
                    _ => false,
                };
                let annotated = self.comments.has_flag(new.span.lo, "PURE");
                if annotated {
                    self.callee(&new.callee);
                }
                (known || annotated) && self.arguments(arguments)
            }
            _ => false,
        }
    }

    /// Notes what calling `callee` reads.
    fn callee(&mut self, callee: &Expr) {
        self.calls = true;
        let mut callee = callee;
        while let Expr::Member(MemberExpr { obj, .. })
        | Expr::Call(CallExpr { callee: Callee::Expr(obj), .. }) = callee
        {
            callee = obj;
        }
        if let Expr::Ident(name) = callee
            && name.ctxt == self.top
        {
            self.reads.insert(name.sym.to_string());
        }
    }

    fn call(&mut self, call: &CallExpr) -> bool {
        if self.comments.has_flag(call.span.lo, "PURE") {
            if let Callee::Expr(callee) = &call.callee {
                self.callee(callee);
            }
            return self.arguments(&call.args);
        }
        let Callee::Expr(callee) = &call.callee else { return false };
        if self.global(callee, &["Symbol"]).is_some() {
            return call.args.iter().all(|argument| argument.spread.is_none() && is_plain(&argument.expr));
        }
        let Expr::Member(member) = &**callee else { return false };
        let Some(name) = member_name(&member.prop) else { return false };
        let first = call.args.first().map(|argument| &*argument.expr);
        match (self.global(&member.obj, &["Object", "Symbol"]), name.as_str(), first) {
            (Some("Object"), "freeze", Some(Expr::Object(_) | Expr::Array(_))) => self.arguments(&call.args),
            (Some("Object"), "create", Some(Expr::Lit(Lit::Null(_)))) => call.args.len() == 1,
            (Some("Symbol"), "for", Some(name)) => call.args.len() == 1 && is_plain(name),
            _ => false,
        }
    }

    fn member(&mut self, member: &MemberExpr) -> bool {
        let Some(name) = member_name(&member.prop) else { return false };
        if self.global(&member.obj, PLAIN).is_some() {
            return !["caller", "arguments"].contains(&name.as_str());
        }
        if let Expr::Ident(space) = &*member.obj
            && space.ctxt == self.top
        {
            self.members.insert((space.sym.to_string(), name));
            return true;
        }
        let Expr::Member(inner) = &*member.obj else { return false };
        member_name(&inner.prop).as_deref() == Some("prototype")
            && (self.global(&inner.obj, &["Array"]).is_some()
                || self.global(&inner.obj, &["Object"]).is_some() && !name.starts_with("__"))
    }

    fn key(&mut self, key: &PropName) -> bool {
        match key {
            PropName::Computed(computed) => match &*computed.expr {
                Expr::Lit(_) => true,
                Expr::Member(member) => {
                    self.global(&member.obj, &["Symbol"]).is_some() && member.prop.is_ident()
                }
                _ => false,
            },
            _ => true,
        }
    }

    fn property(&mut self, property: &Prop) -> bool {
        match property {
            Prop::Shorthand(name) => self.expr(&Expr::Ident(name.clone())),
            Prop::KeyValue(pair) => self.key(&pair.key) && self.expr(&pair.value),
            Prop::Getter(getter) => self.key(&getter.key),
            Prop::Setter(setter) => self.key(&setter.key),
            Prop::Method(method) => self.key(&method.key),
            Prop::Assign(_) => false,
        }
    }

    fn class(&mut self, class: &Class) -> bool {
        if !class.decorators.is_empty() {
            return false;
        }
        let heritage = match class.super_class.as_deref() {
            None => true,
            Some(Expr::Ident(name)) if name.ctxt == self.top => {
                self.reads.insert(name.sym.to_string());
                self.extends.insert(name.sym.to_string());
                true
            }
            Some(Expr::Lit(Lit::Null(_))) => true,
            Some(other) => self.global(other, CLASSES).is_some(),
        };
        heritage
            && class.body.iter().all(|member| match member {
                ClassMember::Constructor(_) | ClassMember::PrivateMethod(_) | ClassMember::Empty(_) => true,
                ClassMember::Method(method) => method.function.decorators.is_empty() && self.key(&method.key),
                ClassMember::ClassProp(field) => {
                    field.decorators.is_empty()
                        && self.key(&field.key)
                        && (!field.is_static
                            || field.value.as_ref().is_none_or(|value| self.static_value(value)))
                }
                ClassMember::PrivateProp(field) => {
                    field.decorators.is_empty()
                        && (!field.is_static
                            || field.value.as_ref().is_none_or(|value| self.static_value(value)))
                }
                ClassMember::StaticBlock(block) => block.body.stmts.is_empty(),
                ClassMember::AutoAccessor(_) | ClassMember::TsIndexSignature(_) => false,
            })
    }

    /// The value of a static field, which may read the class itself.
    fn static_value(&mut self, value: &Expr) -> bool {
        !matches!(value, Expr::This(_)) && self.expr(value)
    }
}

/// Whether a value is a string, number or boolean written down, which no operator can make throw.
fn is_plain(expr: &Expr) -> bool {
    match expr {
        Expr::Lit(Lit::Str(_) | Lit::Num(_) | Lit::Bool(_)) => true,
        Expr::Paren(paren) => is_plain(&paren.expr),
        Expr::Unary(unary) => {
            matches!(unary.op, UnaryOp::Minus | UnaryOp::Plus | UnaryOp::Bang | UnaryOp::Tilde)
                && is_plain(&unary.arg)
        }
        Expr::Bin(binary) => {
            !matches!(binary.op, BinaryOp::In | BinaryOp::InstanceOf)
                && is_plain(&binary.left)
                && is_plain(&binary.right)
        }
        Expr::Tpl(template) => template.exprs.iter().all(|expr| is_plain(expr)),
        _ => false,
    }
}

/// The name in `x.name` and `x["name"]`.
pub(crate) fn member_name(property: &MemberProp) -> Option<String> {
    match property {
        MemberProp::Ident(name) => Some(name.sym.to_string()),
        MemberProp::Computed(computed) => match &*computed.expr {
            Expr::Lit(Lit::Str(text)) => text.value.as_str().map(str::to_owned),
            _ => None,
        },
        MemberProp::PrivateName(_) => None,
    }
}
