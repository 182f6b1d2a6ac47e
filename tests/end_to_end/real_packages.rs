//! Packages that nobody here wrote: hardened, they pass their own test suites, and behave in their documented
//! examples exactly as before.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    clients::{path_with, tool},
    harness::{CLI, World, files},
};

/// Packages that ship their test suites, which run under tape.
const WITH_SUITES: &[&str] = &[
    "minimist@1.2.8",
    "shell-quote@1.8.1",
    "object-inspect@1.13.4",
    "qs@6.14.0",
    "json-stable-stringify@1.3.0",
    "concat-map@0.0.1",
];

/// What those suites import beside the package itself.
const SUITES_NEED: &[&str] = &[
    "tape@5.9.0",
    "es-value-fixtures@1.7.1",
    "for-each@0.3.5",
    "has-symbols@1.1.0",
    "has-tostringtag@1.0.2",
    "has-bigints@1.1.0",
    "has-override-mistake@1.0.1",
    "has-property-descriptors@1.0.2",
    "has-proto@1.2.0",
    "iconv-lite@0.6.3",
    "mock-property@1.1.0",
    "qs-iconv@1.0.4",
    "safer-buffer@2.1.2",
    "side-channel@1.1.0",
    "functions-have-names@1.2.3",
    "make-arrow-function@1.2.0",
    "string.prototype.repeat@1.0.0",
    "error-cause@1.0.8",
    "globalthis@1.0.4",
    "core-js@3.44.0",
    "call-bind@1.0.8",
    "call-bound@1.0.4",
    "isarray@2.0.5",
    "jsonify@0.0.1",
    "object-keys@1.1.1",
];

/// Packages with an example from their documentation, as an ES module that prints.
const WITH_EXAMPLES: &[(&str, &str)] = &[
    (
        "semver@7.7.2",
        "import semver from 'semver'; console.log(semver.valid('1.2.3'), semver.valid('a.b.c'), semver.clean('  =v1.2.3   '), semver.satisfies('1.2.3', '1.x || >=2.5.0 || 5.0.0 - 7.2.3'), semver.gt('1.2.3', '9.8.7'), semver.minVersion('>=1.0.0').version, semver.valid(semver.coerce('v2')), semver.inc('1.2.3', 'prerelease', 'beta'), semver.sort(['1.10.0', '1.9.0', '1.9.0-rc.1']))",
    ),
    (
        "nanoid@5.1.5",
        "import { nanoid, customAlphabet, customRandom } from 'nanoid'; console.log(nanoid().length, nanoid(10).length, /^[abc]{12}$/.test(customAlphabet('abc', 12)()), customRandom('abcdef', 10, size => new Uint8Array(size).fill(2))())",
    ),
    (
        "marked@16.1.1",
        "import { marked, Marked } from 'marked'; console.log(marked.parse('# Marked in Node.js\\n\\nRendered by **marked**.\\n\\n- a\\n- b\\n\\n| x | y |\\n|---|---|\\n| 1 | 2 |\\n\\n```js\\nlet x = 1;\\n```\\n'), new Marked({ gfm: false }).parse('~~no~~'))",
    ),
    (
        "immer@10.1.1",
        "import { produce, original, isDraft, enablePatches, produceWithPatches } from 'immer'; enablePatches(); const base = [{ title: 'Learn TypeScript', done: true }, { title: 'Try Immer', done: false }]; const next = produce(base, draft => { draft.push({ title: 'Tweet about it' }); draft[1].done = true; console.log(isDraft(draft), original(draft).length); }); console.log(JSON.stringify(next), base.length, next[0] === base[0], JSON.stringify(produceWithPatches(base, d => { d[0].done = false })))",
    ),
    (
        "yaml@2.8.0",
        "import { parse, stringify, parseDocument } from 'yaml'; console.log(parse('YAML:\\n  - A human-readable data serialization language\\n  - https://en.wikipedia.org/wiki/YAML\\nyaml:\\n  - { a: 1, b: [x, y] }\\n  - !!set {k}\\n'), stringify({ number: 3, plain: 'string', block: 'two\\nlines\\n', list: [null, true] }), parseDocument('a: &x 1\\nb: *x\\nc: [').errors.map(e => e.code))",
    ),
    (
        "zod@3.25.67",
        "import { z } from 'zod'; const User = z.object({ username: z.string().min(3), age: z.coerce.number().int().positive().optional(), tags: z.array(z.enum(['a', 'b'])).default(['a']) }).strict(); console.log(User.parse({ username: 'Ludwig', age: '7' })); const bad = User.safeParse({ username: 'x', age: -1, more: 1 }); console.log(bad.success, bad.error.issues.map(i => [i.code, i.path.join('.'), i.message])); console.log(z.discriminatedUnion('t', [z.object({ t: z.literal(1) }), z.object({ t: z.literal(2) })]).parse({ t: 2 }))",
    ),
];

