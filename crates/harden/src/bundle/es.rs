//! Writes ES modules as one: names that would meet are told apart, imports become the names that they stand for.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use swc_core::{
    common::{BytePos, DUMMY_SP, Mark, Span, SyntaxContext},
    ecma::{
        ast::*,
        atoms::Atom,
        visit::{Visit, VisitMut, VisitMutWith, VisitWith},
    },
};

use super::{
    Head, Merge,
    graph::{Found, Lead},
    plan::{Chunk, Edge, edges},
    purity::member_name,
    record::{DEFAULT, Name},
    resolve::{folder, is_builtin, is_relative, specifier},
};
use crate::{
    HardenError,
    entry_points::resolve,
    js::{
        Session,
        hazards::unwrapped,
        print::{Around, OriginalNames, print},
        session,
    },
    tree::Rewritten,
};

/// A name that the file's top level has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    Local(usize, String),
    Import(Origin, Name),
}

/// What is loaded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Origin {
    specifier: String,
    attributes: Vec<(String, String)>,
}

/// Writes a chunk.
pub(crate) fn write(merge: &Merge<'_>, chunk: &Chunk) -> Result<Rewritten, HardenError> {
    session(super::STEP, &chunk.path, "", |session| {
        let mut head = Head::default();
        let mut parts = Vec::new();
        let mut shebang = None;
        for &member in &chunk.members {
            let path = &merge.graph.modules[member].path;
            let text = merge.text(path)?;
            if merge.graph.modules[member].record.is_json {
                parts.push(Part::json(session, member, &text)?);
                continue;
            }
            let (part, program) = head.open(merge, session, path, &text)?;
            let Program::Module(module) = program else {
                return Err(HardenError::Compiler {
                    step: super::STEP,
                    path: path.clone(),
                    reason: "it was a module and is none".to_owned(),
                });
            };
            if chunk.host == Some(member) {
                shebang = module.shebang;
            }
            let top = SyntaxContext::empty().apply_mark(part.top_level);
            parts.push(Part { module: member, top, start: part.file.start_pos, items: module.body });
        }
        let writer = Writer { merge, chunk, names: HashMap::new() };
        let body = writer.write(session, parts);
        let program = Program::Module(Module { span: DUMMY_SP, body, shebang });
        head.print(session, program, &chunk.path, String::new())
    })
}

/// Writes a file that has the exports of a module and nothing else.
pub(crate) fn write_space(merge: &Merge<'_>, module: usize, path: &str) -> Result<Rewritten, HardenError> {
    let chunk = Chunk {
        path: path.to_owned(),
        kind: super::record::Kind::Es,
        members: Vec::new(),
        host: Some(module),
    };
    session(super::STEP, path, "", |session| {
        let writer = Writer { merge, chunk: &chunk, names: HashMap::new() };
        let body = writer.exports(module, false);
        let program = Program::Module(Module { span: DUMMY_SP, body, shebang: None });
        let printed = print(session, program, &OriginalNames::default(), false, &Around::default())?;
        Ok(Rewritten { path: path.to_owned(), code: printed.code, map: None })
    })
}

struct Part {
    module: usize,
    top: SyntaxContext,
    /// Where the module's text starts in this session.
    start: BytePos,
    items: Vec<ModuleItem>,
}

impl Part {
    /// `export default` of what JSON says.
    fn json(session: &Session, module: usize, text: &str) -> Result<Self, HardenError> {
        // As a literal, this key would set the prototype.
        let text = if text.contains("__proto__") || text.contains("\\u") {
            format!("JSON.parse({})", serde_json::Value::from(text))
        } else {
            text.to_owned()
        };
        let mut statements = session.snippet(&format!("({text}\n);"))?;
        statements.visit_mut_with(&mut Global(SyntaxContext::empty().apply_mark(session.unresolved)));
        let value = match statements.pop() {
            Some(Stmt::Expr(statement)) => statement.expr,
            _ => Box::new(Expr::Invalid(Invalid { span: DUMMY_SP })),
        };
        let default = ExportDefaultExpr { span: DUMMY_SP, expr: value };
        let items = vec![ModuleItem::ModuleDecl(ModuleDecl::ExportDefaultExpr(default))];
        Ok(Self { module, top: SyntaxContext::empty().apply_mark(Mark::new()), start: BytePos(0), items })
    }
}

