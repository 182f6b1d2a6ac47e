//! `compile`: TypeScript and JSX become JavaScript, and what names those files follows.
//!
//! Each file is compiled by itself, as TypeScript's `isolatedModules` has it: an import that no value uses is
//! left out, unless `verbatimModuleSyntax` says that every import stays that is not marked `type`. Types are not
//! checked; declarations are published as they are.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use swc_core::{
    common::{Mark, comments::SingleThreadedComments},
    ecma::{
        ast::{Class, ClassMember, Decorator, Pass, Program},
        transforms::{
            base::{helpers::inject_helpers, hygiene::hygiene},
            compat,
            module::{common_js, path::Resolver, util},
            proposal::decorators,
            react::{self, Runtime},
            typescript::{self, ImportsNotUsedAsValues, TsImportExportAssignConfig},
        },
        visit::{Visit, VisitMut, VisitMutWith, VisitWith},
    },
};

use super::{Context, SWC, Step, minify};
use crate::{
    EcmaVersion, HardenError, SourceFile, entry_points,
    format::{PackageTypes, code},
    js::{
        Goal, Language, Session, comments, passes,
        print::{Around, OriginalNames, Printed, print},
        session, specifiers,
        types::{Exports, Types},
    },
    tree::{Rewritten, Tree},
    tsconfig::{self, CompilerOptions},
};

pub(super) const STEP: Step = Step { name: "compile", tool: SWC, wanted: |_, _| true, config, run };

/// Returns what TypeScript compiles to. A package without any has no use for its `tsconfig.json`, which often
/// extends one that only its authors have installed.
fn options(context: &Context<'_>) -> Result<(CompilerOptions, EcmaVersion), HardenError> {
    let compiled = |file: &SourceFile| code(&file.path).is_some_and(|code| code.renamed.is_some());
    let tsconfig = context.request.tsconfig.filter(|_| context.request.files.iter().any(compiled));
    let options = tsconfig.map(tsconfig::read).transpose()?.unwrap_or_default();
    let target = options.target(context.request.options.target)?;
    Ok((options, target))
}

fn config(context: &Context<'_>) -> Result<Value, HardenError> {
    let (options, target) = options(context)?;
    Ok(json!({ "compiler_options": options, "target": format!("{target:?}") }))
}

fn run(context: &mut Context<'_>, tree: &mut Tree) -> Result<u64, HardenError> {
    let renamed = renamed(tree)?;
    if renamed.is_empty() {
        return Ok(0);
    }
    let (options, target) = options(context)?;
    let types = tree.package_types()?;
    let scripts = minify::scripts(tree)?;
    let paths = tree.largest_first(|path| code(path).is_some() || scripts.contains(path));
    let exports = exports(context, tree, &types, &renamed)?;
    let compiler =
        Compiler { options: &options, target, types: &types, renamed: &renamed, exports: &exports };
    let mut changed = tree.rewrite(context.workers, &paths, |tree, path| {
        let text = tree.read_text(path)?;
        let language = code(path).map_or(Language::JavaScript, |code| code.language);
        let Some(published) = renamed.get(path) else {
            return compiler.follow(path, &text);
        };
        let Printed { code, map } = compiler.compile(path, &text, language, types.goal(published))?;
        Ok(Some(Rewritten { path: published.clone(), code, map: Some(map) }))
    })?;
    for path in tree.paths().map(str::to_owned).collect::<Vec<_>>() {
        let Some(folder) =
            path.strip_suffix("package.json").filter(|folder| folder.is_empty() || folder.ends_with('/'))
        else {
            continue;
        };
        if let Ok(text) = tree.read_text(&path)
            && let Some(updated) = entry_points::update(folder, &text, &renamed)
        {
            let mode = tree.mode(&path);
            tree.write(&path, updated.as_bytes(), mode)?;
            changed += 1;
        }
    }
    Ok(changed)
}

/// Returns the published path of each file that gets another name.
fn renamed(tree: &Tree) -> Result<BTreeMap<String, String>, HardenError> {
    let mut renamed = BTreeMap::new();
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    for path in tree.paths() {
        let Some((old, new)) = code(path).and_then(|code| code.renamed) else { continue };
        let published = format!("{}{new}", path.strip_suffix(old).unwrap_or(path));
        let other =
            taken.get(&published).cloned().or_else(|| tree.contains(&published).then(|| published.clone()));
        if let Some(first) = other {
            return Err(HardenError::Collision { first, second: path.to_owned(), published });
        }
        taken.insert(published.clone(), path.to_owned());
        renamed.insert(path.to_owned(), published);
    }
    Ok(renamed)
}

