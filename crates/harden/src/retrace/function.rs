//! Finds the function that a place in an original source stands in, and the name that its author knows it by.
//!
//! The original is parsed, rather than the names of its source map read: a map names what stands at a place, which
//! for a call is what is called and not where.

use swc_core::{
    common::{BytePos, Span, Spanned},
    ecma::{
        ast::{
            ArrowExpr, AssignExpr, AssignPatProp, AssignTarget, Class, ClassDecl, ClassExpr, ClassMember,
            ClassMethod, Constructor, ExportDefaultDecl, Expr, FnDecl, FnExpr, Function, GetterProp,
            KeyValueProp, MethodKind, MethodProp, Pat, PrivateName, PropName, SetterProp, SimpleAssignTarget,
            StaticBlock, VarDeclarator,
        },
        visit::{Visit, VisitWith},
    },
};

use crate::{
    format::code,
    js::{Goal, Language, session},
    source_map::{Lines, Place},
};

/// The functions of one source.
pub(crate) struct Functions(Vec<Known>);

/// A function and where it stands.
struct Known {
    from: Place,
    to: Place,
    function: Named,
}

/// What a function is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// As a stack trace of the original would have it, less what only shows at run time; none for a function that
    /// has no name.
    pub(crate) name: Option<String>,
    /// Whether it is a class's constructor.
    pub(crate) is_constructor: bool,
}

impl Functions {
    /// Reads a source. Returns nothing where it cannot be parsed.
    pub(crate) fn of(path: &str, text: &str) -> Option<Self> {
        let language = code(path).map_or(Language::JavaScript, |code| code.language);
        let goals = [Goal::ModuleOrScript, Goal::CommonJsOrModule];
        goals.into_iter().find_map(|goal| {
            session("retrace", path, text, |session| {
                let program = session.parse(language, goal)?;
                let mut finder = Finder {
                    lines: Lines::of(text),
                    start: session.file.start_pos,
                    given: None,
                    class: Vec::new(),
                    found: Vec::new(),
                };
                program.visit_with(&mut finder);
                Ok(Self(finder.found))
            })
            .ok()
        })
    }

    /// Returns the innermost function round a place; nothing where it stands in none.
    pub(crate) fn around(&self, place: Place) -> Option<&Named> {
        let around = self.0.iter().filter(|known| known.from <= place && place < known.to);
        around.max_by_key(|known| known.from).map(|known| &known.function)
    }
}

struct Finder {
    lines: Lines,
    start: BytePos,
    /// The name that the expression being visited gets from where it stands.
    given: Option<String>,
    /// The classes around, by name.
    class: Vec<Option<String>>,
    found: Vec<Known>,
}

impl Finder {
    fn place(&self, at: BytePos) -> Place {
        self.lines.place(at.0.saturating_sub(self.start.0) as usize)
    }

    fn add(&mut self, span: Span, name: Option<String>, is_constructor: bool) {
        if !span.is_dummy() {
            let (from, to) = (self.place(span.lo), self.place(span.hi));
            self.found.push(Known { from, to, function: Named { name, is_constructor } });
        }
    }

    /// Visits `value`, which is called `name` when it is a function without a name of its own.
    fn named(&mut self, name: Option<String>, value: &Expr) {
        self.given = if is_function(value) { name } else { None };
        value.visit_with(self);
        self.given = None;
    }

    /// Names a member of the class around.
    fn member(&self, name: Option<String>) -> Option<String> {
        match (self.class.last(), name) {
            (Some(Some(class)), Some(name)) => Some(format!("{class}.{name}")),
            (_, name) => name,
        }
    }

    fn method(&mut self, span: Span, kind: MethodKind, key: Option<String>, function: &Function) {
        let key = key.map(|key| match kind {
            MethodKind::Method => key,
            MethodKind::Getter => format!("get {key}"),
            MethodKind::Setter => format!("set {key}"),
        });
        let name = self.member(key);
        self.add(span, name, false);
        function.visit_children_with(self);
    }

    fn class(&mut self, name: Option<String>, class: &Class) {
        class.decorators.visit_with(self);
        class.super_class.visit_with(self);
        if !class.body.iter().any(ClassMember::is_constructor) {
            // A constructor that nobody wrote is where its class starts, and nowhere else.
            self.add(class.span.with_hi(class.span.lo + BytePos(1)), name.clone(), true);
        }
        self.class.push(name);
        for member in &class.body {
            member.visit_with(self);
        }
        self.class.pop();
    }

    /// Visits the value of a field, which runs in a function of the engine's own.
    fn field(&mut self, name: Option<String>, is_static: bool, value: Option<&Expr>) {
        if let Some(value) = value {
            let runs_in = if is_static { "<static_initializer>" } else { "<instance_members_initializer>" };
            let runs_in = self.member(Some(runs_in.to_owned()));
            self.add(value.span(), runs_in, false);
            self.named(name, value);
        }
    }
}

