//! What a declaration file says to others, and what of it is nobody's business.
//!
//! What goes is cut out of the text, so that everything else stays as its author wrote it.

use std::{collections::BTreeSet, ops::Range};

use swc_core::{
    common::{
        BytePos, Span, Spanned,
        comments::{Comment, CommentKind},
    },
    ecma::{
        ast::*,
        visit::{Visit, VisitWith},
    },
};

use super::{Goal, Language, Session, comments::is_legal, session};
use crate::HardenError;

/// A declaration file without what is internal.
pub(crate) struct Reduced {
    /// Its text, where that is another now.
    pub(crate) text: Option<String>,
    /// The modules and files that it names.
    pub(crate) names: Vec<String>,
    /// Whether it declares what every file sees without naming it.
    pub(crate) is_ambient: bool,
}

/// Takes the types of private members and all that is marked `@internal` out of the declaration file at `path`, as
/// the TypeScript compiler does with `stripInternal`; imports that only these needed go with them.
///
/// # Errors
/// When the text is no declaration file, and when a mark stands where nothing can be cut out.
pub(crate) fn reduce(step: &'static str, path: &str, text: &str) -> Result<Reduced, HardenError> {
    let mut now = text.to_owned();
    let (edits, before) = session(step, path, text, |session| {
        let module = parse(session)?;
        let mut trim =
            Trim { source: Source::of(session), edits: Vec::new(), gone: BTreeSet::new(), error: None };
        trim.body(&module.body, None);
        trim.check(&module);
        trim.error.map_or_else(|| Ok((trim.edits, used(&module))), Err)
    })?;
    if !edits.is_empty() {
        apply(&mut now, edits);
        let edits = session(step, path, now.as_str(), |session| {
            let module = parse(session)?;
            Ok(unused_imports(&Source::of(session), &module, &before))
        })?;
        apply(&mut now, edits);
    }
    let (names, is_ambient) = session(step, path, now.as_str(), |session| {
        let module = parse(session)?;
        let mut names = Names { found: references(&now), is_global: false };
        module.visit_with(&mut names);
        let is_script = !module.body.is_empty() && !module.body.iter().any(ModuleItem::is_module_decl);
        Ok((names.found, is_script || names.is_global))
    })?;
    Ok(Reduced { text: (now != text).then_some(now), names, is_ambient })
}

fn parse(session: &Session) -> Result<Module, HardenError> {
    let program = session.parse(Language::Declarations, Goal::Module)?;
    Ok(program.expect_module())
}

/// Text that takes the place of a range of bytes.
type Edit = (Range<usize>, &'static str);

fn apply(text: &mut String, mut edits: Vec<Edit>) {
    edits.sort_by_key(|(at, _)| (at.start, at.end));
    for (at, new) in edits.into_iter().rev() {
        text.replace_range(at, new);
    }
}

struct Trim<'a> {
    source: Source<'a>,
    edits: Vec<Edit>,
    /// The names of the file's top level that go.
    gone: BTreeSet<String>,
    error: Option<HardenError>,
}