/// Reads what each TypeScript file exports.
fn exports(
    context: &Context<'_>,
    tree: &Tree,
    types: &PackageTypes,
    renamed: &BTreeMap<String, String>,
) -> Result<Types, HardenError> {
    let files: Vec<(&String, &String, Language)> = renamed
        .iter()
        .filter_map(|(path, published)| Some((path, published, code(path)?.language)))
        .filter(|(.., language)| matches!(language, Language::TypeScript | Language::Tsx))
        .collect();
    let read = context.workers.each(&files, |(path, published, language)| {
        let text = tree.read_text(path)?;
        session(STEP.name, path, &text, |session| {
            session.parse(*language, types.goal(published)).map(|program| Exports::of(&program))
        })
    })?;
    let mut exports = Types::default();
    for ((path, ..), found) in files.into_iter().zip(read) {
        exports.insert(path.clone(), found);
    }
    Ok(exports)
}

/// Drops class fields without a value, which TypeScript only declares where fields are not defined but assigned.
struct DropUnset;

impl VisitMut for DropUnset {
    fn visit_mut_class(&mut self, node: &mut Class) {
        node.body.retain(|member| match member {
            ClassMember::ClassProp(field) => {
                field.value.is_some() || field.key.is_computed() || !field.decorators.is_empty()
            }
            _ => true,
        });
        node.visit_mut_children_with(self);
    }
}

struct Compiler<'a> {
    options: &'a CompilerOptions,
    target: EcmaVersion,
    types: &'a PackageTypes,
    renamed: &'a BTreeMap<String, String>,
    /// What the TypeScript files export.
    exports: &'a Types,
}

