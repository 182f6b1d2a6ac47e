//! The maps of every step together: what a hardened program throws, read back, is what its source throws.
//!
//! Each program is run twice under Node, as it is and hardened. The second trace, retraced, has to be the first.

use std::{collections::BTreeMap, fs, path::Path};

use protected_harden::{
    Obfuscation, Options, Profile,
    retrace::{Escrow, Function, Line, Retracer},
};

use crate::support::{Built, Package, node};

/// Types stand between `«` and `»`: TypeScript with them, and JavaScript with blanks in their place, so that both have
/// every character at the same line and column.
fn typed(text: &str) -> String {
    text.replace(['«', '»'], "")
}

fn untyped(text: &str) -> String {
    let mut within = false;
    let blank = |c: char| match c {
        '«' => {
            within = true;
            None
        }
        '»' => {
            within = false;
            None
        }
        '\n' => Some(c),
        _ => Some(if within { ' ' } else { c }),
    };
    text.chars().filter_map(blank).collect()
}

/// A frame as both runs have it: file without its ending, line, column, and the name without what shows at run time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Traced {
    file: String,
    line: u32,
    column: u32,
    name: String,
}

/// Runs every export of `index.js` below `folder` and returns each one's trace.
fn traces(folder: &Path, scratch: &Path) -> BTreeMap<String, String> {
    let index = folder.join("index.js");
    let driver = format!(
        "Error.stackTraceLimit = 60;\nconst all = await import('file://{}');\nconst traces = {{}};\nfor (const [name, run] of Object.entries(all)) {{\n  if (name === 'default' || name === 'module.exports') continue;\n  try {{ await run(); }} catch (error) {{ traces[name] = error.stack; }}\n}}\nconsole.log(JSON.stringify(traces));\n",
        index.display()
    );
    let script = scratch.join("driver.mjs");
    fs::write(&script, driver).expect("driver");
    serde_json::from_str(&node(folder, &[script.to_str().expect("utf-8")])).expect("JSON")
}

fn stem(path: &str) -> String {
    let ending =
        [".mts", ".cts", ".mjs", ".cjs", ".ts", ".js"].iter().find(|ending| path.ends_with(**ending));
    ending.map_or(path, |ending| &path[..path.len() - ending.len()]).to_owned()
}

/// The part of a name that its author wrote.
fn own(name: &str) -> String {
    let name = name.split(" [as ").next().unwrap_or(name);
    let name = name.trim_start_matches("async ").trim_start_matches("new ");
    let last = name.rsplit('.').next().unwrap_or(name).trim_start_matches("get ").trim_start_matches("set ");
    if ["<anonymous>", "<computed>", "eval"].contains(&last) { String::new() } else { last.to_owned() }
}

/// Reads a trace of the source itself, by Node's own form alone.
fn of_source(trace: &str, folder: &Path) -> Vec<Traced> {
    let root = format!("{}/", folder.display());
    let frames = trace.lines().filter_map(|line| {
        let line = line.trim().strip_prefix("at ")?;
        let (name, place) = match line.split_once(" (") {
            Some((name, place)) => (own(name), place.strip_suffix(')')?),
            None => (String::new(), line.trim_start_matches("async ")),
        };
        let place = place.trim_start_matches("file://").strip_prefix(&root)?;
        let mut parts = place.rsplitn(3, ':');
        let (column, line, file) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
        Some(Traced { file: stem(file), line, column, name })
    });
    frames.collect()
}

/// Retraces a trace of the hardened program.
fn of_artifact(trace: &str, built: &Built) -> Vec<Traced> {
    let root = format!("{}/", built.artifact().display());
    let escrow = Escrow::in_folder(&built.escrow()).expect("escrow");
    let lines = Retracer::new(vec![escrow], Vec::new()).read(trace).expect("read");
    let frames = lines.into_iter().filter_map(|line| {
        let Line::Frame(frame) = line else { return None };
        if !frame.place.as_ref()?.file.trim_start_matches("file://").starts_with(&root) {
            return None;
        }
        let source =
            frame.outcome.clone().unwrap_or_else(|reason| panic!("{reason}: {}\n{trace}", frame.text));
        let name = match source.function {
            Function::Named { name, .. } => own(&name),
            _ => String::new(),
        };
        Some(Traced { file: stem(&source.path), line: source.line, column: source.column, name })
    });
    frames.collect()
}

