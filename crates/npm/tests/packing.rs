//! What is packed is what npm on this machine would pack, and it is the same every time.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
};

use protected_npm::pack::{self, PackError, Packed};
use tempfile::TempDir;

/// Writes the files of `text`, in which each starts with a line `== path`, into a new folder.
fn tree(text: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("folder");
    for file in text.split("== ").skip(1) {
        let (path, content) = file.split_once('\n').expect("a path and content");
        let path = folder.path().join(path.trim());
        fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        fs::write(path, content).expect("file");
    }
    folder
}

type Files = BTreeMap<String, u64>;

/// What npm packs of each folder, by path and size.
fn by_npm(roots: &[&Path], folder: &Path) -> Vec<Files> {
    let home = tempfile::tempdir().expect("folder");
    let output = Command::new("npm")
        .args(["pack", "--dry-run", "--json", "--ignore-scripts", "--loglevel=error", "--offline"])
        .args(roots)
        .current_dir(folder)
        .env("HOME", home.path())
        .env("npm_config_userconfig", home.path().join("none"))
        .output()
        .expect("npm is on PATH");
    let text = String::from_utf8_lossy(&output.stdout);
    let json: serde_json::Value = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("npm said: {text}{}", String::from_utf8_lossy(&output.stderr)));
    let packages = json.as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let files = package["files"].as_array().expect("files").iter();
            files
                .map(|file| {
                    (file["path"].as_str().expect("path").to_owned(), file["size"].as_u64().expect("size"))
                })
                .collect()
        })
        .collect()
}

/// Compares what we pack of each tree with what npm does, and returns ours.
#[track_caller]
fn same_as_npm(trees: &[(String, TempDir)]) -> Vec<Files> {
    let roots: Vec<&Path> = trees.iter().map(|(_, tree)| tree.path()).collect();
    let elsewhere = tempfile::tempdir().expect("folder");
    let theirs = by_npm(&roots, elsewhere.path());
    assert_eq!(theirs.len(), trees.len());
    for ((name, tree), theirs) in trees.iter().zip(&theirs) {
        assert_eq!(&by_us(tree.path()), theirs, "{name}: ours, then npm's");
    }
    theirs
}

#[track_caller]
fn each_same_as_npm(texts: impl IntoIterator<Item = (String, String)>) -> Vec<Files> {
    same_as_npm(&texts.into_iter().map(|(name, text)| (name, tree(&text))).collect::<Vec<_>>())
}

fn by_us(root: &Path) -> Files {
    let files = pack::list(root).expect("list");
    files.into_iter().map(|file| (file.path, file.size)).collect()
}

const NAMED: &str = r#""name":"@acme/core","version":"1.0.0""#;

/// A bit of everything that npm has an opinion about.
fn everything(manifest: &str) -> String {
    let mut text = format!("== package.json\n{{{NAMED}{manifest}}}\n");
    for path in [
        "README.md",
        "readme",
        "README.md~",
        "README.old$",
        "LICENSE",
        "license.txt",
        "LICENCE-MIT",
        "licence",
        "COPYING",
        "CHANGELOG.md",
        "HISTORY.md",
        "index.js",
        "other.js",
        "lib/a.js",
        "lib/b.test.js",
        "lib/deep/c.js",
        "lib/deep/README.md",
        "lib/.hidden",
        "src/a.ts",
        "src/b.ts",
        "bin/cli.js",
        "node_modules/dep/index.js",
        "lib/node_modules/dep/index.js",
        ".npmrc",
        "lib/.npmrc",
        "package-lock.json",
        "yarn.lock",
        "pnpm-lock.yaml",
        "bun.lockb",
        "bun.lock",
        "npm-shrinkwrap.json",
        "lib/package-lock.json",
        "lib/yarn.lock",
        "a.orig",
        "lib/b.orig",
        ".DS_Store",
        "lib/.DS_Store",
        "._resource",
        "lib/._resource",
        ".x.swp",
        "lib/.y.swp",
        ".git/HEAD",
        "lib/.git/HEAD",
        ".svn/x",
        "lib/CVS/x",
        ".hg/x",
        "npm-debug.log",
        "lib/npm-debug.log",
        ".lock-wscript",
        ".wafpickle-1",
        "build/config.gypi",
        "build/out.js",
        "archived-packages/x",
        "lib/archived-packages/x",
        ".eslintrc",
        ".github/workflows/ci.yml",
        "docs/guide.md",
        "test/a.js",
        "with space.js",
        "lib/üml.js",
        "UPPER.JS",
        "types/index.d.ts",
    ] {
        text.push_str(&format!("== {path}\n{path}\n"));
    }
    text
}

