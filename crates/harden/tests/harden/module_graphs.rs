//! Random ES packages with several entry points: whichever is loaded first, the same runs in the same order.

use std::process::Command;

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestCaseError},
};

use protected_harden::Options;

use crate::support::Package;

/// A module of a random package: what it does when it runs, and which modules it imports.
#[derive(Clone, Debug)]
struct Module {
    kind: u8,
    imports: Vec<usize>,
}

fn modules() -> impl Strategy<Value = Vec<Module>> {
    (4_usize..12).prop_flat_map(|count| {
        let module = (0_u8..10, vec(0..count, 0..4));
        vec(module, count).prop_map(|modules| {
            let modules = modules.into_iter().enumerate();
            let module = |(index, (kind, mut imports)): (usize, (u8, Vec<usize>))| {
                // One import in a while leads back.
                imports.retain(|&target| target > index || (target + index) % 5 == 0);
                imports.dedup();
                Module { kind, imports }
            };
            modules.map(module).collect()
        })
    })
}

fn text(index: usize, Module { kind, imports }: &Module) -> String {
    let mut text = String::new();
    if *kind == 0 {
        text.push_str("import 'dep';\n");
    }
    for (place, target) in imports.iter().enumerate() {
        text.push_str(&match (index + place) % 4 {
            0 => format!("import {{ call{target} as c{target} }} from './m{target}.js';\n"),
            1 => format!("import {{ value{target} as v{target} }} from './m{target}.js';\n"),
            2 => format!("import * as all{target} from './m{target}.js';\n"),
            _ => format!("import './m{target}.js';\n"),
        });
    }
    let used: Vec<String> = imports
        .iter()
        .enumerate()
        .map(|(place, target)| match (index + place) % 4 {
            0 => format!("c{target}(depth + 1)"),
            1 => format!("v{target}"),
            2 if kind % 2 == 0 => format!("all{target}.value{target}"),
            2 => format!("Object.keys(all{target}).join()"),
            _ => "0".to_owned(),
        })
        .collect();
    let read = imports.iter().enumerate().find(|(place, _)| (index + place) % 4 == 1);
    let value = match (kind, read) {
        (1 | 2, _) => format!("{index}"),
        (3, Some((_, target))) => format!("[v{target}]"),
        (4 | 5, _) => "/* @__PURE__ */ look()".to_owned(),
        (6, Some((_, target))) => format!("/* @__PURE__ */ wrap(v{target})"),
        _ => format!("'{index}'"),
    };
    text.push_str(&format!(
        "const look = () => globalThis.ran ?? 0;\nconst wrap = (value) => ({{ value, ran: look() }});\n\
         export const value{index} = {value};\n\
         export function call{index}(depth = 0) {{ return depth > 6 ? '' : [value{index}, {}].join(); }}\n",
        used.join(", ")
    ));
    match kind {
        7 | 8 => text
            .push_str(&format!("globalThis.ran = (globalThis.ran ?? 0) + 1;\nconsole.log('ran {index}');\n")),
        9 if index.is_multiple_of(3) => text.push_str(&format!(
            "console.log('waits {index}');\nawait null;\nconsole.log('waited {index}');\n"
        )),
        _ => {}
    }
    text
}

/// What loading these modules, one after the other, prints.
fn load(folder: &std::path::Path, order: &[usize]) -> String {
    let mut script = String::new();
    for index in order {
        script.push_str(&format!(
            "console.log('load {index}');\ntry {{ const all = await import('./m{index}.js');\n\
             globalThis.ran = (globalThis.ran ?? 0) + 100;\n\
             for (const [name, value] of Object.entries(all)) console.log(name, typeof value === 'function' ? value() : value); }}\n\
             catch (error) {{ console.log(error.name); }}\n"
        ));
    }
    let arguments = ["--no-warnings", "--input-type=module", "-e", &script];
    let run = Command::new("node").args(arguments).current_dir(folder).output().expect("node");
    String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr)
}

fn check(modules: &[Module], entries: usize) -> Result<(), TestCaseError> {
    let mut files: Vec<(String, String)> = modules
        .iter()
        .enumerate()
        .map(|(index, module)| (format!("m{index}.js"), text(index, module)))
        .collect();
    let exports: serde_json::Map<String, serde_json::Value> =
        (0..entries).map(|index| (format!("./m{index}"), format!("./m{index}.js").into())).collect();
    let manifest =
        serde_json::json!({"name": "sample", "version": "1.0.0", "type": "module", "exports": exports});
    files.push(("package.json".to_owned(), manifest.to_string()));
    let dep = ("node_modules/dep/package.json", r#"{"name":"dep","type":"module","exports":"./dep.js"}"#);
    files.push((dep.0.to_owned(), dep.1.to_owned()));
    files.push((
        "node_modules/dep/dep.js".to_owned(),
        "console.log('dep', globalThis.ran);\nglobalThis.ran = (globalThis.ran ?? 0) + 10;\n".to_owned(),
    ));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let package = Package::of(&files);
    let options = Options { bundle: true, minify: false, ..Options::default() };
    let built = package.harden(&options).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let shown = || {
        let paths = built.paths().into_iter().filter(|path| path.ends_with(".js"));
        paths.map(|path| format!("// {path}\n{}", built.text(&path))).collect::<Vec<_>>().join("\n")
    };
    let code = |paths: Vec<String>| paths.iter().filter(|path| path.ends_with(".js")).count();
    let before = crate::support::list(package.folder.path());
    prop_assert!(code(built.paths()) <= code(before), "more files than before\n{}", shown());
    let forth: Vec<usize> = (0..entries).collect();
    let back: Vec<usize> = (0..entries).rev().collect();
    for order in [forth, back] {
        let before = load(package.folder.path(), &order);
        let after = load(&built.artifact(), &order);
        prop_assert_eq!(&after, &before, "{:?}\n{}", order, shown());
    }
    Ok(())
}

#[test]
fn any_entry_point_first_runs_the_same() {
    // Each case starts Node.js four times.
    let config = Config { cases: 24, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    proptest!(config, |(modules in modules(), entries in 1_usize..4)| check(&modules, entries)?);
}