impl Trim<'_> {
    /// The statements of a file, or of the namespace that ends with the brace at `end`.
    fn body(&mut self, items: &[ModuleItem], end: Option<usize>) {
        let (mut gone, mut kept) = (BTreeSet::new(), BTreeSet::new());
        let mut left: Vec<&ModuleItem> = Vec::new();
        for item in items {
            if self.is_internal(item.span_lo()) {
                gone.extend(declared(item));
            } else {
                kept.extend(declared(item));
                left.push(item);
            }
        }
        let is_gone = |name: &str| gone.contains(name) && !kept.contains(name);
        left.retain(|item| match item {
            ModuleItem::ModuleDecl(ModuleDecl::ExportDefaultExpr(export)) => {
                !is_named(&export.expr, &is_gone)
            }
            ModuleItem::ModuleDecl(ModuleDecl::TsExportAssignment(export)) => {
                !is_named(&export.expr, &is_gone)
            }
            _ => true,
        });
        for item in items {
            if !left.iter().any(|kept| std::ptr::eq(*kept, item)) {
                let range = self.source.whole(item.span());
                self.edits.push((range, ""));
                continue;
            }
            if let ModuleItem::ModuleDecl(ModuleDecl::ExportNamed(export)) = item
                && export.src.is_none()
            {
                let is_gone = |specifier: &ExportSpecifier| {
                    matches!(specifier, ExportSpecifier::Named(ExportNamedSpecifier {
                        orig: ModuleExportName::Ident(name), ..
                    }) if is_gone(&name.sym))
                };
                self.list(&export.specifiers, is_gone);
            }
            item.visit_with(self);
        }
        // Without a statement that exports, everything a declaration file or a namespace declares is exported.
        let lost = items.iter().any(exports) && !left.iter().any(|item| exports(item));
        let is_script = items.iter().any(ModuleItem::is_module_decl)
            && !left.iter().any(|item| item.is_module_decl())
            && end.is_none();
        if end.is_none() {
            self.gone = gone.iter().filter(|name| is_gone(name)).cloned().collect();
        }
        if lost || is_script {
            let end = end.unwrap_or(self.source.session.file.src.len());
            self.edits.push((end..end, "export {};\n"));
        }
    }

    /// Cuts items out of a list with commas.
    fn list<T: Spanned>(&mut self, items: &[T], is_gone: impl Fn(&T) -> bool) {
        self.edits.extend(self.source.cut(items, is_gone));
    }

    fn is_internal(&self, at: BytePos) -> bool {
        self.source.leading(at).last().is_some_and(is_mark)
    }

    fn private(&mut self, key_end: BytePos, member: Span, end: &'static str) {
        let range = self.source.offset(key_end)..self.source.offset(member.hi);
        if &self.source.session.file.src[range.clone()] != end {
            self.edits.push((range, end));
        }
    }

    /// Refuses a name that goes where what stays says it.
    fn check(&mut self, module: &Module) {
        struct Said(Vec<Ident>);
        impl Visit for Said {
            fn visit_ts_entity_name(&mut self, node: &TsEntityName) {
                match node {
                    TsEntityName::Ident(name) => self.0.push(name.clone()),
                    TsEntityName::TsQualifiedName(name) => self.visit_ts_entity_name(&name.left),
                }
            }

            fn visit_expr(&mut self, node: &Expr) {
                match node {
                    Expr::Ident(name) => self.0.push(name.clone()),
                    _ => node.visit_children_with(self),
                }
            }
        }
        let mut said = Said(Vec::new());
        module.visit_with(&mut said);
        let stays = |name: &&Ident| {
            let at = self.source.offset(name.span.lo);
            self.gone.contains(&*name.sym) && !self.edits.iter().any(|(range, _)| range.contains(&at))
        };
        if let Some(name) = said.0.iter().find(stays) {
            let message = format!("`{}` is marked `@internal`, and what is public needs it", name.sym);
            self.refuse(name.span.lo, &message, "take the mark away, or mark what needs it as well");
        }
    }

    fn refuse(&mut self, at: BytePos, message: &str, hint: &'static str) {
        let frame = self.source.session.frame(at, message);
        self.error.get_or_insert(HardenError::Unsupported(frame, hint));
    }
}