/// Says of every name that the file does not declare it, and of every place that no source holds it.
struct Global(SyntaxContext);

impl VisitMut for Global {
    fn visit_mut_ident(&mut self, node: &mut Ident) {
        node.ctxt = self.0;
    }

    fn visit_mut_span(&mut self, node: &mut Span) {
        *node = DUMMY_SP;
    }
}

struct Writer<'a> {
    merge: &'a Merge<'a>,
    chunk: &'a Chunk,
    /// The name of each key.
    names: HashMap<Key, Atom>,
}

impl Writer<'_> {
    fn write(mut self, session: &Session, mut parts: Vec<Part>) -> Vec<ModuleItem> {
        let live = &self.merge.plan.live;
        for part in &mut parts {
            let mut statements = live[part.module].iter();
            part.items.retain(|item| {
                let is_live = statements.next().copied().unwrap_or(true);
                is_live
                    && !matches!(
                        item,
                        ModuleItem::ModuleDecl(
                            ModuleDecl::Import(_) | ModuleDecl::ExportNamed(_) | ModuleDecl::ExportAll(_)
                        )
                    )
            });
        }
        let mut keys: Vec<(Key, Atom)> = Vec::new();
        let mut taken: HashSet<Atom> = HashSet::new();
        // The file's own module keeps its names where it can.
        let host_first = parts.iter().filter(|part| Some(part.module) == self.chunk.host);
        for part in host_first.chain(parts.iter().filter(|part| Some(part.module) != self.chunk.host)) {
            let mut seen = Seen { writer: &self, part, keys: &mut keys, taken: &mut taken };
            part.items.visit_with(&mut seen);
        }
        let inline_default = self.chunk.host.filter(|&host| {
            let mut own = parts.iter().filter(|part| part.module == host).flat_map(|part| &part.items);
            let key = Key::Local(host, DEFAULT.to_owned());
            own.any(is_default)
                && !keys.iter().any(|(known, _)| *known == key)
                && !self.is_exported_otherwise(host)
        });
        for part in &parts {
            let key = Key::Local(part.module, DEFAULT.to_owned());
            if inline_default != Some(part.module) && part.items.iter().any(is_default) {
                keys.push((key, "value".into()));
            }
        }
        self.name(keys, taken);

        let mut body: Vec<ModuleItem> = Vec::new();
        let mut imports = self.imports();
        let mut named: Vec<ModuleItem> = Vec::new();
        for part in parts {
            let mut rename = Rename::of(&self, &part);
            for mut item in part.items {
                item.visit_mut_with(&mut rename);
                self.item(
                    session,
                    &part.module,
                    item,
                    inline_default == Some(part.module),
                    &mut body,
                    &mut named,
                );
            }
        }
        imports.append(&mut named);
        imports.append(&mut body);
        let exports = match self.chunk.host {
            Some(host) => self.exports(host, inline_default == Some(host)),
            None => self.handed(),
        };
        imports.extend(exports);
        if !imports.iter().any(ModuleItem::is_module_decl) {
            // Without it the file would not be a module everywhere.
            imports.push(export(Vec::new(), None));
        }
        imports
    }

    /// Whether the nameless default export of `host` has another name in an export too.
    fn is_exported_otherwise(&self, host: usize) -> bool {
        let here = Some(self.chunk.members.as_slice());
        let names = self.merge.graph.names(host);
        let wanted = Found::Local(host, DEFAULT.to_owned());
        names.iter().any(|name| {
            name != "default" && self.merge.graph.own_export(host, name, here, &mut BTreeSet::new()) == wanted
        })
    }

    /// Gives each key a name that nothing else in the file has.
    fn name(&mut self, keys: Vec<(Key, Atom)>, mut taken: HashSet<Atom>) {
        for (key, wanted) in keys {
            if self.names.contains_key(&key) {
                continue;
            }
            let mut name = wanted.clone();
            let mut count = 0;
            while taken.contains(&name) {
                count += 1;
                name = format!("{wanted}${count}").into();
            }
            taken.insert(name.clone());
            self.names.insert(key, name);
        }
    }

    /// The key of a finding, or nothing for what does not exist.
    fn key(&self, found: &Found) -> Option<Key> {
        let Merge { graph, plan, .. } = self.merge;
        let lead_to =
            |path: &str| Origin { specifier: specifier(&self.chunk.path, path), attributes: Vec::new() };
        Some(match found {
            Found::Local(module, local) if self.chunk.members.contains(module) => {
                Key::Local(*module, local.clone())
            }
            Found::Local(module, local) => {
                let chunk = plan.chunk_of[*module];
                let name = plan.handed[chunk].get(&(*module, local.clone()))?;
                Key::Import(lead_to(&plan.chunks[chunk].path), Name::One(name.clone()))
            }
            Found::Space(module) => Key::Import(lead_to(plan.space_path(graph, *module)), Name::All),
            Found::Native(module, name) => Key::Import(lead_to(&graph.modules[*module].path), name.clone()),
            Found::Outside(module, load, name) => Key::Import(self.outside(*module, *load), name.clone()),
            Found::Missing | Found::Ambiguous => return None,
        })
    }

    fn outside(&self, module: usize, load: usize) -> Origin {
        let module = &self.merge.graph.modules[module];
        let attributes = module.record.loads[load].attributes.clone();
        let specifier = match &module.leads[load] {
            Lead::Asset(path) => specifier(&self.chunk.path, path),
            Lead::Module(target) => specifier(&self.chunk.path, &self.merge.graph.modules[*target].path),
            _ => module.record.loads[load].specifier.clone(),
        };
        Origin { specifier, attributes }
    }

    /// What a name of a module's top level is in the file; for a namespace that is taken apart, nothing.
    fn resolved(&self, module: usize, name: &str) -> Option<Key> {
        let Merge { graph, plan, .. } = self.merge;
        match graph.imported_name(module, name, Some(&self.chunk.members)) {
            None => Some(Key::Local(module, name.to_owned())),
            Some(Found::Space(target)) if plan.is_taken_apart(graph, module, name, target) => None,
            Some(found) => self.key(&found),
        }
    }

    /// The key of `space.name`, where `space` is a namespace that is taken apart.
    fn member(&self, module: usize, space: &str, name: &str) -> Option<Key> {
        let Merge { graph, plan, .. } = self.merge;
        let here = Some(self.chunk.members.as_slice());
        match graph.imported_name(module, space, here)? {
            Found::Space(target) if plan.is_taken_apart(graph, module, space, target) => {
                self.key(&graph.exported(target, name, here, &mut BTreeSet::new()))
            }
            _ => None,
        }
    }

    fn imports(&self) -> Vec<ModuleItem> {
        let Merge { graph, plan, .. } = self.merge;
        let mut wanted: BTreeMap<&Origin, Vec<(&Name, &Atom)>> = BTreeMap::new();
        for (key, local) in &self.names {
            if let Key::Import(from, name) = key {
                wanted.entry(from).or_default().push((name, local));
            }
        }
        let mut order: Vec<Origin> = Vec::new();
        for edge in edges(graph, self.chunk) {
            let (from, silent) = match edge {
                Edge::Module(_, target) => {
                    let chunk = plan.chunk_of[target];
                    let path = match plan.chunks[chunk].host {
                        Some(_) if graph.is_file(target) => &graph.modules[target].path,
                        _ => &plan.chunks[chunk].path,
                    };
                    let from =
                        Origin { specifier: specifier(&self.chunk.path, path), attributes: Vec::new() };
                    (from, plan.silent[chunk])
                }
                Edge::Outside(module, load) => {
                    let from = self.outside(module, load);
                    let silent = is_builtin(&from.specifier)
                        || matches!(&graph.modules[module].leads[load], Lead::Asset(path) if path.ends_with(".json"));
                    (from, silent)
                }
            };
            if (!silent || wanted.contains_key(&from)) && !order.contains(&from) {
                order.push(from);
            }
        }
        order.extend(
            wanted
                .keys()
                .filter(|from| !order.contains(*from))
                .map(|from| (*from).clone())
                .collect::<Vec<_>>(),
        );
        let mut items = Vec::new();
        for from in order {
            let mut names = wanted.get(&from).cloned().unwrap_or_default();
            names.sort();
            let (all, one): (Vec<_>, Vec<_>) = names.into_iter().partition(|(name, _)| **name == Name::All);
            let specifiers: Vec<ImportSpecifier> = one
                .into_iter()
                .filter_map(|(name, local)| {
                    let Name::One(name) = name else { return None };
                    let imported = (*name != local.as_str()).then(|| module_name(name));
                    let local = ident(local);
                    Some(ImportSpecifier::Named(ImportNamedSpecifier {
                        span: DUMMY_SP,
                        local,
                        imported,
                        is_type_only: false,
                    }))
                })
                .collect();
            if !specifiers.is_empty() || all.is_empty() {
                items.push(import(&from, specifiers));
            }
            for (_, local) in all {
                let local = ident(local);
                items.push(import(
                    &from,
                    vec![ImportSpecifier::Namespace(ImportStarAsSpecifier { span: DUMMY_SP, local })],
                ));
            }
        }
        items
    }

    /// Puts an item into the body as a statement, and what must run before everything else into `first`.
    fn item(
        &self,
        session: &Session,
        module: &usize,
        item: ModuleItem,
        inline: bool,
        body: &mut Vec<ModuleItem>,
        first: &mut Vec<ModuleItem>,
    ) {
        let default =
            || self.names.get(&Key::Local(*module, DEFAULT.to_owned())).cloned().unwrap_or_default();
        if inline && is_default(&item) {
            body.push(item);
            return;
        }
        let mut declaration = match item {
            ModuleItem::ModuleDecl(ModuleDecl::ExportDecl(export)) => export.decl,
            ModuleItem::ModuleDecl(ModuleDecl::ExportDefaultDecl(export)) => match export.decl {
                DefaultDecl::Class(class) => {
                    let named = class.ident.is_some();
                    let ident = class.ident.unwrap_or_else(|| ident(&default()));
                    let mut declaration = ClassDecl { ident, declare: false, class: class.class };
                    if !named {
                        name_class(session, &mut declaration.class, "default");
                    }
                    body.push(Stmt::Decl(declaration.into()).into());
                    return;
                }
                DefaultDecl::Fn(function) => {
                    let named = function.ident.is_some();
                    let ident = function.ident.unwrap_or_else(|| ident(&default()));
                    if !named {
                        first.extend(set_name(session, Expr::Ident(ident.clone()), "default"));
                    }
                    let declaration = FnDecl { ident, declare: false, function: function.function };
                    body.push(Stmt::Decl(declaration.into()).into());
                    return;
                }
                DefaultDecl::TsInterfaceDecl(_) => return,
            },
            ModuleItem::ModuleDecl(ModuleDecl::ExportDefaultExpr(export)) => {
                let init =
                    if is_nameless(&export.expr) { named_value("default", export.expr) } else { export.expr };
                let declarator = VarDeclarator {
                    span: export.span,
                    name: ident(&default()).into(),
                    init: Some(init),
                    definite: false,
                };
                Decl::Var(Box::new(VarDecl {
                    span: export.span,
                    kind: VarDeclKind::Const,
                    decls: vec![declarator],
                    ..Default::default()
                }))
            }
            ModuleItem::Stmt(Stmt::Decl(declaration)) => declaration,
            other => {
                body.push(other);
                return;
            }
        };
        if self.merge.keep_names {
            self.keep_names(session, *module, &mut declaration, first);
        }
        body.push(Stmt::Decl(declaration).into());
    }

    /// Sees that what got another name still says its old one.
    fn keep_names(
        &self,
        session: &Session,
        module: usize,
        declaration: &mut Decl,
        first: &mut Vec<ModuleItem>,
    ) {
        let old = |name: &Ident| {
            let mut keys = self.names.iter().filter(|(_, new)| **new == name.sym).map(|(key, _)| key);
            keys.find_map(|key| match key {
                Key::Local(of, old) if *of == module && *old != name.sym.as_str() && old != DEFAULT => {
                    Some(old.clone())
                }
                _ => None,
            })
        };
        match declaration {
            Decl::Fn(function) => {
                if let Some(old) = old(&function.ident) {
                    first.extend(set_name(session, Expr::Ident(function.ident.clone()), &old));
                }
            }
            Decl::Class(class) => {
                if let Some(old) = old(&class.ident) {
                    name_class(session, &mut class.class, &old);
                }
            }
            Decl::Var(variables) => {
                for declarator in &mut variables.decls {
                    if let (Pat::Ident(name), Some(value)) = (&declarator.name, &mut declarator.init)
                        && is_nameless(value)
                        && let Some(old) = old(name)
                    {
                        let inner =
                            std::mem::replace(value, Box::new(Expr::Invalid(Invalid { span: DUMMY_SP })));
                        *value = named_value(&old, inner);
                    }
                }
            }
            _ => {}
        }
    }

    /// The exports of a file that outsiders load.
    fn exports(&self, module: usize, inline_default: bool) -> Vec<ModuleItem> {
        let graph = self.merge.graph;
        let here = Some(self.chunk.members.as_slice());
        let mut local = Vec::new();
        let mut again: BTreeMap<Origin, Vec<ExportSpecifier>> = BTreeMap::new();
        let mut spaces = Vec::new();
        for name in graph.names(module).clone() {
            if inline_default && name == "default" {
                continue;
            }
            let found = graph.own_export(module, &name, here, &mut BTreeSet::new());
            match self.key(&found) {
                Some(Key::Import(from, Name::One(imported))) => {
                    again.entry(from).or_default().push(handed(&imported, &name));
                }
                Some(Key::Import(from, Name::All)) => spaces.push((from, name)),
                Some(key) => {
                    if let Some(own) = self.names.get(&key) {
                        local.push(handed(own, &name));
                    } else if let Key::Local(_, own) = &key {
                        local.push(handed(own, &name));
                    }
                }
                None => {}
            }
        }
        let mut items = Vec::new();
        for (from, specifiers) in again {
            items.push(export(specifiers, Some(&from)));
        }
        for (from, name) in spaces {
            let all = ExportNamespaceSpecifier { span: DUMMY_SP, name: module_name(&name) };
            items.push(export(vec![ExportSpecifier::Namespace(all)], Some(&from)));
        }
        let stars: BTreeSet<Origin> = graph
            .outside_stars(module)
            .into_iter()
            .map(|(module, load)| self.outside(module, load))
            .collect();
        for from in stars {
            let all = ExportAll {
                span: DUMMY_SP,
                src: Box::new(from.specifier.as_str().into()),
                type_only: false,
                with: with(&from),
            };
            items.push(ModuleItem::ModuleDecl(ModuleDecl::ExportAll(all)));
        }
        if !local.is_empty() || items.is_empty() && !inline_default {
            items.push(export(local, None));
        }
        items
    }

    /// The exports of a file that only others of the package load.
    fn handed(&self) -> Vec<ModuleItem> {
        let index = self.chunk.members.first().map(|&member| self.merge.plan.chunk_of[member]);
        let names = index.and_then(|index| self.merge.plan.handed.get(index));
        let specifiers: Vec<ExportSpecifier> = names
            .into_iter()
            .flatten()
            .filter_map(|((module, local), name)| {
                Some(handed(self.names.get(&Key::Local(*module, local.clone()))?, name))
            })
            .collect();
        if specifiers.is_empty() { Vec::new() } else { vec![export(specifiers, None)] }
    }
}

