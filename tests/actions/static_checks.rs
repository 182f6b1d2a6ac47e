//! What other people's tools say about the actions, the workflows and the scripts.

use std::{fs, path::PathBuf};

use crate::suite::{blocks, check, root};

const READMES: &[&str] = &[
    "actions/README.md",
    "actions/setup/README.md",
    "actions/publish/README.md",
    "actions/protect-build/README.md",
    "actions/deliver/README.md",
    "actions/install/README.md",
    "actions/verify/README.md",
];

fn below(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = crate::harness::files(&root().join(folder));
    found.retain(|file| file.extension().is_some_and(|it| it == extension));
    assert!(!found.is_empty(), "no .{extension} in {folder}");
    found
}

fn definitions() -> Vec<PathBuf> {
    let mut files = below("actions", "yml");
    files.push(root().join("action.yml"));
    files
}

/// The workflows of this repository, and those that the READMEs show, each as a file of its own.
fn workflows(folder: &tempfile::TempDir) -> Vec<PathBuf> {
    let mut files = below(".github/workflows", "yml");
    for readme in READMES {
        for (number, text) in blocks(&root().join(readme), "yaml").into_iter().enumerate() {
            let path = folder.path().join(format!("{}-{number}.yml", readme.replace('/', "-")));
            fs::write(&path, text).expect("write");
            files.push(path);
        }
    }
    files
}

fn bad(name: &str, text: &str) -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join(name);
    fs::write(&path, text).expect("write");
    (folder, vec![path])
}

const BAD_WORKFLOW: &str = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo ${{ github.event.pull_request.title }}\n      - uses: actions/checkout@v4\n";

#[test]
fn actionlint() {
    let folder = tempfile::tempdir().expect("folder");
    check("python/bin/actionlint", &["-no-color"], &workflows(&folder)).is_content();
    let (_folder, files) = bad("bad.yml", BAD_WORKFLOW);
    check("python/bin/actionlint", &["-no-color"], &files).complains("github.event.pull_request.title");
}

#[test]
fn json_schemas() {
    let folder = tempfile::tempdir().expect("folder");
    let tool = "python/bin/check-jsonschema";
    check(tool, &["--builtin-schema", "vendor.github-workflows"], &workflows(&folder)).is_content();
    check(tool, &["--builtin-schema", "vendor.github-actions"], &definitions()).is_content();
    let (_folder, files) = bad("action.yml", "name: x\ndescription: x\nruns:\n  using: composite\n");
    check(tool, &["--builtin-schema", "vendor.github-actions"], &files).complains("runs");
}

#[test]
fn zizmor() {
    let folder = tempfile::tempdir().expect("folder");
    let arguments = ["--offline", "--no-progress", "--persona", "pedantic"];
    let mut files = workflows(&folder);
    files.extend(definitions());
    check("python/bin/zizmor", &arguments, &files).is_content();
    let (_folder, files) = bad("bad.yml", BAD_WORKFLOW);
    let verdict = check("python/bin/zizmor", &arguments, &files);
    verdict.complains("template-injection");
    verdict.complains("unpinned-uses");
}

#[test]
fn yamllint() {
    let folder = tempfile::tempdir().expect("folder");
    let mut files = workflows(&folder);
    files.extend(definitions());
    check("python/bin/yamllint", &["--strict", "--config-file", ".yamllint"], &files).is_content();
    let (_folder, files) = bad("bad.yml", "a: 1\na: 2\n");
    check("python/bin/yamllint", &["--strict", "--config-file", ".yamllint"], &files)
        .complains("duplication");
}

#[test]
fn shellcheck() {
    let mut files = below("actions", "sh");
    files.push(root().join(".ci/run"));
    check("python/bin/shellcheck", &[], &files).is_content();
    let (_folder, files) = bad("bad.sh", "#!/usr/bin/env bash\nrm -rf $1/*\n");
    check("python/bin/shellcheck", &[], &files).complains("SC2086");
}
