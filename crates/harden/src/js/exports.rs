//! The export names of CommonJS as Node sees them.
//!
//! `import { name } from "./file.cjs"` works when Node's lexer (cjs-module-lexer, which reads tokens and runs
//! nothing) finds `name` in the text. Shortened and compressed text hides names from it; what got hidden is said
//! again in a statement that never runs.

use std::collections::BTreeSet;

use swc_core::ecma::{
    ast::*,
    visit::{Visit, VisitWith},
};

use super::{hazards::unwrapped, rename::WORDS};

/// What Node's lexer finds in a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exports {
    pub(crate) names: BTreeSet<String>,
    /// Modules whose names are exported again.
    pub(crate) again: BTreeSet<String>,
}

impl Exports {
    /// Reads a program as its author wrote it. Like the lexer it looks at names only, and not at what they stand for.
    pub(crate) fn of(program: &Program) -> Self {
        let mut finder = Finder { loops: true, ..Finder::default() };
        program.visit_with(&mut finder);
        finder.found
    }

    /// Reads a rewritten program, in which the lexer may no longer know Babel's loop.
    pub(crate) fn certain(program: &Program) -> Self {
        let mut finder = Finder::default();
        program.visit_with(&mut finder);
        finder.found
    }

    /// Writes what `self` has and `other` has not as a statement that never runs, or nothing.
    pub(crate) fn annotation(&self, other: &Self) -> String {
        let again = self
            .again
            .difference(&other.again)
            .map(|module| format!("__export(require({}))", quoted(module)));
        let (words, others): (Vec<&String>, Vec<&String>) =
            self.names.difference(&other.names).partition(|name| is_word(name));
        // The shortest form takes back what the lexer found exported again before.
        let (listed, assigned) =
            if self.again.is_empty() { (words, Vec::new()) } else { (Vec::new(), words) };
        let listed = Some(listed).filter(|names| !names.is_empty()).map(|names| {
            let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
            format!("(module.exports={{{}}})", names.join(","))
        });
        let assigned: String = assigned
            .into_iter()
            .map(|name| format!("exports.{name}="))
            .chain(others.into_iter().map(|name| format!("exports[{}]=", quoted(name))))
            .collect();
        let assigned = Some(assigned).filter(|names| !names.is_empty()).map(|names| format!("({names}0)"));
        // The lexer looks for `__export(` outside brackets only.
        again.chain(listed).chain(assigned).map(|hidden| format!("0&&{hidden};")).collect()
    }
}

/// Whether a name can stand as a variable anywhere.
fn is_word(name: &str) -> bool {
    let starts = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_' || first == '$');
    starts
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$')
        && !WORDS.contains(&name)
}

fn quoted(text: &str) -> String {
    // A JSON string is a JavaScript string.
    serde_json::Value::from(text).to_string()
}

#[derive(Default)]
struct Finder {
    found: Exports,
    /// Whether Babel's loop over `Object.keys` counts.
    loops: bool,
    /// Local names of required modules, for Babel's loop over `Object.keys`.
    required: Vec<(Atom, String)>,
    /// How many functions deep: the lexer sees `__export(require(…))` outside brackets only.
    depth: usize,
}

use swc_core::ecma::atoms::Atom;

impl Visit for Finder {
    fn visit_assign_expr(&mut self, node: &AssignExpr) {
        if node.op == AssignOp::Assign
            && let AssignTarget::Simple(SimpleAssignTarget::Member(target)) = &node.left
        {
            if is_module_exports(target) {
                self.assigned(&node.right);
            } else if is_exports(&target.obj)
                && let Some(name) = property_name(&target.prop)
            {
                self.found.names.insert(name);
            }
        }
        node.visit_children_with(self);
    }

    fn visit_call_expr(&mut self, node: &CallExpr) {
        if let Callee::Expr(callee) = &node.callee {
            self.called(unwrapped(callee), &node.args);
        }
        node.visit_children_with(self);
    }

    fn visit_function(&mut self, node: &Function) {
        self.depth += 1;
        node.visit_children_with(self);
        self.depth -= 1;
    }

    fn visit_arrow_expr(&mut self, node: &ArrowExpr) {
        self.depth += 1;
        node.visit_children_with(self);
        self.depth -= 1;
    }

    fn visit_var_declarator(&mut self, node: &VarDeclarator) {
        if let (Pat::Ident(name), Some(value)) = (&node.name, &node.init)
            && let Some(module) = required(value).or_else(|| wrapped_require(value))
        {
            self.required.push((name.sym.clone(), module));
        }
        node.visit_children_with(self);
    }
}