/// Collects what the top level needs names for, and the names that are not to be had.
struct Seen<'a> {
    writer: &'a Writer<'a>,
    part: &'a Part,
    keys: &'a mut Vec<(Key, Atom)>,
    taken: &'a mut HashSet<Atom>,
}

impl Visit for Seen<'_> {
    fn visit_ident(&mut self, node: &Ident) {
        if node.ctxt != self.part.top {
            self.taken.insert(node.sym.clone());
        } else if let Some(key) = self.writer.resolved(self.part.module, &node.sym) {
            let wanted = match &key {
                Key::Local(_, name) if name == DEFAULT => "value".into(),
                Key::Local(_, name) => name.as_str().into(),
                Key::Import(..) => node.sym.clone(),
            };
            self.keys.push((key, wanted));
        }
    }

    fn visit_member_expr(&mut self, node: &MemberExpr) {
        if let Expr::Ident(space) = &*node.obj
            && space.ctxt == self.part.top
            && let Some(name) = member_name(&node.prop)
            && let Some(key) = self.writer.member(self.part.module, &space.sym, &name)
        {
            let wanted = if name == "default" || Ident::verify_symbol(&name).is_err() {
                "value".into()
            } else {
                name.into()
            };
            self.keys.push((key, wanted));
            return;
        }
        node.visit_children_with(self);
    }
}

