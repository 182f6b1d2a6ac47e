//! What a program does that decides how far its names may be changed.

use std::collections::{BTreeSet, HashSet};

use swc_core::{
    common::{BytePos, Mark, Span, Spanned, SyntaxContext},
    ecma::{
        ast::*,
        visit::{Visit, VisitWith},
    },
};

use super::Session;

/// What was found in one program.
#[derive(Debug, Default)]
pub(crate) struct Hazards {
    /// Why no name in it may change, and where.
    pub(crate) fixed_names: Option<(BytePos, &'static str)>,
    /// Whether it is CommonJS for certain, and not a script that also serves as one.
    pub(crate) common_js: bool,
    /// Whether it speaks to CommonJS, and to nothing of a browser or of another module system.
    pub(crate) only_common_js: bool,
    /// Whether it holds something that only modules have.
    pub(crate) module_syntax: bool,
    /// Whether it reads `name` of a function that it declares.
    pub(crate) reads_function_names: bool,
    /// Names of functions and classes.
    pub(crate) named: BTreeSet<String>,
    /// Names that a function or class without a name of its own takes its `name` from.
    pub(crate) naming: BTreeSet<String>,
    /// Those of `named` and `naming` that are classes.
    pub(crate) classes: BTreeSet<String>,
}

pub(crate) const DIRECT_EVAL: &str = "a direct `eval` can read and declare any name around it";
pub(crate) const WITH: &str = "`with` makes any name in it a property";
pub(crate) const FUNCTION_SOURCE: &str = "it reads the source of a function that it declares";
pub(crate) const FUNCTION_TEXT: &str =
    "it holds the source of one of its functions as a text, to compare them";

/// Looks through a program whose names are resolved.
pub(crate) fn find(program: &Program, unresolved: Mark) -> Hazards {
    let unresolved = SyntaxContext::empty().apply_mark(unresolved);
    let mut functions = Functions::default();
    program.visit_with(&mut functions);
    let named = functions.declared.iter().map(|(name, _)| name.to_string()).collect();
    let naming = functions.naming.iter().map(|(name, _)| name.to_string()).collect();
    let Functions { declared, classes, .. } = functions;
    let mut finder = Finder {
        unresolved,
        functions: declared,
        found: Hazards { named, naming, classes, ..Hazards::default() },
        uses_common_js: false,
        asks_for_common_js: false,
        speaks_to_others: false,
        depth: 0,
    };
    program.visit_with(&mut finder);
    let mut found = finder.found;
    found.common_js = finder.uses_common_js && !finder.asks_for_common_js;
    found.only_common_js = finder.uses_common_js && !finder.speaks_to_others;
    found
}

/// Returns where a program holds the source of one of its functions as a text.
///
/// Such a program compares the two, wherever it asks for the function's source: it is right only as it stands.
pub(crate) fn own_source(session: &Session, program: &Program) -> Option<BytePos> {
    let mut sources = Sources { session, functions: HashSet::new(), texts: Vec::new() };
    program.visit_with(&mut sources);
    let Sources { functions, texts, .. } = sources;
    texts.into_iter().find(|(_, text)| functions.contains(text.as_str())).map(|(at, _)| at)
}

struct Sources<'a> {
    session: &'a Session,
    functions: HashSet<&'a str>,
    /// Texts that could be a function's source.
    texts: Vec<(BytePos, String)>,
}

impl Sources<'_> {
    fn function(&mut self, span: Span) {
        let file = &self.session.file;
        let place = |at: BytePos| at.0.checked_sub(file.start_pos.0).map(|at| at as usize);
        if let (Some(start), Some(end)) = (place(span.lo), place(span.hi))
            && let Some(source) = file.src.get(start..end)
        {
            // The language leaves `static` out of a method's source.
            let method = source.strip_prefix("static").unwrap_or(source);
            self.functions.extend([source, after_comments(method)]);
        }
    }
}

/// Leaves out the white space and comments that `text` starts with.
fn after_comments(text: &str) -> &str {
    let mut rest = text.trim_start();
    loop {
        let end = match rest.get(..2) {
            Some("/*") => rest.find("*/").map(|at| at + 2),
            Some("//") => rest.find('\n').map(|at| at + 1),
            _ => None,
        };
        match end.and_then(|end| rest.get(end..)) {
            Some(after) => rest = after.trim_start(),
            None => return rest,
        }
    }
}