#[test]
fn a_package_without_files_or_ignores() {
    let packed = each_same_as_npm([("plain".to_owned(), everything(""))]);
    assert!(packed[0].contains_key("CHANGELOG.md") && packed[0].contains_key("bun.lock"));
    assert!(!packed[0].keys().any(|path| path.ends_with(".npmrc") || path.starts_with("node_modules")));
}

#[test]
fn files_of_every_kind() {
    let manifests = [
        r#","files":["lib"]"#,
        r#","files":["lib/"]"#,
        r#","files":["./lib"]"#,
        r#","files":["/lib"]"#,
        r#","files":["lib/*"]"#,
        r#","files":["lib/**/*.js"]"#,
        r#","files":["*.js"]"#,
        r#","files":["**/*.js","!**/*.test.js"]"#,
        r#","files":["lib","!lib/deep"]"#,
        r#","files":["lib","!lib/deep/**"]"#,
        r#","files":["lib","!lib/b.test.js"]"#,
        r#","files":["!lib/b.test.js","lib"]"#,
        r#","files":["lib/{a,b.test}.js"]"#,
        r#","files":["lib/[ab]*"]"#,
        r#","files":["+(lib|src)"]"#,
        r#","files":["!(lib)"]"#,
        r#","files":["lib/a.js","src/a.ts"]"#,
        r#","files":["lib/deep/c.js"]"#,
        r#","files":["package-lock.json","yarn.lock",".npmrc","lib/.npmrc"]"#,
        r#","files":["node_modules"]"#,
        r#","files":["lib/node_modules"]"#,
        r#","files":[".git","lib/.git","a.orig",".DS_Store"]"#,
        r#","files":["deep"]"#,
        r#","files":["c.js"]"#,
        r#","files":["LIB"]"#,
        r#","files":[".*"]"#,
        r#","files":["."]"#,
        r#","files":["*"]"#,
        r#","files":["**"]"#,
        r#","files":["lib/../src"]"#,
        r#","files":[]"#,
        r#","files":["", "lib"]"#,
        r#","files":["missing","lib/missing.js"]"#,
        r#","files":["with space.js","lib/üml.js"]"#,
    ];
    each_same_as_npm(manifests.map(|manifest| (manifest.to_owned(), everything(manifest))));
}

#[test]
fn what_the_manifest_names_is_always_there() {
    let manifests = [
        r#","files":["docs"],"main":"lib/a.js""#,
        r#","files":["docs"],"main":"./lib/a.js""#,
        r#","files":["docs"],"main":"lib""#,
        r#","files":["docs"],"browser":"lib/deep/c.js""#,
        r#","files":["docs"],"browser":{"./lib/a.js":"./other.js"}"#,
        r#","files":["docs"],"bin":"bin/cli.js""#,
        r#","files":["docs"],"bin":{"one":"./bin/cli.js","two":"/other.js"}"#,
        r#","files":["docs"],"bin":["bin/cli.js"]"#,
        r#","files":["docs"],"types":"types/index.d.ts","module":"lib/a.js""#,
        r#","files":["docs"],"man":"docs/guide.md""#,
    ];
    each_same_as_npm(manifests.map(|manifest| (manifest.to_owned(), everything(manifest))));
}

