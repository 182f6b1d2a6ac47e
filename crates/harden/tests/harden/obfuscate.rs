//! What obfuscation hides, what it leaves alone, and that programs do the same afterwards.

use std::path::Path;

use protected_harden::{HardenError, Mark, Obfuscation, Options, Profile, SourcePlace};
use protected_model::secret::BuildSecret;

use crate::support::{Built, Package, contents, node};

fn options(obfuscation: Obfuscation) -> Options {
    Options { obfuscation, ..Options::default() }
}

fn profile(profile: Profile) -> Options {
    options(Obfuscation { profile, ..Obfuscation::default() })
}

fn built(package: &Package, options: &Options) -> Built {
    package.harden(options).unwrap_or_else(|error| panic!("{error}"))
}

/// A program whose names and texts nobody has by chance.
const SECRETS: &str = "'use strict';\nclass Ledger { constructor() { this.balanceInCents = 1200; } addEntry(amount) { this.balanceInCents += amount; return `balance is ${this.balanceInCents}`; } get isOverdrawn() { return this.balanceInCents < 0; } }\nfunction openLedger({ startAmount = 5, ...others } = {}) { const ledger = new Ledger(); ledger.addEntry(startAmount); return { ledger, others, note: 'opened by hand' }; }\nmodule.exports.run = function () { const { ledger, others, note } = openLedger({ startAmount: 7, extra: 'spare' }); return [ledger.addEntry(1), ledger.isOverdrawn, others.extra, note].join(' / '); };\n";

const HIDDEN: &[&str] = &[
    "balance",
    "InCents",
    "addEntry",
    "isOverdrawn",
    "startAmount",
    "opened by hand",
    "spare",
    "extra",
    "ledger",
    "Ledger",
    "others",
    "note",
    "join",
];

#[test]
fn names_and_texts_are_gone_and_the_program_does_the_same() {
    let package = Package::of(&[("index.js", SECRETS)]);
    let script = "console.log(require('./index.js').run())";
    let expected = node(package.folder.path(), &["-e", script]);
    for level in [Profile::Standard, Profile::Strong] {
        for seed in 0..12 {
            let secret = Some(BuildSecret::new(format!("secret {seed}")));
            let built =
                built(&package, &options(Obfuscation { profile: level, secret, ..Obfuscation::default() }));
            let text = built.text("index.js");
            let told: Vec<_> = HIDDEN.iter().filter(|word| text.contains(**word)).collect();
            assert!(told.is_empty(), "{told:?} in {text}");
            assert_eq!(built.node(script), expected, "{text}");
            assert!(built.hardened.protection.obfuscated);
            assert!(built.hardened.unprotected.is_empty());
        }
    }
    let plain = built(&package, &profile(Profile::Light));
    assert!(
        plain.text("index.js").contains("balanceInCents"),
        "a test that finds nothing anywhere proves nothing"
    );
    assert!(!plain.hardened.protection.obfuscated);
}

#[test]
fn the_seed_decides_every_byte() {
    let package =
        Package::of(&[("index.js", SECRETS), ("lib/other.mjs", "export const text = 'some other text';")]);
    let with = |secret: Option<&str>, threads| {
        let secret = secret.map(BuildSecret::new);
        let obfuscation = Obfuscation { profile: Profile::Strong, secret, ..Obfuscation::default() };
        contents(
            &built(&package, &Options { obfuscation, threads: Some(threads), ..Options::default() })
                .artifact(),
        )
    };
    assert_eq!(with(Some("a"), 1), with(Some("a"), 2));
    assert_eq!(with(None, 1), with(None, 2));
    assert_ne!(with(Some("a"), 1)["index.js"], with(Some("b"), 1)["index.js"]);
    assert_ne!(with(Some("a"), 1)["index.js"], with(None, 1)["index.js"]);
}

#[test]
fn a_mark_changes_the_numbers_and_nothing_that_the_program_does() {
    let package = Package::of(&[("index.js", SECRETS)]);
    let with = |mark: Option<Mark>| {
        let built = built(
            &package,
            &options(Obfuscation { profile: Profile::Standard, mark, ..Obfuscation::default() }),
        );
        (built.text("index.js"), built.node("console.log(require('./index.js').run())"))
    };
    let (unmarked, expected) = with(None);
    let (first, one) = with(Some(Mark::derive(b"secret", "customer-a 1.0.0")));
    let (second, two) = with(Some(Mark::derive(b"secret", "customer-b 1.0.0")));
    assert_eq!((&one, &two), (&expected, &expected));
    assert!(unmarked != first && first != second && second != unmarked);
}

