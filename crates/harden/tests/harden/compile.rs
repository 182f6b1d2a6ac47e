//! TypeScript and JSX become JavaScript that runs under the names that the package publishes.

use crate::support::{Built, Package};
use protected_harden::{EcmaVersion, HardenError, Options};

fn build(files: &[(&str, &str)]) -> Built {
    Package::of(files).harden(&Options::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(files: &[(&str, &str)]) -> HardenError {
    match Package::of(files).harden(&Options::default()) {
        Ok(built) => panic!("hardened to {:?}", built.paths()),
        Err(error) => error,
    }
}

const MODULE: &str = r#"{"name":"a","version":"1.0.0","type":"module","main":"./src/index.ts","exports":{"types":"./src/index.d.ts","default":"./src/index.ts"}}"#;

#[test]
fn a_typescript_package_runs() {
    let built = build(&[
        ("package.json", MODULE),
        (
            "src/index.ts",
            "import type { Shape } from './shape.ts';\nimport { Kind, area, type Options } from './shape.ts';\nimport { unusedType } from './types.ts';\nenum Level { Low = 1, High }\nnamespace Tools { export const twice = (n: number) => n * 2; }\nexport class Circle implements Shape { constructor(public readonly r: number, private kind = Kind.Round) {} area(): number { return area(this.r as any)!; } }\nexport function run<T extends object>(value: T, options?: Options): string { return [Level.High, Level[1], Tools.twice(4), new Circle(2).area(), (<any>value).x satisfies unknown].join(); }\nabstract class A { abstract x: number; declare y: string; z = 1; }\nexport const keys = Object.keys(new (class extends A { x = 2; })());\nexport { type Shape };\n",
        ),
        (
            "src/shape.ts",
            "export interface Shape { area(): number }\nexport type Options = {};\nexport const enum Kind { Round = 'round' }\nexport const area = (r: number): number => r * r * 3;\n",
        ),
        ("src/types.ts", "throw new Error('never loaded');\nexport type unusedType = 1;\n"),
        ("src/index.d.ts", "export declare const keys: string[];\n"),
        ("src/lazy.mts", "export default await import('./index.ts').then((all) => all.keys);\n"),
    ]);
    assert_eq!(
        built.paths(),
        [
            "integrity.json",
            "package.json",
            "src/index.d.ts",
            "src/index.js",
            "src/lazy.mjs",
            "src/shape.js",
            "src/types.js"
        ]
    );
    let out = built.node("import('a').then((all) => console.log(all.run({ x: 9 }), all.keys.join(), Object.keys(all).join())); import('./src/lazy.mjs').then((lazy) => console.log(lazy.default.length))");
    assert_eq!(out, "2,Low,8,12,9 z,x Circle,keys,run\n2\n");
    assert_eq!(built.text("package.json"), MODULE.replace("\"./src/index.ts\"", "\"./src/index.js\""));
}

#[test]
fn commonjs_output_follows_node_and_tsconfig() {
    let source = "import fs, { readFileSync } from 'fs';\nimport * as path from 'path';\nimport data = require('./data.json');\nexport default function main() { return [typeof fs.readFileSync, typeof readFileSync, path.sep, data.x].join(); }\nexport const named = 1;\nexport * from './other';\n";
    let files = [
        ("package.json", r#"{"name":"a","version":"1.0.0","main":"./index.ts"}"#),
        ("index.ts", source),
        ("other.ts", "export const other = 2; export type T = string;\n"),
        ("data.json", r#"{"x":5}"#),
    ];
    let built = build(&files);
    let out = built.node("const a = require('./'); console.log(a.default(), a.named, a.other, a.__esModule); import('./index.js').then((all) => console.log(Object.keys(all).join()))");
    assert_eq!(out, "function,function,/,5 1 2 true\n__esModule,default,named,other\n");

    let kept = [
        files[0],
        ("index.ts", "export const x: number = 1;\n"),
        ("tsconfig.json", r#"{"compilerOptions":{"module":"ESNext"}}"#),
    ];
    assert!(build(&kept).text("index.js").starts_with("export let x=1"));
}

#[test]
fn export_assignment() {
    let built = build(&[
        ("index.cts", "class A { static x = 1 }\nexport = A;\n"),
        ("tsconfig.json", r#"{"compilerOptions":{"module":"nodenext"}}"#),
    ]);
    assert_eq!(built.node("console.log(require('./index.cjs').x)"), "1\n");
    let error = refused(&[("index.mts", "const a = 1;\nexport = a;\n")]);
    assert!(error.to_string().starts_with("index.mts:2:1:"), "{error}");
}

#[test]
fn jsx_by_tsconfig() {
    let view =
        "export const view = (props: { a: number }) => <p className=\"x\" {...props}>{props.a}<></></p>;\n";
    let runtime = "exports.jsx = exports.jsxs = (type, props) => JSON.stringify([typeof type, Object.keys(props).join()]); exports.Fragment = Symbol();";
    let files = [
        ("package.json", r#"{"name":"a","version":"1.0.0"}"#),
        ("view.tsx", view),
        (
            "plain.jsx",
            "import { view } from './view.tsx';\nexport const both = () => <div>{view({ a: 1 })}</div>;\n",
        ),
        ("node_modules/react/jsx-runtime.js", runtime),
        (
            "node_modules/react/package.json",
            r#"{"name":"react","exports":{"./jsx-runtime":"./jsx-runtime.js"}}"#,
        ),
    ];
    let built = build(&files);
    assert_eq!(
        built.node("console.log(require('./view.js').view({ a: 1 }))"),
        "[\"string\",\"className,a,children\"]\n"
    );
    assert!(built.text("plain.js").contains("from\"./view.js\""), "{}", built.text("plain.js"));

    let classic = [
        files[0],
        ("view.tsx", "import { h, Fragment } from './h';\nexport const view = () => <><p /></>;\n"),
        (
            "h.ts",
            "export const h = (type: any, ...rest: any[]) => [typeof type, rest.length].join();\nexport const Fragment = () => 0;\n",
        ),
        (
            "tsconfig.json",
            r#"{"compilerOptions":{"jsx":"react","jsxFactory":"h","jsxFragmentFactory":"Fragment","module":"commonjs"}}"#,
        ),
    ];
    assert_eq!(build(&classic).node("console.log(require('./view.js').view())"), "function,2\n");
}

#[test]
fn decorators_only_as_the_project_says() {
    let source = "const log: string[] = [];\nfunction note(target: any, key?: any, descriptor?: any): any { log.push(key ?? target.name); return descriptor; }\n@note class Service { @note field = 1; @note method(@note value: string) { return value; } }\nexport { log, Service };\n";
    let error = refused(&[("index.ts", source)]);
    assert!(
        matches!(error, HardenError::Unsupported(..)) && error.to_string().starts_with("index.ts:3:1:"),
        "{error}"
    );
    assert!(error.hint().is_some());
    let built = build(&[
        ("index.ts", source),
        ("tsconfig.json", r#"{"compilerOptions":{"experimentalDecorators":true,"target":"ES2021"}}"#),
    ]);
    assert_eq!(built.node("const a = require('./index.js'); console.log(a.log.slice(0, 3).join(), new a.Service().field, a.Service.length)"), "field,method,method 1 0\n");
}

#[test]
fn class_fields_as_the_project_says() {
    let source = "class Base { constructor() { (this as any).init(); } init() {} }\nexport class Sub extends Base { value?: string; init() { this.value = 'set'; } }\n";
    for (config, expected) in [
        (r#"{"compilerOptions":{"target":"ES2020"}}"#, "set\n"),
        (r#"{"compilerOptions":{"target":"ES2022"}}"#, "undefined\n"),
        (r#"{"compilerOptions":{"target":"ES2022","useDefineForClassFields":false}}"#, "set\n"),
        (r#"{"compilerOptions":{"target":"ES2020","useDefineForClassFields":true}}"#, "undefined\n"),
    ] {
        let built = build(&[("index.ts", source), ("tsconfig.json", config)]);
        assert_eq!(built.node("console.log(new (require('./index.js').Sub)().value)"), expected, "{config}");
    }
}

#[test]
fn syntax_is_lowered_to_the_target() {
    let source = "export class A { #x = 1; static s = 2; get x() { return this.#x ?? 0; } async *g() { yield 1; } async f({ a, ...rest }: any) { try { return rest?.b ** 2; } catch { return 0; } } }\nlet v: any; v ||= 5; export { v };\n";
    let options = Options { target: Some(EcmaVersion::Es2015), ..Options::default() };
    let built =
        Package::of(&[("index.ts", source)]).harden(&options).unwrap_or_else(|error| panic!("{error}"));
    let code = built.text("index.js").replace("/*#__PURE__*/", "");
    for newer in ["??", "||=", "**", "async ", "?.", "#", "catch{", "..."] {
        assert!(!code.contains(newer), "{newer} in {code}");
    }
    assert_eq!(built.node("const { A, v } = require('./index.js'); new A().f({ b: 3 }).then((r) => console.log(new A().x, A.s, r, v))"), "1 2 9 5\n");
}

#[test]
fn javascript_follows_renamed_files() {
    let built = build(&[
        ("package.json", r#"{"name":"a","version":"1.0.0","type":"module","bin":{"a":"bin/run"}}"#),
        ("lib/a.ts", "export const a: string = 'a';\n"),
        ("lib/b.mts", "export const b: string = 'b';\n"),
        (
            "index.js",
            "import { a } from './lib/a.ts';\nexport * from './lib/b.mts';\nconst url = new URL('./lib/a.ts', import.meta.url);\nconst text = './lib/a.ts';\nexport const found = [a, url.pathname.slice(-8), (await import(`./lib/b.mts`)).b, text];\n",
        ),
        ("bin/run", "#!/usr/bin/env node\nimport('../lib/a.ts').then((all) => console.log(all.a));\n"),
    ]);
    assert_eq!(
        built.node("import('./index.js').then((all) => console.log(all.found.join(), all.b))"),
        "a,lib/a.js,b,./lib/a.ts b\n"
    );
    assert!(
        built.text("bin/run").starts_with("#!/usr/bin/env node\nimport(\"../lib/a.js\")"),
        "{}",
        built.text("bin/run")
    );
}

#[test]
fn two_files_never_become_one() {
    for files in [
        [("a.ts", "export {}"), ("a.js", "")],
        [("a.ts", "export {}"), ("a.tsx", "export {}")],
        [("a.jsx", ""), ("a.js", "")],
    ] {
        let error = refused(&files);
        assert!(matches!(&error, HardenError::Collision { published, .. } if published == "a.js"), "{error}");
    }
    build(&[("a.ts", "export {}"), ("a.mts", "export {}"), ("a.d.ts", "export {}"), ("a.cjs", "")]);
}

#[test]
fn errors_name_the_place() {
    for (path, text, start) in [
        ("a.ts", "let a = 1;\nlet b: = 2;\n", "a.ts:2:8: "),
        ("a.js", "const x = { y: 1 ;\n", "a.js:1:18: "),
        ("a.mjs", "with (a) {}\n", "a.mjs:1:1: "),
        ("a.cjs", "import a from 'a';\n", "a.cjs:1:1: "),
        ("a.tsx", "const a = <p>;\n", "a.tsx:2:1: "),
        ("a.js", "export const view = <p/>;\n", "a.js:1:24: "),
    ] {
        let error = refused(&[(path, text)]);
        assert!(
            matches!(error, HardenError::Syntax(_)) && error.to_string().starts_with(start),
            "{path} {error}"
        );
    }
}

#[test]
fn a_module_that_only_types_are_imported_from_is_not_loaded() {
    let verbatim = [
        ("package.json", MODULE),
        (
            "src/index.ts",
            "import { x } from './effect.ts';\nimport type { y } from './effect.ts';\nexport const z = 1;\n",
        ),
        ("src/effect.ts", "console.log('loaded');\nexport const x = 1; export type y = 1;\n"),
        ("tsconfig.json", r#"{"compilerOptions":{"verbatimModuleSyntax":true}}"#),
    ];
    assert_eq!(build(&verbatim).node("import('a')"), "loaded\n");
    assert_eq!(build(&verbatim[..3]).node("import('a')"), "");
}

#[test]
fn exported_types_of_other_files_are_left_out() {
    let built = build(&[
        ("package.json", MODULE),
        (
            "src/index.ts",
            "export { Shape, make, Deep } from './shape.ts';\nimport { Shape as S, other } from './shape.ts';\nexport { S, other };\nimport D from './default.ts';\nexport { D };\n",
        ),
        (
            "src/shape.ts",
            "export interface Shape {}\nexport const make = () => 1;\nexport const other = 2;\nexport { Deep } from './deep.ts';\n",
        ),
        ("src/deep.ts", "type Deep = string;\nexport { Deep };\n"),
        ("src/default.ts", "export default interface Props {}\n"),
    ]);
    assert_eq!(built.node("import('a').then((all) => console.log(Object.keys(all).join()))"), "make,other\n");
}
