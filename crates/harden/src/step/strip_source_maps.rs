//! `strip-source-maps`: leaves out what leads back to the source: maps, references to them, comments.

use std::{collections::BTreeMap, sync::Mutex};

use serde_json::{Value, json};

use super::{Context, OURS, Step, minify};
use crate::{
    HardenError, LegalComments, css,
    js::{Language, comments, hazards, session},
    tree::{Rewritten, Tree},
};

pub(super) const STEP: Step =
    Step { name: "strip-source-maps", tool: OURS, wanted: |_, _| true, config, run };

/// Where licence comments that left the code are collected.
const LEGAL: &str = "LEGAL.txt";

fn config(context: &Context<'_>) -> Result<Value, HardenError> {
    let options = context.request.options;
    Ok(json!({
        "legal_comments": options.legal_comments.name(),
        // Minified code has lost its comments before.
        "javascript": !options.minify,
    }))
}

fn run(context: &mut Context<'_>, tree: &mut Tree) -> Result<u64, HardenError> {
    let policy = context.request.options.legal_comments;
    let mut changed = remove_maps(tree)?;
    let legal = Mutex::new(Vec::new());
    let note = |path: &str, comments: Vec<String>| {
        // A worker that panicked ended the build already.
        legal.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((path.to_owned(), comments));
    };

    let sheets = tree.largest_first(|path| path.ends_with(".css"));
    changed += tree.rewrite(context.workers, &sheets, |tree, path| {
        let text = tree.read_text(path)?;
        let stripped = css::strip(&text, policy == LegalComments::Keep);
        note(path, stripped.legal);
        Ok(replaced(path, &text, stripped.text))
    })?;

    if !context.request.options.minify {
        let types = tree.package_types()?;
        let scripts = minify::scripts(tree)?;
        let paths = tree.largest_first(|path| minify::is_javascript(path) || scripts.contains(path));
        changed += tree.rewrite(context.workers, &paths, |tree, path| {
            let text = tree.read_text(path)?;
            let (blank, legal) = session(STEP.name, path, &text, |session| {
                let program = session.parse(Language::JavaScript, types.goal(path))?;
                if hazards::own_source(session, &program).is_some() {
                    return Ok((comments::without_maps(session), Vec::new()));
                }
                let kept = |text: &str| {
                    comments::is_magic(text) || policy == LegalComments::Keep && comments::is_legal(text)
                };
                Ok((comments::blanked(session, kept), comments::legal(&session.comments)))
            })?;
            if policy == LegalComments::File {
                note(path, legal);
            }
            Ok(replaced(path, &text, blank))
        })?;
    }

    for (path, comments) in legal.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        if policy == LegalComments::File && !comments.is_empty() {
            tree.legal.insert(path, comments);
        }
    }
    Ok(changed + write_legal(tree)?)
}

fn replaced(path: &str, before: &str, after: String) -> Option<Rewritten> {
    (before != after).then(|| Rewritten { path: path.to_owned(), code: after, map: None })
}

fn remove_maps(tree: &mut Tree) -> Result<u64, HardenError> {
    let named: Vec<String> = tree.paths().filter(|path| path.ends_with(".map")).map(str::to_owned).collect();
    let mut removed = 0;
    for path in named {
        if is_map(&path, &tree.read(&path)?) {
            tree.remove(&path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Returns whether a file called `.map` is a source map, and not the map of a game.
fn is_map(path: &str, content: &[u8]) -> bool {
    let beside = [".js.map", ".mjs.map", ".cjs.map", ".css.map", ".ts.map", ".mts.map", ".cts.map"];
    if beside.iter().any(|ending| path.ends_with(ending)) {
        return true;
    }
    let value: Value = serde_json::from_slice(content).unwrap_or_default();
    value.get("mappings").is_some() || value.get("sections").is_some()
}

/// Writes each licence comment once, with the files that it stood in.
fn write_legal(tree: &mut Tree) -> Result<u64, HardenError> {
    let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, comments) in &tree.legal {
        for comment in comments {
            files.entry(comment).or_default().push(path);
        }
    }
    let mut texts: Vec<(Vec<&str>, &str)> =
        files.into_iter().map(|(comment, paths)| (paths, comment)).collect();
    if texts.is_empty() {
        return Ok(0);
    }
    texts.sort();
    let mut content = if tree.contains(LEGAL) { tree.read_text(LEGAL)? } else { String::new() };
    for (paths, comment) in texts {
        if !content.is_empty() {
            content.push('\n');
        }
        content.push_str(&paths.join("\n"));
        content.push_str(":\n");
        content.push_str(comment);
        content.push('\n');
    }
    tree.write(LEGAL, content.as_bytes(), 0o644)?;
    Ok(1)
}
