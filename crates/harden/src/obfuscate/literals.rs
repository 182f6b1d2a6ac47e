//! Takes strings and property names out of a program: where one stood, a variable stands.

use std::collections::{BTreeSet, HashMap};

use swc_core::{
    common::{DUMMY_SP, SyntaxContext},
    ecma::{
        ast::*,
        atoms::Wtf8Atom,
        visit::{Visit, VisitMut, VisitMutWith, VisitWith},
    },
};

use super::{Level, Names, Work, level::Leveled};
use crate::{Profile, js::hazards::unwrapped};

/// What was taken out, in the order of its first use.
#[derive(Default)]
pub(crate) struct Literals {
    index: HashMap<Wtf8Atom, usize>,
    pub(crate) entries: Vec<(Wtf8Atom, Ident)>,
}

impl Literals {
    /// Returns the variable that is `value` at run time.
    fn variable(&mut self, value: &Wtf8Atom, names: &mut Names) -> Ident {
        let next = self.entries.len();
        let index = *self.index.entry(value.clone()).or_insert(next);
        if index == next {
            self.entries.push((value.clone(), names.variable()));
        }
        self.entries[index].1.clone()
    }
}

/// Takes out the literals of `program` that nobody outside has to read.
pub(crate) fn extract(program: &mut Program, work: &mut Work<'_>, reserved: &BTreeSet<String>) -> Literals {
    let unresolved = SyntaxContext::empty().apply_mark(work.session.unresolved);
    let level = work.level();
    let mut rests = Rests(false);
    program.visit_with(&mut rests);
    let has_object_rest = rests.0;
    let mut extract =
        Extract { unresolved, level, has_object_rest, reserved, work, literals: Literals::default() };
    program.visit_mut_with(&mut extract);
    extract.literals
}

/// Whether a pattern takes the rest of an object.
struct Rests(bool);

impl Visit for Rests {
    fn visit_object_pat_prop(&mut self, node: &ObjectPatProp) {
        self.0 |= matches!(node, ObjectPatProp::Rest(_));
        node.visit_children_with(self);
    }
}

struct Extract<'a, 'b> {
    unresolved: SyntaxContext,
    level: Level,
    /// V8 runs a getter with a computed name once more, where `{ a, ...rest }` leaves its property out.
    has_object_rest: bool,
    reserved: &'a BTreeSet<String>,
    work: &'a mut Work<'b>,
    literals: Literals,
}

impl Extract<'_, '_> {
    fn is_free(&self, expr: &Expr, names: &[&str]) -> bool {
        matches!(unwrapped(expr), Expr::Ident(ident)
            if ident.ctxt == self.unresolved && names.contains(&ident.sym.as_str()))
    }

    fn taken(&mut self, value: &Wtf8Atom) -> Option<Box<Expr>> {
        // What is shorter says nothing.
        let shortest = match self.level.profile {
            Profile::Light => return None,
            Profile::Standard => 2,
            Profile::Strong => 1,
        };
        let stays = |text: &str| text.len() < shortest || self.reserved.contains(text);
        let stays = value.as_str().is_some_and(stays);
        (!stays).then(|| Box::new(Expr::Ident(self.literals.variable(value, &mut self.work.names))))
    }

    fn computed(&mut self, name: &Wtf8Atom) -> Option<ComputedPropName> {
        self.taken(name).map(|expr| ComputedPropName { span: DUMMY_SP, expr })
    }

    fn key(&mut self, key: &mut PropName) {
        let name = match key {
            PropName::Ident(name) => name.sym.clone().into(),
            PropName::Str(text) => text.value.clone(),
            _ => {
                key.visit_mut_with(self);
                return;
            }
        };
        if let Some(computed) = self.computed(&name) {
            *key = PropName::Computed(computed);
        }
    }

    /// Whether others find this member by reading the code: bundlers, and Node's lexer of CommonJS.
    fn is_read_in_text(&self, node: &MemberExpr) -> bool {
        match unwrapped(&node.obj) {
            Expr::MetaProp(_) => true,
            Expr::Member(MemberExpr { obj, prop: MemberProp::Ident(name), .. }) => {
                self.is_free(obj, &["process"]) && name.sym == "env"
                    || self.is_free(obj, &["module"]) && name.sym == "exports"
            }
            _ if self.is_free(&node.obj, &["module"]) => true,
            _ if self.is_free(&node.obj, &["process"]) => {
                matches!(&node.prop, MemberProp::Ident(name) if name.sym == "env")
            }
            _ => self.is_free(&node.obj, &["exports", "require"]),
        }
    }

