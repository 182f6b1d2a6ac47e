//! `minify`: shortens names and takes out what only people read, file by file.
//!
//! swc's own minifier is not used. Its compressor changes what programs do even
//! with every option off: it drops reads that throw (a name before its declaration, an assignment to a constant),
//! folds calls of methods that the program replaced, and moves functions out of their blocks. The cases in
//! `tests/cases` show each.
//!
//! A file in which a name can be seen from the outside keeps its names and is listed as unprotected.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use swc_core::ecma::ast::Program;

use super::{Context, SWC, Step};
use crate::{
    HardenError, LegalComments,
    format::{PackageTypes, code, is_declaration, is_node_script},
    js::{
        Goal, Language, Session, comments,
        exports::Exports,
        hazards::{self, Hazards},
        passes,
        print::{Around, OriginalNames, Printed, print},
        rename::{self, Kept},
        session, tidy,
    },
    tree::{Rewritten, Tree},
};

pub(super) const STEP: Step =
    Step { name: "minify", tool: SWC, wanted: |options, _| options.minify, config, run };

fn config(context: &Context<'_>) -> Result<Value, HardenError> {
    let options = context.request.options;
    Ok(json!({
        "keep_names": options.keep_names,
        "legal_comments": options.legal_comments.name(),
        // The compiler parses and prints; which names and which syntax get shorter is decided here.
        "rules": env!("CARGO_PKG_VERSION"),
    }))
}

/// What one file's minification found out beside its text.
#[derive(Default)]
struct Notes {
    legal: Vec<String>,
    unprotected: Option<String>,
}

fn run(context: &mut Context<'_>, tree: &mut Tree) -> Result<u64, HardenError> {
    let types = tree.package_types()?;
    let scripts = scripts(tree)?;
    let paths = tree.largest_first(|path| is_javascript(path) || scripts.contains(path));
    let keep_classes = context.request.options.keep_names || reads_class_names(context, tree, &paths)?;
    let notes = std::sync::Mutex::new(Vec::new());
    let changed = tree.rewrite(context.workers, &paths, |tree, path| {
        let text = tree.read_text(path)?;
        let (rewritten, found) = minify(context, &types, path, text, keep_classes)?;
        // A worker that panicked ended the build already.
        let mut notes = notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        notes.push((path.to_owned(), found));
        Ok(Some(rewritten))
    })?;
    for (path, found) in notes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        if !found.legal.is_empty() {
            tree.legal.insert(path.clone(), found.legal);
        }
        if let Some(reason) = found.unprotected {
            tree.unprotected.insert(path, reason);
        }
    }
    Ok(changed)
}

pub(super) fn is_javascript(path: &str) -> bool {
    !is_declaration(path) && code(path).is_some_and(|code| code.language == Language::JavaScript)
}

/// Returns the programs for Node whose names do not say so.
pub(super) fn scripts(tree: &Tree) -> Result<BTreeSet<String>, HardenError> {
    let mut found = BTreeSet::new();
    for path in tree.paths().filter(|path| !path.rsplit('/').next().unwrap_or(path).contains('.')) {
        if is_node_script(path, &tree.read(path)?) {
            found.insert(path.to_owned());
        }
    }
    Ok(found)
}

/// Returns whether any file asks an object for the name of its class.
///
/// A base class often does (`this.constructor.name`) for classes of other files, so one such file keeps the
/// names of every class in the package.
pub(super) fn reads_class_names(
    context: &Context<'_>,
    tree: &Tree,
    paths: &[String],
) -> Result<bool, HardenError> {
    const READS: &[&str] =
        &["constructor.name", "constructor?.name", "new.target.name", "constructor[\"name\"]"];
    let found = context.workers.each(paths, |path| {
        let text = tree.read_text(path)?;
        Ok(READS.iter().any(|read| text.contains(read)))
    })?;
    Ok(found.contains(&true))
}

fn minify(
    context: &Context<'_>,
    types: &PackageTypes,
    path: &str,
    text: String,
    keep_classes: bool,
) -> Result<(Rewritten, Notes), HardenError> {
    let options = context.request.options;
    session(STEP.name, path, text, |session| {
        let goal = types.goal(path);
        let mut program = session.parse(Language::JavaScript, goal)?;
        if let Some(at) = hazards::own_source(session, &program) {
            let line = session.frame(at, "").line;
            let reason = format!("it stays as it is: {} (line {line})", hazards::FUNCTION_TEXT);
            let code = comments::without_maps(session);
            let rewritten = Rewritten { path: path.to_owned(), code, map: None };
            return Ok((rewritten, Notes { unprotected: Some(reason), ..Notes::default() }));
        }
        let names = OriginalNames::of(&program);
        let exports = program.is_script().then(|| Exports::of(&program));
        let legal = comments::legal(&session.comments);
        comments::keep_magic(&session.comments);
        comments::drop_pure_in_functions(&program, &session.comments);
        let mut around = Around::default();
        let mut notes = Notes::default();
        match options.legal_comments {
            LegalComments::Keep => {
                around.header = legal.iter().map(|comment| format!("{comment}\n")).collect()
            }
            LegalComments::File => notes.legal = legal,
            LegalComments::Remove => {}
        }

        passes::resolve(session, &mut program, false);
        let hazards = hazards::find(&program, session.unresolved);
        if let Some((at, reason)) = hazards.fixed_names {
            let line = session.frame(at, "").line;
            notes.unprotected = Some(format!("names and structure are kept: {reason} (line {line})"));
        } else {
            let private = is_private(&program, goal, &hazards, types.says_common_js(path));
            shorten(session, &mut program, options.keep_names, keep_classes, private, hazards);
        }
        if let Some(exports) = exports {
            around.footer = exports.annotation(&Exports::certain(&program));
        }
        let Printed { code, map } = print(session, program, &names, true, &around)?;
        Ok((Rewritten { path: path.to_owned(), code, map: Some(map) }, notes))
    })
}

/// Returns whether nobody else sees the names that the file's top level declares.
///
/// A file that could be loaded by `<script>` declares globals there, which other scripts use by name. `said`: whether the
/// author says that it is CommonJS; then asking whether there is a `module` makes no script of it.
pub(super) fn is_private(program: &Program, goal: Goal, hazards: &Hazards, said: bool) -> bool {
    match program {
        Program::Module(_) => goal == Goal::Module || hazards.module_syntax,
        Program::Script(_) => goal == Goal::CommonJs || hazards.common_js || said && hazards.only_common_js,
    }
}

fn shorten(
    session: &Session,
    program: &mut Program,
    keep_names: bool,
    keep_classes: bool,
    private: bool,
    hazards: Hazards,
) {
    tidy::drop_wrapped_strings(program);
    passes::unparenthesize(session, program);
    let names = names_kept(keep_names, keep_classes, hazards);
    tidy::tidy(program, session.unresolved, session.top_level, private, &names);
    rename::shorten(
        session,
        program,
        &Kept { top_level: !private, private_names: keep_names, names, ..Kept::default() },
    );
    passes::parenthesize(session, program);
}

/// Returns the names of functions and classes that somebody reads.
pub(super) fn names_kept(keep_names: bool, keep_classes: bool, hazards: Hazards) -> BTreeSet<String> {
    if keep_names || hazards.reads_function_names {
        hazards.named.into_iter().chain(hazards.naming).collect()
    } else if keep_classes {
        hazards.classes
    } else {
        BTreeSet::new()
    }
}
