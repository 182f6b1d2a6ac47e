//! What one module says of itself: what it loads, what it exports, and what keeps it from being merged.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use swc_core::{
    common::{BytePos, SyntaxContext},
    ecma::{
        ast::*,
        utils::find_pat_ids,
        visit::{Visit, VisitWith},
    },
};

use super::purity::{Purity, member_name};
use crate::js::{Session, exports::Exports, hazards, hazards::unwrapped};

/// The local name of a default export that has none.
pub(crate) const DEFAULT: &str = "*default*";

/// How Node runs a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Es,
    CommonJs,
    Json,
}

/// A module, as far as merging needs to know it.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    /// Whether its text is JSON, which is its default export where it is an ES module.
    pub(crate) is_json: bool,
    /// Where its text starts among the positions of its parse.
    pub(crate) start: BytePos,
    /// In the order of the text.
    pub(crate) loads: Vec<Load>,
    /// Texts in it that may name a file.
    pub(crate) mentions: BTreeSet<String>,
    /// Whether it loads modules by names that it makes at run time.
    pub(crate) computed: bool,
    /// Whether it asks where its file is.
    pub(crate) place: bool,
    /// Why it stays a file of its own, with which others may still be merged.
    pub(crate) fixed: Option<String>,
    /// Why nothing is merged with it.
    pub(crate) alone: Option<String>,
    /// Whether its body waits at the top level.
    pub(crate) awaits: bool,
    /// Whether its functions are strict. Modules always are.
    pub(crate) strict: bool,
    /// Whether it reads the names of its functions.
    pub(crate) reads_names: bool,
    /// Imported names by local name.
    pub(crate) imports: BTreeMap<String, Import>,
    pub(crate) exports: BTreeMap<String, Export>,
    /// Loads of `export *`.
    pub(crate) stars: Vec<usize>,
    /// One for each item of an ES module's body.
    pub(crate) statements: Vec<Statement>,
    /// How imported namespaces are used, by local name.
    pub(crate) spaces: BTreeMap<String, SpaceUse>,
    /// Functions that have no use for `this`.
    pub(crate) thisless: BTreeSet<String>,
    /// Names that keep the value they are declared with.
    pub(crate) constant: BTreeSet<String>,
    /// Classes among them.
    pub(crate) classes: BTreeSet<String>,
    /// Names that a CommonJS module uses without declaring them, and that its top level declares.
    pub(crate) free: BTreeSet<String>,
    pub(crate) declared: BTreeSet<String>,
    /// What Node's lexer sees.
    pub(crate) names: Exports,
}

/// A specifier in a module.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) specifier: String,
    pub(crate) at: BytePos,
    pub(crate) how: How,
    /// The import attributes of a declaration.
    pub(crate) attributes: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// `import` and `export … from`
    Static,
    /// `import()`
    Dynamic,
    /// `require()`; whether the program can go on without it.
    Require { optional: bool },
}

/// What is imported or handed on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Name {
    One(String),
    /// The namespace.
    All,
}

#[derive(Clone, Debug)]
pub(crate) struct Import {
    pub(crate) load: usize,
    pub(crate) name: Name,
    pub(crate) at: BytePos,
}

#[derive(Clone, Debug)]
pub(crate) enum Export {
    Local(String),
    From { load: usize, name: Name, at: BytePos },
}

/// An item of a module's body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statement {
    pub(crate) declares: Vec<String>,
    /// Names of the module's top level that stand in it.
    pub(crate) uses: BTreeSet<String>,
    /// Whether its names have their values before anything runs.
    pub(crate) hoisted: bool,
    /// Whether leaving it out is noticed only by what uses its names, once `reads` and `extends` can be read.
    pub(crate) pure: bool,
    /// Names that are read when it runs.
    pub(crate) reads: BTreeSet<String>,
    /// Members that are read of namespaces when it runs, with the namespace's name first.
    pub(crate) members: BTreeSet<(String, String)>,
    /// Names that a class in it extends.
    pub(crate) extends: BTreeSet<String>,
    /// Whether it calls what its author calls pure.
    pub(crate) calls: bool,
}

/// How a namespace object is used.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpaceUse {
    /// As a value.
    pub(crate) whole: bool,
    pub(crate) read: BTreeSet<String>,
    /// Called, and so given the namespace as `this`.
    pub(crate) called: BTreeSet<String>,
}