#[test]
fn directives_patterns_and_reserved_names_are_heard() {
    let text = "/* @protect light */\nfunction plain(value) { return value.plainProperty + 'plain text'; }\nfunction hidden(value) { return value.hiddenProperty + 'hidden text' + value.reservedProperty; }\nexports.all = (value) => plain(value) + hidden(value);\n";
    let package = Package::of(&[("index.js", text), ("other.js", text)]);
    let obfuscation = Obfuscation {
        profile: Profile::Standard,
        files: vec![("other.*".to_owned(), Profile::Light)],
        reserved_names: ["reservedProperty".to_owned()].into(),
        ..Obfuscation::default()
    };
    let built = built(&package, &options(obfuscation));
    let (index, other) = (built.text("index.js"), built.text("other.js"));
    for (word, seen) in [
        ("plainProperty", true),
        ("plain text", true),
        ("reservedProperty", true),
        ("hiddenProperty", false),
        ("hidden text", false),
    ] {
        assert_eq!(index.contains(word), seen, "{word} in {index}");
        assert!(other.contains(word), "{word} in {other}");
    }
}

#[test]
fn a_directive_is_heard_where_nothing_else_asks_for_obfuscation() {
    let package = Package::of(&[(
        "index.ts",
        "// @protect strong\nexport function hidden(a: { hiddenProperty: string }): string { return a.hiddenProperty; }\nexport const shown = (a: any) => a.shownProperty;\n",
    )]);
    let built = built(&package, &Options::default());
    let text = built.text("index.js");
    assert!(!text.contains("hiddenProperty") && text.contains("shownProperty"), "{text}");
}

#[test]
fn a_directive_or_pattern_that_says_nothing_known_is_an_error() {
    let package =
        Package::of(&[("index.js", "exports.a = 1;\n  /* @protect storng */ exports.f = () => 1;\n")]);
    let error = package.harden(&Options::default()).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(
        error.starts_with(
            "index.js:2:3: `@protect storng` names no profile: expected `light`, `standard` or `strong`"
        ),
        "{error}"
    );
    let files = vec![("src/[".to_owned(), Profile::Light)];
    let error = package.harden(&options(Obfuscation { files, ..Obfuscation::default() }));
    assert!(matches!(error, Err(HardenError::Pattern(_))));
}

#[test]
fn hot_functions_keep_what_would_cost_time() {
    let text = "exports.hot = function (a) { return { firstKey: a, secondKey: 40000 }; };\nexports.cold = function (a) { return { thirdKey: a, fourthKey: 50000 }; };\n";
    let package = Package::of(&[("index.js", text)]);
    // Where V8 says that the function starts: at its parameters.
    let hot = vec![SourcePlace { path: "index.js".to_owned(), line: 1, column: 24 }];
    let built =
        built(&package, &options(Obfuscation { profile: Profile::Standard, hot, ..Obfuscation::default() }));
    let text = built.text("index.js");
    assert!(text.contains("firstKey") && text.contains("secondKey") && !text.contains("thirdKey"), "{text}");
}

#[test]
fn what_runs_in_loops_of_loops_stays_as_fast_as_it_was() {
    let text = "function turn(word, bits) { return (word >>> bits) | (word << (32 - bits)); }\nfunction seldom(value) { if (value > 100) { return value * 4000; } return turn(value, 3); }\nexports.run = function () { let sum = 0; for (let i = 0; i < 9; i++) for (let j = 0; j < 9; j++) sum += turn(i, j); return sum + seldom(sum); };\n";
    let package = Package::of(&[("index.js", text)]);
    let script = "console.log(require('./index.js').run())";
    for seed in 0..8 {
        let secret = Some(BuildSecret::new(format!("secret {seed}")));
        let obfuscation = Obfuscation { profile: Profile::Standard, secret, ..Obfuscation::default() };
        let built = built(&package, &options(obfuscation));
        let text = built.text("index.js");
        // Neither a guard nor a part of the key: the function is its one statement.
        let at = text.find("<<32-").unwrap_or_else(|| panic!("a number is hidden in {text}"));
        let start = text[..at].rfind("function").expect("a function");
        assert_eq!(text[start..at].matches("return").count(), 1, "{text}");
        assert!(!text[start..at].contains("if(") && !text[start..at].contains("while("), "{text}");
        assert_eq!(built.node(script), node(package.folder.path(), &["-e", script]));
    }
}