fn is_function(value: &Expr) -> bool {
    match value {
        Expr::Arrow(_) | Expr::Fn(_) | Expr::Class(_) => true,
        Expr::Paren(inner) => is_function(&inner.expr),
        Expr::TsAs(inner) => is_function(&inner.expr),
        Expr::TsSatisfies(inner) => is_function(&inner.expr),
        Expr::TsNonNull(inner) => is_function(&inner.expr),
        Expr::TsConstAssertion(inner) => is_function(&inner.expr),
        _ => false,
    }
}

fn key(name: &PropName) -> Option<String> {
    match name {
        PropName::Ident(name) => Some(name.sym.to_string()),
        PropName::Str(name) => Some(name.value.to_string_lossy().into_owned()),
        PropName::Num(name) => Some(name.value.to_string()),
        PropName::BigInt(name) => Some(name.value.to_string()),
        PropName::Computed(_) => None,
    }
}

fn private(name: &PrivateName) -> Option<String> {
    Some(format!("#{}", name.name))
}

fn of_pattern(pattern: &Pat) -> Option<String> {
    match pattern {
        Pat::Ident(name) => Some(name.sym.to_string()),
        _ => None,
    }
}

/// Names what is assigned to: `a`, `exports.a`, `A.prototype.b`.
fn of_target(target: &AssignTarget) -> Option<String> {
    fn member(expression: &Expr) -> Option<String> {
        match expression {
            Expr::Ident(name) => Some(name.sym.to_string()),
            Expr::This(_) => Some("this".to_owned()),
            Expr::Member(member_of) => {
                let property = member_of.prop.as_ident()?;
                Some(format!("{}.{}", member(&member_of.obj)?, property.sym))
            }
            _ => None,
        }
    }
    match target {
        AssignTarget::Simple(SimpleAssignTarget::Ident(name)) => Some(name.sym.to_string()),
        AssignTarget::Simple(SimpleAssignTarget::Member(target)) => {
            let property = target.prop.as_ident().map(|name| name.sym.to_string());
            match (member(&target.obj), property) {
                (Some(object), Some(property)) => Some(format!("{object}.{property}")),
                (_, property) => property,
            }
        }
        _ => None,
    }
}

impl Visit for Finder {
    fn visit_fn_decl(&mut self, node: &FnDecl) {
        self.add(node.function.span, Some(node.ident.sym.to_string()), false);
        node.function.visit_children_with(self);
    }

    fn visit_fn_expr(&mut self, node: &FnExpr) {
        let given = self.given.take();
        let own = node.ident.as_ref().map(|name| name.sym.to_string());
        self.add(node.function.span, own.or(given), false);
        node.function.visit_children_with(self);
    }

    fn visit_arrow_expr(&mut self, node: &ArrowExpr) {
        let given = self.given.take();
        self.add(node.span, given, false);
        node.visit_children_with(self);
    }

    fn visit_class_decl(&mut self, node: &ClassDecl) {
        self.class(Some(node.ident.sym.to_string()), &node.class);
    }

    fn visit_class_expr(&mut self, node: &ClassExpr) {
        let given = self.given.take();
        self.class(node.ident.as_ref().map(|name| name.sym.to_string()).or(given), &node.class);
    }

    fn visit_class_method(&mut self, node: &ClassMethod) {
        node.key.visit_with(self);
        self.method(node.span, node.kind, key(&node.key), &node.function);
    }

    fn visit_class_member(&mut self, node: &ClassMember) {
        match node {
            ClassMember::PrivateMethod(method) => {
                self.method(method.span, method.kind, private(&method.key), &method.function);
            }
            ClassMember::ClassProp(field) => {
                field.key.visit_with(self);
                self.field(key(&field.key), field.is_static, field.value.as_deref());
            }
            ClassMember::PrivateProp(field) => {
                self.field(private(&field.key), field.is_static, field.value.as_deref());
            }
            _ => node.visit_children_with(self),
        }
    }

    fn visit_constructor(&mut self, node: &Constructor) {
        let name = self.class.last().cloned().flatten();
        self.add(node.span, name, true);
        node.visit_children_with(self);
    }

    fn visit_static_block(&mut self, node: &StaticBlock) {
        let name = self.member(Some("<static_initializer>".to_owned()));
        self.add(node.span, name, false);
        node.visit_children_with(self);
    }

    fn visit_method_prop(&mut self, node: &MethodProp) {
        node.key.visit_with(self);
        self.add(node.function.span, key(&node.key), false);
        node.function.visit_children_with(self);
    }

    fn visit_getter_prop(&mut self, node: &GetterProp) {
        self.add(node.span, key(&node.key).map(|key| format!("get {key}")), false);
        node.visit_children_with(self);
    }

    fn visit_setter_prop(&mut self, node: &SetterProp) {
        self.add(node.span, key(&node.key).map(|key| format!("set {key}")), false);
        node.visit_children_with(self);
    }

    fn visit_key_value_prop(&mut self, node: &KeyValueProp) {
        node.key.visit_with(self);
        self.named(key(&node.key), &node.value);
    }

    fn visit_var_declarator(&mut self, node: &VarDeclarator) {
        node.name.visit_with(self);
        if let Some(value) = &node.init {
            self.named(of_pattern(&node.name), value);
        }
    }