impl Record {
    pub(crate) fn json(text: &str) -> Self {
        let mut record = Self::empty(Kind::Json);
        if let Err(error) = serde_json::from_str::<serde_json::Value>(text) {
            record.fixed = Some(format!("it is no JSON: {error}"));
        }
        record
    }

    /// JSON as an ES module, which exports its value.
    pub(crate) fn json_module() -> Self {
        let mut record = Self::empty(Kind::Es);
        record.is_json = true;
        record.constant.insert(DEFAULT.to_owned());
        record.exports.insert("default".to_owned(), Export::Local(DEFAULT.to_owned()));
        record.statements.push(Statement {
            declares: vec![DEFAULT.to_owned()],
            pure: true,
            ..Statement::default()
        });
        record
    }

    fn empty(kind: Kind) -> Self {
        Self {
            kind,
            is_json: kind == Kind::Json,
            start: BytePos(0),
            loads: Vec::new(),
            mentions: BTreeSet::new(),
            computed: false,
            place: false,
            fixed: None,
            alone: None,
            awaits: false,
            strict: kind == Kind::Es,
            reads_names: false,
            imports: BTreeMap::new(),
            exports: BTreeMap::new(),
            stars: Vec::new(),
            statements: Vec::new(),
            spaces: BTreeMap::new(),
            thisless: BTreeSet::new(),
            constant: BTreeSet::new(),
            classes: BTreeSet::new(),
            free: BTreeSet::new(),
            declared: BTreeSet::new(),
            names: Exports::default(),
        }
    }

    /// Reads a program whose names are resolved.
    pub(crate) fn of(session: &Session, program: &Program) -> Self {
        let kind = if program.is_module() { Kind::Es } else { Kind::CommonJs };
        let mut record = Self::empty(kind);
        let hazards = hazards::find(program, session.unresolved);
        if let Some((at, reason)) = hazards.fixed_names {
            record.alone = Some(format!("{reason} (line {})", session.frame(at, "").line));
        }
        record.start = session.file.start_pos;
        record.reads_names = hazards.reads_function_names;
        let top = SyntaxContext::empty().apply_mark(session.top_level);
        let unresolved = SyntaxContext::empty().apply_mark(session.unresolved);
        let mut look =
            Look { record, top, unresolved, functions: 0, arrows: 0, guards: 0, assigned: HashSet::new() };
        program.visit_with(&mut look);
        let Look { mut record, assigned, .. } = look;
        record.directives(program);
        match program {
            Program::Module(module) => record.module(session, module, &assigned, top, unresolved),
            Program::Script(script) => {
                record.names = Exports::of(program);
                record.script(script, top, unresolved);
            }
        }
        record.finish();
        record
    }

    fn directives(&mut self, program: &Program) {
        let mut note = |statement: &Stmt| {
            let Stmt::Expr(ExprStmt { expr, .. }) = statement else { return false };
            let Expr::Lit(Lit::Str(text)) = &**expr else { return false };
            match text.value.as_str() {
                Some("use strict") => self.strict = true,
                Some(other) if other.starts_with("use ") => {
                    self.alone.get_or_insert_with(|| format!("it says `{other}`"));
                }
                _ => {}
            }
            true
        };
        match program {
            Program::Module(module) => {
                module.body.iter().take_while(|item| item.as_stmt().is_some_and(&mut note)).for_each(drop)
            }
            Program::Script(script) => script.body.iter().take_while(|item| note(item)).for_each(drop),
        }
    }