/// Brings the names of one module in line with the file.
struct Rename<'a> {
    writer: &'a Writer<'a>,
    module: usize,
    top: SyntaxContext,
    start: BytePos,
    known: HashMap<Atom, Atom>,
}

impl<'a> Rename<'a> {
    fn of(writer: &'a Writer<'a>, part: &Part) -> Self {
        Self { writer, module: part.module, top: part.top, start: part.start, known: HashMap::new() }
    }

    fn new_name(&mut self, name: &Ident) -> Option<Atom> {
        if name.ctxt != self.top {
            return None;
        }
        if let Some(known) = self.known.get(&name.sym) {
            return Some(known.clone());
        }
        let key = self.writer.resolved(self.module, &name.sym)?;
        let new = self.writer.names.get(&key)?.clone();
        self.known.insert(name.sym.clone(), new.clone());
        Some(new)
    }
}

impl Rename<'_> {
    /// The specifier of an `import()` that stands in another file now.
    fn specifier(&self, text: &Str) -> Option<String> {
        let Writer { merge, chunk, .. } = self.writer;
        let module = &merge.graph.modules[self.module];
        let load = module.record.load_at(text.span.lo, self.start)?;
        let written = &module.record.loads[load].specifier;
        let path = match &module.leads[load] {
            Lead::Module(target) => merge.graph.modules[*target].path.clone(),
            Lead::Asset(path) => path.clone(),
            _ if is_relative(written) => resolve(folder(&module.path), written)?,
            _ => return None,
        };
        (chunk.host != Some(self.module)).then(|| specifier(&chunk.path, &path))
    }
}

