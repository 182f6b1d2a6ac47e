//! `bundle`: internal modules become part of the files that `package.json` names, and what nobody needs goes.
//!
//! What is merged and how stands in `bundle/`. Dependencies stay imports. Without `exports` in `package.json`
//! every file can be loaded by its path, so that nothing can be merged.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Context, SWC, Step, minify};
use crate::{
    HardenError,
    bundle::{self, Merge, cjs, entries, es, graph::Graph, plan::Plan, record::Kind, resolve::Files},
    json::Node,
    tree::Tree,
};

pub(super) const STEP: Step =
    Step { name: bundle::STEP, tool: SWC, wanted: |options, _| options.bundle, config, run };

/// Why nothing is merged.
pub(super) const OPEN: &str = "package.json has no `exports`, so that any file can be loaded by its path";

fn config(context: &Context<'_>) -> Result<Value, HardenError> {
    Ok(json!({
        "keep_names": context.request.options.keep_names,
        "rules": env!("CARGO_PKG_VERSION"),
    }))
}

/// A file to write.
enum Part {
    Chunk(usize),
    /// The namespace of a module.
    Space(usize),
}

fn run(context: &mut Context<'_>, tree: &mut Tree) -> Result<u64, HardenError> {
    let manifests = manifests(tree)?;
    if manifests.get("").is_none_or(|json| json.get("exports").is_none_or(Value::is_null)) {
        tree.kept_apart.insert("package.json".to_owned(), OPEN.to_owned());
        return Ok(0);
    }
    let types = tree.package_types()?;
    let scripts = minify::scripts(tree)?;
    let all: BTreeSet<String> = tree.paths().map(str::to_owned).collect();
    let files = Files::new(all.clone(), &manifests, &tree.read_text("package.json")?);
    let entries = entries::entries(&files, &manifests);
    let paths = tree.largest_first(|path| {
        !is_dependency(path)
            && (minify::is_javascript(path) || scripts.contains(path) || path.ends_with(".json"))
    });
    let read = {
        let tree = &*tree;
        context.workers.each(&paths, |path| bundle::read(tree, &types, path))?
    };
    let keep_names = context.request.options.keep_names
        || read.iter().any(|record| record.reads_names)
        || minify::reads_class_names(context, tree, &code(&paths))?;
    let records: BTreeMap<_, _> = paths.into_iter().zip(read).collect();
    let mut graph = Graph::new(records, &entries, &files);
    bundle::check(tree, &graph)?;
    let plan = Plan::new(&mut graph, &all, &context.seed)?;

    let mut parts: Vec<Part> =
        (0..plan.chunks.len()).filter(|&chunk| writes(&graph, &plan, chunk)).map(Part::Chunk).collect();
    parts.extend(plan.spaces.keys().map(|&module| Part::Space(module)));
    let merged = (0..graph.modules.len()).filter(|&module| !graph.is_file(module));
    let merged: BTreeSet<String> = merged.map(|module| graph.modules[module].path.clone()).collect();
    let gone: BTreeSet<String> = merged.union(&graph.unreached).cloned().collect();
    let sources: Vec<(String, BTreeSet<String>)> = parts
        .iter()
        .map(|part| match part {
            Part::Chunk(chunk) => {
                let chunk = &plan.chunks[*chunk];
                let members =
                    chunk.members.iter().flat_map(|&member| tree.sources(&graph.modules[member].path));
                (chunk.path.clone(), members.collect())
            }
            Part::Space(module) => (plan.spaces[module].clone(), BTreeSet::new()),
        })
        .collect();
    tree.merge(context.workers, &parts, &gone, |tree, part| {
        let merge = Merge { tree, types: &types, graph: &graph, plan: &plan, keep_names };
        match part {
            Part::Chunk(chunk) => match plan.chunks[*chunk].kind {
                Kind::Es => es::write(&merge, &plan.chunks[*chunk]),
                _ => cjs::write(&merge, &plan.chunks[*chunk]),
            },
            Part::Space(module) => es::write_space(&merge, *module, &plan.spaces[module]),
        }
    })?;
    sources.into_iter().for_each(|(path, sources)| tree.set_sources(&path, sources));
    effects(tree, &graph, &plan)?;
    tree.kept_apart.extend(bundle::kept_apart(&graph));
    let changed = (parts.len() + graph.unreached.len()) as u64;
    tree.shaken.extend(std::mem::take(&mut graph.unreached));
    Ok(changed)
}