impl Compiler<'_> {
    /// Rewrites JavaScript that names a file that got another name.
    fn follow(&self, path: &str, text: &str) -> Result<Option<Rewritten>, HardenError> {
        if !specifiers::possible(text) {
            return Ok(None);
        }
        session(STEP.name, path, text, |session| {
            let mut program = session.parse(Language::JavaScript, self.types.goal(path))?;
            let names = OriginalNames::of(&program);
            passes::resolve(session, &mut program, false);
            if !specifiers::update(&mut program, path, self.renamed, session.unresolved) {
                return Ok(None);
            }
            let Printed { code, map } = print(session, program, &names, false, &Around::default())?;
            Ok(Some(Rewritten { path: path.to_owned(), code, map: Some(map) }))
        })
    }

    fn compile(
        &self,
        path: &str,
        text: &str,
        language: Language,
        goal: Goal,
    ) -> Result<Printed, HardenError> {
        session(STEP.name, path, text, |session| {
            let mut program = session.parse(language, goal)?;
            let names = OriginalNames::of(&program);
            let header =
                comments::legal(&session.comments).into_iter().map(|comment| comment + "\n").collect();
            self.check_decorators(session, &program)?;
            let typescript = matches!(language, Language::TypeScript | Language::Tsx);
            if typescript && !self.keeps_imports() {
                self.exports.mark(path, &mut program);
            }
            let to_common_js = typescript && self.makes_common_js(goal) && program.is_module();
            passes::resolve(session, &mut program, typescript);
            specifiers::update(&mut program, path, self.renamed, session.unresolved);
            if self.options.experimental_decorators == Some(true) {
                program.mutate(decorators::decorators(decorators::Config {
                    legacy: true,
                    emit_metadata: self.options.emit_decorator_metadata == Some(true),
                    use_define_for_class_fields: self.options.defines_fields(self.target),
                }));
            }
            if typescript {
                if !self.options.defines_fields(self.target) {
                    program.visit_mut_with(&mut DropUnset);
                }
                self.strip_types(session, &mut program, language == Language::Tsx, to_common_js);
            }
            if matches!(language, Language::Tsx | Language::Jsx) {
                program.mutate(self.jsx(session));
            }
            if typescript {
                self.lower(session, &mut program);
            }
            if to_common_js {
                self.to_common_js(session, &mut program);
            }
            program.mutate(inject_helpers(session.unresolved));
            program.mutate(hygiene());
            passes::parenthesize(session, &mut program);
            comments::keep_magic(&session.comments);
            print(session, program, &names, false, &Around { header, footer: String::new() })
        })
    }

    /// Whether every import stays that is not marked `type`.
    fn keeps_imports(&self) -> bool {
        self.options.verbatim_module_syntax == Some(true) || self.options.preserve_value_imports == Some(true)
    }

    /// Refuses decorators that the project did not say how to compile.
    fn check_decorators(&self, session: &Session, program: &Program) -> Result<(), HardenError> {
        struct First(Option<swc_core::common::BytePos>);
        impl Visit for First {
            fn visit_decorator(&mut self, node: &Decorator) {
                self.0.get_or_insert(node.span.lo);
            }
        }
        if self.options.experimental_decorators == Some(true) {
            return Ok(());
        }
        let mut first = First(None);
        program.visit_with(&mut first);
        match first.0 {
            None => Ok(()),
            Some(at) => Err(HardenError::Unsupported(
                session.frame(at, "decorators are compiled only with `experimentalDecorators`"),
                "set `experimentalDecorators` in tsconfig.json, or run the project's own build first",
            )),
        }
    }

    /// Whether `import` and `export` become `require` and `exports`: as `module` says, else as Node reads the file.
    fn makes_common_js(&self, goal: Goal) -> bool {
        let by_node = matches!(goal, Goal::CommonJs | Goal::CommonJsOrModule);
        match (goal, self.options.module.as_deref().map(str::to_ascii_lowercase).as_deref()) {
            (Goal::CommonJs, _) => true,
            (Goal::Module, _) => false,
            (_, Some("commonjs")) => true,
            (_, Some(module)) if module.starts_with("es") || module == "preserve" => false,
            _ => by_node,
        }
    }

    fn strip_types(&self, session: &Session, program: &mut Program, tsx: bool, to_common_js: bool) {
        let options = self.options;
        let keeps_unused =
            matches!(options.imports_not_used_as_values.as_deref(), Some("preserve" | "error"));
        let config = typescript::Config {
            verbatim_module_syntax: self.keeps_imports(),
            native_class_properties: options.defines_fields(self.target),
            import_not_used_as_values: if keeps_unused {
                ImportsNotUsedAsValues::Preserve
            } else {
                ImportsNotUsedAsValues::Remove
            },
            import_export_assign_config: if to_common_js || program.is_script() {
                TsImportExportAssignConfig::Preserve
            } else {
                TsImportExportAssignConfig::NodeNext
            },
            ..typescript::Config::default()
        };
        let (unresolved, top_level) = (session.unresolved, session.top_level);
        if tsx && self.runtime() == Runtime::Classic {
            let names = typescript::TsxConfig {
                pragma: options.jsx_factory.clone().map(Into::into),
                pragma_frag: options.jsx_fragment_factory.clone().map(Into::into),
            };
            let comments = &session.comments;
            program.mutate(typescript::tsx(
                session.map.clone(),
                config,
                names,
                comments,
                unresolved,
                top_level,
            ));
        } else {
            program.mutate(typescript::typescript(config, unresolved, top_level));
        }
    }

    fn runtime(&self) -> Runtime {
        if self.options.jsx.as_deref().is_some_and(|jsx| jsx.eq_ignore_ascii_case("react")) {
            Runtime::Classic
        } else {
            Runtime::Automatic
        }
    }

    fn jsx<'s>(&self, session: &'s Session) -> impl Pass + use<'s> {
        let options = react::Options {
            runtime: Some(self.runtime()),
            development: Some(self.options.jsx.as_deref() == Some("react-jsxdev")),
            import_source: self.options.jsx_import_source.as_deref().map(Into::into),
            pragma: self.options.jsx_factory.clone().map(Into::into),
            pragma_frag: self.options.jsx_fragment_factory.clone().map(Into::into),
            ..react::Options::default()
        };
        let comments: Option<&'s SingleThreadedComments> = Some(&session.comments);
        react::react(session.map.clone(), comments, options, session.top_level, session.unresolved)
    }

    /// Rewrites syntax that is newer than the target.
    fn lower(&self, session: &Session, program: &mut Program) {
        let unresolved: Mark = session.unresolved;
        let defines = self.options.defines_fields(self.target);
        if self.target < EcmaVersion::Es2022 {
            let class_properties = compat::es2022::class_properties::Config {
                set_public_fields: !defines,
                ..Default::default()
            };
            program.mutate(compat::es2022::es2022(compat::es2022::Config { class_properties }, unresolved));
        } else if !defines {
            program.mutate(compat::class_fields_use_set::class_fields_use_set(false));
        }
        if self.target < EcmaVersion::Es2021 {
            program.mutate(compat::es2021());
        }
        if self.target < EcmaVersion::Es2020 {
            program.mutate(compat::es2020(Default::default(), unresolved));
        }
        if self.target < EcmaVersion::Es2019 {
            program.mutate(compat::es2019());
        }
        if self.target < EcmaVersion::Es2018 {
            program.mutate(compat::es2018(Default::default()));
        }
        if self.target < EcmaVersion::Es2017 {
            program.mutate(compat::es2017(Default::default(), unresolved));
        }
        if self.target < EcmaVersion::Es2016 {
            program.mutate(compat::es2016());
        }
    }

    fn to_common_js(&self, session: &Session, program: &mut Program) {
        let module = self.options.module.as_deref().unwrap_or_default().to_ascii_lowercase();
        let interop = self.options.es_module_interop != Some(false);
        let config = util::Config {
            import_interop: Some(if interop { util::ImportInterop::Swc } else { util::ImportInterop::None }),
            export_interop_annotation: Some(true),
            // Node's own `import()` loads modules too; classic CommonJS output has only `require`.
            ignore_dynamic: module.starts_with("node"),
            ..util::Config::default()
        };
        let features = common_js::FeatureFlag { support_block_scoping: true, support_arrow: true };
        program.mutate(common_js(Resolver::Default, session.unresolved, config, features));
    }
}