impl VisitMut for Rename<'_> {
    fn visit_mut_ident(&mut self, node: &mut Ident) {
        if let Some(name) = self.new_name(node) {
            node.sym = name;
        }
    }

    fn visit_mut_expr(&mut self, node: &mut Expr) {
        if let Expr::Member(member) = node
            && let Expr::Ident(space) = &*member.obj
            && space.ctxt == self.top
            && let Some(name) = member_name(&member.prop)
            && let Some(key) = self.writer.member(self.module, &space.sym, &name)
            && let Some(new) = self.writer.names.get(&key)
        {
            *node = Expr::Ident(Ident { span: member.span, ..ident(new) });
            return;
        }
        node.visit_mut_children_with(self);
    }

    fn visit_mut_call_expr(&mut self, node: &mut CallExpr) {
        node.visit_mut_children_with(self);
        let is_import = node.callee.is_import();
        if let Some(argument) = node.args.first_mut().filter(|_| is_import)
            && let Expr::Lit(Lit::Str(text)) = &mut *argument.expr
            && let Some(new) = self.specifier(text)
        {
            (text.value, text.raw) = (new.into(), None);
        }
    }

    fn visit_mut_prop(&mut self, node: &mut Prop) {
        if let Prop::Shorthand(name) = node
            && let Some(new) = self.new_name(name)
            && new != name.sym
        {
            let key = PropName::Ident(IdentName { span: name.span, sym: name.sym.clone() });
            let value = Box::new(Expr::Ident(Ident { sym: new, ..name.clone() }));
            *node = Prop::KeyValue(KeyValueProp { key, value });
            return;
        }
        node.visit_mut_children_with(self);
    }

    fn visit_mut_object_pat_prop(&mut self, node: &mut ObjectPatProp) {
        if let ObjectPatProp::Assign(assign) = node
            && let Some(new) = self.new_name(&assign.key)
            && new != assign.key.sym
        {
            let old = assign.key.id.clone();
            let key = PropName::Ident(IdentName { span: old.span, sym: old.sym.clone() });
            let name = Pat::Ident(Ident { sym: new, ..old }.into());
            let value = match assign.value.take() {
                Some(mut right) => {
                    right.visit_mut_with(self);
                    Pat::Assign(AssignPat { span: assign.span, left: Box::new(name), right })
                }
                None => name,
            };
            *node = ObjectPatProp::KeyValue(KeyValuePatProp { key, value: Box::new(value) });
            return;
        }
        node.visit_mut_children_with(self);
    }
}