#[test]
fn ignore_files_and_which_of_them_counts() {
    let ignores = [
        "== .npmignore\nlib\n",
        "== .gitignore\nlib\n",
        "== .npmignore\ndocs\n== .gitignore\nlib\n",
        "== .npmignore\n\n== .gitignore\nlib\n",
        "== .gitignore\n/lib\n*.ts\n!src/a.ts\n",
        "== .gitignore\nlib/deep/\n# comment\n\n  test  \n\\#x\n",
        "== .gitignore\n*\n!index.js\n!lib\n",
        "== .gitignore\n*\n!lib/**\n",
        "== .gitignore\nREADME.md\nLICENSE\npackage.json\nindex.js\n",
        "== lib/.npmignore\n*.test.js\n",
        "== lib/.gitignore\n*.js\n!a.js\n",
        "== lib/.npmignore\n/deep\n== lib/.gitignore\na.js\n",
        "== lib/deep/.gitignore\n*\n",
        "== lib/deep/.npmignore\n!*\n== .gitignore\nc.js\n",
        "== .npmignore\nlib\n== lib/.npmignore\n!a.js\n",
        "== .npmignore\n**/deep/**\nUPPER.js\n",
        "== .npmignore\nlib/*\n!lib/a.js\n",
        "== .npmignore\n!.npmignore\n!a.orig\n!.DS_Store\n!lib/.npmrc\n!node_modules\n!package-lock.json\n",
        "== .npmignore\r\nlib\r\n*.ts\r\n",
    ];
    let manifests = ["", r#","files":["lib","src/a.ts"]"#, r#","main":"lib/a.js""#];
    each_same_as_npm(ignores.iter().flat_map(|ignore| {
        manifests.map(|manifest| (format!("{manifest} {ignore}"), everything(manifest) + ignore))
    }));
}

#[test]
fn workspaces_apply_the_ignore_files_above() {
    let root = tree(
        "== package.json\n{\"name\":\"root\",\"version\":\"1.0.0\",\"workspaces\":[\"packages/*\",\"!packages/out\"]}\n\
         == .gitignore\ndist\n*.log\n\
         == packages/.npmignore\nnotes\n\
         == packages/a/package.json\n{\"name\":\"a\",\"version\":\"1.0.0\"}\n== packages/a/dist/x.js\n\
         == packages/a/x.log\n== packages/a/notes\n== packages/a/index.js\n\
         == packages/b/package.json\n{\"name\":\"b\",\"version\":\"1.0.0\",\"files\":[\"dist\"]}\n\
         == packages/b/dist/x.js\n== packages/b/index.js\n\
         == packages/out/package.json\n{\"name\":\"out\",\"version\":\"1.0.0\"}\n== packages/out/dist/x.js\n",
    );
    for (name, expected) in [
        ("a", ["index.js", "package.json"]),
        ("b", ["dist/x.js", "package.json"]),
        ("out", ["dist/x.js", "package.json"]),
    ] {
        let package = root.path().join("packages").join(name);
        let ours = by_us(&package);
        assert_eq!(vec![ours.clone()], by_npm(&[], &package), "{name}: ours, then npm's");
        assert_eq!(ours.into_keys().collect::<Vec<_>>(), expected);
    }
}

#[test]
#[cfg(unix)]
fn links_pipes_and_odd_names_are_left_out() {
    let root = tree(&everything(r#","files":["lib","link.js","folder"]"#));
    std::os::unix::fs::symlink("index.js", root.path().join("link.js")).expect("link");
    std::os::unix::fs::symlink("lib", root.path().join("folder")).expect("link");
    std::os::unix::fs::symlink("/etc/passwd", root.path().join("lib/passwd")).expect("link");
    fs::write(root.path().join("lib/a*b.js"), "").expect("file");
    let packed = same_as_npm(&[("links".to_owned(), root)]);
    assert!(
        !packed[0].keys().any(|path| path.contains("link") || path.contains("passwd") || path.contains('*'))
    );
}

/// Packages as they stand on the registry, which come with npm itself.
#[test]
fn real_packages() {
    let root = Command::new("npm").args(["root", "-g"]).output().expect("npm is on PATH");
    let modules = PathBuf::from(String::from_utf8_lossy(&root.stdout).trim()).join("npm/node_modules");
    let names = [
        "semver",
        "tar",
        "minimatch",
        "glob",
        "pacote",
        "node-gyp",
        "@npmcli/arborist",
        "@npmcli/config",
        "cacache",
        "ssri",
        "which",
        "lru-cache",
    ];
    let mut copies = Vec::new();
    for name in names.into_iter().filter(|name| modules.join(name).is_dir()) {
        // A copy, away from the workspace and the `node_modules` of npm's own.
        let copy = tempfile::tempdir().expect("folder");
        let source = modules.join(name).join(".");
        assert!(Command::new("cp").arg("-r").arg(source).arg(copy.path()).status().expect("cp").success());
        copies.push((name.to_owned(), copy));
    }
    assert!(copies.len() >= 8, "only {} packages were there", copies.len());
    same_as_npm(&copies);
}

fn entries(packed: &Packed) -> Vec<(String, u32, u64)> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&packed.bytes[..]));
    let entries = archive.entries().expect("entries");
    entries
        .map(|entry| {
            let mut entry = entry.expect("entry");
            let header = entry.header();
            assert_eq!((header.uid().expect("uid"), header.gid().expect("gid")), (0, 0));
            assert_eq!(header.mtime().expect("mtime"), 499_162_500);
            let mode = header.mode().expect("mode");
            let path = entry.path().expect("path").to_str().expect("text").to_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("content");
            (path, mode, content.len() as u64)
        })
        .collect()
}