/// How closely the frames have to agree.
#[derive(Clone, Copy, PartialEq)]
enum Agree {
    /// Frame by frame, to the column.
    Exactly,
    /// The frame that throws is the first, and the callers follow in their order by file, line and name: an
    /// obfuscated program may have frames of its own between them.
    InOrder,
}

fn check(source: &[Traced], artifact: &[Traced], agree: Agree, what: &str, trace: &str) {
    let show =
        |frames: &[Traced]| frames.iter().map(|frame| format!("  {frame:?}")).collect::<Vec<_>>().join("\n");
    let both = || format!("{what}\nsource\n{}\nartifact\n{}\n{trace}", show(source), show(artifact));
    if agree == Agree::Exactly {
        assert!(source == artifact, "{}", both());
        return;
    }
    let same = |a: &Traced, b: &Traced| (&a.file, a.line, &a.name) == (&b.file, b.line, &b.name);
    assert!(source.first().zip(artifact.first()).is_some_and(|(a, b)| same(a, b)), "{}", both());
    let mut rest = artifact.iter();
    assert!(source.iter().all(|frame| rest.any(|found| same(frame, found))), "{}", both());
}

/// Hardens and compares every trace. Returns how many frames were compared.
fn compare(files: &[(String, String)], options: &Options, agree: Agree, what: &str) -> usize {
    let scratch = tempfile::tempdir().expect("folder");
    let original = tempfile::tempdir().expect("folder");
    // Node shows where a link leads to.
    let folder = fs::canonicalize(original.path()).expect("path");
    for (path, text) in files {
        let place = folder.join(path.replace(".ts", ".js").replace(".mts", ".mjs"));
        fs::create_dir_all(place.parent().expect("parent")).expect("folder");
        fs::write(place, untyped(text)).expect("write");
    }
    let texts: Vec<(&str, String)> = files.iter().map(|(path, text)| (path.as_str(), typed(text))).collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let built = Package::of(&texts).harden(options).unwrap_or_else(|error| panic!("{what}: {error}"));
    let expected = traces(&folder, scratch.path());
    let found = traces(&built.artifact(), scratch.path());
    assert!(!expected.is_empty() && expected.keys().eq(found.keys()), "{what}: {found:?}");
    let mut frames = 0;
    for (name, trace) in &expected {
        let source = of_source(trace, &folder);
        assert!(!source.is_empty(), "{what} {name}: {trace}");
        let artifact = of_artifact(&found[name], &built);
        check(&source, &artifact, agree, &format!("{what} {name}"), &found[name]);
        frames += source.len();
    }
    frames
}

fn profile(profile: Profile) -> Options {
    Options { obfuscation: Obfuscation { profile, ..Obfuscation::default() }, ..Options::default() }
}

/// Every setting that the traces have to survive.
fn settings() -> Vec<(&'static str, Options, Agree)> {
    vec![
        ("plain", Options { minify: false, ..Options::default() }, Agree::Exactly),
        ("light", Options::default(), Agree::Exactly),
        ("keep names", Options { keep_names: true, ..Options::default() }, Agree::Exactly),
        ("standard", profile(Profile::Standard), Agree::InOrder),
        ("strong", profile(Profile::Strong), Agree::InOrder),
    ]
}

/// Those that change JavaScript: what is published as it was has no map, and needs none.
fn rewritten() -> Vec<(&'static str, Options, Agree)> {
    settings().into_iter().filter(|(_, options, _)| options.minify).collect()
}

const INDEX: &str = r"// What the package shows.
import { Till, outer, Base } from './lib/till.js';
import helper, * as tools from './lib/tools.js';

/** A remark of several
 * lines. */