impl Visit for Trim<'_> {
    fn visit_ts_module_block(&mut self, block: &TsModuleBlock) {
        self.body(&block.body, Some(self.source.offset(block.span.hi) - 1));
    }

    fn visit_class_members(&mut self, members: &[ClassMember]) {
        let mut seen = BTreeSet::new();
        for member in members {
            if self.is_internal(member.span_lo()) {
                let range = self.source.whole(member.span());
                self.edits.push((range, ""));
                continue;
            }
            let private = Some(Accessibility::Private);
            match member {
                ClassMember::ClassProp(node) if node.accessibility == private => {
                    self.private(node.key.span().hi, node.span, if node.is_optional { "?;" } else { ";" });
                }
                ClassMember::AutoAccessor(node) if node.accessibility == private => {
                    self.private(node.key.span().hi, node.span, ";");
                }
                ClassMember::Constructor(node) if node.accessibility == private => {
                    self.private(node.key.span().hi, node.span, "();");
                }
                ClassMember::Method(node) if node.accessibility == private => {
                    let key = &self.source.session.file.src[self.source.range(node.key.span())];
                    match node.kind {
                        MethodKind::Getter => self.private(node.key.span().hi, node.span, "();"),
                        MethodKind::Setter => self.private(node.key.span().hi, node.span, "(value);"),
                        // Without its type an overload is the same name again.
                        MethodKind::Method if !seen.insert((node.is_static, key.to_owned())) => {
                            let range = self.source.whole(node.span);
                            self.edits.push((range, ""));
                        }
                        MethodKind::Method => {
                            let end = if node.is_optional { "?;" } else { ";" };
                            self.private(node.key.span().hi, node.span, end);
                        }
                    }
                }
                _ => member.visit_children_with(self),
            }
        }
    }

    fn visit_ts_type_elements(&mut self, members: &[TsTypeElement]) {
        for member in members {
            if self.is_internal(member.span_lo()) {
                let range = self.source.whole(member.span());
                self.edits.push((range, ""));
            } else {
                member.visit_children_with(self);
            }
        }
    }

    fn visit_ts_enum_decl(&mut self, node: &TsEnumDecl) {
        let is_gone: Vec<bool> = node.members.iter().map(|member| self.is_internal(member.span.lo)).collect();
        for (index, member) in node.members.iter().enumerate().skip(1) {
            if is_gone[index - 1] && !is_gone[index] && member.init.is_none() {
                self.refuse(
                    member.span.lo,
                    "this member's value counts on from one that is marked `@internal`",
                    "give the member a value, or leave the mark out",
                );
            }
        }
        let gone: Vec<Span> = node
            .members
            .iter()
            .zip(is_gone)
            .filter(|(_, gone)| *gone)
            .map(|(member, _)| member.span)
            .collect();
        self.list(&node.members, |member| gone.contains(&member.span));
    }

    fn visit_var_declarators(&mut self, nodes: &[VarDeclarator]) {
        for node in nodes {
            if self.is_internal(node.span.lo) {
                self.refuse(
                    node.span.lo,
                    "`@internal` stands before one variable of a statement",
                    "declare the variable in a statement of its own, and mark that",
                );
            }
            node.visit_children_with(self);
        }
    }
}

/// Whether a comment is documentation that says `@internal`.
fn is_mark(comment: &Comment) -> bool {
    let is_part = |text: char| text.is_alphanumeric() || matches!(text, '_' | '-' | '`' | '@');
    comment.kind == CommentKind::Block
        && comment.text.starts_with('*')
        && comment.text.match_indices("@internal").any(|(at, tag)| {
            let (before, after) = (&comment.text[..at], &comment.text[at + tag.len()..]);
            !before.ends_with(is_part) && !after.starts_with(is_part)
        })
}

/// Whether a statement decides that what is not named in such a one is not exported.
fn exports(item: &ModuleItem) -> bool {
    matches!(
        item,
        ModuleItem::ModuleDecl(
            ModuleDecl::ExportNamed(_)
                | ModuleDecl::ExportAll(_)
                | ModuleDecl::ExportDefaultExpr(_)
                | ModuleDecl::TsExportAssignment(_)
        )
    )
}

fn is_named(expr: &Expr, is_gone: &impl Fn(&str) -> bool) -> bool {
    matches!(expr, Expr::Ident(name) if is_gone(&name.sym))
}

/// The names that a statement declares.
fn declared(item: &ModuleItem) -> Vec<String> {
    let declaration = match item {
        ModuleItem::Stmt(Stmt::Decl(declaration)) => declaration,
        ModuleItem::ModuleDecl(ModuleDecl::ExportDecl(export)) => &export.decl,
        ModuleItem::ModuleDecl(ModuleDecl::Import(import)) => {
            return import.specifiers.iter().map(|specifier| specifier.local().sym.to_string()).collect();
        }
        _ => return Vec::new(),
    };
    let name = match declaration {
        Decl::Class(node) => &node.ident,
        Decl::Fn(node) => &node.ident,
        Decl::TsInterface(node) => &node.id,
        Decl::TsTypeAlias(node) => &node.id,
        Decl::TsEnum(node) => &node.id,
        Decl::TsModule(node) => match &node.id {
            TsModuleName::Ident(name) => name,
            TsModuleName::Str(_) => return Vec::new(),
        },
        Decl::Var(node) => {
            let names = node.decls.iter().filter_map(|node| node.name.as_ident());
            return names.map(|name| name.sym.to_string()).collect();
        }
        Decl::Using(_) => return Vec::new(),
    };
    vec![name.sym.to_string()]
}