#[test]
#[cfg(unix)]
fn the_same_bytes_every_time() {
    use std::os::unix::fs::PermissionsExt as _;

    let text = "== package.json\n{\"name\":\"@acme/core\",\"version\":\"1.0.0\",\"bin\":\"bin/cli.js\"}\n== bin/cli.js\n#!x\n== run.sh\n== b.js\n== a.js\n";
    let (one, other) = (tree(text), tree(text));
    let set = |root: &Path, path: &str, mode| {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).expect("mode");
    };
    set(one.path(), "run.sh", 0o755);
    set(other.path(), "run.sh", 0o775);
    set(one.path(), "a.js", 0o600);
    set(other.path(), "a.js", 0o664);
    let later = std::time::SystemTime::now() - std::time::Duration::from_secs(100_000);
    fs::File::open(other.path().join("a.js")).expect("file").set_modified(later).expect("time");

    let (one, other) = (pack::pack(one.path()).expect("pack"), pack::pack(other.path()).expect("pack"));
    assert_eq!(one.bytes, other.bytes);
    assert_eq!(one.filename, "acme-core-1.0.0.tgz");
    assert_eq!(
        entries(&one).into_iter().map(|(path, mode, _)| (path, mode)).collect::<Vec<_>>(),
        [
            ("package/a.js".to_owned(), 0o644),
            ("package/b.js".to_owned(), 0o644),
            ("package/bin/cli.js".to_owned(), 0o755),
            ("package/package.json".to_owned(), 0o644),
            ("package/run.sh".to_owned(), 0o755),
        ]
    );
    assert_eq!(one.unpacked_size, entries(&one).iter().map(|(_, _, size)| size).sum::<u64>());
    assert_eq!(one.size, one.bytes.len() as u64);
    assert_eq!(one.sha256, protected_model::digest::Sha256::of(&one.bytes));
    assert_eq!(one.integrity, protected_model::digest::Integrity::of(&one.bytes));
    assert_eq!(one.files[0].sha256, protected_model::digest::Sha256::of(""));
}

#[test]
fn npm_reads_what_we_pack() {
    let long = format!("{}/{}/{}.js", "a".repeat(90), "b".repeat(90), "c".repeat(120));
    let root = tree(&format!(
        "== package.json\n{{{NAMED},\"bin\":{{\"core\":\"./cli.js\"}},\"dependencies\":{{}}}}\n== README.md\n# Core\n\
         == cli.js\n#!/usr/bin/env node\n== {long}\nlong\n== üml.js\n"
    ));
    let packed = pack::pack(root.path()).expect("pack");
    let folder = tempfile::tempdir().expect("folder");
    let tarball = packed.write(folder.path()).expect("write");
    let output = Command::new("npm")
        .args(["pack", "--dry-run", "--json", "--loglevel=error", "--offline"])
        .arg(&tarball)
        .current_dir(folder.path())
        .output()
        .expect("npm is on PATH");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(json[0]["integrity"], packed.integrity.to_string());
    assert_eq!(json[0]["shasum"], packed.shasum.to_string());
    assert_eq!(json[0]["unpackedSize"], packed.unpacked_size);
    assert_eq!(json[0]["filename"], packed.filename);
    let paths: Vec<&str> =
        json[0]["files"].as_array().expect("files").iter().filter_map(|file| file["path"].as_str()).collect();
    assert!(paths.contains(&long.as_str()) && paths.contains(&"üml.js"), "{paths:?}");

    // And so do we.
    let read = Packed::from_tarball(&tarball).expect("read");
    assert_eq!((read.integrity, read.shasum, read.size), (packed.integrity, packed.shasum, packed.size));
    assert_eq!(read.files, packed.files);
    assert_eq!(read.manifest, packed.manifest);
    assert_eq!(read.manifest["readme"], "# Core\n");
    assert_eq!(read.manifest["bin"]["core"], "cli.js");
}

#[test]
fn says_what_it_does_not_pack() {
    let bundled = tree(&format!("== package.json\n{{{NAMED},\"bundleDependencies\":[\"dep\"]}}\n"));
    let error = pack::pack(bundled.path()).expect_err("refused");
    assert!(
        error.to_string().ends_with("package.json` bundles `dep`, and bundled dependencies are not packed")
    );
    assert!(error.hint().is_some());

    let nothing = tempfile::tempdir().expect("folder");
    assert!(matches!(pack::pack(nothing.path()), Err(PackError::PackageJson(_))));

    let braces = tree(&format!("== package.json\n{{{NAMED},\"files\":[\"{}\"]}}\n", "{a,b}".repeat(20)));
    assert!(matches!(pack::pack(braces.path()), Err(PackError::Pattern(_))));
}