#[test]
fn booleans_and_undefined_are_not_told() {
    let text = "exports.run = function (given) { const settings = { on: true, off: false, none: undefined }; return [settings.on === true, settings.off, settings.none, typeof undefined, void 0 === given, 'none' in settings].map(String).join(); };\n";
    let package = Package::of(&[("index.js", text)]);
    let script = "console.log(require('./index.js').run())";
    for seed in 0..8 {
        let secret = Some(BuildSecret::new(format!("secret {seed}")));
        let obfuscation = Obfuscation { profile: Profile::Strong, secret, ..Obfuscation::default() };
        let built = built(&package, &options(obfuscation));
        let text = built.text("index.js");
        let function = text.split("exports.run=").nth(1).expect("the function");
        for word in ["!0", "!1", "true", "false", "undefined", "void 0"] {
            assert!(!function.contains(word), "{word} in {text}");
        }
        assert_eq!(built.node(script), node(package.folder.path(), &["-e", script]));
    }
}

#[test]
fn a_file_that_its_package_calls_common_js_has_names_of_its_own() {
    let asks = "var firstName = 'a', secondName = function () { return firstName; };\nif ('undefined' !== typeof module) { module.exports = secondName; }\n";
    let window = format!("{asks}if (typeof window === 'object') {{ window.lib = secondName; }}\n");
    let kept = |manifest: &str, text: &str| {
        let package = Package::of(&[("package.json", manifest), ("index.js", text)]);
        let built = built(&package, &profile(Profile::Standard));
        assert_eq!(built.node("console.log(require('./index.js')())"), "a\n");
        built.text("index.js").contains("secondName")
    };
    let said = r#"{"name":"sample","version":"1.0.0","type":"commonjs"}"#;
    assert!(!kept(said, asks));
    assert!(kept(said, &window), "a browser's script, perhaps");
    assert!(kept(r#"{"name":"sample","version":"1.0.0"}"#, asks), "nobody says how it is loaded");
    let served = r#"{"name":"sample","version":"1.0.0","type":"commonjs","unpkg":"./index.js"}"#;
    assert!(kept(served, asks), "browsers are given it");
}

#[test]
fn the_word_that_takes_a_prototype_away_is_gone() {
    let text = "const plain = { __proto__: null }, more = { a: 1, __proto__: null, get b() { return this.a + 1; } };\nObject.create = () => 'changed'; Object.setPrototypeOf = () => 'changed';\nexports.run = () => [Object.getPrototypeOf(plain), Object.getPrototypeOf(more), more.b, Object.keys({ ...more, __proto__: null }).join(), Object.getPrototypeOf({ __proto__: null })];\n";
    let package = Package::of(&[("index.js", text)]);
    let script = "console.log(require('./index.js').run())";
    for level in [Profile::Standard, Profile::Strong] {
        let built = built(&package, &profile(level));
        assert!(!built.text("index.js").contains("__proto__"), "{}", built.text("index.js"));
        assert_eq!(built.node(script), node(package.folder.path(), &["-e", script]));
    }
}

#[test]
fn the_mark_of_compiled_modules_tells_nothing_and_is_still_read() {
    let text = "'use strict'; Object.defineProperty(exports, '__esModule', { value: true }); exports.default = 'a default'; exports.named = 1;";
    let package = Package::of(&[
        ("index.cjs", text),
        (
            "entry.mjs",
            "import * as all from './index.cjs'; import { named } from './index.cjs'; console.log(Object.keys(all), named, all.default);",
        ),
    ]);
    let built = built(&package, &profile(Profile::Strong));
    let hidden = built.text("index.cjs");
    assert!(!hidden.contains("defineProperty") && !hidden.contains("value"), "{hidden}");
    assert_eq!(node(&built.artifact(), &["entry.mjs"]), node(package.folder.path(), &["entry.mjs"]));
    let flags = "console.log(Object.getOwnPropertyDescriptor(require('./index.cjs'), '__esModule'))";
    assert_eq!(built.node(flags), node(package.folder.path(), &["-e", flags]));
}

#[test]
fn what_others_read_in_the_text_stays() {
    let package = Package::of(&[
        (
            "index.cjs",
            "Object.defineProperty(exports, '__esModule', { value: true }); exports.first = require('node:path').sep; exports.mode = process.env.NODE_ENV; Object.defineProperty(exports, 'second', { enumerable: true, get: function () { return lib.value; } }); const lib = { value: 'second value' };",
        ),
        (
            "entry.mjs",
            "import data, { first as renamed } from './index.cjs'; import.meta.url; export { renamed }; export const mode = process.env.NODE_ENV, lazy = () => import('./index.cjs'); export default new URL('./index.cjs', import.meta.url).pathname.length + data.first;",
        ),
    ]);
    let built = built(&package, &profile(Profile::Strong));
    let (index, entry) = (built.text("index.cjs"), built.text("entry.mjs"));
    for word in ["{__esModule,second}", "exports.first=", "require(\"node:path\")", "process.env.NODE_ENV"] {
        assert!(index.contains(word), "{word} in {index}");
    }
    for word in [
        "import.meta.url",
        "import(\"./index.cjs\")",
        "\"./index.cjs\",import.meta.url",
        "process.env.NODE_ENV",
    ] {
        assert!(entry.contains(word), "{word} in {entry}");
    }
    assert!(!index.contains("second value") && !entry.contains("pathname"), "{index}\n{entry}");
    let script = "import('./entry.mjs').then(async (it) => { console.log(Object.keys(it), (await it.lazy()).second, it.mode) })";
    assert_eq!(built.node(script).trim(), node(package.folder.path(), &["-e", script]).trim());
}

#[test]
fn functions_that_run_before_their_module_does_find_their_strings() {
    let package = Package::of(&[
        (
            "main.mjs",
            "import { early, later } from './b.mjs'; import { seen } from './a.mjs'; console.log(early, later(), seen);",
        ),
        (
            "a.mjs",
            "import { noted } from './b.mjs'; export function greet(name) { return inner(name) + ' from a'; } function inner(name) { return 'hello ' + name.toUpperCase(); } function count() { return 'counted'.length * 1000; } function tag(texts) { return texts[0] + 'tagged'; } export default function (x = 'a default') { return 'anonymous ' + x; } function listed({ value = 'in a pattern' }) { return 'listed ' + value + inner('x'); } export { listed as other }; export function defaulted(a = inner('default'), { b = inner(a), c = () => 'in an arrow' } = {}, d = count(), e = tag`text`) { return a + b + c() + c.name + d + e; } export const seen = 'seen';",
        ),
        (
            "b.mjs",
            "import first, { greet, other, defaulted } from './a.mjs'; export const early = defaulted() + greet('world') + first() + other({}); export const noted = 'noted text'; export const later = () => greet('again') + first('given');",
        ),
    ]);
    let expected = node(package.folder.path(), &["main.mjs"]);
    assert!(expected.contains("hello WORLD from a"), "{expected}");
    for (level, seed) in
        [Profile::Standard, Profile::Strong].into_iter().flat_map(|it| (0..6).map(move |seed| (it, seed)))
    {
        let secret = Some(BuildSecret::new(format!("secret {seed}")));
        let built =
            built(&package, &options(Obfuscation { profile: level, secret, ..Obfuscation::default() }));
        assert_eq!(node(&built.artifact(), &["main.mjs"]), expected, "{}", built.text("a.mjs"));
        assert!(!built.text("a.mjs").contains("hello"));
    }
}

#[test]
fn scripts_add_no_name_that_another_could_have() {
    let script = |name: &str| {
        format!(
            "var shared{name} = 'text {name}'; function say{name}() {{ return shared{name}.toUpperCase() + ' ünï'; }}"
        )
    };
    let package = Package::of(&[("one.js", &script("One")), ("two.js", &script("Two"))]);
    let built = built(&package, &profile(Profile::Strong));
    let run = "const vm = require('vm'), fs = require('fs'), context = vm.createContext({}); for (const file of ['one.js', 'two.js', 'one.js']) vm.runInContext(fs.readFileSync(file, 'utf8'), context); console.log(vm.runInContext('sayOne() + sayTwo()', context)); console.log(Object.keys(context).filter((name) => !name.startsWith('$')).sort().join())";
    assert_eq!(built.node(run), node(package.folder.path(), &["-e", run]));
    assert!(!built.text("one.js").contains("toUpperCase"));
}

#[test]
fn the_whole_of_a_bundle_for_browsers_is_hidden() {
    let umd = "(function (root, factory) { typeof exports === 'object' && typeof module !== 'undefined' ? factory(exports) : typeof define === 'function' && define.amd ? define(['exports'], factory) : factory(root.lib = {}); })(this, function (exports) { 'use strict'; function hiddenName(value) { return 'hidden text ' + value.hiddenProperty; } exports.run = () => hiddenName({ hiddenProperty: 'x' }); });";
    let package = Package::of(&[("index.js", umd)]);
    let built = built(&package, &profile(Profile::Standard));
    let text = built.text("index.js");
    assert!(!text.contains("hidden"), "{text}");
    assert_eq!(built.node("console.log(require('./index.js').run())"), "hidden text x\n");
    let browser = "const vm = require('vm'), context = vm.createContext({}); vm.runInContext(require('fs').readFileSync('index.js', 'utf8'), context); console.log(context.lib.run(), Object.keys(context))";
    assert_eq!(built.node(browser), node(package.folder.path(), &["-e", browser]));
}

#[test]
fn a_file_whose_names_can_be_seen_is_left_and_listed() {
    let package = Package::of(&[(
        "index.js",
        "exports.run = (code) => { const visible = 'shown text'; return eval(code); };",
    )]);
    let built = built(&package, &profile(Profile::Strong));
    assert!(built.text("index.js").contains("shown text"));
    let reason = &built.hardened.unprotected["index.js"];
    assert!(reason.contains("a direct `eval`"), "{reason}");
}

#[test]
fn secrets_are_in_no_file() {
    let package = Package::of(&[("index.js", SECRETS)]);
    let secret = Some(BuildSecret::new("a very secret build secret"));
    let built =
        built(&package, &options(Obfuscation { profile: Profile::Strong, secret, ..Obfuscation::default() }));
    for folder in [built.artifact(), built.escrow()] {
        let folder: &Path = &folder;
        for (path, content) in contents(folder) {
            assert!(!String::from_utf8_lossy(&content).contains("very secret"), "{path}");
        }
    }
}

#[test]
fn a_program_that_defends_itself_runs_only_as_it_was_printed() {
    let text = "'use strict';\nfunction greet(name) { if (!name) { return 'nobody there'; } return 'hello ' + name; }\nfunction many(list) { let all = ''; for (const name of list) { all += greet(name) + ';'; } return all; }\nexports.run = () => many(['you', '', 'ünï']);\n";
    let package = Package::of(&[("index.js", text), ("script.js", "var seen = 'a global text';")]);
    let script = "console.log(require('./index.js').run())";
    let expected = node(package.folder.path(), &["-e", script]);
    for level in [Profile::Standard, Profile::Strong] {
        for seed in 0..8 {
            let secret = Some(BuildSecret::new(format!("secret {seed}")));
            let obfuscation =
                Obfuscation { profile: level, secret, self_defence: true, ..Obfuscation::default() };
            let built = built(&package, &options(obfuscation));
            let text = built.text("index.js");
            assert_eq!(built.node(script), expected, "{text}");
            // One more space in a function, which changes nothing else.
            let at = text.find("return ").expect("a function returns");
            std::fs::write(
                built.artifact().join("index.js"),
                format!("{}return  {}", &text[..at], &text[at + 7..]),
            )
            .expect("write");
            let run = std::process::Command::new("node")
                .args(["-e", script])
                .current_dir(built.artifact())
                .output()
                .expect("node");
            assert!(run.stdout.is_empty() && !run.status.success(), "{text}");
            let refusal = String::from_utf8_lossy(&run.stderr);
            assert!(refusal.contains("this file was changed after it was built"), "{refusal}");
            assert!(built.hardened.unprotected["script.js"].contains("does not check itself"));
        }
    }
}