impl Visit for Sources<'_> {
    fn visit_str(&mut self, node: &Str) {
        if let Some(text) = node.value.as_str()
            && text.ends_with('}')
            && text.contains('{')
        {
            self.texts.push((node.span.lo, text.to_owned()));
        }
    }

    fn visit_fn_decl(&mut self, node: &FnDecl) {
        self.function(node.function.span);
        node.visit_children_with(self);
    }

    fn visit_fn_expr(&mut self, node: &FnExpr) {
        self.function(node.function.span);
        node.visit_children_with(self);
    }

    fn visit_arrow_expr(&mut self, node: &ArrowExpr) {
        self.function(node.span);
        node.visit_children_with(self);
    }

    fn visit_class(&mut self, node: &Class) {
        self.function(node.span);
        node.visit_children_with(self);
    }

    fn visit_class_method(&mut self, node: &ClassMethod) {
        self.function(node.span);
        node.visit_children_with(self);
    }

    fn visit_private_method(&mut self, node: &PrivateMethod) {
        self.function(node.span);
        node.visit_children_with(self);
    }

    fn visit_method_prop(&mut self, node: &MethodProp) {
        self.function(node.span());
        node.visit_children_with(self);
    }

    fn visit_getter_prop(&mut self, node: &GetterProp) {
        self.function(node.span);
        node.visit_children_with(self);
    }

    fn visit_setter_prop(&mut self, node: &SetterProp) {
        self.function(node.span);
        node.visit_children_with(self);
    }
}

/// The variables from which a function or class without a name of its own takes its `name`.
pub(crate) fn naming(stmts: &[Stmt]) -> HashSet<Id> {
    let mut functions = Functions::default();
    stmts.iter().for_each(|statement| statement.visit_with(&mut functions));
    functions.naming
}

/// Which names stand for functions and classes.
#[derive(Default)]
struct Functions {
    declared: HashSet<Id>,
    /// Those that name what has no name of its own.
    naming: HashSet<Id>,
    classes: BTreeSet<String>,
}

impl Functions {
    fn bound(&mut self, name: &Ident, value: &Expr) {
        let value = unwrapped(value);
        if is_function(value) {
            self.declared.insert(name.to_id());
        }
        let anonymous = match value {
            Expr::Fn(function) => function.ident.is_none(),
            Expr::Class(class) => class.ident.is_none(),
            Expr::Arrow(_) => true,
            _ => false,
        };
        if anonymous {
            self.naming.insert(name.to_id());
        }
        if value.is_class() {
            self.classes.insert(name.sym.to_string());
        }
    }
}

impl Visit for Functions {
    fn visit_fn_decl(&mut self, node: &FnDecl) {
        self.declared.insert(node.ident.to_id());
        node.visit_children_with(self);
    }

    fn visit_class_decl(&mut self, node: &ClassDecl) {
        self.declared.insert(node.ident.to_id());
        self.classes.insert(node.ident.sym.to_string());
        node.visit_children_with(self);
    }

    fn visit_fn_expr(&mut self, node: &FnExpr) {
        self.declared.extend(node.ident.as_ref().map(Ident::to_id));
        node.visit_children_with(self);
    }

    fn visit_class_expr(&mut self, node: &ClassExpr) {
        self.declared.extend(node.ident.as_ref().map(Ident::to_id));
        self.classes.extend(node.ident.as_ref().map(|name| name.sym.to_string()));
        node.visit_children_with(self);
    }

    fn visit_var_declarator(&mut self, node: &VarDeclarator) {
        if let (Pat::Ident(name), Some(value)) = (&node.name, &node.init) {
            self.bound(name, value);
        }
        node.visit_children_with(self);
    }

    fn visit_assign_expr(&mut self, node: &AssignExpr) {
        if let AssignTarget::Simple(SimpleAssignTarget::Ident(name)) = &node.left {
            self.bound(name, &node.right);
        }
        node.visit_children_with(self);
    }

    fn visit_assign_pat(&mut self, node: &AssignPat) {
        if let Pat::Ident(name) = &*node.left {
            self.bound(name, &node.right);
        }
        node.visit_children_with(self);
    }

    fn visit_assign_pat_prop(&mut self, node: &AssignPatProp) {
        if let Some(value) = &node.value {
            self.bound(&node.key, value);
        }
        node.visit_children_with(self);
    }
}

struct Finder {
    unresolved: SyntaxContext,
    functions: HashSet<Id>,
    found: Hazards,
    uses_common_js: bool,
    asks_for_common_js: bool,
    speaks_to_others: bool,
    /// How many functions deep.
    depth: usize,
}

impl Finder {
    fn fix_names(&mut self, at: BytePos, reason: &'static str) {
        self.found.fixed_names.get_or_insert((at, reason));
    }

    fn is_free(&self, ident: &Ident, names: &[&str]) -> bool {
        ident.ctxt == self.unresolved && names.contains(&ident.sym.as_str())
    }

    /// Whether the value of `expr` is a function written in this file.
    fn is_own_function(&self, expr: &Expr) -> bool {
        match unwrapped(expr) {
            Expr::Ident(name) => self.functions.contains(&name.to_id()),
            other => is_function(other),
        }
    }

    fn made_text(&mut self, expr: &Expr) {
        if self.is_own_function(expr) {
            self.fix_names(expr.span_lo(), FUNCTION_SOURCE);
        }
    }