    fn visit_assign_expr(&mut self, node: &AssignExpr) {
        node.left.visit_with(self);
        self.named(of_target(&node.left), &node.right);
    }

    fn visit_assign_pat(&mut self, node: &swc_core::ecma::ast::AssignPat) {
        node.left.visit_with(self);
        self.named(of_pattern(&node.left), &node.right);
    }

    fn visit_assign_pat_prop(&mut self, node: &AssignPatProp) {
        if let Some(value) = &node.value {
            self.named(Some(node.key.sym.to_string()), value);
        }
    }

    fn visit_export_default_decl(&mut self, node: &ExportDefaultDecl) {
        self.given = Some("default".to_owned());
        node.visit_children_with(self);
        self.given = None;
    }

    fn visit_export_default_expr(&mut self, node: &swc_core::ecma::ast::ExportDefaultExpr) {
        self.named(Some("default".to_owned()), &node.expr);
    }

    fn visit_call_expr(&mut self, node: &swc_core::ecma::ast::CallExpr) {
        // What is handed to a call has no name from where the call stands.
        self.given = None;
        node.visit_children_with(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the name round the first `mark` in `text`.
    fn around(path: &str, text: &str, mark: &str) -> Option<Named> {
        let functions = Functions::of(path, text).expect("parses");
        let place = Lines::of(text).place(text.find(mark).unwrap_or_else(|| panic!("{mark}")));
        functions.around(place).cloned()
    }

    #[test]
    fn names_functions_as_their_author_does() {
        let text = "\
import x from 'y';
at0();
export function plain(a: number = at1()) { return at2(); }
const arrow = async (): Promise<void> => { at3(); };
const object = { method() { at4(); }, value: function () { at5(); }, get prop() { return at6(); }, 'odd key': () => at7() };
exports.assigned = function () { at8(); };
Some.prototype.deep = function own() { at9(); };
abstract class Base { constructor() { at10(); } }
export class Shape<T> extends mix(at11()) {
  static #count = at12();
  readonly handler = () => { at13(); };
  constructor(private readonly width: T) { super(); at14(); }
  area(): number { return [1].map((n) => at15(n))[0]; }
  static make() { at16(); }
  #hidden() { at17(); }
  get wide() { return at18(); }
  static { at19(); }
  field = at20();
  [computed()]() { at21(); }
}
const Named = class { go() { at22(); } };
export default function () { at23(); }
(function () { at24(); })();
setTimeout(function late() { at25(); });
let { given = () => at26() } = x, later;
later = (() => at27()) as unknown;
namespace Space { export function inside() { at28(); } }
";
        for (number, expected) in [
            (0, None),
            (1, Some("plain")),
            (2, Some("plain")),
            (3, Some("arrow")),
            (4, Some("method")),
            (5, Some("value")),
            (6, Some("get prop")),
            (7, Some("odd key")),
            (8, Some("exports.assigned")),
            (9, Some("own")),
            (10, Some("Base")),
            (11, None),
            (12, Some("Shape.<static_initializer>")),
            (13, Some("handler")),
            (14, Some("Shape")),
            (15, Some("")),
            (16, Some("Shape.make")),
            (17, Some("Shape.#hidden")),
            (18, Some("Shape.get wide")),
            (19, Some("Shape.<static_initializer>")),
            (20, Some("Shape.<instance_members_initializer>")),
            (21, Some("")),
            (22, Some("Named.go")),
            (23, Some("default")),
            (24, Some("")),
            (25, Some("late")),
            (26, Some("given")),
            (27, Some("later")),
            (28, Some("inside")),
        ] {
            let found = around("a.ts", text, &format!("at{number}("));
            let name = found.as_ref().map(|found| found.name.as_deref().unwrap_or(""));
            assert_eq!(name, expected, "at{number}");
            let is_constructor = found.is_some_and(|found| found.is_constructor);
            assert_eq!(is_constructor, [10, 14].contains(&number), "at{number}");
        }
    }

    #[test]
    fn reads_each_language_and_gives_up_on_none() {
        let name = |path, text| around(path, text, "at(").and_then(|found| found.name);
        assert_eq!(name("a.js", "function f() { with (x) { at(); } }"), Some("f".to_owned()));
        assert_eq!(name("a.cjs", "function f() { at(); } return f"), Some("f".to_owned()));
        assert_eq!(name("a.tsx", "const F = () => <a b={at()}>{c as d}</a>;"), Some("F".to_owned()));
        assert_eq!(name("a.jsx", "function F() { return <a b={at()} />; }"), Some("F".to_owned()));
        assert_eq!(name("bin/tool", "#!/usr/bin/env node\nfunction f() { at(); }"), Some("f".to_owned()));
        let implicit = around("a.ts", "export class Shape { field = 1; }", "class").expect("a constructor");
        assert_eq!(implicit, Named { name: Some("Shape".to_owned()), is_constructor: true });
        assert_eq!(name("a.js", "/* 𝒳é */ function f() { '𝒳'; at(); }"), Some("f".to_owned()));
        assert!(Functions::of("a.js", "function (").is_none());
        assert!(Functions::of("a.js", &"(".repeat(100_000)).is_none());
    }
}