/// Cuts out the imports of names that were used before and are not any more.
fn unused_imports(source: &Source<'_>, module: &Module, before: &BTreeSet<String>) -> Vec<Edit> {
    let now = used(module);
    let is_idle = |specifier: &ImportSpecifier| {
        let name = &*specifier.local().sym;
        before.contains(name) && !now.contains(name)
    };
    let mut edits = Vec::new();
    let mut is_module = false;
    for item in &module.body {
        if let ModuleItem::ModuleDecl(ModuleDecl::Import(import)) = item
            && !import.specifiers.is_empty()
        {
            if import.specifiers.iter().all(is_idle) {
                edits.push((source.whole(import.span), ""));
                continue;
            }
            let named: Vec<_> = import.specifiers.iter().filter(|specifier| specifier.is_named()).collect();
            edits.extend(source.cut(&named, |specifier| is_idle(specifier)));
        }
        is_module |= item.is_module_decl();
    }
    if !edits.is_empty() && !is_module {
        let end = source.session.file.src.len();
        edits.push((end..end, "export {};\n"));
    }
    edits
}

/// The names that a file uses outside its imports.
fn used(module: &Module) -> BTreeSet<String> {
    struct Used(BTreeSet<String>);
    impl Visit for Used {
        fn visit_import_decl(&mut self, _: &ImportDecl) {}

        fn visit_ident(&mut self, node: &Ident) {
            self.0.insert(node.sym.to_string());
        }
    }
    let mut used = Used(BTreeSet::new());
    module.visit_with(&mut used);
    used.0
}

/// What a file names: modules, and files in `/// <reference … />`.
struct Names {
    found: Vec<String>,
    /// Whether it adds to what is global.
    is_global: bool,
}

impl Names {
    fn add(&mut self, node: &Str) {
        self.found.extend(node.value.as_str().map(str::to_owned));
    }
}

impl Visit for Names {
    fn visit_import_decl(&mut self, node: &ImportDecl) {
        self.add(&node.src);
    }

    fn visit_named_export(&mut self, node: &NamedExport) {
        node.src.iter().for_each(|source| self.add(source));
    }

    fn visit_export_all(&mut self, node: &ExportAll) {
        self.add(&node.src);
    }

    fn visit_ts_external_module_ref(&mut self, node: &TsExternalModuleRef) {
        self.add(&node.expr);
    }

    fn visit_ts_import_type(&mut self, node: &TsImportType) {
        self.add(&node.arg);
        node.visit_children_with(self);
    }

    fn visit_ts_module_decl(&mut self, node: &TsModuleDecl) {
        self.is_global |= node.global;
        if let TsModuleName::Str(name) = &node.id {
            self.add(name);
        }
        node.visit_children_with(self);
    }
}

/// Returns the files of `/// <reference path="…" />` and the like, each as a relative specifier.
fn references(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines().filter_map(|line| line.trim_start().strip_prefix("///")) {
        let Some((_, rest)) = line.split_once("<reference") else { continue };
        for (kind, is_path) in [("path", true), ("types", false)] {
            let Some((_, rest)) = rest.split_once(kind) else { continue };
            let rest = rest.trim_start().strip_prefix('=').unwrap_or_default().trim_start();
            let Some(quote) = rest.chars().next().filter(|quote| matches!(quote, '"' | '\'')) else {
                continue;
            };
            let name = rest[1..].split(quote).next().unwrap_or_default();
            let is_bare = is_path && !name.starts_with('.');
            found.push(if is_bare { format!("./{name}") } else { name.to_owned() });
        }
    }
    found
}

/// The text of a file with its comments in their order.
struct Source<'a> {
    session: &'a Session,
    comments: Vec<Comment>,
}

impl<'a> Source<'a> {
    fn of(session: &'a Session) -> Self {
        let (leading, trailing) = session.comments.borrow_all();
        let mut comments: Vec<Comment> =
            leading.values().chain(trailing.values()).flatten().cloned().collect();
        comments.sort_by_key(|comment| comment.span.lo);
        comments.dedup_by_key(|comment| comment.span.lo);
        Self { session, comments }
    }

    fn offset(&self, at: BytePos) -> usize {
        at.0.saturating_sub(self.session.file.start_pos.0) as usize
    }

    fn range(&self, span: Span) -> Range<usize> {
        self.offset(span.lo)..self.offset(span.hi)
    }

    /// The comments right before a place. One that ends the line of something else belongs to that.
    fn leading(&self, at: BytePos) -> &[Comment] {
        let text = &*self.session.file.src;
        let end = self.comments.partition_point(|comment| comment.span.lo < at);
        let (mut first, mut next) = (end, self.offset(at));
        while let Some(comment) = first.checked_sub(1).map(|index| &self.comments[index]) {
            let place = self.range(comment.span);
            let between = text.get(place.end..next).unwrap_or("-");
            if !between.trim().is_empty() || self.ends_line(first - 1) && between.contains('\n') {
                break;
            }
            (first, next) = (first - 1, place.start);
        }
        &self.comments[first..end]
    }