fn writes(graph: &Graph, plan: &Plan, chunk: usize) -> bool {
    let members = &plan.chunks[chunk].members;
    let is_json = members.iter().all(|&member| graph.modules[member].record.kind == Kind::Json);
    !(bundle::stays(graph, plan, chunk) || is_json && plan.chunks[chunk].host.is_some())
}

fn code(paths: &[String]) -> Vec<String> {
    paths.iter().filter(|path| !path.ends_with(".json")).cloned().collect()
}

/// Whether a file belongs to a dependency that is packed with the package.
pub(super) fn is_dependency(path: &str) -> bool {
    path.starts_with("node_modules/") || path.contains("/node_modules/")
}

/// Returns each `package.json` by its folder. One that is not JSON says nothing.
pub(super) fn manifests(tree: &Tree) -> Result<BTreeMap<String, Value>, HardenError> {
    let mut manifests = BTreeMap::new();
    for path in tree.paths().filter(|path| !is_dependency(path)) {
        let Some(folder) = path.strip_suffix("package.json") else { continue };
        if folder.is_empty() || folder.ends_with('/') {
            let json = serde_json::from_slice(&tree.read(path)?).unwrap_or_default();
            manifests.insert(folder.trim_end_matches('/').to_owned(), json);
        }
    }
    Ok(manifests)
}

/// Says in `sideEffects` that a file has effects where one of the modules in it has.
fn effects(tree: &mut Tree, graph: &Graph, plan: &Plan) -> Result<(), HardenError> {
    let text = tree.read_text("package.json")?;
    let Some(node) = Node::read(&text) else { return Ok(()) };
    let Some((_, Node::Array(items))) = node.members().iter().find(|(key, _)| key.value == "sideEffects")
    else {
        return Ok(());
    };
    let listed: Vec<_> =
        items.iter().filter_map(|item| if let Node::Text(text) = item { Some(text) } else { None }).collect();
    let is_listed = |path: &str| listed.iter().any(|pattern| matches(&pattern.value, path));
    let mut added = String::new();
    for chunk in plan.chunks.iter().filter(|chunk| !is_listed(&chunk.path)) {
        if chunk.members.iter().any(|&member| is_listed(&graph.modules[member].path)) {
            added.push_str(&format!(", {}", Value::from(format!("./{}", chunk.path))));
        }
    }
    if let (Some(last), false) = (listed.last(), added.is_empty()) {
        let mut updated = text.clone();
        updated.insert_str(last.at.end, &added);
        let mode = tree.mode("package.json");
        tree.write("package.json", updated.as_bytes(), mode)?;
    }
    Ok(())
}

/// Whether a pattern of `sideEffects` stands for a path, as bundlers read it.
fn matches(pattern: &str, path: &str) -> bool {
    fn from(pattern: &[u8], path: &[u8]) -> bool {
        match pattern {
            [] => path.is_empty(),
            [b'*', b'*', b'/', rest @ ..] if from(rest, path) => true,
            [b'*', b'*', rest @ ..] => (0..=path.len()).any(|at| from(rest, &path[at..])),
            [b'*', rest @ ..] => (0..=path.len())
                .take_while(|&at| !path[..at].contains(&b'/'))
                .any(|at| from(rest, &path[at..])),
            [first, rest @ ..] => path.first() == Some(first) && from(rest, &path[1..]),
        }
    }
    let pattern = pattern.trim_start_matches("./");
    let anywhere = if pattern.contains('/') { pattern.to_owned() } else { format!("**/{pattern}") };
    from(anywhere.as_bytes(), path.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_of_side_effects() {
        for (pattern, path, expected) in [
            ("./src/a.js", "src/a.js", true),
            ("*.css", "deep/in/a.css", true),
            ("src/*.js", "src/deep/a.js", false),
            ("src/**/*.js", "src/deep/a.js", true),
            ("src/**/*.js", "src/a.js", true),
            ("./src", "src/a.js", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }
}