    fn nested<T: VisitWith<Self>>(&mut self, node: &T) {
        self.depth += 1;
        node.visit_children_with(self);
        self.depth -= 1;
    }
}

/// The names that Node gives to a CommonJS module.
const COMMON_JS: &[&str] = &["require", "module", "exports", "__dirname", "__filename"];

/// What a script in a browser speaks to, and what other module systems give.
const OTHERS: &[&str] = &["define", "window", "self", "document", "globalThis"];

impl Visit for Finder {
    fn visit_function(&mut self, node: &Function) {
        self.nested(node);
    }

    fn visit_arrow_expr(&mut self, node: &ArrowExpr) {
        self.nested(node);
    }

    fn visit_class(&mut self, node: &Class) {
        self.nested(node);
    }

    fn visit_with_stmt(&mut self, node: &WithStmt) {
        self.fix_names(node.span.lo, WITH);
        node.visit_children_with(self);
    }

    fn visit_call_expr(&mut self, node: &CallExpr) {
        if let Callee::Expr(callee) = &node.callee
            && let Expr::Ident(name) = unwrapped(callee)
        {
            if name.sym == "eval" {
                self.fix_names(node.span.lo, DIRECT_EVAL);
            }
            if self.is_free(name, &["String"])
                && let [argument] = node.args.as_slice()
            {
                self.made_text(&argument.expr);
            }
        }
        node.visit_children_with(self);
    }

    fn visit_member_expr(&mut self, node: &MemberExpr) {
        if is_property(&node.prop, "toString") {
            self.made_text(&node.obj);
        }
        if is_property(&node.prop, "name") && self.is_own_function(&node.obj) {
            self.found.reads_function_names = true;
        }
        node.visit_children_with(self);
    }

    fn visit_bin_expr(&mut self, node: &BinExpr) {
        if node.op == BinaryOp::Add {
            self.made_text(&node.left);
            self.made_text(&node.right);
        }
        node.visit_children_with(self);
    }

    fn visit_assign_expr(&mut self, node: &AssignExpr) {
        if node.op == AssignOp::AddAssign {
            self.made_text(&node.right);
        }
        if let AssignTarget::Simple(SimpleAssignTarget::Member(target)) = &node.left {
            // What is assigned to is not read.
            target.visit_children_with(self);
        } else {
            node.left.visit_with(self);
        }
        node.right.visit_with(self);
    }

    fn visit_tpl(&mut self, node: &Tpl) {
        for expr in &node.exprs {
            self.made_text(expr);
        }
        node.visit_children_with(self);
    }

    fn visit_tagged_tpl(&mut self, node: &TaggedTpl) {
        // A tag gets the function itself, not its text.
        node.tag.visit_with(self);
        node.tpl.visit_children_with(self);
    }

    fn visit_unary_expr(&mut self, node: &UnaryExpr) {
        if node.op == UnaryOp::TypeOf
            && let Expr::Ident(name) = unwrapped(&node.arg)
            && self.is_free(name, &["module", "exports", "require", "define"])
        {
            self.asks_for_common_js = true;
            self.speaks_to_others |= name.sym == "define";
            return;
        }
        node.visit_children_with(self);
    }

    fn visit_ident(&mut self, node: &Ident) {
        if self.is_free(node, COMMON_JS) {
            self.uses_common_js = true;
        }
        if self.is_free(node, OTHERS) {
            self.speaks_to_others = true;
        }
    }

    fn visit_return_stmt(&mut self, node: &ReturnStmt) {
        if self.depth == 0 {
            self.uses_common_js = true;
        }
        node.visit_children_with(self);
    }

    fn visit_module_decl(&mut self, node: &ModuleDecl) {
        self.found.module_syntax = true;
        node.visit_children_with(self);
    }

    fn visit_meta_prop_expr(&mut self, node: &MetaPropExpr) {
        if node.kind == MetaPropKind::ImportMeta {
            self.found.module_syntax = true;
        }
    }

    fn visit_await_expr(&mut self, node: &AwaitExpr) {
        if self.depth == 0 {
            self.found.module_syntax = true;
        }
        node.visit_children_with(self);
    }
}

fn is_property(property: &MemberProp, name: &str) -> bool {
    match property {
        MemberProp::Ident(ident) => ident.sym == name,
        MemberProp::Computed(computed) => {
            matches!(&*computed.expr, Expr::Lit(Lit::Str(text)) if text.value.as_str() == Some(name))
        }
        MemberProp::PrivateName(_) => false,
    }
}

fn is_function(expr: &Expr) -> bool {
    matches!(expr, Expr::Fn(_) | Expr::Arrow(_) | Expr::Class(_))
}

/// Returns what parentheses hold.
pub(crate) fn unwrapped(mut expr: &Expr) -> &Expr {
    while let Expr::Paren(paren) = expr {
        expr = &paren.expr;
    }
    expr
}
