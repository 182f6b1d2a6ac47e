//! Packages whose modules are merged: the same script says the same before and after.

use protected_harden::{HardenError, Options};

use crate::support::{Built, Package, contents, node};

fn options() -> Options {
    Options { bundle: true, ..Options::default() }
}

/// Hardens the package in several ways and runs `script` before and after each; returns the default's result.
fn same(files: &[(&str, &str)], script: &str) -> Built {
    let package = Package::of(files);
    let before = node(package.folder.path(), &["--no-warnings", "--input-type=module", "-e", script]);
    assert!(!before.trim().is_empty(), "a script that says nothing proves nothing");
    let mut built = None;
    for (minify, keep_names) in [(false, true), (true, true), (true, false)] {
        let options = Options { minify, keep_names, ..options() };
        let made = package.harden(&options).unwrap_or_else(|error| panic!("{error}"));
        let run = std::process::Command::new("node")
            .args(["--no-warnings", "--input-type=module", "-e", script])
            .current_dir(made.artifact())
            .output()
            .expect("node");
        let after = String::from_utf8_lossy(&run.stdout);
        let texts: Vec<String> =
            code(&made).iter().map(|path| format!("// {path}\n{}", made.text(path))).collect();
        assert_eq!(
            after,
            before,
            "minify {minify}: {}\n{}",
            String::from_utf8_lossy(&run.stderr),
            texts.join("\n")
        );
        built = Some(made);
    }
    built.expect("built")
}

fn code(built: &Built) -> Vec<String> {
    let is_code = |path: &String| [".js", ".mjs", ".cjs"].iter().any(|ending| path.ends_with(ending));
    built.paths().into_iter().filter(is_code).collect()
}