/// Whether an item is a default export without a name of its own.
fn is_default(item: &ModuleItem) -> bool {
    match item {
        ModuleItem::ModuleDecl(ModuleDecl::ExportDefaultExpr(_)) => true,
        ModuleItem::ModuleDecl(ModuleDecl::ExportDefaultDecl(export)) => match &export.decl {
            DefaultDecl::Class(class) => class.ident.is_none(),
            DefaultDecl::Fn(function) => function.ident.is_none(),
            DefaultDecl::TsInterfaceDecl(_) => false,
        },
        _ => false,
    }
}

/// Whether a value takes its `name` from what it is assigned to.
fn is_nameless(expr: &Expr) -> bool {
    match unwrapped(expr) {
        Expr::Arrow(_) => true,
        Expr::Fn(function) => function.ident.is_none(),
        Expr::Class(class) => class.ident.is_none(),
        _ => false,
    }
}

/// `{ name: value }.name`, which gives a function without a name this one.
fn named_value(name: &str, value: Box<Expr>) -> Box<Expr> {
    let key = || IdentName { span: DUMMY_SP, sym: name.into() };
    let pair = Prop::KeyValue(KeyValueProp { key: PropName::Ident(key()), value });
    let object = Expr::Object(ObjectLit { span: DUMMY_SP, props: vec![PropOrSpread::Prop(Box::new(pair))] });
    Box::new(Expr::Member(MemberExpr {
        span: DUMMY_SP,
        obj: Box::new(object),
        prop: MemberProp::Ident(key()),
    }))
}