export function direct(amount«: number» = 1) {
  const message = `no ${0}`;

  throw new RangeError(message);
}
export const nested = () => {
  const inner = (value«: number») => {
    return outer(value);
  };
  return [1].map((value) => inner(value));
};
export const construct = () => new Till(-1);
export function method() {
  return new Till(5)
    .chain()
    .chain()
    .charge(7);
}
export async function awaited() {
  await null;
  await tools.later(3);
}
export const getter = () => new Till(1).broken;
export const fixed = () => Till.make(2);
export const hidden = () => new Till(3).reveal();
export const iterate = () => {
  for (const value of tools.numbers(3)) {
    if (value > 1) helper(value);
  }
};
export const missing = () => {
  const empty«: any» = undefined;
  return empty.property.deeper;
};
export const call = () => {
  const table«: any» = { entry: { name: 1 } };
  table.entry.name(1, 2);
};
export const unpack = () => {
  const source«: any» = null;
  const { a, b } = source;
  return a + b;
};
export const inherited = () => new Base().run();
export const recurse = () => tools.down(3);
export const object = () => tools.machine.start('x');
export function caught() {
  try {
    tools.down(0);
  } catch (error) {
    throw error;
  } finally {
    tools.note('done');
  }
}
export const switched = () => tools.choose('c');
export const field = () => new tools.WithField();
export const thenable = () => Promise.resolve(1).then(function onValue(value) {
  return helper(value);
});
";

const TILL: &str = r#"import { fail } from './tools.js';

export function outer(value«: number»)«: number» {
  if (value > 0) {
    // A remark.
    return inner(value * 2);
  }
  return 0;
}

function inner(value«: number»)«: number» {
  return fail('inner ' + value), value;
}

export class Base {
  run() { return this.step(); }
  step() {
    fail("base");
  }
}

export class Till extends Base {
  #secret = 1;
  constructor(«private readonly »amount«: number») {
    super();
    if (amount < 0) throw new RangeError("negative amount");
  }
  chain() {
    return this;
  }
  charge(value«: number») {
    const check = (limit«: number») => {
      if (value > limit) {
        throw new Error('too much: ' + value);
      }
    };
    check(6);
  }
  get broken()«: number» {
    return fail('getter');
  }
  static make(amount«: number») {
    const till = new Till(amount);
    till.#hide();
    return till;
  }
  reveal() { this.#hide(); }
  #hide() {
    throw new TypeError(`hidden ${this.#secret}`);
  }
}
"#;

const TOOLS: &str = r#"export function fail(why«: string»)«: never» { throw new Error(why); }

export default function helper(value«: number») {
  const list = [3, 2, 1];
  list.sort((a, b) => {
    if (a === b + 1) fail('sorted ' + value);
    return a - b;
  });
}

export async function later(times«: number»)«: Promise<void>» {
  if (times === 0) {
    throw new Error("later");
  }
  await null;
  await later(times - 1);
}

export function* numbers(limit«: number») {
  for (let at = 0; at < limit; at += 1) yield at;
}

export function down(depth«: number»)«: number» {
  if (depth <= 0) {
    return fail("bottom");
  }
  const more = down(depth - 1);
  return more + 1;
}

export const machine = {
  state: 'idle',
  start(name«: string») { return this.step(name, 1); },
  step: function (name«: string», count«: number») {
    return JSON.parse('{' + name + count);
  },
};

let notes«: string[]» = [];
export const note = (text«: string») => { notes.push(text); };

export function choose(which«: string») {
  switch (which) {
    case 'a':
      return 1;
    case 'c': {
      const reason = ['chosen', which].join(' ');
      return fail(reason);
    }
    default:
      return 2;
  }
}

export class WithField {
  ready = true;
  value = fail('field');
}
"#;

fn package(ending: &str) -> Vec<(String, String)> {
    vec![
        (
            "package.json".to_owned(),
            format!(
                r#"{{"name":"@acme/core","version":"1.0.0","type":"module","exports":"./index.{ending}"}}"#
            ),
        ),
        (format!("index.{ending}"), INDEX.to_owned()),
        (format!("lib/till.{ending}"), TILL.to_owned()),
        (format!("lib/tools.{ending}"), TOOLS.to_owned()),
    ]
}

/// JavaScript knows no parameter properties and no types; the rest is the same program.
fn in_javascript(files: Vec<(String, String)>) -> Vec<(String, String)> {
    files.into_iter().map(|(path, text)| (path, untyped(&text))).collect()
}

