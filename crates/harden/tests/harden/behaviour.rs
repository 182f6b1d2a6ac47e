//! Programs behave the same after hardening: each case runs before and after under Node.

use std::{collections::BTreeMap, path::Path};

use crate::support::{Package, node};
use protected_harden::Options;

type Outputs = BTreeMap<String, Vec<String>>;

fn run(folder: &Path) -> Outputs {
    let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run_cases.mjs");
    let output = node(folder, &["--no-warnings", runner.to_str().expect("path"), "."]);
    serde_json::from_str(&output).expect("json")
}

pub(crate) fn compare(cases: &str, options: &Options) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(cases);
    let broken = differences(&Package::copy_of(&source), options);
    assert!(broken.is_empty(), "{} cases changed\n{}", broken.len(), broken.join("\n"));
}

/// Hardens a package of programs and describes each that writes something else than before.
pub(crate) fn differences(package: &Package, options: &Options) -> Vec<String> {
    let built = package.harden(options).unwrap_or_else(|error| panic!("{error}"));
    let (before, after) = (run(package.folder.path()), run(&built.artifact()));
    let silent: Vec<_> =
        before.iter().filter(|(_, lines)| lines.iter().all(|line| line.starts_with("threw"))).collect();
    assert!(silent.is_empty(), "a case that writes nothing proves nothing: {silent:?}");
    let mut broken = Vec::new();
    for (case, expected) in &before {
        let found = &after[case];
        if found != expected {
            let code = built.text(case);
            let line = expected.iter().zip(found).position(|(a, b)| a != b);
            let line = line.unwrap_or_else(|| expected.len().min(found.len()));
            let (was, is) = (expected.get(line), found.get(line));
            broken.push(format!("{case}: line {line} was {was:?}, is {is:?}\n  code {code}"));
        }
    }
    broken
}

#[test]
fn programs_behave_the_same() {
    compare("cases", &Options::default());
}

#[test]
fn programs_behave_the_same_with_names_kept() {
    compare("cases", &Options { keep_names: true, ..Options::default() });
}

#[test]
fn names_that_are_read_are_kept() {
    compare("names", &Options::default());
    compare("names", &Options { keep_names: true, ..Options::default() });
}

#[test]
fn programs_behave_the_same_without_minification() {
    compare("cases", &Options { minify: false, ..Options::default() });
}

#[test]
fn programs_behave_the_same_obfuscated() {
    for profile in [protected_harden::Profile::Standard, protected_harden::Profile::Strong] {
        let obfuscation = protected_harden::Obfuscation { profile, ..Default::default() };
        compare("cases", &Options { obfuscation: obfuscation.clone(), escrow: false, ..Options::default() });
        compare("cases", &Options { obfuscation, keep_names: true, ..Options::default() });
    }
}