/// A statement that gives a function its `name`.
fn set_name(session: &Session, function: Expr, name: &str) -> Option<ModuleItem> {
    let global =
        |name: &str| Ident::new(name.into(), DUMMY_SP, SyntaxContext::empty().apply_mark(session.unresolved));
    let key = |name: &str| PropName::Ident(IdentName { span: DUMMY_SP, sym: name.into() });
    let pair = |name: &str, value: Expr| {
        PropOrSpread::Prop(Box::new(Prop::KeyValue(KeyValueProp { key: key(name), value: Box::new(value) })))
    };
    let descriptor = ObjectLit {
        span: DUMMY_SP,
        props: vec![pair("value", name.into()), pair("configurable", true.into())],
    };
    let callee = MemberExpr {
        span: DUMMY_SP,
        obj: Box::new(global("Object").into()),
        prop: MemberProp::Ident(IdentName { span: DUMMY_SP, sym: "defineProperty".into() }),
    };
    let call = CallExpr {
        callee: Callee::Expr(Box::new(callee.into())),
        args: vec![function.into(), Expr::from("name").into(), Expr::from(descriptor).into()],
        ..Default::default()
    };
    Some(Stmt::Expr(ExprStmt { span: DUMMY_SP, expr: Box::new(call.into()) }).into())
}

