//! `declarations`: declaration files are reduced to what users of the package's entry points see.
//!
//! Types of private members and what is marked `@internal` go, and so do the files that no entry point's types
//! reach. Where others could reach a file in another way, every file stays, and the build manifest says why.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Context, SWC, Step, bundle};
use crate::{
    Declarations, HardenError,
    bundle::{
        entries,
        resolve::{Files, folder, is_relative},
    },
    entry_points::resolve,
    format::is_declaration,
    js::declarations::{Reduced, reduce},
    tree::Tree,
};

pub(super) const STEP: Step = Step {
    name: "declarations",
    tool: SWC,
    wanted: |options, _| options.declarations != Declarations::Keep,
    config,
    run,
};

/// Fields of a `package.json` whose files are looked at for types.
const FIELDS: &[&str] = &["types", "typings", "main", "module", "exports", "imports"];

fn config(context: &Context<'_>) -> Result<Value, HardenError> {
    Ok(json!({
        "declarations": context.request.options.declarations.name(),
        "rules": env!("CARGO_PKG_VERSION"),
    }))
}

fn run(context: &mut Context<'_>, tree: &mut Tree) -> Result<u64, HardenError> {
    let paths = tree.largest_first(|path| is_declaration(path) && !bundle::is_dependency(path));
    let read = {
        let tree = &*tree;
        context.workers.each(&paths, |path| reduce(STEP.name, path, &tree.read_text(path)?))?
    };
    let files: BTreeMap<String, Reduced> = paths.into_iter().zip(read).collect();
    let manifests = bundle::manifests(tree)?;
    let reached = reached(tree, &files, &manifests)?;
    let unreached: BTreeSet<&String> = files.keys().filter(|path| !reached.contains(*path)).collect();
    let reason = unsure(&manifests).or_else(|| {
        let ambient = unreached.iter().find(|path| files[**path].is_ambient)?;
        Some(format!("`{ambient}` declares what every file sees, so that nothing tells who needs it"))
    });

    let mut changed = 0;
    for (path, file) in &files {
        if unreached.contains(path) {
            match &reason {
                Some(reason) => drop(tree.kept_apart.insert(path.clone(), reason.clone())),
                None => {
                    tree.remove(path)?;
                    tree.shaken.insert(path.clone());
                    changed += 1;
                    continue;
                }
            }
        }
        if let Some(text) = &file.text {
            tree.write(path, text.as_bytes(), tree.mode(path))?;
            changed += 1;
        }
    }
    Ok(changed)
}

/// Says why files that no entry point reaches may be needed still.
fn unsure(manifests: &BTreeMap<String, Value>) -> Option<String> {
    let has = |json: &Value, key| json.get(key).is_some_and(|value| !value.is_null());
    if manifests.values().any(|json| has(json, "typesVersions")) {
        return Some("package.json has `typesVersions`, which lead to other files".to_owned());
    }
    let is_open = manifests.get("").is_none_or(|json| !has(json, "exports"));
    is_open.then(|| bundle::OPEN.to_owned())
}

/// Returns the declaration files that the types of the entry points reach.
fn reached(
    tree: &Tree,
    files: &BTreeMap<String, Reduced>,
    manifests: &BTreeMap<String, Value>,
) -> Result<BTreeSet<String>, HardenError> {
    let all = tree.paths().map(str::to_owned).collect();
    let mut open: BTreeSet<String> = BTreeSet::new();
    let entries = entries::entries(&Files::new(all, manifests, &tree.read_text("package.json")?), manifests);
    open.extend(entries.keys().flat_map(|path| candidates(path)));
    for (folder, json) in manifests {
        open.extend(candidates(folder));
        for field in FIELDS {
            json.get(field).into_iter().for_each(|value| named(folder, value, files, &mut open));
        }
    }
    let mut reached = BTreeSet::new();
    while let Some(path) = open.pop_first() {
        let Some(file) = files.get(&path) else { continue };
        if !reached.insert(path.clone()) {
            continue;
        }
        let relative = file.names.iter().filter(|name| is_relative(name));
        open.extend(relative.filter_map(|name| resolve(folder(&path), name)).flat_map(|at| candidates(&at)));
    }
    Ok(reached)
}

/// Adds the declaration files that a value in a `package.json` leads to, whatever the condition.
fn named(folder: &str, value: &Value, files: &BTreeMap<String, Reduced>, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            let Some(place) = resolve(folder, text) else { return };
            let Some((before, after)) = place.split_once('*') else {
                found.extend(candidates(&place));
                if text.ends_with('/') {
                    let below = format!("{place}/");
                    found.extend(files.keys().filter(|path| path.starts_with(&below)).cloned());
                }
                return;
            };
            // The part behind a second star repeats the first. Without an ending the name brings it.
            let after = after.rsplit('*').next().unwrap_or(after);
            let endings = if after.contains('.') { candidates(after) } else { vec![String::new()] };
            let fits = |path: &&String| {
                path.starts_with(before) && endings.iter().any(|ending| path.ends_with(ending))
            };
            found.extend(files.keys().filter(fits).cloned());
        }
        Value::Array(items) => items.iter().for_each(|item| named(folder, item, files, found)),
        Value::Object(members) => members.values().for_each(|member| named(folder, member, files, found)),
        _ => {}
    }
}

/// Returns where TypeScript looks for the types of the module at `place`, its ending perhaps left out.
fn candidates(place: &str) -> Vec<String> {
    if is_declaration(place) {
        return vec![place.to_owned()];
    }
    let index = if place.is_empty() { "index.d.ts".to_owned() } else { format!("{place}/index.d.ts") };
    let mut found = vec![index, format!("{place}.d.ts")];
    if let Some((stem, ending)) = place.rsplit_once('.') {
        found.push(match ending {
            "js" | "jsx" | "ts" | "tsx" => format!("{stem}.d.ts"),
            "mjs" | "mts" => format!("{stem}.d.mts"),
            "cjs" | "cts" => format!("{stem}.d.cts"),
            other => format!("{stem}.d.{other}.ts"),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::candidates;

    #[test]
    fn types_stand_beside_modules() {
        for (place, expected) in [
            ("", "index.d.ts"),
            ("lib", "lib/index.d.ts"),
            ("lib/a", "lib/a.d.ts"),
            ("lib/a.js", "lib/a.d.ts"),
            ("lib/a.mjs", "lib/a.d.mts"),
            ("lib/a.cjs", "lib/a.d.cts"),
            ("lib/a.css", "lib/a.d.css.ts"),
            ("lib/a.d.mts", "lib/a.d.mts"),
        ] {
            assert!(candidates(place).iter().any(|path| path == expected), "{place}");
        }
        assert!(!candidates("lib/a.mjs").contains(&"lib/a.d.ts".to_owned()));
        assert_eq!(candidates("lib/a.d.ts"), ["lib/a.d.ts"]);
    }
}
