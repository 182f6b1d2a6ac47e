//! Declaration files that are reduced to what users of the entry points see, judged by the TypeScript compiler.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use protected_harden::{Declarations, HardenError, Options};

use crate::support::{Built, Package, list};

fn options() -> Options {
    Options { declarations: Declarations::Public, ..Options::default() }
}

fn build(files: &[(&str, &str)]) -> Built {
    Package::of(files).harden(&options()).unwrap_or_else(|error| panic!("{error}"))
}

fn declarations(built: &Built) -> Vec<String> {
    built.paths().into_iter().filter(|path| path.contains(".d.")).collect()
}

/// Compiles `source` as a program that has the package in `folder` installed; returns what the compiler objects to.
fn compile(folder: &Path, source: &str) -> String {
    let program = tempfile::tempdir().expect("folder");
    let installed = program.path().join("node_modules/sample");
    for path in list(folder) {
        let place = installed.join(&path);
        fs::create_dir_all(place.parent().expect("parent")).expect("folder");
        fs::copy(folder.join(path), place).expect("copy");
    }
    fs::write(program.path().join("package.json"), r#"{"type":"module"}"#).expect("package.json");
    fs::write(program.path().join("main.ts"), source).expect("main.ts");
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools");
    let tsc: PathBuf = tools.join("typescript/bin/tsc");
    assert!(tsc.exists(), "no TypeScript compiler: install it with `cargo xtask tools`");
    let output = Command::new(tsc)
        .args([
            "--noEmit", "--strict", "--module", "nodenext", "--target", "es2022", "--types", "", "main.ts",
        ])
        .current_dir(program.path())
        .output()
        .expect("tsc");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.success(), said.trim().is_empty(), "{said}");
    said
}

const MANIFEST: &str = r#"{"name":"sample","version":"1.0.0","type":"module","exports":{".":{"types":"./dist/index.d.ts","default":"./dist/index.js"},"./tools/*":"./dist/tools/*.js","./old":{"node":{"require":{"types":"./dist/old.d.cts","default":"./dist/old.cjs"}}}}}"#;

