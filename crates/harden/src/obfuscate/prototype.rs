//! Makes objects without a prototype by calls, so that the word `__proto__`, which only a literal understands, goes.

use swc_core::{
    common::{DUMMY_SP, SyntaxContext},
    ecma::{
        ast::*,
        visit::{VisitMut, VisitMutWith},
    },
};

use super::{Level, Work, fresh, insert, level::Leveled};
use crate::Profile;

/// Replaces `{ __proto__: null, … }` in `program`, whose top level only it sees.
///
/// What is called is read as the program starts: nothing that it does later to the library changes its objects.
pub(crate) fn replace(program: &mut Program, work: &mut Work<'_>) {
    let level = work.level();
    let unresolved = SyntaxContext::empty().apply_mark(work.session.unresolved);
    let mut replacer = Replacer { work, level, create: None, set: None };
    program.visit_mut_with(&mut replacer);
    let Replacer { create, set, .. } = replacer;
    let of_object = |name: &str| {
        let obj = Box::new(Expr::Ident(Ident::new("Object".into(), DUMMY_SP, unresolved)));
        let prop = MemberProp::Ident(IdentName::new(name.into(), DUMMY_SP));
        Box::new(Expr::Member(MemberExpr { span: DUMMY_SP, obj, prop }))
    };
    let called = [(create, "create"), (set, "setPrototypeOf")];
    let decls: Vec<_> = called
        .into_iter()
        .filter_map(|(variable, name)| {
            Some(VarDeclarator {
                span: DUMMY_SP,
                name: Pat::Ident(variable?.into()),
                init: Some(of_object(name)),
                definite: false,
            })
        })
        .collect();
    if !decls.is_empty() {
        let declared = VarDecl { kind: VarDeclKind::Const, decls, ..Default::default() };
        insert(program, vec![Stmt::Decl(Decl::Var(Box::new(declared)))]);
    }
}

struct Replacer<'a, 'b> {
    work: &'a mut Work<'b>,
    level: Level,
    create: Option<Ident>,
    set: Option<Ident>,
}

impl<'w> Leveled<'w> for Replacer<'_, 'w> {
    fn work(&self) -> &Work<'w> {
        self.work
    }

    fn level(&mut self) -> &mut Level {
        &mut self.level
    }
}

/// Whether a property of a literal says that the object has no prototype.
fn is_without(property: &PropOrSpread) -> bool {
    matches!(property, PropOrSpread::Prop(property) if matches!(&**property,
    Prop::KeyValue(KeyValueProp { key, value }) if matches!(&**value, Expr::Lit(Lit::Null(_))) && match key {
        PropName::Ident(name) => name.sym == "__proto__",
        PropName::Str(text) => text.value.as_str() == Some("__proto__"),
        _ => false,
    }))
}

impl VisitMut for Replacer<'_, '_> {
    fn visit_mut_expr(&mut self, node: &mut Expr) {
        node.visit_mut_children_with(self);
        let Expr::Object(object) = node else { return };
        if self.level.profile == Profile::Light || !object.props.iter().any(is_without) {
            return;
        }
        let mut object = std::mem::take(object);
        object.props.retain(|property| !is_without(property));
        let null = Box::new(Expr::Lit(Lit::Null(Null { span: DUMMY_SP })));
        let (called, args) = if object.props.is_empty() {
            (&mut self.create, vec![null])
        } else {
            (&mut self.set, vec![Box::new(Expr::Object(object)), null])
        };
        let callee = Callee::Expr(Box::new(Expr::Ident(called.get_or_insert_with(fresh).clone())));
        let args = args.into_iter().map(ExprOrSpread::from).collect();
        *node = Expr::Call(CallExpr { callee, args, ..Default::default() });
    }

    fn visit_mut_function(&mut self, node: &mut Function) {
        self.function(node);
    }

    fn visit_mut_arrow_expr(&mut self, node: &mut ArrowExpr) {
        self.arrow(node);
    }

    fn visit_mut_constructor(&mut self, node: &mut Constructor) {
        self.constructor(node);
    }
}