    fn script(&mut self, script: &Script, top: SyntaxContext, unresolved: SyntaxContext) {
        const GIVEN: &[&str] = &["exports", "module", "require", "__filename", "__dirname", "arguments"];
        struct Names<'a>(&'a mut Record, SyntaxContext, SyntaxContext);
        impl Visit for Names<'_> {
            fn visit_ident(&mut self, node: &Ident) {
                if node.ctxt == self.1 {
                    self.0.declared.insert(node.sym.to_string());
                } else if node.ctxt == self.2 {
                    self.0.free.insert(node.sym.to_string());
                }
            }
        }
        script.visit_with(&mut Names(self, top, unresolved));
        if let Some(name) = GIVEN.iter().find(|name| self.declared.contains(**name)) {
            self.fixed.get_or_insert_with(|| format!("it declares `{name}`"));
        }
    }

    fn module(
        &mut self,
        session: &Session,
        module: &Module,
        assigned: &HashSet<String>,
        top: SyntaxContext,
        unresolved: SyntaxContext,
    ) {
        for item in &module.body {
            self.item(item, assigned);
        }
        if let Some(name) = self.imports.keys().find(|name| assigned.contains(*name)) {
            self.alone.get_or_insert_with(|| format!("it assigns to `{name}`, which it imports"));
        }
        for item in &module.body {
            let mut statement = Statement { declares: declared(item), ..Statement::default() };
            statement.hoisted = is_function(item);
            let is_handed_on =
                matches!(item, ModuleItem::ModuleDecl(ModuleDecl::Import(_) | ModuleDecl::ExportNamed(_)));
            if !is_handed_on {
                let mut uses = Uses { top, names: BTreeSet::new() };
                item.visit_with(&mut uses);
                statement.uses = uses.names;
                let mut spaces = Spaces { top, spaces: &mut self.spaces, imports: &self.imports };
                item.visit_with(&mut spaces);
            }
            let mut purity = Purity::new(top, unresolved, &session.comments);
            statement.pure = purity.item(item);
            statement.calls = purity.calls;
            (statement.reads, statement.extends) = (purity.reads, purity.extends);
            statement.members = purity.members;
            self.statements.push(statement);
        }
    }

    fn item(&mut self, item: &ModuleItem, assigned: &HashSet<String>) {
        match item {
            ModuleItem::Stmt(Stmt::Decl(declaration)) => self.declaration(declaration, assigned),
            ModuleItem::Stmt(_) => {}
            ModuleItem::ModuleDecl(ModuleDecl::Import(import)) => {
                let load = self.own_load(import.src.span.lo);
                for specifier in &import.specifiers {
                    let name = match specifier {
                        ImportSpecifier::Named(named) => Name::One(
                            named.imported.as_ref().map_or_else(|| named.local.sym.to_string(), export_name),
                        ),
                        ImportSpecifier::Default(_) => Name::One("default".to_owned()),
                        ImportSpecifier::Namespace(_) => Name::All,
                    };
                    let at = specifier.local().span.lo;
                    self.imports.insert(specifier.local().sym.to_string(), Import { load, name, at });
                }
                if import.phase != ImportPhase::Evaluation {
                    self.alone
                        .get_or_insert_with(|| "it imports in another phase than evaluation".to_owned());
                }
            }
            ModuleItem::ModuleDecl(ModuleDecl::ExportDecl(export)) => {
                self.declaration(&export.decl, assigned);
                for name in declaration_names(&export.decl) {
                    self.exports.insert(name.clone(), Export::Local(name));
                }
            }
            ModuleItem::ModuleDecl(ModuleDecl::ExportNamed(export)) => self.named(export),
            ModuleItem::ModuleDecl(ModuleDecl::ExportDefaultDecl(export)) => {
                let local = match &export.decl {
                    DefaultDecl::Class(class) => {
                        let name =
                            class.ident.as_ref().map_or(DEFAULT.to_owned(), |name| name.sym.to_string());
                        if !assigned.contains(&name) {
                            self.classes.insert(name.clone());
                        }
                        name
                    }
                    DefaultDecl::Fn(function) => {
                        let name =
                            function.ident.as_ref().map_or(DEFAULT.to_owned(), |name| name.sym.to_string());
                        if !uses_this(&function.function) && !assigned.contains(&name) {
                            self.thisless.insert(name.clone());
                        }
                        name
                    }
                    DefaultDecl::TsInterfaceDecl(_) => return,
                };
                if !assigned.contains(&local) {
                    self.constant.insert(local.clone());
                }
                self.exports.insert("default".to_owned(), Export::Local(local));
            }
            ModuleItem::ModuleDecl(ModuleDecl::ExportDefaultExpr(_)) => {
                self.constant.insert(DEFAULT.to_owned());
                self.exports.insert("default".to_owned(), Export::Local(DEFAULT.to_owned()));
            }
            ModuleItem::ModuleDecl(ModuleDecl::ExportAll(export)) => {
                let load = self.own_load(export.src.span.lo);
                self.stars.push(load);
            }
            ModuleItem::ModuleDecl(_) => {
                self.alone.get_or_insert_with(|| "it holds TypeScript".to_owned());
            }
        }
    }

    fn named(&mut self, export: &NamedExport) {
        let load = export.src.as_ref().map(|source| self.own_load(source.span.lo));
        for specifier in &export.specifiers {
            match (specifier, load) {
                (ExportSpecifier::Namespace(all), Some(load)) => {
                    let from = Export::From { load, name: Name::All, at: all.span.lo };
                    self.exports.insert(export_name(&all.name), from);
                }
                (ExportSpecifier::Named(named), load) => {
                    let local = export_name(&named.orig);
                    let name = named.exported.as_ref().map_or_else(|| local.clone(), export_name);
                    let at = named.span.lo;
                    let value = match load {
                        Some(load) => Export::From { load, name: Name::One(local), at },
                        None => Export::Local(local),
                    };
                    self.exports.insert(name, value);
                }
                _ => {}
            }
        }
    }

    /// `export { x }` where `x` is imported hands it on, wherever the import stands.
    fn finish(&mut self) {
        for export in self.exports.values_mut() {
            if let Export::Local(local) = export
                && let Some(Import { load, name, at }) = self.imports.get(local)
            {
                *export = Export::From { load: *load, name: name.clone(), at: *at };
            }
        }
    }

    fn declaration(&mut self, declaration: &Decl, assigned: &HashSet<String>) {
        let keeps = |name: &Ident| !assigned.contains(name.sym.as_str());
        match declaration {
            Decl::Fn(function) if keeps(&function.ident) => {
                self.constant.insert(function.ident.sym.to_string());
                if !uses_this(&function.function) {
                    self.thisless.insert(function.ident.sym.to_string());
                }
            }
            Decl::Class(class) if keeps(&class.ident) => {
                self.constant.insert(class.ident.sym.to_string());
                self.classes.insert(class.ident.sym.to_string());
            }
            Decl::Var(variables) if variables.kind == VarDeclKind::Const => {
                for declarator in &variables.decls {
                    let names: Vec<Ident> = find_pat_ids(&declarator.name);
                    self.constant.extend(names.iter().map(|name| name.sym.to_string()));
                    if let (Pat::Ident(name), Some(value)) = (&declarator.name, &declarator.init) {
                        match unwrapped(value) {
                            Expr::Arrow(_) => drop(self.thisless.insert(name.sym.to_string())),
                            Expr::Fn(function) if !uses_this(&function.function) => {
                                self.thisless.insert(name.sym.to_string());
                            }
                            Expr::Class(_) => drop(self.classes.insert(name.sym.to_string())),
                            _ => {}
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// The load at a place of another parse, in which the text starts at `start`.
    pub(crate) fn load_at(&self, at: BytePos, start: BytePos) -> Option<usize> {
        let offset = at.0.checked_sub(start.0)?;
        self.loads.iter().position(|load| load.at.0 - self.start.0 == offset)
    }

    fn own_load(&self, at: BytePos) -> usize {
        self.loads.iter().position(|load| load.at == at).unwrap_or_default()
    }
}

pub(crate) fn export_name(name: &ModuleExportName) -> String {
    match name {
        ModuleExportName::Ident(name) => name.sym.to_string(),
        ModuleExportName::Str(name) => name.value.to_string_lossy().into_owned(),
    }
}

fn declaration_names(declaration: &Decl) -> Vec<String> {
    match declaration {
        Decl::Class(class) => vec![class.ident.sym.to_string()],
        Decl::Fn(function) => vec![function.ident.sym.to_string()],
        Decl::Var(variables) => {
            let names: Vec<Ident> = find_pat_ids(&variables.decls);
            names.into_iter().map(|name| name.sym.to_string()).collect()
        }
        Decl::Using(using) => {
            let names: Vec<Ident> = find_pat_ids(&using.decls);
            names.into_iter().map(|name| name.sym.to_string()).collect()
        }
        _ => Vec::new(),
    }
}

fn is_function(item: &ModuleItem) -> bool {
    match item {
        ModuleItem::Stmt(statement) => matches!(statement, Stmt::Decl(Decl::Fn(_))),
        ModuleItem::ModuleDecl(ModuleDecl::ExportDecl(export)) => export.decl.is_fn_decl(),
        ModuleItem::ModuleDecl(ModuleDecl::ExportDefaultDecl(export)) => export.decl.is_fn_expr(),
        ModuleItem::ModuleDecl(_) => false,
    }
}

fn declared(item: &ModuleItem) -> Vec<String> {
    /// `var` in blocks.
    struct Vars(Vec<String>);
    impl Visit for Vars {
        fn visit_function(&mut self, _: &Function) {}
        fn visit_arrow_expr(&mut self, _: &ArrowExpr) {}
        fn visit_class(&mut self, _: &Class) {}
        fn visit_var_decl(&mut self, node: &VarDecl) {
            if node.kind == VarDeclKind::Var {
                self.0.extend(
                    find_pat_ids::<_, Ident>(&node.decls).into_iter().map(|name| name.sym.to_string()),
                );
            }
            node.visit_children_with(self);
        }
    }
    match item {
        ModuleItem::Stmt(Stmt::Decl(declaration)) => declaration_names(declaration),
        ModuleItem::Stmt(statement) => {
            let mut vars = Vars(Vec::new());
            statement.visit_with(&mut vars);
            vars.0
        }
        ModuleItem::ModuleDecl(ModuleDecl::ExportDecl(export)) => declaration_names(&export.decl),
        ModuleItem::ModuleDecl(ModuleDecl::ExportDefaultDecl(export)) => {
            let name = match &export.decl {
                DefaultDecl::Class(class) => class.ident.as_ref(),
                DefaultDecl::Fn(function) => function.ident.as_ref(),
                DefaultDecl::TsInterfaceDecl(_) => None,
            };
            vec![name.map_or(DEFAULT.to_owned(), |name| name.sym.to_string())]
        }
        ModuleItem::ModuleDecl(ModuleDecl::ExportDefaultExpr(_)) => vec![DEFAULT.to_owned()],
        ModuleItem::ModuleDecl(_) => Vec::new(),
    }
}

/// Whether a function has a use for its `this`.
fn uses_this(function: &Function) -> bool {
    struct Finder(bool);
    impl Visit for Finder {
        fn visit_function(&mut self, _: &Function) {}
        fn visit_this_expr(&mut self, _: &ThisExpr) {
            self.0 = true;
        }
    }
    let mut finder = Finder(false);
    function.visit_children_with(&mut finder);
    finder.0
}

struct Uses {
    top: SyntaxContext,
    names: BTreeSet<String>,
}

impl Visit for Uses {
    fn visit_ident(&mut self, node: &Ident) {
        if node.ctxt == self.top {
            self.names.insert(node.sym.to_string());
        }
    }
}

/// Looks how namespaces are used.
struct Spaces<'a> {
    top: SyntaxContext,
    spaces: &'a mut BTreeMap<String, SpaceUse>,
    imports: &'a BTreeMap<String, Import>,
}

impl Spaces<'_> {
    fn is_space(&self, expr: &Expr) -> Option<String> {
        let Expr::Ident(name) = expr else { return None };
        let import = self.imports.get(name.sym.as_str()).filter(|_| name.ctxt == self.top)?;
        (import.name == Name::All).then(|| name.sym.to_string())
    }

    /// `space.name`
    fn member(&self, expr: &Expr) -> Option<(String, String)> {
        let Expr::Member(member) = expr else { return None };
        Some((self.is_space(&member.obj)?, member_name(&member.prop)?))
    }

    fn whole(&mut self, expr: &Expr) {
        if let Expr::Member(member) = unwrapped(expr)
            && let Some(space) = self.is_space(&member.obj)
        {
            self.spaces.entry(space).or_default().whole = true;
        }
    }

    fn called(&mut self, callee: &Expr) -> bool {
        let Some((space, name)) = self.member(callee) else { return false };
        self.spaces.entry(space).or_default().called.insert(name);
        true
    }
}

fn key_name(key: &PropName) -> Option<String> {
    match key {
        PropName::Ident(name) => Some(name.sym.to_string()),
        PropName::Str(name) => name.value.as_str().map(str::to_owned),
        _ => None,
    }
}

impl Visit for Spaces<'_> {
    fn visit_call_expr(&mut self, node: &CallExpr) {
        let called = node.callee.as_expr().is_some_and(|callee| self.called(callee));
        if !called {
            // Parentheses keep `this`.
            node.callee
                .as_expr()
                .filter(|callee| callee.is_paren())
                .into_iter()
                .for_each(|callee| self.whole(callee));
            node.callee.visit_with(self);
        }
        node.args.visit_with(self);
    }

    fn visit_opt_chain_expr(&mut self, node: &OptChainExpr) {
        match &*node.base {
            OptChainBase::Call(call) => self.whole(&call.callee),
            OptChainBase::Member(member) => {
                if let Some(space) = self.is_space(&member.obj) {
                    self.spaces.entry(space).or_default().whole = true;
                }
            }
        }
        node.visit_children_with(self);
    }

    fn visit_tagged_tpl(&mut self, node: &TaggedTpl) {
        if !self.called(&node.tag) {
            node.tag.visit_with(self);
        }
        node.tpl.visit_with(self);
    }

    fn visit_simple_assign_target(&mut self, node: &SimpleAssignTarget) {
        if let SimpleAssignTarget::Member(member) = node
            && let Some(space) = self.is_space(&member.obj)
        {
            self.spaces.entry(space).or_default().whole = true;
        }
        node.visit_children_with(self);
    }

    fn visit_pat(&mut self, node: &Pat) {
        if let Pat::Expr(target) = node {
            self.whole(target);
        }
        node.visit_children_with(self);
    }

    fn visit_update_expr(&mut self, node: &UpdateExpr) {
        self.whole(&node.arg);
        node.visit_children_with(self);
    }

    fn visit_unary_expr(&mut self, node: &UnaryExpr) {
        if node.op == UnaryOp::Delete {
            self.whole(&node.arg);
        }
        node.visit_children_with(self);
    }

    fn visit_expr(&mut self, node: &Expr) {
        if let Some((space, name)) = self.member(node) {
            self.spaces.entry(space).or_default().read.insert(name);
            return;
        }
        if let Some(space) = self.is_space(node) {
            self.spaces.entry(space).or_default().whole = true;
        }
        node.visit_children_with(self);
    }

    fn visit_prop(&mut self, node: &Prop) {
        if let Prop::Shorthand(name) = node
            && let Some(space) = self.is_space(&Expr::Ident(name.clone()))
        {
            self.spaces.entry(space).or_default().whole = true;
        }
        node.visit_children_with(self);
    }
}

struct Look {
    record: Record,
    top: SyntaxContext,
    unresolved: SyntaxContext,
    /// How many functions deep, arrows not counted.
    functions: usize,
    arrows: usize,
    /// How many things deep that may make the program go on without what follows.
    guards: usize,
    assigned: HashSet<String>,
}

/// Longest text that is looked at for the name of a file.
const MAX_MENTION: usize = 300;

impl Look {
    fn load(&mut self, source: &Str, how: How, with: Option<&ObjectLit>) {
        let mut attributes = Vec::new();
        for property in with.into_iter().flat_map(|with| &with.props) {
            if let PropOrSpread::Prop(property) = property
                && let Prop::KeyValue(KeyValueProp { key, value }) = &**property
                && let (Some(key), Expr::Lit(Lit::Str(value))) = (key_name(key), &**value)
            {
                attributes.push((key, value.value.to_string_lossy().into_owned()));
            }
        }
        let Some(specifier) = source.value.as_str() else {
            self.compute();
            return;
        };
        self.record.loads.push(Load { specifier: specifier.to_owned(), at: source.span.lo, how, attributes });
    }

    fn is_free(&self, expr: &Expr, name: &str) -> bool {
        matches!(expr, Expr::Ident(ident) if ident.sym == name && ident.ctxt == self.unresolved)
    }

    fn fix(&mut self, reason: &str) {
        self.record.fixed.get_or_insert_with(|| reason.to_owned());
    }

    /// A name made at run time is looked for from the module's own folder.
    fn compute(&mut self) {
        self.record.computed = true;
        self.fix("it loads modules by names that it makes at run time");
    }

    fn mention(&mut self, text: &str) {
        let named = [".js", ".mjs", ".cjs", ".json"].iter().any(|ending| text.ends_with(ending));
        if text.len() <= MAX_MENTION
            && (named || text.starts_with("./") || text.starts_with("../") || text == "." || text == "..")
        {
            self.record.mentions.insert(text.to_owned());
        }
    }

    fn assigned(&mut self, pattern: &impl VisitWith<Assigned>) {
        let mut assigned = Assigned { top: self.top, names: Vec::new() };
        pattern.visit_with(&mut assigned);
        self.assigned.extend(assigned.names);
    }

    fn guarded<T: VisitWith<Self>>(&mut self, node: &T) {
        self.guards += 1;
        node.visit_with(self);
        self.guards -= 1;
    }

    fn is_deep(&self) -> bool {
        self.functions + self.arrows > 0
    }
}

/// Names that a pattern assigns to.
struct Assigned {
    top: SyntaxContext,
    names: Vec<String>,
}

impl Visit for Assigned {
    fn visit_expr(&mut self, _: &Expr) {}
    fn visit_binding_ident(&mut self, node: &BindingIdent) {
        self.visit_ident(&node.id);
    }
    fn visit_ident(&mut self, node: &Ident) {
        if node.ctxt == self.top {
            self.names.push(node.sym.to_string());
        }
    }
    fn visit_member_expr(&mut self, _: &MemberExpr) {}
}

impl Visit for Look {
    fn visit_import_decl(&mut self, node: &ImportDecl) {
        self.load(&node.src, How::Static, node.with.as_deref());
    }

    fn visit_named_export(&mut self, node: &NamedExport) {
        if let Some(source) = &node.src {
            self.load(source, How::Static, node.with.as_deref());
        }
    }

    fn visit_export_all(&mut self, node: &ExportAll) {
        self.load(&node.src, How::Static, node.with.as_deref());
    }

    fn visit_call_expr(&mut self, node: &CallExpr) {
        let literal = match node.args.first().map(|argument| unwrapped(&argument.expr)) {
            Some(Expr::Lit(Lit::Str(text))) => Some(text),
            _ => None,
        };
        match &node.callee {
            Callee::Import(_) => match literal {
                Some(text) => {
                    self.load(text, How::Dynamic, None);
                    node.args[1..].iter().for_each(|argument| argument.visit_with(self));
                }
                None => {
                    self.compute();
                    node.args.visit_with(self);
                }
            },
            Callee::Expr(callee) if self.is_free(callee, "require") => {
                match (literal, node.args.as_slice()) {
                    (Some(text), [_]) => {
                        let optional = self.guards > 0 || self.is_deep();
                        self.load(text, How::Require { optional }, None);
                    }
                    _ => {
                        self.compute();
                        node.args.visit_with(self);
                    }
                }
            }
            callee => {
                callee.visit_with(self);
                node.args.visit_with(self);
            }
        }
    }

    fn visit_member_expr(&mut self, node: &MemberExpr) {
        let name = member_name(&node.prop);
        if self.is_free(&node.obj, "require") {
            self.record.place |= name.as_deref() != Some("resolve");
            self.fix("it uses more of `require` than the call");
            node.prop.visit_with(self);
        } else if self.is_free(&node.obj, "module") && name.as_deref() == Some("exports") {
        } else {
            node.visit_children_with(self);
        }
    }

    fn visit_unary_expr(&mut self, node: &UnaryExpr) {
        let asked = ["module", "exports", "require", "__dirname", "__filename"];
        if node.op == UnaryOp::TypeOf && asked.iter().any(|name| self.is_free(&node.arg, name)) {
            return;
        }
        node.visit_children_with(self);
    }

    fn visit_ident(&mut self, node: &Ident) {
        if node.ctxt != self.unresolved {
            return;
        }
        match node.sym.as_str() {
            "require" => self.compute(),
            "module" => self.fix("it uses more of `module` than `exports`"),
            "exports" if self.record.kind == Kind::Es => self.fix("it is a module that uses `exports`"),
            "__dirname" | "__filename" => {
                self.record.place = true;
                self.fix("it asks where its file is");
            }
            "arguments" if self.functions == 0 => self.fix("it reads the `arguments` of its file"),
            _ => {}
        }
    }

    fn visit_assign_pat_prop(&mut self, node: &AssignPatProp) {
        if node.key.ctxt == self.unresolved && ["module", "exports"].contains(&node.key.sym.as_str()) {
            self.fix("it assigns to what Node gives it");
        }
        node.visit_children_with(self);
    }

    fn visit_meta_prop_expr(&mut self, node: &MetaPropExpr) {
        if node.kind == MetaPropKind::ImportMeta {
            self.record.place = true;
            self.fix("it asks where its file is");
        }
    }

    fn visit_str(&mut self, node: &Str) {
        if let Some(text) = node.value.as_str() {
            self.mention(text);
        }
    }

    fn visit_tpl_element(&mut self, node: &TplElement) {
        if let Some(text) = node.cooked.as_ref().and_then(|text| text.as_str()) {
            self.mention(text);
        }
    }

    fn visit_await_expr(&mut self, node: &AwaitExpr) {
        self.record.awaits |= !self.is_deep();
        node.visit_children_with(self);
    }

    fn visit_for_of_stmt(&mut self, node: &ForOfStmt) {
        self.record.awaits |= node.is_await && !self.is_deep();
        if let ForHead::Pat(pattern) = &node.left {
            self.assigned(pattern);
        }
        node.visit_children_with(self);
    }

    fn visit_for_in_stmt(&mut self, node: &ForInStmt) {
        if let ForHead::Pat(pattern) = &node.left {
            self.assigned(pattern);
        }
        node.visit_children_with(self);
    }

    fn visit_using_decl(&mut self, node: &UsingDecl) {
        self.record.awaits |= node.is_await && !self.is_deep();
        if !self.is_deep() {
            // What is declared so is disposed of at the end of its module.
            self.record.alone.get_or_insert_with(|| "it says `using` at its top level".to_owned());
        }
        node.visit_children_with(self);
    }

    fn visit_assign_expr(&mut self, node: &AssignExpr) {
        self.assigned(&node.left);
        node.visit_children_with(self);
    }

    fn visit_update_expr(&mut self, node: &UpdateExpr) {
        if let Expr::Ident(name) = unwrapped(&node.arg)
            && name.ctxt == self.top
        {
            self.assigned.insert(name.sym.to_string());
        }
        node.visit_children_with(self);
    }

    fn visit_function(&mut self, node: &Function) {
        self.functions += 1;
        node.visit_children_with(self);
        self.functions -= 1;
    }

    fn visit_constructor(&mut self, node: &Constructor) {
        self.functions += 1;
        node.visit_children_with(self);
        self.functions -= 1;
    }

    fn visit_class_member(&mut self, node: &ClassMember) {
        // Fields and static blocks run in functions of their own; keys do not, and hold no `await` worth keeping.
        self.functions += 1;
        node.visit_children_with(self);
        self.functions -= 1;
    }

    fn visit_getter_prop(&mut self, node: &GetterProp) {
        self.functions += 1;
        node.visit_children_with(self);
        self.functions -= 1;
    }

    fn visit_setter_prop(&mut self, node: &SetterProp) {
        self.functions += 1;
        node.visit_children_with(self);
        self.functions -= 1;
    }

    fn visit_arrow_expr(&mut self, node: &ArrowExpr) {
        self.arrows += 1;
        node.visit_children_with(self);
        self.arrows -= 1;
    }

    fn visit_try_stmt(&mut self, node: &TryStmt) {
        self.guarded(&node.block);
        node.handler.visit_with(self);
        node.finalizer.visit_with(self);
    }

    fn visit_if_stmt(&mut self, node: &IfStmt) {
        node.test.visit_with(self);
        self.guarded(&node.cons);
        self.guards += 1;
        node.alt.visit_with(self);
        self.guards -= 1;
    }

    fn visit_cond_expr(&mut self, node: &CondExpr) {
        node.test.visit_with(self);
        self.guarded(&node.cons);
        self.guarded(&node.alt);
    }

    fn visit_bin_expr(&mut self, node: &BinExpr) {
        node.left.visit_with(self);
        if matches!(node.op, BinaryOp::LogicalAnd | BinaryOp::LogicalOr | BinaryOp::NullishCoalescing) {
            self.guarded(&node.right);
        } else {
            node.right.visit_with(self);
        }
    }

    fn visit_switch_case(&mut self, node: &SwitchCase) {
        node.test.visit_with(self);
        self.guards += 1;
        node.cons.visit_with(self);
        self.guards -= 1;
    }
}
