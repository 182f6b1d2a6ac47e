//! The module specifiers in a program, brought up to date after files got other names.

use std::collections::BTreeMap;

use swc_core::{
    common::{Mark, SyntaxContext},
    ecma::{
        ast::*,
        visit::{VisitMut, VisitMutWith},
    },
};

use crate::entry_points::{ended, resolve};

/// Rewrites relative specifiers that lead to a file of another name now. Returns whether there was one.
///
/// `import`, `export`, `import()`, `require`, `require.resolve`, `import.meta.resolve` and
/// `new URL(…, import.meta.url)`, each with a literal; names made at run time are left.
pub(crate) fn update(
    program: &mut Program,
    path: &str,
    renamed: &BTreeMap<String, String>,
    unresolved: Mark,
) -> bool {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let unresolved = SyntaxContext::empty().apply_mark(unresolved);
    let mut update = Update { folder, renamed, unresolved, changed: false };
    program.visit_mut_with(&mut update);
    update.changed
}

/// Returns whether `text` may hold such a specifier at all.
pub(crate) fn possible(text: &str) -> bool {
    [".ts", ".tsx", ".jsx", ".mts", ".cts"].iter().any(|ending| text.contains(ending))
}

struct Update<'a> {
    folder: &'a str,
    renamed: &'a BTreeMap<String, String>,
    unresolved: SyntaxContext,
    changed: bool,
}

impl Update<'_> {
    fn specifier(&mut self, node: &mut Str) {
        let Some(value) =
            node.value.as_str().filter(|value| value.starts_with("./") || value.starts_with("../"))
        else {
            return;
        };
        // Bundlers take a query after the name.
        let (name, query) = match value.find('?') {
            Some(at) => value.split_at(at),
            None => (value, ""),
        };
        let updated = resolve(self.folder, name)
            .and_then(|path| ended(name, &path, self.renamed.get(&path)?))
            .map(|name| format!("{name}{query}"));
        if let Some(updated) = updated {
            node.value = updated.into();
            node.raw = None;
            self.changed = true;
        }
    }

    fn argument(&mut self, arguments: &mut [ExprOrSpread]) {
        match arguments.first_mut().map(|argument| &mut *argument.expr) {
            Some(Expr::Lit(Lit::Str(text))) => self.specifier(text),
            Some(Expr::Tpl(template)) => {
                if let ([], [TplElement { cooked: Some(cooked), .. }]) = (&*template.exprs, &*template.quasis)
                {
                    let mut text = Str { span: template.span, value: cooked.clone(), raw: None };
                    self.specifier(&mut text);
                    if text.value != *cooked {
                        *arguments[0].expr = text.into();
                    }
                }
            }
            _ => {}
        }
    }

    fn is_free(&self, expr: &Expr, name: &str) -> bool {
        matches!(expr, Expr::Ident(ident) if ident.sym == name && ident.ctxt == self.unresolved)
    }

    fn loads(&self, callee: &Callee) -> bool {
        match callee {
            Callee::Import(_) => true,
            Callee::Super(_) => false,
            Callee::Expr(callee) => match &**callee {
                Expr::Member(MemberExpr { obj, prop: MemberProp::Ident(name), .. })
                    if name.sym == "resolve" =>
                {
                    self.is_free(obj, "require") || is_import_meta(obj)
                }
                callee => self.is_free(callee, "require"),
            },
        }
    }
}

fn is_import_meta(expr: &Expr) -> bool {
    matches!(expr, Expr::MetaProp(MetaPropExpr { kind: MetaPropKind::ImportMeta, .. }))
}

impl VisitMut for Update<'_> {
    fn visit_mut_import_decl(&mut self, node: &mut ImportDecl) {
        self.specifier(&mut node.src);
    }

    fn visit_mut_named_export(&mut self, node: &mut NamedExport) {
        node.src.iter_mut().for_each(|source| self.specifier(source));
    }

    fn visit_mut_export_all(&mut self, node: &mut ExportAll) {
        self.specifier(&mut node.src);
    }

    fn visit_mut_ts_external_module_ref(&mut self, node: &mut TsExternalModuleRef) {
        self.specifier(&mut node.expr);
    }

    fn visit_mut_call_expr(&mut self, node: &mut CallExpr) {
        if self.loads(&node.callee) {
            self.argument(&mut node.args);
        }
        node.visit_mut_children_with(self);
    }

    fn visit_mut_new_expr(&mut self, node: &mut NewExpr) {
        if let Some([_, base]) = node.args.as_deref()
            && self.is_free(&node.callee, "URL")
            && matches!(&*base.expr, Expr::Member(member) if is_import_meta(&member.obj))
        {
            self.argument(node.args.as_deref_mut().unwrap_or_default());
        }
        node.visit_mut_children_with(self);
    }
}