const ESM: (&str, &str) =
    ("package.json", r#"{"name":"sample","version":"1.0.0","type":"module","exports":"./index.js"}"#);
const CJS: (&str, &str) = ("package.json", r#"{"name":"sample","version":"1.0.0","exports":"./index.js"}"#);

#[test]
fn es_modules_run_in_their_order_with_live_bindings() {
    let built = same(
        &[
            ESM,
            (
                "index.js",
                "import './first.js';\nimport { count, increment as more } from './counter.js';\nimport './last.js';\nconsole.log('index', count);\nmore();\nconsole.log(count);\nexport { count, more };\nexport let own = 1;\nexport function change() { own++; }\n",
            ),
            (
                "first.js",
                "import { count } from './counter.js';\nconsole.log('first', count);\nconst value = 'first';\nexport { value };\n",
            ),
            (
                "counter.js",
                "console.log('counter');\nexport let count = 0;\nexport function increment() { count++; }\nconst value = 'counter';\nconsole.log(value);\n",
            ),
            ("last.js", "import { value } from './first.js';\nconsole.log('last', value);\n"),
        ],
        "const all = await import('./index.js');\nall.more(); all.change();\nconsole.log(all.count, all.own, Object.keys(all));",
    );
    assert_eq!(code(&built), ["index.js"]);
}

#[test]
fn cycles_and_errors_before_initialisation_stay() {
    let built = same(
        &[
            ESM,
            (
                "index.js",
                "import { a } from './a.js';\nconsole.log('index', a());\nexport const early = () => 'index';\n",
            ),
            (
                "a.js",
                "import { b, tryLate } from './b.js';\nexport function a() { return 'a' + b(); }\nexport const late = 5;\nconsole.log('a', tryLate());\n",
            ),
            (
                "b.js",
                "import { a, late } from './a.js';\nimport * as self from './b.js';\nexport function b() { return 'b'; }\nexport function tryLate() { try { return late; } catch (error) { return error.name; } }\nconsole.log('b', a(), tryLate(), typeof self.b);\n",
            ),
        ],
        "const all = await import('./index.js'); console.log(all.early());",
    );
    assert_eq!(code(&built), ["index.js"]);
}

#[test]
fn stars_hand_on_what_they_should() {
    same(
        &[
            ESM,
            (
                "index.js",
                "export * from './a.js';\nexport * from './b.js';\nexport * as inner from './c.js';\nexport { default } from './c.js';\nexport { default as again, one as 'a name' } from './c.js';\nexport const own = 'index';\n",
            ),
            (
                "a.js",
                "export const both = 'a';\nexport const own = 'a';\nexport const onlyA = 1;\nexport default 'a';\nexport * from './shared.js';\n",
            ),
            ("b.js", "export const both = 'b';\nexport const onlyB = 2;\nexport * from './shared.js';\n"),
            ("c.js", "export const one = 1;\nexport default class {}\n"),
            ("shared.js", "export const shared = {};\n"),
        ],
        "const all = await import('./index.js');\nconsole.log(Object.keys(all), all.own, all.default.name, all['a name'], all.again === all.default);\nconsole.log(Object.prototype.toString.call(all.inner), Object.keys(all.inner), Object.getOwnPropertyDescriptor(all.inner, 'one'), Object.isExtensible(all.inner));",
    );
}

#[test]
fn default_exports_keep_their_names() {
    let built = same(
        &[
            ESM,
            (
                "index.js",
                "import arrow from './arrow.js';\nimport fn, { early } from './function.js';\nimport Class from './class.js';\nimport named from './named.js';\nimport value from './value.js';\nimport Static from './static.js';\nimport paren from './paren.js';\nconsole.log(arrow.name, fn.name, Class.name, named(), value, Static.name(), early, paren.name);\nexport default function () { return 1; }\n",
            ),
            ("arrow.js", "export default () => 1;\n"),
            (
                "function.js",
                "export const early = fn();\nimport fn from './function.js';\nexport default function () { return 'early'; }\n",
            ),
            ("class.js", "export default class { get x() { return 1; } }\n"),
            (
                "named.js",
                "let count = 0;\nexport default function named() { named = () => 'changed'; return ++count; }\n",
            ),
            ("value.js", "let value = 1;\nexport default value;\nvalue = 2;\n"),
            ("static.js", "export default class { static name() { return 'own'; } }\n"),
            ("paren.js", "export default (function () {});\n"),
        ],
        "const all = await import('./index.js'); console.log(all.default.name, all.default());",
    );
    assert_eq!(code(&built), ["index.js"]);
}

#[test]
fn names_that_meet_are_told_apart() {
    let built = same(
        &[
            ESM,
            (
                "index.js",
                "import { read, helper as other } from './a.js';\nimport { make } from './b.js';\nconst console2 = console;\nfunction helper() { return 'index'; }\nexport function run(read2) { const make2 = 'inner'; return [helper(), read(), other(), make(), read2, make2]; }\nfunction shadow(name) { return name + read(); }\nconsole2.log(run('x'), shadow('y'), helper.name, other.name);\n",
            ),
            (
                "a.js",
                "const name = 'a';\nexport function helper() { return name; }\nconst process = { a: 1 };\nexport function read() { return Object.keys(process).length + name; }\n",
            ),
            (
                "b.js",
                "const name = 'b';\nfunction helper() { return name; }\nexport function make(index = helper) { const { name } = { name: 'inner' }; const object = { name, helper }; return index() + object.name + object.helper.name + typeof process.argv; }\n",
            ),
        ],
        "import './index.js';",
    );
    assert_eq!(code(&built), ["index.js"]);
}

#[test]
fn namespaces_are_real() {
    let built = same(
        &[
            ESM,
            (
                "index.js",
                "import * as util from './util.js';\nimport * as plain from './plain.js';\nimport { same } from './other.js';\nconsole.log(plain.double(2), plain['double'](3), typeof plain.double);\nconsole.log(same(util), Object.prototype.toString.call(util), Object.keys(util));\nconsole.log(Object.getOwnPropertyDescriptor(util, 'value'), Reflect.getPrototypeOf(util), 'none' in util, util.none);\nutil.change();\nconsole.log(util.value, util.me() === util);\ntry { util.value = 1; } catch (error) { console.log(error.name); }\nexport { util };\n",
            ),
            (
                "other.js",
                "import * as util from './util.js';\nexport function same(other) { return util === other; }\n",
            ),
            (
                "util.js",
                "export let value = 1;\nexport function change() { value++; }\nexport function me() { return this; }\nexport default 5;\n",
            ),
            (
                "plain.js",
                "export function double(x) { return 2 * x; }\nexport const unused = 'nobody reads this';\n",
            ),
        ],
        "const { util } = await import('./index.js'); console.log(util.value, util === (await import('./index.js')).util);",
    );
    assert!(
        !code(&built).iter().any(|path| built.text(path).contains("nobody reads")),
        "kept what nobody needs"
    );
}

#[test]
fn shared_state_stays_one() {
    let built = same(
        &[
            (
                "package.json",
                r#"{"name":"sample","version":"1.0.0","type":"module","exports":{".":"./index.js","./two":"./two.js","./three/*":"./three/*.js"}}"#,
            ),
            (
                "index.js",
                "import { add } from './state.js';\nimport './log.js';\nadd('index');\nexport { list } from './state.js';\nexport { inner } from './deep/inner.js';\n",
            ),
            (
                "two.js",
                "import { add, list } from './state.js';\nadd('two');\nexport { list };\nexport * from './index.js';\n",
            ),
            (
                "three/x.js",
                "import { list } from '../state.js';\nexport const size = list.size;\nexport const load = () => import('../deep/lazy.js');\n",
            ),
            ("state.js", "export const list = new Set();\nexport function add(name) { list.add(name); }\n"),
            ("log.js", "console.log('log');\n"),
            (
                "deep/inner.js",
                "import { add } from '../state.js';\nadd('inner');\nexport const inner = () => import('./lazy.js');\n",
            ),
            (
                "deep/lazy.js",
                "import { list } from '../state.js';\nimport { only } from './only.js';\nexport default [...list].join();\nexport { only };\n",
            ),
            ("deep/only.js", "export const only = 'lazy';\n"),
            ("orphan.js", "console.log('nobody');\n"),
        ],
        "const two = await import('./two.js'); const one = await import('./index.js'); const three = await import('./three/x.js');\nconsole.log(one.list === two.list, [...one.list], three.size, two.inner === one.inner, Object.keys(two));\nconsole.log(Object.entries(await three.load()), (await three.load()) === (await one.inner()));",
    );
    let paths = code(&built);
    for gone in ["state.js", "log.js", "deep/inner.js", "deep/only.js", "orphan.js"] {
        assert!(!paths.contains(&gone.to_owned()), "{gone} is still there");
    }
    assert!(built.hardened.shaken.contains("orphan.js"));
    let modules = &built.hardened.modules;
    let made_of = |path: &str| modules[path].iter().map(String::as_str).collect::<Vec<_>>();
    assert!(made_of("index.js").contains(&"deep/inner.js"), "{modules:?}");
    assert_eq!(made_of("deep/lazy.js"), ["deep/lazy.js", "deep/only.js"]);
    let all: Vec<_> = modules.values().flatten().collect();
    assert_eq!(all.iter().filter(|path| **path == "state.js").count(), 1, "each source file is in one file");
    assert!(!all.contains(&&"orphan.js".to_owned()));
    assert_eq!(built.hardened.kept_apart.keys().collect::<Vec<_>>(), ["deep/lazy.js"]);
}

#[test]
fn order_among_shared_modules_and_dependencies_stays() {
    let built = same(
        &[
            (
                "package.json",
                r#"{"name":"sample","version":"1.0.0","type":"module","exports":{".":"./index.js","./two":"./two.js"}}"#,
            ),
            (
                "node_modules/dep/package.json",
                r#"{"name":"dep","version":"1.0.0","type":"module","exports":"./dep.js"}"#,
            ),
            ("node_modules/dep/dep.js", "console.log('dep sees', globalThis.patched);\nexport default 1;\n"),
            (
                "index.js",
                "import './before.js';\nimport dep from 'dep';\nimport './shared.js';\nimport './after.js';\nconsole.log('index', dep);\n",
            ),
            ("two.js", "import './shared.js';\nimport './two-only.js';\nconsole.log('two');\n"),
            ("before.js", "globalThis.patched = 'before';\nconsole.log('before');\n"),
            ("shared.js", "console.log('shared');\n"),
            ("after.js", "console.log('after');\nglobalThis.patched = 'after';\n"),
            ("two-only.js", "console.log('two-only', globalThis.patched);\n"),
        ],
        "await import('./index.js'); await import('./two.js');",
    );
    assert!(!code(&built).contains(&"after.js".to_owned()));
}

#[test]
fn top_level_await_keeps_its_order() {
    same(
        &[
            ESM,
            (
                "index.js",
                "import './slow.js';\nimport './quick.js';\nimport { pure } from './pure.js';\nconsole.log('index', pure());\nawait null;\nconsole.log('index later');\nexport const done = true;\n",
            ),
            (
                "slow.js",
                "console.log('slow starts');\nawait new Promise((resolve) => setTimeout(resolve, 20));\nconsole.log('slow ends');\n",
            ),
            ("quick.js", "import './quicker.js';\nconsole.log('quick');\n"),
            ("quicker.js", "console.log('quicker');\n"),
            ("pure.js", "export function pure() { return 'pure'; }\n"),
        ],
        "console.log((await import('./index.js')).done);",
    );
}

#[test]
fn what_depends_on_its_place_stays_there() {
    let built = same(
        &[
            ESM,
            (
                "index.js",
                "import { here } from './lib/here.js';\nimport { near } from './lib/near.js';\nimport data from './lib/data.json' with { type: 'json' };\nimport { evaluated } from './lib/eval.js';\nconsole.log(here, near, data.value, evaluated('secret'));\nconst worker = new URL('./lib/worker.js', import.meta.url);\nconsole.log(worker.href.split('/').slice(-2).join('/'), (await import('./lib/worker.js')).default);\nconsole.log(await import('./lib/absent.js').catch((error) => error.code));\n",
            ),
            ("lib/here.js", "export const here = import.meta.url.split('/').slice(-2).join('/');\n"),
            (
                "lib/near.js",
                "import { deep } from './deep/deep.js';\nimport data from './data.json' with { type: 'json' };\nexport const near = deep + data.value;\n",
            ),
            (
                "lib/deep/deep.js",
                "import data from '../data.json' with { type: 'json' };\nexport const deep = 'deep' + data.value;\n",
            ),
            ("lib/data.json", r#"{"value": 7}"#),
            (
                "lib/eval.js",
                "const secret = 'seen';\nexport function evaluated(name) { return eval(name); }\n",
            ),
            ("lib/worker.js", "import './from-worker.js';\nexport default 'worker';\n"),
            ("lib/from-worker.js", "console.log('from worker');\n"),
        ],
        "import './index.js';",
    );
    let paths = code(&built);
    assert!(!paths.contains(&"lib/near.js".to_owned()) && !paths.contains(&"lib/deep/deep.js".to_owned()));
    let apart: Vec<_> = built.hardened.kept_apart.keys().map(String::as_str).collect();
    assert_eq!(apart, ["lib/eval.js", "lib/here.js", "lib/worker.js"]);
}

#[test]
fn imported_json_becomes_a_part() {
    let files = &[
        (
            "package.json",
            r#"{"name":"sample","version":"1.0.0","type":"module","exports":{".":"./index.js","./two":"./two.js","./named.json":"./named.json"}}"#,
        ),
        (
            "index.js",
            "import data from './data/one.json' with { type: 'json' };\nimport odd from './odd.json' with { type: 'json' };\nimport named from './named.json' with { type: 'json' };\nimport { createRequire } from 'node:module';\nimport both from './both.json' with { type: 'json' };\nimport * as all from './space.json' with { type: 'json' };\nimport two from './two.js';\ndata.list.push('changed');\nconsole.log(data, Object.keys(odd), odd.__proto__, Object.getPrototypeOf(odd) === Object.prototype, named, both, Object.keys(all), two);\nexport { default as again } from './data/one.json' with { type: 'json' };\n",
        ),
        ("two.js", "import data from './data/one.json' with { type: 'json' };\nexport default data;\n"),
        ("data/one.json", "{\"list\": [1, -0, \"</script>\u{2028}\"], \"a\": 1, \"a\": 2}"),
        ("odd.json", r#"{"__proto__": {"x": 1}, "text": "\ud83d\ude00"}"#),
        ("named.json", r#"{"named": true}"#),
        ("both.json", r#""both""#),
        ("space.json", r#"[1]"#),
        ("lazy.cjs", "module.exports = require('./both.json');\n"),
        ("reader.js", "import('./lazy.cjs');\n"),
    ];
    let built = same(
        files,
        "const all = await import('./index.js'); const two = await import('./two.js'); console.log(two.default === all.again, all.again.list);",
    );
    let json: Vec<String> = built.paths().into_iter().filter(|path| path.ends_with(".json")).collect();
    assert_eq!(json, ["integrity.json", "named.json", "package.json", "space.json"]);
}

#[test]
fn json_that_cannot_be_a_module_stays_a_file() {
    let files = &[
        ESM,
        (
            "index.js",
            "import both from './both.json' with { type: 'json' };\nimport { readFileSync } from 'node:fs';\nimport lazy from './lazy.cjs';\nimport read from './read.json' with { type: 'json' };\nconsole.log(both === lazy, read, JSON.parse(readFileSync(new URL('./read.json', import.meta.url))));\nconsole.log(await import('./bad.js').catch((error) => error.name));\n",
        ),
        ("both.json", r#"{"both": 1}"#),
        ("read.json", r#"{"read": 1}"#),
        ("bad.json", "{no json}"),
        ("bad.js", "import bad from './bad.json' with { type: 'json' };\nexport default bad;\n"),
        ("lazy.cjs", "module.exports = require('./both.json');\n"),
    ];
    let built = same(files, "import './index.js';");
    for path in ["both.json", "read.json", "bad.json"] {
        assert!(built.paths().contains(&path.to_owned()), "{path}");
    }
}

#[test]
fn names_of_the_package_lead_inside_it() {
    let built = same(
        &[
            (
                "package.json",
                r##"{"name":"sample","version":"1.0.0","type":"module","exports":{".":"./index.js","./sub/*":{"types":"./sub/*.d.ts","default":"./sub/*.js"}},"imports":{"#one":{"node":"./inner/one.js","default":"./inner/one.js"},"#kind":{"import":"./lib/kind.js","require":"./lib/kind.cjs"},"#either":{"node":"./lib/node.js","default":"./lib/other.js"},"#lib/*":"./lib/*.js"}}"##,
            ),
            (
                "index.js",
                "import { one } from '#one';\nimport { kind } from '#kind';\nimport { either } from '#either';\nimport { two } from '#lib/two';\nimport { sub } from 'sample/sub/a';\nimport * as self from 'sample';\nexport const own = 1;\nconsole.log(one, kind, either, two, sub, Object.keys(self));\n",
            ),
            ("inner/one.js", "export const one = 'one';\n"),
            ("lib/kind.js", "export const kind = 'import';\n"),
            ("lib/kind.cjs", "exports.kind = 'require';\n"),
            ("lib/node.js", "export const either = 'node';\n"),
            ("lib/other.js", "export const either = 'other';\n"),
            ("lib/two.js", "export const two = 'two';\n"),
            ("sub/a.js", "import { own } from 'sample';\nexport const sub = () => own;\n"),
        ],
        "const all = await import('sample'); const { sub } = await import('sample/sub/a'); console.log(all.own, sub());",
    );
    let paths = code(&built);
    assert!(!paths.contains(&"inner/one.js".to_owned()), "{paths:?}");
    let text = built.text("index.js");
    assert!(text.contains("#either") && !text.contains("#one") && !text.contains("sample/sub"), "{text}");
    let apart = &built.hardened.kept_apart;
    assert!(apart["lib/node.js"].ends_with("in package.json may lead to it"), "{apart:?}");
}

#[test]
fn dependencies_and_their_stars_stay_outside() {
    same(
        &[
            (
                "package.json",
                r##"{"name":"sample","version":"1.0.0","type":"module","exports":"./index.js","imports":{"#inner":"./inner.js","#either":{"node":"./node.js","default":"./other.js"}}}"##,
            ),
            (
                "node_modules/dep/package.json",
                r#"{"name":"dep","version":"1.0.0","type":"module","exports":"./dep.js"}"#,
            ),
            (
                "node_modules/dep/dep.js",
                "export let live = 1;\nexport const change = () => { live++; };\nexport default 'dep';\nexport const both = 'dep';\n",
            ),
            (
                "index.js",
                "import dep, { live, change as alter } from 'dep';\nimport * as all from 'dep';\nimport { readFileSync } from 'node:fs';\nimport { viaInner, live as again } from './via.js';\nimport { inner } from '#inner';\nimport { either } from '#either';\nalter();\nconsole.log(dep, live, again, all.live, viaInner, inner, either, typeof readFileSync);\nexport * from './via.js';\n",
            ),
            (
                "via.js",
                "import { readFileSync } from 'fs';\nexport * from 'dep';\nexport const both = 'via';\nexport const viaInner = typeof readFileSync;\n",
            ),
            ("inner.js", "export const inner = 'inner';\n"),
            ("node.js", "export const either = 'node';\n"),
            ("other.js", "export const either = 'other';\n"),
        ],
        "const all = await import('./index.js'); console.log(Object.keys(all), all.both);",
    );
}

#[test]
fn common_js_runs_when_it_is_required() {
    let built = same(
        &[
            CJS,
            (
                "index.js",
                "#!/usr/bin/env node\nconsole.log('index');\nconst a = require('./a');\nexports.a = a;\nexports.lazy = () => require('./lib/lazy.js');\nexports.data = require('./lib/data');\nif (process.env.NEVER_SET) require('./missing');\ntry { require('./gone'); } catch (error) { exports.gone = error.code; }\nexports.same = require('./lib/data.json') === exports.data;\nconst load = 'index';\nexports.load = load;\n",
            ),
            (
                "a.js",
                "'use strict';\nconsole.log('a', this === exports, module.exports === exports, (function () { return this; })() === undefined);\nexports.early = 1;\nconst b = require('./b.js');\nexports.late = b.seen;\nconst exports2 = { exports };\nexports.shorthand = exports2.exports === exports;\n",
            ),
            (
                "b.js",
                "console.log('b', (function () { return this === globalThis; })());\nconst a = require('./a');\nexports.seen = Object.keys(a).join();\nvar load = 'b';\nexports.load = load + typeof module + typeof require;\nreturn;\n",
            ),
            (
                "lib/lazy.js",
                "console.log('lazy');\nmodule.exports = class Lazy { static made = require('../b').seen };\n",
            ),
            ("lib/data.json", r#"{"__proto__": {"x": 1}, "value": "</script>\u2028"}"#),
        ],
        "const { default: all } = await import('./index.js');\nconsole.log(all.a, all.lazy() === all.lazy(), all.lazy().made, all.data, all.gone, all.same, all.load);",
    );
    assert_eq!(code(&built), ["index.js"]);
}

#[test]
fn common_js_errors_and_replaced_exports_stay() {
    same(
        &[
            CJS,
            (
                "index.js",
                "module.exports = require('./lib');\nmodule.exports.tries = [1, 2, 3].map(() => { try { return require('./flaky').value; } catch (error) { return error.message; } });\n",
            ),
            (
                "lib/index.js",
                "const self = require('.');\nmodule.exports = function main() { return 'main'; };\nmodule.exports.self = self === exports;\nmodule.exports.sub = require('./sub');\n",
            ),
            (
                "lib/sub.js",
                "module.exports = { parent: typeof require('./'), root: typeof require('..') };\n",
            ),
            (
                "flaky.js",
                "globalThis.count = (globalThis.count ?? 0) + 1;\nexports.value = 'half';\nif (globalThis.count < 3) throw new Error('try ' + globalThis.count);\nexports.value = 'whole';\n",
            ),
        ],
        "const { default: main } = await import('./index.js'); console.log(main(), main.self, main.sub, main.tries, globalThis.count);",
    );
}

#[test]
fn names_that_node_reads_are_still_read() {
    same(
        &[
            (
                "package.json",
                r#"{"name":"sample","version":"1.0.0","exports":{".":"./index.js","./b":"./b.js"}}"#,
            ),
            ("index.js", "module.exports = require('./inner');\n"),
            (
                "inner.js",
                "Object.defineProperty(exports, '__esModule', { value: true });\nexports.one = 1;\nexports.two = 2;\nvar other = require('./other');\nexports.three = other.hidden;\n",
            ),
            ("other.js", "exports.hidden = 3;\nexports.unseen = 4;\n"),
            (
                "b.js",
                "__exportStar(require('./other'), exports);\n__exportStar(require('./index'), exports);\nfunction __exportStar(from, to) { for (const key in from) to[key] = from[key]; }\nvar wrapped = (function () { return require('./star'); })();\nexports.wrapped = wrapped;\n",
            ),
            ("star.js", "__exportStar(require('path'), exports);\nfunction __exportStar() {}\n"),
        ],
        "const all = await import('./index.js'); const b = await import('./b.js'); console.log(Object.keys(all), Object.keys(b));",
    );
}

#[test]
fn common_js_entries_share_their_modules() {
    let built = same(
        &[
            (
                "package.json",
                r#"{"name":"sample","version":"1.0.0","exports":{".":"./index.js","./two":"./lib/two.js","./strict":"./strict.js"}}"#,
            ),
            (
                "index.js",
                "exports.state = require('./lib/state');\nexports.two = () => require('./lib/two');\nexports.sloppy = require('./sloppy');\n",
            ),
            (
                "lib/two.js",
                "exports.state = require('./state.js');\nexports.one = require('../index');\nexports.place = __dirname.split('/').pop();\n",
            ),
            (
                "strict.js",
                "'use strict';\nconst process = { strict: true };\nexports.sloppy = require('./loose');\nexports.process = process;\nexports.global = require('./global');\n",
            ),
            ("sloppy.js", "exports.sloppy = (function () { return typeof this; })();\n"),
            (
                "loose.js",
                "implicit = 1;\nexports.loose = (function () { return typeof this; })() + typeof implicit;\n",
            ),
            ("global.js", "'use strict';\nexports.pid = typeof process.pid;\n"),
            ("lib/state.js", "console.log('state');\nmodule.exports = { calls: require('./deep').calls };\n"),
            ("lib/deep.js", "exports.calls = [];\n"),
        ],
        "import { createRequire } from 'node:module'; const require = createRequire(process.cwd() + '/index.js');\nconst one = require('./index.js'); const two = require('./lib/two.js'); const strict = require('./strict.js');\nconsole.log(one.state === two.state, two.one === one, one.two() === two, one.sloppy, strict, typeof two.place);",
    );
    for gone in ["lib/state.js", "lib/deep.js", "sloppy.js", "loose.js", "global.js"] {
        assert!(!code(&built).contains(&gone.to_owned()), "{gone} is still there");
    }
}

#[test]
fn names_made_at_run_time_keep_their_files() {
    let built = same(
        &[
            CJS,
            (
                "index.js",
                "exports.load = (name) => require('./locale/' + name);\nexports.list = ['./plugins/a', './plugins/b'].map(require);\nexports.resolved = require.resolve('./resolved').split('/').pop();\nexports.plain = require('./plain');\n",
            ),
            ("locale/de.js", "module.exports = 'Hallo';\n"),
            ("locale/en.js", "module.exports = 'Hello';\n"),
            ("plugins/a.js", "module.exports = 'a';\n"),
            ("plugins/b.js", "module.exports = 'b';\n"),
            ("resolved.js", "module.exports = 1;\n"),
            ("plain.js", "module.exports = 'plain';\n"),
        ],
        "const { default: all } = await import('./index.js'); console.log(all.load('de'), all.list, all.resolved, all.plain);",
    );
    assert!(!code(&built).contains(&"plain.js".to_owned()));
    assert!(built.hardened.kept_apart["locale/de.js"].contains("index.js"));
}

#[test]
fn a_dual_package_keeps_both_worlds() {
    let built = same(
        &[
            (
                "package.json",
                r#"{"name":"sample","version":"1.0.0","exports":{".":{"import":"./esm/index.mjs","require":"./cjs/index.js"},"./wrapper":"./wrapper.mjs"},"bin":{"sample":"./bin/cli.js"}}"#,
            ),
            (
                "esm/index.mjs",
                "export { value } from './value.mjs';\nexport { default as kind } from './kind.mjs';\n",
            ),
            ("esm/value.mjs", "export const value = { esm: true };\n"),
            ("esm/kind.mjs", "export default 'esm';\n"),
            (
                "cjs/index.js",
                "exports.value = require('./value').value;\nexports.kind = require('./kind');\n",
            ),
            ("cjs/value.js", "exports.value = { cjs: true };\n"),
            ("cjs/kind.js", "module.exports = 'cjs';\n"),
            (
                "wrapper.mjs",
                "import cjs, { kind } from './cjs/index.js';\nexport { kind, cjs as default };\n",
            ),
            (
                "bin/cli.js",
                "#!/usr/bin/env node\nconst { kind } = require('../cjs');\nconsole.log(kind, require.main === module);\n",
            ),
        ],
        "import { createRequire } from 'node:module'; import { execFileSync } from 'node:child_process';\nconst require = createRequire(process.cwd() + '/x.js');\nconst esm = await import('./esm/index.mjs'), cjs = require('./cjs/index.js'), wrapper = await import('./wrapper.mjs');\nconsole.log(esm.value, esm.kind, cjs, wrapper.default === cjs, wrapper.kind, String(execFileSync(process.execPath, ['bin/cli.js'])));",
    );
    assert_eq!(code(&built), ["bin/cli.js", "cjs/index.js", "esm/index.mjs", "wrapper.mjs"]);
    assert!(built.text("bin/cli.js").starts_with("#!/usr/bin/env node\n"));
}

#[test]
fn what_nobody_needs_goes_and_effects_stay() {
    let built = same(
        &[
            (
                "package.json",
                r#"{"name":"sample","version":"1.0.0","type":"module","exports":"./index.js","sideEffects":["./effects.js"]}"#,
            ),
            (
                "index.js",
                "import { used, unused } from './lib.js';\nimport { nothing } from './barrel.js';\nimport './effects.js';\nconsole.log(used());\n",
            ),
            (
                "lib.js",
                "export function used() { return helper(); }\nfunction helper() { return 'used'; }\nexport function unused() { return 'never needed'; }\nexport const made = /*#__PURE__*/ plain('never needed either');\nexport const seen = create('seen');\nfunction plain(text) { return text; }\nfunction create(text) { console.log('create', text); return text; }\nclass Base {}\nexport class Derived extends Base { field = 'never a field'; static x = 1; }\nexport class Effect { static { console.log('static block'); } }\nconst getter = { get x() { console.log('getter'); return 1; } };\nexport const read = getter.x;\nexport const proxied = [...(function* () { console.log('generator'); })()];\n",
            ),
            ("barrel.js", "export * from './one.js';\nexport { two as nothing } from './two.js';\n"),
            ("one.js", "export const one = 'never one';\nexport const later = () => late;\n"),
            ("two.js", "console.log('two runs');\nexport const two = 'never two';\n"),
            ("effects.js", "import './chain.js';\nexport const marked = 'never marked';\n"),
            ("chain.js", "console.log('chain');\n"),
        ],
        "import './index.js';",
    );
    assert_eq!(code(&built), ["index.js"]);
    assert!(!built.text("index.js").contains("never"), "{}", built.text("index.js"));
    assert!(built.text("package.json").contains(r#""sideEffects":["./effects.js", "./index.js"]"#));
}

#[test]
fn without_exports_every_file_can_be_loaded() {
    let files: &[(&str, &str)] = &[
        ("package.json", r#"{"name":"sample","version":"1.0.0","main":"./index.js"}"#),
        ("index.js", "exports.inner = require('./inner');\n"),
        ("inner.js", "exports.x = 1;\n"),
        ("broken.js", "require('./nowhere');\n"),
    ];
    let built = same(
        files,
        "const { default: all } = await import('./index.js'); const inner = await import('./inner.js'); console.log(all.inner === inner.default);",
    );
    assert_eq!(code(&built), ["broken.js", "index.js", "inner.js"]);
    assert!(built.hardened.kept_apart["package.json"].contains("exports"));
}

#[test]
fn what_cannot_be_linked_is_refused_with_its_place() {
    let refused = |files: &[(&str, &str)]| match Package::of(files).harden(&options()) {
        Err(error @ HardenError::Unresolved(_)) => {
            assert!(error.hint().is_some());
            error.to_string()
        }
        other => panic!("{:?}", other.map(|built| built.paths())),
    };
    let text = refused(&[ESM, ("index.js", "// one\nimport { a } from './gone.js';\n")]);
    assert!(
        text.starts_with(
            "index.js:2:19: `./gone.js` leads to no file of the package\n    1 | // one\n    2 | import"
        ),
        "{text}"
    );
    let text = refused(&[
        ESM,
        ("index.js", "import { a as b } from './lib.js';\nb();\n"),
        ("lib.js", "export const c = 1;\n"),
    ]);
    assert!(text.starts_with("index.js:1:15: `./lib.js` does not export `a`"), "{text}");
    let text = refused(&[
        ESM,
        ("index.js", "export { a } from './lib.js';\n"),
        ("lib.js", "export * from './x.js'; export * from './y.js';\n"),
        ("x.js", "export const a = 1;\n"),
        ("y.js", "export const a = 2;\n"),
    ]);
    assert!(text.contains("`./lib.js` exports `a` more than once"), "{text}");
    let text = refused(&[CJS, ("index.js", "const x = require('./gone');\n")]);
    assert!(text.starts_with("index.js:1:19: `./gone`"), "{text}");
}

#[test]
fn the_same_bytes_on_any_number_of_threads() {
    let files: Vec<(String, String)> = (0..40)
        .map(|index| {
            let next = index + 1;
            let text = format!("import {{ f{next} }} from './m{next}.js';\nconst value = {index};\nexport function f{index}() {{ return f{next}() + value; }}\n");
            (format!("m{index}.js"), text)
        })
        .collect();
    let mut package: Vec<(&str, &str)> =
        files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    package.push(("m40.js", "export const f40 = () => 1;\n"));
    package.push(("package.json", r#"{"name":"sample","version":"1.0.0","type":"module","exports":{"./a":"./m0.js","./b":"./m7.js","./c":"./x.js"}}"#));
    package.push(("x.js", "import { f20 } from './m20.js';\nexport default f20();\n"));
    let package = Package::of(&package);
    let build = |threads| {
        let built = package.harden(&Options { threads: Some(threads), ..options() }).expect("built");
        (contents(&built.artifact()), contents(&built.escrow()))
    };
    let one = build(1);
    assert_eq!(one, build(2));
    assert!(one.0.len() < 12, "{:?}", one.0.keys());
}

#[test]
fn the_escrow_leads_to_every_module() {
    let package = Package::of(&[
        ESM,
        (
            "index.js",
            "import { fail } from './lib/fail.ts';\nexport function start() {\n  fail('start');\n}\n",
        ),
        (
            "lib/fail.ts",
            "interface Options { name: string }\n\nexport function fail(reason: string): never {\n  throw new Error(reason);\n}\n",
        ),
    ]);
    let built = package.harden(&options()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(code(&built), ["index.js"]);
    let map: serde_json::Value =
        serde_json::from_slice(&std::fs::read(built.escrow().join("maps/index.js.map")).expect("map"))
            .expect("json");
    assert_eq!(map["sources"], serde_json::json!(["lib/fail.ts", "index.js"]));
    assert!(map["sourcesContent"][0].as_str().expect("text").contains("interface"));
    let script = format!(
        "const {{ SourceMap }} = require('node:module'); const {{ readFileSync }} = require('node:fs');\nimport('./index.js').then((all) => {{ try {{ all.start(); }} catch (error) {{\n const map = new SourceMap(JSON.parse(readFileSync({:?}, 'utf8')));\n for (const line of error.stack.split('\\n').slice(1, 3)) {{ const [, row, column] = /:(\\d+):(\\d+)/.exec(line); const at = map.findEntry(row - 1, column - 1); console.log(at.originalSource, at.originalLine + 1); }} }} }});",
        built.escrow().join("maps/index.js.map")
    );
    assert_eq!(built.node(&script), "lib/fail.ts 4\nindex.js 3\n");
    assert!(!built.escrow().join("maps/lib/fail.js.map").exists());
}