#[test]
fn every_frame_of_a_package_in_javascript_is_read_back() {
    for (what, options, agree) in rewritten() {
        let frames = compare(&in_javascript(package("js")), &options, agree, what);
        assert!(frames >= 50, "{frames}");
    }
}

#[test]
fn every_frame_of_a_package_in_typescript_is_read_back() {
    for (what, options, agree) in settings() {
        let mut files = package("ts");
        // A type alone: its file is left out of what runs.
        files.push((
            "lib/types.ts".to_owned(),
            "«export interface Shape { readonly area: number }»\n".to_owned(),
        ));
        compare(&files, &options, agree, what);
    }
}

#[test]
fn every_frame_of_commonjs_is_read_back() {
    let files = || {
        vec![
            ("package.json".to_owned(), r#"{"name":"core","version":"1.0.0","main":"index.js"}"#.to_owned()),
            (
                "index.js".to_owned(),
                "'use strict';\n\nconst lib = require('./lib/deep');\n\nexports.direct = function () {\n  lib.go(1);\n};\nexports.named = function named() { return lib.go(2); };\nfunction third() {\n  const value = lib.Thing;\n  return new value(3);\n}\nexports.third = third;\nexports.late = async () => {\n  await null;\n  lib.go(4);\n};\n"
                    .to_owned(),
            ),
            (
                "lib/deep.js".to_owned(),
                "// Top.\nfunction go(value) {\n  return check(value)\n    || value;\n}\n\nfunction check(value) {\n  if (value) { throw Object.assign(new Error('no ' + value), { value }); }\n}\n\nfunction Thing(value) {\n  this.value = value;\n  go(value);\n}\n\nmodule.exports = { go, Thing };\n"
                    .to_owned(),
            ),
        ]
    };
    for (what, options, agree) in rewritten() {
        compare(&files(), &options, agree, what);
    }
    for (what, options) in bundled() {
        let mut files = files();
        files[0].1 = r#"{"name":"core","version":"1.0.0","exports":"./index.js"}"#.to_owned();
        compare(&files, &options, Agree::InOrder, what);
    }
}

/// Settings by which modules are merged first.
fn bundled() -> Vec<(&'static str, Options)> {
    let settings =
        settings().into_iter().map(|(what, options, _)| (what, Options { bundle: true, ..options }));
    settings.collect()
}

#[test]
fn every_frame_of_a_bundle_is_read_back() {
    for (what, options) in bundled() {
        compare(&package("ts"), &options, Agree::InOrder, what);
    }
}

/// What the generator knows: the file and line of each call, from the one that throws outwards, and the name around.
type Known = Vec<(String, u32, String)>;

/// Writes a program of functions that call each other and throw in the end.
fn generate(seed: u64) -> (Vec<(String, String)>, Known) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let depth = 4 + next(6) as usize;
    let mut texts = vec![String::new(); 3];
    let mut known = Known::new();
    let mut callee: Option<(usize, String)> = None;
    for level in 0..depth {
        let file = next(3) as usize;
        let name = format!("level{level}Of{seed}");
        let call = match &callee {
            None => format!(
                "throw new {}(`at ${{value}}`)",
                ["Error", "RangeError", "TypeError"][next(3) as usize]
            ),
            Some((_, name)) => match next(4) {
                0 => format!("return {name}(value + 1)"),
                1 => format!("const result = 1 + {name}(value); return result"),
                2 => format!("if (value > -1) {{ {name}(value); }} else {{ return 2; }}"),
                _ => format!("return value ? {name}(value * 2) : 0"),
            },
        };
        if let Some((from, name)) = &callee
            && *from != file
        {
            let import = format!("import {{ {name} }} from './part{from}.js';\n");
            texts[file].insert_str(0, &import);
            // The lines that are known of this file move down.
            known
                .iter_mut()
                .filter(|(of, ..)| *of == format!("part{file}"))
                .for_each(|(_, line, _)| *line += 1);
        }
        let text = &mut texts[file];
        for _ in 0..next(3) {
            text.push_str(["\n", "// A remark.\n", "/* of\n several\n lines */\n"][next(3) as usize]);
        }
        let before = ["", "  const unused = [value, 2].length;\n", "\n  // why\n"][next(3) as usize];
        let parameter = ["value«: number»", "value«: number» = 1", "value«: any», ...rest«: unknown[]»"]
            [next(3) as usize];
        text.push_str(&match next(4) {
            0 => format!("export function {name}({parameter}) {{\n{before}"),
            1 => format!("export const {name} = ({parameter})«: any» => {{\n{before}"),
            2 => format!("export const {name} = function ({parameter}) {{\n{before}"),
            _ => format!("export let {name} = function {name}({parameter})«: any» {{\n{before}"),
        });
        let line = text.matches('\n').count() as u32 + 1;
        text.push_str(&format!("  {call};\n}};\n"));
        known.push((format!("part{file}"), line, name.clone()));
        callee = Some((file, name));
    }
    let (from, name) = callee.expect("a function");
    let index =
        format!("import {{ {name} }} from './part{from}.js';\n\nexport const start = () => {name}(1);\n");
    known.push(("index".to_owned(), 3, "start".to_owned()));
    let mut files = vec![
        (
            "package.json".to_owned(),
            r#"{"name":"generated","version":"1.0.0","type":"module","main":"index.ts"}"#.to_owned(),
        ),
        ("index.ts".to_owned(), index),
    ];
    files.extend(texts.into_iter().enumerate().map(|(at, text)| (format!("part{at}.ts"), text)));
    (files, known)
}