    /// Whether others read the arguments of this call in the code.
    fn is_read_call(&self, node: &CallExpr) -> bool {
        match &node.callee {
            Callee::Import(_) => true,
            Callee::Super(_) => false,
            Callee::Expr(callee) => match unwrapped(callee) {
                // `require.resolve("./x")`, `import.meta.resolve("./x")`
                Expr::Member(MemberExpr { obj, .. })
                    if self.is_free(obj, &["require"]) || obj.is_meta_prop() =>
                {
                    true
                }
                // `Object.defineProperty(exports, "__esModule", …)`: bundlers ask again when the program runs, and Node
                // is told at the end of the file, so in `strong` it is a call as any other.
                Expr::Member(MemberExpr { obj, .. })
                    if self.level.profile != Profile::Strong && self.is_free(obj, &["Object"]) =>
                {
                    let marks = |argument: &ExprOrSpread| matches!(&*argument.expr, Expr::Lit(Lit::Str(text)) if text.value.as_str() == Some("__esModule"));
                    node.args.get(1).is_some_and(marks)
                }
                callee => self.is_free(callee, &["require", "define"]),
            },
        }
    }

    /// Visits the arguments of such a call: literals are read there, what else there is is not.
    fn read_arguments(&mut self, arguments: &mut [ExprOrSpread], objects: bool) {
        let is_text = |element: &Option<ExprOrSpread>| element.as_ref().is_some_and(|it| it.expr.is_lit());
        for argument in arguments {
            match &mut *argument.expr {
                Expr::Lit(_) | Expr::Tpl(_) => {}
                Expr::Array(list) if list.elems.iter().all(is_text) => {}
                Expr::Object(_) if objects => {}
                _ => argument.visit_mut_with(self),
            }
        }
    }
}

impl<'w> Leveled<'w> for Extract<'_, 'w> {
    fn work(&self) -> &Work<'w> {
        self.work
    }

    fn level(&mut self) -> &mut Level {
        &mut self.level
    }
}

impl VisitMut for Extract<'_, '_> {
    fn visit_mut_expr(&mut self, node: &mut Expr) {
        match node {
            Expr::Lit(Lit::Str(text)) => {
                if let Some(taken) = self.taken(&text.value) {
                    *node = *taken;
                }
            }
            Expr::Tpl(template) => {
                template.exprs.visit_mut_with(self);
                self.template(template);
            }
            // `delete "a"` is true; `delete a` asks whether a variable can go.
            Expr::Unary(UnaryExpr { op: UnaryOp::Delete, arg, .. })
                if matches!(unwrapped(arg), Expr::Lit(_) | Expr::Tpl(_)) => {}
            // A tag is handed the very text of its template.
            Expr::TaggedTpl(tagged) => {
                tagged.tag.visit_mut_with(self);
                tagged.tpl.exprs.visit_mut_with(self);
            }
            _ => node.visit_mut_children_with(self),
        }
    }

    fn visit_mut_function(&mut self, node: &mut Function) {
        self.function(node);
    }

    fn visit_mut_arrow_expr(&mut self, node: &mut ArrowExpr) {
        self.arrow(node);
    }

    fn visit_mut_member_expr(&mut self, node: &mut MemberExpr) {
        if self.is_read_in_text(node) {
            if let MemberProp::Computed(computed) = &mut node.prop
                && !computed.expr.is_lit()
            {
                computed.visit_mut_with(self);
            }
            if !self.is_free(&node.obj, &["module", "process"]) {
                node.obj.visit_mut_with(self);
            }
            return;
        }
        node.obj.visit_mut_with(self);
        if let MemberProp::Ident(name) = &node.prop {
            if let Some(computed) = self.computed(&name.sym.clone().into()) {
                node.prop = MemberProp::Computed(computed);
            }
        } else {
            node.prop.visit_mut_with(self);
        }
    }

    fn visit_mut_super_prop_expr(&mut self, node: &mut SuperPropExpr) {
        match &mut node.prop {
            SuperProp::Ident(name) => {
                if let Some(computed) = self.computed(&name.sym.clone().into()) {
                    node.prop = SuperProp::Computed(computed);
                }
            }
            SuperProp::Computed(computed) => computed.visit_mut_with(self),
        }
    }

    fn visit_mut_call_expr(&mut self, node: &mut CallExpr) {
        if self.is_read_call(node) {
            if let Callee::Expr(callee) = &mut node.callee
                && !callee.is_member()
            {
                callee.visit_mut_with(self);
            }
            // `import(…, { with: … })`, `defineProperty(exports, "__esModule", { value: true })`
            let objects = node.callee.is_import()
                || matches!(&node.callee, Callee::Expr(callee) if matches!(&**callee, Expr::Member(member) if self.is_free(&member.obj, &["Object"])));
            self.read_arguments(&mut node.args, objects);
            return;
        }
        node.visit_mut_children_with(self);
    }

    fn visit_mut_new_expr(&mut self, node: &mut NewExpr) {
        // `new URL("./x", import.meta.url)`
        let is_place = |argument: &ExprOrSpread| matches!(&*argument.expr, Expr::Member(member) if member.obj.is_meta_prop());
        if let Some(arguments) = node.args.as_mut().filter(|arguments| arguments.iter().any(is_place)) {
            self.read_arguments(arguments, false);
            return;
        }
        node.visit_mut_children_with(self);
    }