/// Gives a class its `name`, unless it has a static member of that name.
fn name_class(session: &Session, class: &mut Class, name: &str) {
    let is_name =
        |key: &PropName| matches!(key, PropName::Ident(key) if key.sym == "name") || key.is_computed();
    let has_name = class.body.iter().any(|member| match member {
        ClassMember::Method(method) => method.is_static && is_name(&method.key),
        ClassMember::ClassProp(field) => field.is_static && is_name(&field.key),
        _ => false,
    });
    if has_name {
        return;
    }
    let this = Expr::This(ThisExpr { span: DUMMY_SP });
    if let Some(ModuleItem::Stmt(statement)) = set_name(session, this, name) {
        let body = BlockStmt { stmts: vec![statement], ..Default::default() };
        class.body.insert(0, ClassMember::StaticBlock(StaticBlock { span: DUMMY_SP, body }));
    }
}

fn ident(name: &str) -> Ident {
    Ident::new_no_ctxt(name.into(), DUMMY_SP)
}

fn module_name(name: &str) -> ModuleExportName {
    let is_word = name.chars().enumerate().all(|(at, character)| {
        if at == 0 { Ident::is_valid_start(character) } else { Ident::is_valid_continue(character) }
    });
    if is_word && !name.is_empty() {
        ModuleExportName::Ident(ident(name))
    } else {
        ModuleExportName::Str(name.into())
    }
}

fn with(from: &Origin) -> Option<Box<ObjectLit>> {
    let pair = |(key, value): &(String, String)| {
        let pair =
            KeyValueProp { key: PropName::Str(key.as_str().into()), value: Box::new(value.as_str().into()) };
        PropOrSpread::Prop(Box::new(Prop::KeyValue(pair)))
    };
    let props: Vec<PropOrSpread> = from.attributes.iter().map(pair).collect();
    (!props.is_empty()).then(|| Box::new(ObjectLit { span: DUMMY_SP, props }))
}

fn import(from: &Origin, specifiers: Vec<ImportSpecifier>) -> ModuleItem {
    ModuleItem::ModuleDecl(ModuleDecl::Import(ImportDecl {
        span: DUMMY_SP,
        specifiers,
        src: Box::new(from.specifier.as_str().into()),
        type_only: false,
        with: with(from),
        phase: ImportPhase::Evaluation,
    }))
}

fn handed(own: &str, name: &str) -> ExportSpecifier {
    let exported = (own != name).then(|| module_name(name));
    ExportSpecifier::Named(ExportNamedSpecifier {
        span: DUMMY_SP,
        orig: module_name(own),
        exported,
        is_type_only: false,
    })
}

fn export(specifiers: Vec<ExportSpecifier>, from: Option<&Origin>) -> ModuleItem {
    ModuleItem::ModuleDecl(ModuleDecl::ExportNamed(NamedExport {
        span: DUMMY_SP,
        specifiers,
        src: from.map(|from| Box::new(from.specifier.as_str().into())),
        type_only: false,
        with: from.and_then(with),
    }))
}
