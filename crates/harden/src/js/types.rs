//! Which exports of TypeScript files are types only.
//!
//! `export { Shape } from "./shape.ts"` compiles to nothing where `Shape` is a type, and to an export where it is
//! a value. A file alone does not say which; the files of the package together do.

use std::collections::{BTreeMap, BTreeSet};

use swc_core::ecma::ast::*;

use crate::entry_points::resolve;

/// What each TypeScript file of the package exports.
#[derive(Debug, Default)]
pub(crate) struct Types(BTreeMap<String, Exports>);

/// What one file exports.
#[derive(Debug, Default)]
pub(crate) struct Exports {
    types: BTreeSet<String>,
    values: BTreeSet<String>,
    /// By exported name: the specifier and the name there.
    from: BTreeMap<String, (String, String)>,
    /// Specifiers of `export *`.
    stars: Vec<String>,
}

/// How many files a name may be handed through: a circle ends here.
const MAX_HANDS: usize = 64;

impl Types {
    pub(crate) fn insert(&mut self, path: String, exports: Exports) {
        self.0.insert(path, exports);
    }

    /// Marks the imports and exports of the program at `path` that stand for types of other files.
    pub(crate) fn mark(&self, path: &str, program: &mut Program) {
        let Program::Module(module) = program else { return };
        for item in &mut module.body {
            match item {
                ModuleItem::ModuleDecl(ModuleDecl::Import(import)) if !import.type_only => {
                    let Some(source) = self.find(path, &import.src) else { continue };
                    let alone = import.specifiers.len() == 1;
                    for specifier in &mut import.specifiers {
                        match specifier {
                            ImportSpecifier::Named(named) => {
                                let name =
                                    named.imported.as_ref().map_or(named.local.sym.to_string(), exported);
                                named.is_type_only |= self.is_type(&source, &name, MAX_HANDS);
                            }
                            ImportSpecifier::Default(_) if alone => {
                                import.type_only = self.is_type(&source, "default", MAX_HANDS);
                            }
                            _ => {}
                        }
                    }
                }
                ModuleItem::ModuleDecl(ModuleDecl::ExportNamed(export)) if !export.type_only => {
                    let Some(source) = export.src.as_ref().and_then(|source| self.find(path, source)) else {
                        continue;
                    };
                    for specifier in &mut export.specifiers {
                        if let ExportSpecifier::Named(named) = specifier {
                            named.is_type_only |= self.is_type(&source, &exported(&named.orig), MAX_HANDS);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn is_type(&self, path: &str, name: &str, left: usize) -> bool {
        let Some(file) = self.0.get(path).filter(|_| left > 0) else { return false };
        if file.values.contains(name) {
            return false;
        }
        if file.types.contains(name) {
            return true;
        }
        if let Some((source, name)) = file.from.get(name) {
            return self.path(path, source).is_some_and(|source| self.is_type(&source, name, left - 1));
        }
        name != "default"
            && file
                .stars
                .iter()
                .any(|star| self.path(path, star).is_some_and(|source| self.is_type(&source, name, left - 1)))
    }

    fn find(&self, from: &str, source: &Str) -> Option<String> {
        self.path(from, source.value.as_str()?)
    }

    /// Returns the TypeScript file that a relative specifier leads to.
    fn path(&self, from: &str, specifier: &str) -> Option<String> {
        if !specifier.starts_with('.') {
            return None;
        }
        let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
        let place = resolve(folder, specifier)?;
        let mut candidates = vec![place.clone()];
        for (written, sources) in
            [(".js", [".ts", ".tsx"]), (".mjs", [".mts", ".mts"]), (".cjs", [".cts", ".cts"])]
        {
            if let Some(stem) = place.strip_suffix(written) {
                candidates.extend(sources.map(|ending| format!("{stem}{ending}")));
            }
        }
        candidates
            .extend([".ts", ".tsx", "/index.ts", "/index.tsx"].map(|ending| format!("{place}{ending}")));
        candidates.into_iter().find(|path| self.0.contains_key(path.trim_start_matches('/')))
    }
}

impl Exports {
    /// Reads what `program` exports.
    pub(crate) fn of(program: &Program) -> Self {
        let mut found = Self::default();
        let Program::Module(module) = program else { return found };
        let (mut types, mut values) = (BTreeSet::new(), BTreeSet::new());
        let mut imported: BTreeMap<String, Option<(String, String)>> = BTreeMap::new();
        for item in &module.body {
            match item {
                ModuleItem::Stmt(Stmt::Decl(declaration)) => declared(declaration, &mut types, &mut values),
                ModuleItem::ModuleDecl(ModuleDecl::Import(import)) => imports(import, &mut imported),
                _ => {}
            }
        }
        for item in &module.body {
            let ModuleItem::ModuleDecl(declaration) = item else { continue };
            match declaration {
                ModuleDecl::ExportDecl(export) => declared(&export.decl, &mut found.types, &mut found.values),
                ModuleDecl::ExportDefaultDecl(export) => {
                    let is_type = export.decl.is_ts_interface_decl();
                    let names = if is_type { &mut found.types } else { &mut found.values };
                    names.insert("default".to_owned());
                }
                ModuleDecl::ExportDefaultExpr(export) => match &*export.expr {
                    Expr::Ident(name)
                        if types.contains(name.sym.as_str()) && !values.contains(name.sym.as_str()) =>
                    {
                        found.types.insert("default".to_owned());
                    }
                    _ => drop(found.values.insert("default".to_owned())),
                },
                ModuleDecl::ExportAll(export) if !export.type_only => {
                    found.stars.extend(export.src.value.as_str().map(str::to_owned));
                }
                ModuleDecl::ExportNamed(export) => found.named(export, &types, &values, &imported),
                _ => {}
            }
        }
        found
    }

    fn named(
        &mut self,
        export: &NamedExport,
        types: &BTreeSet<String>,
        values: &BTreeSet<String>,
        imported: &BTreeMap<String, Option<(String, String)>>,
    ) {
        for specifier in &export.specifiers {
            let ExportSpecifier::Named(named) = specifier else {
                if let ExportSpecifier::Namespace(all) = specifier {
                    self.values.insert(exported(&all.name));
                }
                continue;
            };
            let local = exported(&named.orig);
            let name = named.exported.as_ref().map_or_else(|| local.clone(), exported);
            if export.type_only || named.is_type_only {
                self.types.insert(name);
            } else if let Some(source) = &export.src {
                self.from.extend(source.value.as_str().map(|source| (name, (source.to_owned(), local))));
            } else if values.contains(&local) {
                self.values.insert(name);
            } else {
                match imported.get(&local) {
                    Some(Some(source)) => drop(self.from.insert(name, source.clone())),
                    Some(None) => drop(self.types.insert(name)),
                    None if types.contains(&local) => drop(self.types.insert(name)),
                    None => drop(self.values.insert(name)),
                }
            }
        }
    }
}

/// Notes where each imported name comes from; nothing for those that are marked as types.
fn imports(import: &ImportDecl, imported: &mut BTreeMap<String, Option<(String, String)>>) {
    let Some(source) = import.src.value.as_str() else { return };
    for specifier in &import.specifiers {
        let (local, name, is_type) = match specifier {
            ImportSpecifier::Named(named) => {
                let name = named.imported.as_ref().map_or(named.local.sym.to_string(), exported);
                (&named.local, name, named.is_type_only)
            }
            ImportSpecifier::Default(default) => (&default.local, "default".to_owned(), false),
            ImportSpecifier::Namespace(_) => continue,
        };
        let from = (!import.type_only && !is_type).then(|| (source.to_owned(), name));
        imported.insert(local.sym.to_string(), from);
    }
}

fn declared(declaration: &Decl, types: &mut BTreeSet<String>, values: &mut BTreeSet<String>) {
    let mut declare = |names: Vec<String>, is_type: bool| {
        if is_type { types.extend(names) } else { values.extend(names) }
    };
    match declaration {
        Decl::TsInterface(interface) => declare(vec![interface.id.sym.to_string()], true),
        Decl::TsTypeAlias(alias) => declare(vec![alias.id.sym.to_string()], true),
        Decl::TsEnum(node) => declare(vec![node.id.sym.to_string()], node.declare),
        Decl::Class(class) => declare(vec![class.ident.sym.to_string()], class.declare),
        Decl::Fn(function) => {
            // An overload has no body and stands beside the function itself.
            let name = function.ident.sym.to_string();
            if function.declare || function.function.body.is_some() {
                declare(vec![name], function.declare);
            }
        }
        Decl::Var(variables) => {
            let ids: Vec<Id> = swc_core::ecma::utils::find_pat_ids(&variables.decls);
            declare(ids.into_iter().map(|(name, _)| name.to_string()).collect(), variables.declare);
        }
        Decl::Using(using) => {
            let ids: Vec<Id> = swc_core::ecma::utils::find_pat_ids(&using.decls);
            declare(ids.into_iter().map(|(name, _)| name.to_string()).collect(), false);
        }
        Decl::TsModule(module) => {
            if let TsModuleName::Ident(name) = &module.id {
                declare(vec![name.sym.to_string()], module.declare || !has_values(module.body.as_ref()));
            }
        }
    }
}

/// Whether a namespace exists at run time.
fn has_values(body: Option<&TsNamespaceBody>) -> bool {
    match body {
        None => false,
        Some(TsNamespaceBody::TsNamespaceDecl(inner)) => has_values(Some(&inner.body)),
        Some(TsNamespaceBody::TsModuleBlock(block)) => block.body.iter().any(|item| {
            let declaration = match item {
                ModuleItem::Stmt(Stmt::Decl(declaration)) => declaration,
                ModuleItem::ModuleDecl(ModuleDecl::ExportDecl(export)) => &export.decl,
                _ => return true,
            };
            let (mut types, mut values) = (BTreeSet::new(), BTreeSet::new());
            declared(declaration, &mut types, &mut values);
            !values.is_empty()
        }),
    }
}

fn exported(name: &ModuleExportName) -> String {
    match name {
        ModuleExportName::Ident(name) => name.sym.to_string(),
        ModuleExportName::Str(name) => name.value.to_string_lossy().into_owned(),
    }
}
