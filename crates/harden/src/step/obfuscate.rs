//! `obfuscate`: hides strings, property names and the shape of functions, file by file.
//!
//! What is done to a program stands in `obfuscate/`. A file in which a name can be seen from the outside keeps
//! its names and structure and is listed as unprotected, as in `minify`.

use serde_json::{Value, json};

use super::{Context, OURS, Step, minify};
use crate::{
    HardenError, Options, Profile,
    format::PackageTypes,
    js::{
        Goal, Language, comments,
        exports::Exports,
        hazards, passes,
        print::{Around, OriginalNames, Printed, print},
        rename::{self, Generator, Kept},
        session,
    },
    obfuscate::{Constants, Defence, Functions, Heat, Names, Patterns, Work, obfuscate},
    source_map::SourceMap,
    tree::{Rewritten, Tree},
};

pub(super) const STEP: Step = Step { name: "obfuscate", tool: OURS, wanted, config, run };

fn wanted(options: &Options, tree: &Tree) -> bool {
    tree.has_directives || options.obfuscation.is_wanted()
}

fn config(context: &Context<'_>) -> Result<Value, HardenError> {
    let obfuscation = &context.request.options.obfuscation;
    let files: Vec<_> =
        obfuscation.files.iter().map(|(pattern, profile)| json!([pattern, profile.name()])).collect();
    Ok(json!({
        "keep_names": context.request.options.keep_names,
        "profile": obfuscation.profile.name(),
        "files": files,
        "reserved_names": obfuscation.reserved_names,
        "hot": obfuscation.hot.iter().map(|place| json!([place.path, place.line, place.column])).collect::<Vec<_>>(),
        "self_defence": obfuscation.self_defence,
        "rules": env!("CARGO_PKG_VERSION"),
    }))
}

fn run(context: &mut Context<'_>, tree: &mut Tree) -> Result<u64, HardenError> {
    let types = tree.package_types()?;
    let scripts = minify::scripts(tree)?;
    let paths = tree.largest_first(|path| minify::is_javascript(path) || scripts.contains(path));
    let keep_classes =
        context.request.options.keep_names || minify::reads_class_names(context, tree, &paths)?;
    let patterns = Patterns::new(&context.request.options.obfuscation.files).map_err(HardenError::Pattern)?;
    let skipped = std::sync::Mutex::new(Vec::new());
    let changed = tree.rewrite(context.workers, &paths, |tree, path| {
        let text = tree.read_text(path)?;
        let map = tree.map(path)?;
        let note = |reason: String| {
            let mut notes = skipped.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            notes.push((path.to_owned(), reason));
        };
        match file(context, &types, &patterns, path, &text, map, keep_classes)? {
            Done::Nothing => Ok(None),
            Done::Left(reason) => {
                note(reason);
                Ok(None)
            }
            Done::Printed(printed, missing) => {
                missing.into_iter().for_each(note);
                let Printed { code, map } = printed;
                Ok(Some(Rewritten { path: path.to_owned(), code, map: Some(map) }))
            }
        }
    })?;
    for (path, reason) in skipped.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        tree.unprotected.entry(path).or_insert(reason);
    }
    Ok(changed)
}

/// Obfuscates one file, or says why it stays as it is.
fn file(
    context: &Context<'_>,
    types: &PackageTypes,
    patterns: &Patterns,
    path: &str,
    text: &str,
    map: Option<SourceMap>,
    keep_classes: bool,
) -> Result<Done, HardenError> {
    let options = context.request.options;
    session(STEP.name, path, text, |session| {
        let goal = types.goal(path);
        let mut program = session.parse(Language::JavaScript, goal)?;
        let obfuscation = &options.obfuscation;
        let profile = patterns.profile(path).unwrap_or(obfuscation.profile);
        let functions = Functions::find(&program, session, map.as_ref(), obfuscation, patterns)?;
        drop(map);
        if profile == Profile::Light && !functions.exceed(profile) {
            return Ok(Done::Nothing);
        }
        if let Some(at) = hazards::own_source(session, &program) {
            let line = session.frame(at, "").line;
            return Ok(Done::Left(format!("it stays as it is: {} (line {line})", hazards::FUNCTION_TEXT)));
        }
        let names = OriginalNames::of(&program);
        let exports = program.is_script().then(|| Exports::of(&program));
        comments::keep_magic(&session.comments);
        passes::resolve(session, &mut program, false);
        let hazards = hazards::find(&program, session.unresolved);
        if let Some((at, reason)) = hazards.fixed_names {
            let line = session.frame(at, "").line;
            return Ok(Done::Left(format!("names and structure are kept: {reason} (line {line})")));
        }
        let private = minify::is_private(&program, goal, &hazards, types.says_common_js(path));
        passes::unparenthesize(session, &mut program);
        let random = context.seed.random(path);
        let constants = match &obfuscation.mark {
            Some(mark) => mark.numbers_of(path),
            None => Constants::new(random.fork("constants")),
        };
        let mut work = Work {
            session,
            package: context.package.as_str(),
            profile,
            random,
            constants,
            defends: obfuscation.self_defence,
            defence: None,
            functions,
            heat: Heat::default(),
            names: Names::default(),
        };
        obfuscate(&mut program, &mut work, private, &obfuscation.reserved_names)?;
        let mut names_kept = minify::names_kept(options.keep_names, keep_classes, hazards);
        names_kept.extend(work.names.kept);
        let generator = Generator::any(&mut work.random.fork("names"));
        let private_names = options.keep_names;
        let kept = Kept { top_level: !private, private_names, names: names_kept, generator };
        rename::shorten(session, &mut program, &kept);
        passes::parenthesize(session, &mut program);
        let mut around = Around::default();
        if let Some(exports) = exports {
            around.footer = exports.annotation(&Exports::certain(&program));
        }
        let mut printed = print(session, program, &names, true, &around)?;
        let undefended = obfuscation.self_defence && work.defence.is_none();
        if let Some(defence) = work.defence {
            complete(&defence, path, goal, &mut printed.code)?;
        }
        let note =
            undefended.then(|| "it does not check itself: no function of its own top level could".to_owned());
        Ok(Done::Printed(printed, note))
    })
}

/// Puts into the printed program what only its print decides.
fn complete(defence: &Defence, path: &str, goal: Goal, code: &mut String) -> Result<(), HardenError> {
    let text = code.clone();
    session(STEP.name, path, &text, |session| {
        let program = session.parse(Language::JavaScript, goal)?;
        let failed = |reason: &str| HardenError::Compiler {
            step: "self-defence",
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        defence.complete(code, &program, session.file.start_pos).map_err(failed)
    })
}

/// What became of a file.
enum Done {
    /// Nothing was asked for.
    Nothing,
    /// It stays as it is, for this reason.
    Left(String),
    /// Its new text, and what is missing from it.
    Printed(Printed, Option<String>),
}