/// Installs packages from the npm registry into a folder, without running their scripts.
pub(crate) fn install(world: &World, folder: &Path, packages: &[&str]) {
    let mut npm = world.bare("npm", &["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save"]);
    npm.args(packages).env("PATH", path_with(&[tool("npm-11")])).current_dir(folder);
    pass_on(&mut npm);
    world.run(npm).succeeded();
}

/// Lets npm find the registry that this machine is set up for.
#[expect(clippy::disallowed_methods, reason = "the real npm registry is reached as the machine is set up")]
fn pass_on(command: &mut Command) {
    for name in [
        "HOME",
        "HTTPS_PROXY",
        "https_proxy",
        "NO_PROXY",
        "NODE_EXTRA_CA_CERTS",
        "npm_config_registry",
        "NPM_CONFIG_REGISTRY",
        "NPM_CONFIG_USERCONFIG",
    ] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
}

/// Hardens the package in `folder` and returns the artifact.
fn harden(world: &World, folder: &Path) -> PathBuf {
    let out = folder.with_extension("protected");
    let mut command = world.bare(CLI, &["protect-build", "--no-record", "--out"]);
    command.arg(&out).current_dir(folder);
    let screen = world.run(command);
    assert_eq!(screen.code, 0, "{}\n{screen}", folder.display());
    out.join("artifact")
}

/// Puts the hardened files over the original ones, except where `keep` says so.
fn overlay(artifact: &Path, folder: &Path, keep: &str) -> usize {
    let mut changed = 0;
    for file in files(artifact) {
        let relative = file.strip_prefix(artifact).expect("below");
        let target = folder.join(relative);
        if !relative.starts_with(keep) && target.exists() {
            if relative
                .extension()
                .is_some_and(|extension| ["js", "mjs", "cjs"].contains(&extension.to_str().unwrap_or("")))
                && fs::read(&file).expect("read") != fs::read(&target).expect("read")
            {
                changed += 1;
            }
            fs::copy(&file, &target).expect("copy");
        }
    }
    changed
}

#[test]
fn hardened_packages_pass_their_own_suites() {
    let world = World::new();
    let folder = world.path("work/suites");
    fs::create_dir(&folder).expect("folder");
    fs::write(folder.join("package.json"), "{\"private\": true}").expect("write");
    let all: Vec<&str> = WITH_SUITES.iter().chain(SUITES_NEED).copied().collect();
    install(&world, &folder, &all);
    for package in WITH_SUITES {
        let name = package.split('@').next().expect("name");
        // A copy: npm packs nothing that lies in node_modules, and others there import the original.
        let copy = folder.join(name);
        let mut cp = world.bare("cp", &["-r"]);
        cp.arg(folder.join("node_modules").join(name)).arg(&copy);
        world.run(cp).succeeded();
        let suite = |world: &World| {
            let mut node = world.bare("node", &["../node_modules/tape/bin/tape", "test/*.js"]);
            node.current_dir(&copy);
            let screen = world.run(node);
            let passed =
                screen.stdout.lines().find(|line| line.starts_with("# pass")).unwrap_or_default().to_owned();
            (screen, passed)
        };
        let (before, passed) = suite(&world);
        assert_eq!(before.code, 0, "{package} fails as it is\n{before}");
        let artifact = harden(&world, &copy);
        assert!(overlay(&artifact, &copy, "test") > 0, "{package}: nothing was hardened");
        let (after, passed_hardened) = suite(&world);
        assert_eq!(after.code, 0, "{package} fails when hardened\n{after}");
        assert_eq!(passed_hardened, passed, "{package}");
    }
}

#[test]
fn hardened_packages_behave_as_documented() {
    let world = World::new();
    let folder = world.path("work/examples");
    fs::create_dir(&folder).expect("folder");
    fs::write(folder.join("package.json"), "{\"private\": true}").expect("write");
    let all: Vec<&str> = WITH_EXAMPLES.iter().map(|(package, _)| *package).collect();
    install(&world, &folder, &all);
    for (package, example) in WITH_EXAMPLES {
        let name = package.split('@').next().expect("name");
        let installed = folder.join("node_modules").join(name);
        let run = |world: &World| {
            let mut node = world.bare("node", &["--input-type=module", "--eval", example]);
            node.current_dir(&folder);
            world.run(node)
        };
        let before = run(&world);
        assert_eq!(before.code, 0, "{package} fails as it is\n{before}");
        let copy = folder.join(name);
        fs::rename(&installed, &copy).expect("rename");
        let artifact = harden(&world, &copy);
        fs::rename(&artifact, &installed).expect("rename");
        let after = run(&world);
        assert_eq!(after.code, 0, "{package} fails when hardened\n{after}");
        assert_eq!(after.stdout, before.stdout, "{package}");
        let smaller = files(&installed).iter().any(|file| {
            let original = copy.join(file.strip_prefix(&installed).expect("below"));
            let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
            file.extension().is_some_and(|extension| extension == "js") && size(file) < size(&original)
        });
        assert!(smaller || *package == "nanoid@5.1.5", "{package}: nothing was hardened");
    }
}