    fn visit_mut_prop(&mut self, node: &mut Prop) {
        match node {
            Prop::Shorthand(name) => {
                if let Some(computed) = self.computed(&name.sym.clone().into()) {
                    let value = Box::new(Expr::Ident(name.clone()));
                    *node = Prop::KeyValue(KeyValueProp { key: PropName::Computed(computed), value });
                }
            }
            Prop::KeyValue(pair) => {
                // In a literal this key sets the prototype; computed it would be a property.
                let sets_prototype = match &pair.key {
                    PropName::Ident(name) => name.sym == "__proto__",
                    PropName::Str(text) => text.value.as_str() == Some("__proto__"),
                    _ => false,
                };
                // An object whose keys are computed is made several times as slowly.
                if !sets_prototype && !self.level.hot {
                    self.key(&mut pair.key);
                }
                pair.value.visit_mut_with(self);
            }
            Prop::Getter(getter) => {
                if !self.has_object_rest {
                    self.key(&mut getter.key);
                }
                getter.function.visit_mut_with(self);
            }
            Prop::Setter(setter) => {
                self.key(&mut setter.key);
                setter.function.visit_mut_with(self);
            }
            Prop::Method(method) => {
                self.key(&mut method.key);
                method.function.visit_mut_with(self);
            }
            Prop::Assign(_) => node.visit_mut_children_with(self),
        }
    }

    fn visit_mut_object_pat_prop(&mut self, node: &mut ObjectPatProp) {
        match node {
            ObjectPatProp::KeyValue(pair) => {
                self.key(&mut pair.key);
                pair.value.visit_mut_with(self);
            }
            ObjectPatProp::Assign(assign) => {
                assign.value.visit_mut_with(self);
                if let Some(computed) = self.computed(&assign.key.id.sym.clone().into()) {
                    let name = Pat::Ident(assign.key.clone());
                    let value = match assign.value.take() {
                        Some(right) => Pat::Assign(AssignPat { span: DUMMY_SP, left: Box::new(name), right }),
                        None => name,
                    };
                    let key = PropName::Computed(computed);
                    *node = ObjectPatProp::KeyValue(KeyValuePatProp { key, value: Box::new(value) });
                }
            }
            ObjectPatProp::Rest(rest) => rest.visit_mut_with(self),
        }
    }

    fn visit_mut_class_member(&mut self, node: &mut ClassMember) {
        match node {
            ClassMember::Method(method) => {
                self.key(&mut method.key);
                method.function.visit_mut_with(self);
            }
            ClassMember::ClassProp(field) => {
                self.key(&mut field.key);
                field.value.visit_mut_with(self);
            }
            ClassMember::AutoAccessor(accessor) => {
                if let Key::Public(key) = &mut accessor.key {
                    self.key(key);
                }
                accessor.value.visit_mut_with(self);
            }
            _ => node.visit_mut_children_with(self),
        }
    }

    fn visit_mut_constructor(&mut self, node: &mut Constructor) {
        self.constructor(node);
    }

    fn visit_mut_stmt(&mut self, node: &mut Stmt) {
        // A directive, or nothing.
        if let Stmt::Expr(statement) = node
            && statement.expr.is_lit()
        {
            return;
        }
        node.visit_mut_children_with(self);
    }

    /// Specifiers and the names of imports and exports are read by others.
    fn visit_mut_module_decl(&mut self, node: &mut ModuleDecl) {
        match node {
            // The renamer takes every name in an exported pattern for an exported one.
            ModuleDecl::ExportDecl(ExportDecl { decl: Decl::Var(variables), .. }) => {
                for declarator in &mut variables.decls {
                    declarator.init.visit_mut_with(self);
                }
            }
            ModuleDecl::ExportDecl(_)
            | ModuleDecl::ExportDefaultDecl(_)
            | ModuleDecl::ExportDefaultExpr(_) => {
                node.visit_mut_children_with(self);
            }
            _ => {}
        }
    }
}

impl Extract<'_, '_> {
    /// The texts between a template's values become values themselves.
    fn template(&mut self, template: &mut Tpl) {
        if self.level.profile == Profile::Light {
            return;
        }
        let Some(texts) =
            template.quasis.iter().map(|quasi| quasi.cooked.clone()).collect::<Option<Vec<_>>>()
        else {
            return;
        };
        let mut values = std::mem::take(&mut template.exprs).into_iter();
        let mut exprs: Vec<Box<Expr>> = Vec::new();
        let mut quasis = Vec::new();
        let element = |text: Wtf8Atom| {
            let raw = super::template_text(&text);
            TplElement { span: DUMMY_SP, tail: false, cooked: Some(text), raw }
        };
        let mut pending = Wtf8Atom::default();
        for text in texts {
            match self.taken(&text) {
                Some(taken) => {
                    quasis.push(element(std::mem::take(&mut pending)));
                    exprs.push(taken);
                }
                None => pending = text,
            }
            if let Some(value) = values.next() {
                quasis.push(element(std::mem::take(&mut pending)));
                exprs.push(value);
            }
        }
        quasis.push(element(pending));
        if let Some(last) = quasis.last_mut() {
            last.tail = true;
        }
        template.exprs = exprs;
        template.quasis = quasis;
    }
}