const FILES: &[(&str, &str)] = &[
    ("package.json", MANIFEST),
    (
        "dist/index.d.ts",
        "import { Secret, Key } from './secret.js';\nimport type { Options } from './options.js';\nexport * from './shapes/index.js';\nexport type { Options };\n/** A client. */\nexport declare class Client {\n    /** How it was made. */\n    readonly options: Options;\n    private key: Key;\n    private constructor(secret: Secret);\n    private sign(text: string): Key;\n    private sign(text: Uint8Array): Key;\n    /** Opens one. */\n    static open(options: Options): Client;\n    /** @internal */\n    debug(secret: Secret): void;\n}\n/** @internal */\nexport declare function hidden(): Secret;\nexport declare const late: Promise<typeof import('./late.js')>;\n//# sourceMappingURL=index.d.ts.map\n",
    ),
    ("dist/index.d.ts.map", r#"{"version":3,"sources":["../src/index.ts"],"names":[],"mappings":""}"#),
    ("dist/index.js", "export class Client {}\nexport function hidden() {}\nexport const late = 1;\n"),
    ("dist/secret.d.ts", "export interface Secret { inner: string }\nexport type Key = string;\n"),
    ("dist/options.d.ts", "/// <reference path=\"flags.d.ts\" />\nexport interface Options { name: Flag }\n"),
    ("dist/flags.d.ts", "declare type Flag = 'a' | 'b';\n"),
    ("dist/shapes/index.d.ts", "export { Shape } from './shape.js';\n"),
    (
        "dist/shapes/shape.d.ts",
        "export interface Shape {\n    side: number;\n    /** @internal */\n    cache: number;\n}\n",
    ),
    ("dist/late.d.ts", "export declare const value: number;\n"),
    ("dist/tools/one.d.ts", "export declare function one(): number;\n"),
    ("dist/tools/one.js", "export function one() { return 1; }\n"),
    ("dist/tools/deep/two.d.ts", "export declare function two(): number;\n"),
    ("dist/old.d.cts", "import fs = require('./old-inner.cjs');\nexport = fs;\n"),
    ("dist/old.cjs", "module.exports = 1;\n"),
    ("dist/old-inner.d.cts", "declare const inner: number;\nexport = inner;\n"),
    ("dist/inner/unused.d.ts", "export declare const unused: number;\n"),
    ("dist/other.d.mts", "export {};\n"),
];

const PUBLIC: &str = "import { Client, late, type Options, type Shape } from 'sample';\nimport { one } from 'sample/tools/one';\nimport { two } from 'sample/tools/deep/two';\nconst options: Options = { name: 'a' };\nexport const client: Client = Client.open(options);\nexport const side = (shape: Shape): number => shape.side + one() + two();\nexport const value: number = (await late).value;\n";

#[test]
fn users_of_the_public_api_notice_nothing() {
    let package = Package::of(FILES);
    let built = package.harden(&options()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(compile(package.folder.path(), PUBLIC), "");
    assert_eq!(compile(&built.artifact(), PUBLIC), "");
    assert_eq!(
        declarations(&built),
        [
            "dist/flags.d.ts",
            "dist/index.d.ts",
            "dist/late.d.ts",
            "dist/old-inner.d.cts",
            "dist/old.d.cts",
            "dist/options.d.ts",
            "dist/shapes/index.d.ts",
            "dist/shapes/shape.d.ts",
            "dist/tools/deep/two.d.ts",
            "dist/tools/one.d.ts",
        ]
    );
    let left_out: Vec<&String> = built.hardened.shaken.iter().collect();
    assert_eq!(left_out, ["dist/inner/unused.d.ts", "dist/other.d.mts", "dist/secret.d.ts"]);
    assert!(built.hardened.kept_apart.is_empty());
    let index = built.text("dist/index.d.ts");
    for gone in ["Secret", "Key", "Uint8Array", "hidden", "debug", "@internal"] {
        assert!(!index.contains(gone), "{gone}: {index}");
    }
    for kept in ["/** A client. */", "/** How it was made. */", "private sign;", "private constructor();"] {
        assert!(index.contains(kept), "{kept}: {index}");
    }
}

#[test]
fn users_of_internals_are_refused() {
    let package = Package::of(FILES);
    let built = package.harden(&options()).unwrap_or_else(|error| panic!("{error}"));
    for (source, objection) in [
        ("import { hidden } from 'sample';\nhidden();\n", "'hidden'"),
        ("import { Client } from 'sample';\nClient.open({ name: 'a' }).debug({ inner: '' });\n", "'debug'"),
        (
            "import type { Shape } from 'sample';\nexport const at = (shape: Shape) => shape.cache;\n",
            "'cache'",
        ),
        (
            "import { unused } from './node_modules/sample/dist/inner/unused.js';\nexport const at = unused;\n",
            "unused.js",
        ),
    ] {
        assert_eq!(compile(package.folder.path(), source), "", "{source}");
        let said = compile(&built.artifact(), source);
        assert!(said.contains("error TS") && said.contains(objection), "{source}: {said}");
    }
    let said = compile(&built.artifact(), "import { Client } from 'sample';\nnew Client();\n");
    assert!(said.contains("TS2673"), "the constructor is private still: {said}");
}

#[test]
fn nothing_changes_unless_asked_for() {
    let built = Package::of(FILES).harden(&Options::default()).unwrap_or_else(|error| panic!("{error}"));
    for (path, content) in FILES.iter().filter(|(path, _)| path.contains(".d.") && !path.ends_with(".map")) {
        assert_eq!(built.text(path), *content, "{path}");
    }
    assert!(built.hardened.pipeline.iter().all(|step| step.step != "declarations"));
}

#[test]
fn files_stay_where_others_may_need_them() {
    let unused = ("lib/unused.d.ts", "export declare class A {\n    private x: string;\n}\n");
    let index = ("index.d.ts", "export {};\n");
    for (manifest, more, reason) in [
        (r#"{"name":"sample","version":"1.0.0","types":"index.d.ts"}"#, None, "no `exports`"),
        (
            r#"{"name":"sample","version":"1.0.0","exports":"./index.js","typesVersions":{"<5":{"*":["old/*"]}}}"#,
            None,
            "`typesVersions`",
        ),
        (
            r#"{"name":"sample","version":"1.0.0","exports":"./index.js"}"#,
            Some(("lib/global.d.ts", "declare const everywhere: string;\n")),
            "`lib/global.d.ts`",
        ),
        (
            r#"{"name":"sample","version":"1.0.0","exports":"./index.js"}"#,
            Some(("lib/more.d.ts", "declare global { const everywhere: string; }\nexport {};\n")),
            "`lib/more.d.ts`",
        ),
    ] {
        let files: Vec<_> =
            [("package.json", manifest), ("index.js", ""), unused, index].into_iter().chain(more).collect();
        let built = build(&files);
        assert!(built.hardened.shaken.is_empty());
        let said = &built.hardened.kept_apart["lib/unused.d.ts"];
        assert!(said.contains(reason), "{said}");
        assert!(!built.hardened.kept_apart.contains_key("index.d.ts"));
        assert!(built.text("lib/unused.d.ts").contains("private x;"));
    }
    let closed = build(&[
        ("package.json", r#"{"name":"sample","version":"1.0.0","exports":"./index.js"}"#),
        ("index.js", ""),
        unused,
        index,
        ("node_modules/dep/index.d.ts", "export declare class A {\n    private x: string;\n}\n"),
    ]);
    assert_eq!(declarations(&closed), ["index.d.ts", "node_modules/dep/index.d.ts"]);
    assert!(closed.text("node_modules/dep/index.d.ts").contains("private x: string;"));
}

#[test]
fn maps_and_unreadable_files_do_not_pass() {
    assert!(!build(FILES).paths().iter().any(|path| path.ends_with(".map")));
    let broken = [("index.d.ts", "export declare class {\n"), ("index.js", "")];
    let error = Package::of(&broken).harden(&options()).err().expect("refused");
    assert!(matches!(&error, HardenError::Syntax(_)) && error.to_string().contains("index.d.ts"), "{error}");
}