#[test]
fn generated_programs_are_read_back_to_the_lines_their_generator_knows() {
    for seed in 1..=8 {
        let (files, known) = generate(seed);
        for (what, options, agree) in settings() {
            let scratch = tempfile::tempdir().expect("folder");
            let texts: Vec<(&str, String)> =
                files.iter().map(|(path, text)| (path.as_str(), typed(text))).collect();
            let texts: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (*path, text.as_str())).collect();
            let built = Package::of(&texts).harden(&options).unwrap_or_else(|error| panic!("{error}"));
            let trace = traces(&built.artifact(), scratch.path()).remove("start").expect("a trace");
            let found = of_artifact(&trace, &built);
            let known: Vec<Traced> = known
                .iter()
                .map(|(file, line, name)| Traced {
                    file: file.clone(),
                    line: *line,
                    column: 0,
                    name: name.clone(),
                })
                .collect();
            // The generator knows no columns.
            let found: Vec<Traced> = found.into_iter().map(|frame| Traced { column: 0, ..frame }).collect();
            check(&known, &found, agree, &format!("seed {seed}, {what}"), &trace);
        }
        compare(&files, &Options::default(), Agree::Exactly, &format!("seed {seed}"));
    }
}

/// Rewrites Node's trace as Safari and Firefox write theirs. Their places are those of the same calls.
#[test]
fn the_same_places_are_read_in_the_form_of_other_engines() {
    let texts: Vec<(String, String)> =
        package("ts").into_iter().map(|(path, text)| (path, typed(&text))).collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let built = Package::of(&texts).harden(&Options::default()).expect("harden");
    let scratch = tempfile::tempdir().expect("folder");
    for (name, trace) in traces(&built.artifact(), scratch.path()) {
        let expected = of_artifact(&trace, &built);
        for (asynchronous, anonymous) in [("async ", ""), ("async*", "")] {
            let other: Vec<String> = trace
                .lines()
                .filter_map(|line| {
                    let line = line.trim().strip_prefix("at ")?;
                    let (function, place) = match line.split_once(" (") {
                        Some((function, place)) => (function, place.trim_end_matches(')')),
                        None => (anonymous, line),
                    };
                    let place = place.trim_start_matches("async ");
                    let function = match function.strip_prefix("async ") {
                        Some(function) => format!("{asynchronous}{function}"),
                        None => function.trim_start_matches("new ").to_owned(),
                    };
                    Some(format!("{}@{place}", function.split(" [as").next().unwrap_or_default()))
                })
                .filter(|line| line.contains("file://"))
                .collect();
            let found = of_artifact(&other.join("\n"), &built);
            assert_eq!(found, expected, "{name}\n{}", other.join("\n"));
        }
    }
}