impl Finder {
    /// `module.exports = value`
    fn assigned(&mut self, value: &Expr) {
        match unwrapped(value) {
            Expr::Object(object) => self.literal(object),
            value => self.found.again.extend(required(value)),
        }
    }

    /// `module.exports = { a, b: c, ...require("d") }`: up to the first value that is not a name.
    fn literal(&mut self, object: &ObjectLit) {
        for property in &object.props {
            match property {
                PropOrSpread::Spread(spread) => match required(&spread.expr) {
                    Some(module) => drop(self.found.again.insert(module)),
                    None if unwrapped(&spread.expr).is_ident() => {}
                    None => return,
                },
                PropOrSpread::Prop(property) => match &**property {
                    Prop::Shorthand(name) => drop(self.found.names.insert(name.sym.to_string())),
                    Prop::KeyValue(KeyValueProp { key, value }) => {
                        let Some(name) = key_name(key) else { return };
                        let word = matches!(
                            &**value,
                            Expr::Ident(_) | Expr::This(_) | Expr::Lit(Lit::Null(_) | Lit::Bool(_))
                        );
                        if word || starts_with_a_word(value) {
                            self.found.names.insert(name);
                        }
                        if !word {
                            return;
                        }
                    }
                    Prop::Method(MethodProp { key: PropName::Ident(name), function })
                        if !function.is_async && !function.is_generator =>
                    {
                        self.found.names.insert(name.sym.to_string());
                        return;
                    }
                    _ => return,
                },
            }
        }
    }

    fn called(&mut self, callee: &Expr, arguments: &[ExprOrSpread]) {
        let (object, name) = match callee {
            Expr::Ident(name) => (None, name.sym.as_str()),
            Expr::Member(MemberExpr { obj, prop: MemberProp::Ident(name), .. }) => {
                (Some(unwrapped(obj)), name.sym.as_str())
            }
            _ => return,
        };
        match (object, name, arguments) {
            (_, "__export" | "__exportStar", [module, ..]) if self.depth == 0 => {
                self.found.again.extend(required(&module.expr))
            }
            (Some(Expr::Ident(object)), "defineProperty", [target, key, descriptor])
                if object.sym == "Object"
                    && is_exports(&target.expr)
                    && is_plain_descriptor(&descriptor.expr) =>
            {
                if let Expr::Lit(Lit::Str(key)) = &*key.expr {
                    self.found.names.extend(key.value.as_str().map(str::to_owned));
                }
            }
            (Some(Expr::Call(keys)), "forEach", [callback]) if self.loops => {
                self.each_key(keys, &callback.expr)
            }
            _ => {}
        }
    }

    /// Babel's `Object.keys(_module).forEach(function (key) { … exports[key] = _module[key] … })`
    fn each_key(&mut self, keys: &CallExpr, callback: &Expr) {
        let Some(Expr::Member(callee)) = keys.callee.as_expr().map(|callee| unwrapped(callee)) else {
            return;
        };
        let is_keys = matches!(&*callee.obj, Expr::Ident(object) if object.sym == "Object")
            && matches!(&callee.prop, MemberProp::Ident(name) if name.sym == "keys");
        let [argument] = keys.args.as_slice() else { return };
        let (true, Expr::Ident(module), Expr::Fn(function)) = (is_keys, &*argument.expr, unwrapped(callback))
        else {
            return;
        };
        let mut writes = WritesExports(false);
        function.visit_with(&mut writes);
        if writes.0 {
            let known = self.required.iter().filter(|(name, _)| *name == module.sym);
            self.found.again.extend(known.map(|(_, module)| module.clone()));
        }
    }
}

/// Whether a function writes to a computed property of `exports`.
struct WritesExports(bool);

impl Visit for WritesExports {
    fn visit_member_expr(&mut self, node: &MemberExpr) {
        self.0 |= is_exports(&node.obj) && node.prop.is_computed();
        node.visit_children_with(self);
    }

    fn visit_call_expr(&mut self, node: &CallExpr) {
        self.0 |= node.args.first().is_some_and(|argument| is_exports(&argument.expr));
        node.visit_children_with(self);
    }
}

/// `exports` or `module.exports`
fn is_exports(expr: &Expr) -> bool {
    match unwrapped(expr) {
        Expr::Ident(name) => name.sym == "exports",
        Expr::Member(member) => is_module_exports(member),
        _ => false,
    }
}