    /// Whether something else stands on the comment's first line before it.
    fn ends_line(&self, index: usize) -> bool {
        let text = &*self.session.file.src;
        let start = self.offset(self.comments[index].span.lo);
        let line = text[..start].rfind('\n').map_or(0, |at| at + 1);
        !text[line..start].trim().is_empty()
    }

    /// The range of a list's items that go, with their commas.
    fn cut<T: Spanned>(&self, items: &[T], is_gone: impl Fn(&T) -> bool) -> Vec<Edit> {
        let start = |index: usize| {
            let at = items[index].span_lo();
            self.offset(self.leading(at).first().map_or(at, |comment| comment.span.lo))
        };
        let end = |index: usize| self.offset(items[index].span_hi());
        let mut edits = Vec::new();
        let mut index = 0;
        while index < items.len() {
            let first = index;
            while index < items.len() && is_gone(&items[index]) {
                index += 1;
            }
            if index == first {
                index += 1;
            } else if index < items.len() {
                edits.push((start(first)..start(index), ""));
            } else if first > 0 {
                edits.push((end(first - 1)..end(index - 1), ""));
            } else {
                let end = end(index - 1);
                let rest = &self.session.file.src[end..];
                let comma = rest.len() - rest.trim_start().len();
                let end = if rest[comma..].starts_with(',') { end + comma + 1 } else { end };
                edits.push((start(0)..end, ""));
            }
        }
        edits
    }