fn is_module_exports(member: &MemberExpr) -> bool {
    matches!(unwrapped(&member.obj), Expr::Ident(object) if object.sym == "module")
        && matches!(&member.prop, MemberProp::Ident(name) if name.sym == "exports")
}

/// `require("module")`
fn required(expr: &Expr) -> Option<String> {
    let Expr::Call(call) = unwrapped(expr) else { return None };
    let Some(Expr::Ident(callee)) = call.callee.as_expr().map(|callee| unwrapped(callee)) else {
        return None;
    };
    let [argument] = call.args.as_slice() else { return None };
    match &*argument.expr {
        Expr::Lit(Lit::Str(module)) if callee.sym == "require" => module.value.as_str().map(str::to_owned),
        _ => None,
    }
}

/// `_interopRequireWildcard(require("module"))`
fn wrapped_require(expr: &Expr) -> Option<String> {
    let Expr::Call(call) = unwrapped(expr) else { return None };
    required(&call.args.first()?.expr)
}

fn property_name(property: &MemberProp) -> Option<String> {
    match property {
        MemberProp::Ident(name) => Some(name.sym.to_string()),
        MemberProp::Computed(computed) => match &*computed.expr {
            Expr::Lit(Lit::Str(name)) => name.value.as_str().map(str::to_owned),
            _ => None,
        },
        MemberProp::PrivateName(_) => None,
    }
}

fn key_name(key: &PropName) -> Option<String> {
    match key {
        PropName::Ident(name) => Some(name.sym.to_string()),
        PropName::Str(name) => name.value.as_str().map(str::to_owned),
        _ => None,
    }
}

/// Whether the first token of an expression is a word, which is all of a value that the lexer reads.
fn starts_with_a_word(expr: &Expr) -> bool {
    match expr {
        Expr::Ident(_) | Expr::This(_) | Expr::Fn(_) | Expr::Class(_) | Expr::New(_) | Expr::MetaProp(_) => {
            true
        }
        Expr::Lit(Lit::Null(_) | Lit::Bool(_)) | Expr::Await(_) | Expr::Yield(_) | Expr::SuperProp(_) => true,
        Expr::Unary(unary) => matches!(unary.op, UnaryOp::TypeOf | UnaryOp::Void | UnaryOp::Delete),
        Expr::Arrow(arrow) => arrow.is_async,
        Expr::Call(call) => call.callee.as_expr().is_none_or(|callee| starts_with_a_word(callee)),
        Expr::Member(member) => starts_with_a_word(&member.obj),
        Expr::Bin(binary) => starts_with_a_word(&binary.left),
        Expr::Cond(condition) => starts_with_a_word(&condition.test),
        Expr::TaggedTpl(tagged) => starts_with_a_word(&tagged.tag),
        Expr::OptChain(chain) => match &*chain.base {
            OptChainBase::Member(member) => starts_with_a_word(&member.obj),
            OptChainBase::Call(call) => starts_with_a_word(&call.callee),
        },
        Expr::Assign(assign) => matches!(
            &assign.left,
            AssignTarget::Simple(SimpleAssignTarget::Ident(_) | SimpleAssignTarget::Member(_))
        ),
        _ => false,
    }
}

/// `{ enumerable: true, value: … }` or a getter that returns a name or a property of one.
fn is_plain_descriptor(expr: &Expr) -> bool {
    let Expr::Object(object) = unwrapped(expr) else { return false };
    let mut properties = object.props.iter().filter_map(|property| property.as_prop());
    let Some(mut property) = properties.next() else { return false };
    if let Prop::KeyValue(KeyValueProp { key, value }) = &**property
        && key_name(key).as_deref() == Some("enumerable")
    {
        let (Expr::Lit(Lit::Bool(Bool { value: true, .. })), Some(next)) = (&**value, properties.next())
        else {
            return false;
        };
        property = next;
    }
    let body = match &**property {
        Prop::KeyValue(KeyValueProp { key, value }) => match (key_name(key).as_deref(), &**value) {
            (Some("value"), _) => return true,
            (Some("get"), Expr::Fn(function)) => &function.function.body,
            _ => return false,
        },
        Prop::Method(method) if key_name(&method.key).as_deref() == Some("get") => &method.function.body,
        _ => return false,
    };
    let Some(FunctionBody { stmts, .. }) = body else { return false };
    let [Stmt::Return(ReturnStmt { arg: Some(value), .. })] = stmts.as_slice() else { return false };
    match &**value {
        Expr::Ident(_) => true,
        Expr::Member(member) => member.obj.is_ident() && property_name(&member.prop).is_some(),
        _ => false,
    }
}