    /// The range of a statement or member with its documentation, its separator, and its lines where nothing else is
    /// on them. Licences and what a blank line parts from it stay.
    fn whole(&self, span: Span) -> Range<usize> {
        let text = &*self.session.file.src;
        let Range { mut start, mut end } = self.range(span);
        for comment in self.leading(span.lo).iter().rev() {
            let at = self.range(comment.span);
            let is_apart = text[at.end..start].matches('\n').count() > 1;
            let is_reference = comment.kind == CommentKind::Line && comment.text.starts_with('/');
            if is_apart || is_reference || is_legal(&comment.text) {
                break;
            }
            start = at.start;
        }
        let rest = text[end..].trim_start();
        if !text[..end].ends_with([';', ',']) && rest.starts_with([';', ',']) {
            end = text.len() - rest.len() + 1;
        }
        let line = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let after = text[end..].find('\n').map_or(text.len(), |at| end + at + 1);
        if text[line..start].trim().is_empty() && text[end..after].trim().is_empty() {
            line..after
        } else {
            start..end + text[end..].len() - text[end..].trim_start_matches(' ').len()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reduced(text: &str) -> Reduced {
        reduce("declarations", "a.d.ts", text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[test]
    fn private_members_lose_their_types() {
        let text = "export declare class A<T> {\n    /** Kept. */\n    private x: Secret<T>;\n    private static readonly y?: string;\n    private z;\n    private get g(): Secret;\n    private set g(secret: Secret);\n    private run(a: Secret): void;\n    private run(a: string): void;\n    private static run(a: string): void;\n    private 'quoted'?(a: Secret): void;\n    private constructor(secret: Secret);\n    protected p: string;\n    #hidden;\n    shown(): { private: string };\n}\n";
        let expected = "export declare class A<T> {\n    /** Kept. */\n    private x;\n    private static readonly y?;\n    private z;\n    private get g();\n    private set g(value);\n    private run;\n    private static run;\n    private 'quoted'?;\n    private constructor();\n    protected p: string;\n    #hidden;\n    shown(): { private: string };\n}\n";
        assert_eq!(reduced(text).text.as_deref(), Some(expected));
    }

    #[test]
    fn what_is_internal_goes() {
        for (text, expected) in [
            (
                "/*! (c) */\n/// <reference path=\"x.d.ts\" />\n/** @internal */\nexport declare const a: 1;\n/** Said. */\nexport declare const b: 2;\n",
                "/*! (c) */\n/// <reference path=\"x.d.ts\" />\n/** Said. */\nexport declare const b: 2;\n",
            ),
            (
                "export interface A {\n    /** One. */\n    one: 1;\n    /**\n     * Two.\n     * @internal\n     */\n    two(): void;\n    three: { /** @internal */ four: 4; five: 5 };\n}\n",
                "export interface A {\n    /** One. */\n    one: 1;\n    three: { five: 5 };\n}\n",
            ),
            (
                "export declare enum E {\n    A = 0,\n    /** @internal */\n    B = 1,\n    C = 2,\n    /** @internal */\n    D = 3\n}\n",
                "export declare enum E {\n    A = 0,\n    C = 2\n}\n",
            ),
            (
                "export declare namespace N {\n    /** @internal */\n    const a: 1;\n    const b: 2;\n}\n",
                "export declare namespace N {\n    const b: 2;\n}\n",
            ),
            ("/** @internal */\nexport declare function a(): void;\n", "export {};\n"),
            (
                "/** @internal */\ndeclare const a: 1;\ndeclare const b: 2, c: 3;\nexport { a, b };\n",
                "declare const b: 2, c: 3;\nexport { b };\n",
            ),
            (
                "/** @internal */\ninterface A {}\nexport declare class B {\n    private a: A;\n    run(A: string): void;\n}\n",
                "export declare class B {\n    private a;\n    run(A: string): void;\n}\n",
            ),
            (
                "/** @internal */\ndeclare const a: 1;\ndeclare const b: 2;\nexport default a;\n",
                "declare const b: 2;\nexport {};\n",
            ),
            (
                "import { Hidden, type Shown } from './a';\nimport Other from './b';\nimport { Idle } from './c';\nexport declare class A {\n    private x: Hidden & Other;\n    y: Shown;\n}\n",
                "import { type Shown } from './a';\nimport { Idle } from './c';\nexport declare class A {\n    private x;\n    y: Shown;\n}\n",
            ),
        ] {
            assert_eq!(reduced(text).text.as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_only_looks_internal_stays() {
        for text in [
            "// @internal\nexport declare const a: 1;\n",
            "/** See `@internal`, @internals and me@internal.example. */\nexport declare const a: 1;\n",
            "/** @internal */\n/** Said. */\nexport declare const a: 1;\n",
            "export interface A {\n    private: string; // @internal\n    protected?: '@internal';\n    one: 1; /** @internal */\n    two: 2;\n}\n",
            "import './effect';\nimport { Idle } from './c';\nexport declare class A {\n    private x;\n}\n",
            "export default function a(x: string): void;\nexport declare const b: 2;\n",
            "/** @internal */\n",
            "",
        ] {
            assert_eq!(reduced(text).text, None, "{text}");
        }
    }

    #[test]
    fn marks_that_cannot_be_followed_are_refused() {
        for (text, said) in [
            ("export declare const enum E {\n    /** @internal */\n    A,\n    B\n}\n", "counts on"),
            ("export declare const a: 1, /** @internal */ b: 2;\n", "one variable"),
            ("/** @internal */\ninterface A { a: 1 }\nexport declare const b: A;\n", "`A` is marked"),
            ("/** @internal */\ndeclare class A {}\nexport declare class B extends A {}\n", "`A` is marked"),
            ("/** @internal */\ndeclare const a: 1;\nexport declare const b: typeof a;\n", "`a` is marked"),
            ("export declare class {", "a.d.ts"),
        ] {
            let error = reduce("declarations", "a.d.ts", text).err().unwrap_or_else(|| panic!("{text}"));
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn every_name_is_followed() {
        let text = "/// <reference path=\"p.d.ts\" />\n/// <reference types='./t' />\n/// <reference lib=\"dom\" />\nimport a from './a';\nimport b = require('./b');\nexport * from './c';\nexport { d } from './d';\nexport declare const e: typeof import('./e') | import('./f').F<import('./g').G>;\ndeclare module './h' {}\n/** @internal */\nexport * from './gone';\nimport { I } from './gone';\n/** @internal */\nexport declare const i: I;\n";
        let reduced = reduced(text);
        assert_eq!(
            reduced.names,
            ["./p.d.ts", "./t", "./a", "./b", "./c", "./d", "./e", "./f", "./g", "./h"]
        );
        assert!(!reduced.is_ambient);
        for (text, is_ambient) in [
            ("declare const a: 1;", true),
            ("declare global { const a: 1; }\nexport {};", true),
            ("export {};", false),
            ("// nothing\n", false),
        ] {
            assert_eq!(self::reduced(text).is_ambient, is_ambient, "{text}");
        }
    }
}
