// Runs packages' own test suites against their hardened code.
//
// `node packages.mjs '<settings as JSON>'`; the settings are written by `cargo xtask conformance`. Each package is
// one that carries its tests in its tarball. Its suite has to pass as it is, and then to pass just as many
// assertions hardened, by each profile; test files stay as they are.
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join, matchesGlob, relative } from 'node:path';

const settings = JSON.parse(process.argv[2]);
const list = JSON.parse(readFileSync(new URL('./packages.json', import.meta.url), 'utf8'));
const say = (text) => process.stderr.write(text + '\n');
/** The longest a suite may take. */
const SUITE_MS = 120_000;

const named = (name, pattern) => name.includes(pattern) || matchesGlob(name, pattern);
const nameOf = (pin) => pin.slice(0, pin.lastIndexOf('@'));

/** Installs all packages and what their suites import, unless they are there. */
function install(folder) {
  const pins = [...list.suites.map(({ package: pin }) => pin), ...list.needed];
  const stamp = join(folder, 'installed.json');
  const wanted = JSON.stringify(pins);
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{"private": true}');
  say(`installing ${pins.length} packages`);
  execFileSync('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--no-save', '--no-update-notifier', '--loglevel=error', ...pins], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
  writeFileSync(stamp, wanted);
}

/** Runs the suite of the package in `folder`; returns how many assertions passed, or why it failed. */
function suite(folder, { run, leave = [], path }) {
  const files = run.flatMap((pattern) => {
    if (!pattern.includes('*')) return [pattern];
    const below = dirname(pattern);
    return readdirSync(join(folder, below)).map((name) => `${below}/${name}`).filter((file) => matchesGlob(file, pattern) && !leave.includes(file)).sort();
  });
  let passed = 0;
  for (const file of files) {
    const done = spawnSync(process.execPath, [file], {
      cwd: folder, encoding: 'utf8', timeout: SUITE_MS, maxBuffer: 1 << 28,
      env: { PATH: process.env.PATH, HOME: folder, ...path },
    });
    if (done.status !== 0) {
      const lines = (done.stdout + done.stderr).split('\n');
      const first = lines.findIndex((line) => /^\s*not ok|Error/.test(line));
      const why = lines.slice(Math.max(first, 0), first + 12).join('\n');
      return { reason: done.error?.code === 'ETIMEDOUT' ? `${file} did not end` : `${file} ended with ${done.status}\n${why}` };
    }
    passed += (done.stdout.match(/^\s*(ok |✔)/gm) ?? []).length;
  }
  return { passed, files: files.length };
}

const isCode = (path) => /\.[cm]?js$/.test(path);

/** The files below `folder`, but for those of dependencies. */
const filesOf = (folder) => readdirSync(folder, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
  .filter((path) => !path.split('/').includes('node_modules'));

/** Without `exports` nothing is merged: they name what the package's users and its tests load, and nothing else. */
function writeExports(folder, { tests }) {
  const file = join(folder, 'package.json');
  const manifest = JSON.parse(readFileSync(file, 'utf8'));
  if (manifest.exports) return;
  const isTest = (path) => tests.some((pattern) => path.startsWith(pattern));
  const code = filesOf(folder).filter((path) => isCode(path));
  const own = code.filter((path) => !isTest(path));
  const named = {};
  const add = (from, specifier, key) => {
    try {
      const path = relative(folder, createRequire(join(folder, from)).resolve(specifier));
      if (own.includes(path) || path.endsWith('.json')) named[key ?? `./${path}`] = `./${path}`;
    } catch {
      // A text that is no module.
    }
  };
  add('package.json', './', '.');
  add('package.json', './package.json');
  for (const path of code) {
    const text = readFileSync(join(folder, path), 'utf8');
    // Code that the package writes may load it by its name.
    for (const [, below] of text.matchAll(/\b([\w@/.-]+\/[\w/.-]+)/g)) {
      if (below.startsWith(`${manifest.name}/`)) add('package.json', below.replace(manifest.name, '.'), below.replace(manifest.name, '.'));
    }
    for (const [, name] of isTest(path) ? text.matchAll(/['"`]([^'"`$\s]+)['"`]/g) : []) {
      if (/^\.\.?(\/|$)/.test(name)) add(path, name);
      // A program that a test starts.
      else own.filter((other) => basename(other) === name).forEach((other) => add('package.json', `./${other}`));
    }
  }
  manifest.exports = named;
  writeFileSync(file, JSON.stringify(manifest, null, 2));
}

/** Replaces the code of the package in `folder` by its hardened form; returns how many files changed. */
function harden(folder, profile, options, suiteOf) {
  const artifact = folder + '.artifact';
  rmSync(artifact, { recursive: true, force: true });
  // Tests are no part of the package: what only they load is still reached by them.
  const source = folder + '.source';
  rmSync(source, { recursive: true, force: true });
  const isTest = (path) => suiteOf.tests.some((pattern) => path.startsWith(pattern));
  cpSync(folder, source, { recursive: true, filter: (path) => !isTest(relative(folder, path)) });
  if (settings.bundle) writeExports(folder, suiteOf);
  if (settings.bundle) cpSync(join(folder, 'package.json'), join(source, 'package.json'));
  execFileSync(settings.transformer, ['--threads', '2', '--profile', profile, ...options, ...(settings.bundle ? ['--bundle'] : []), '--package', source, artifact], { stdio: ['ignore', 'ignore', 'pipe'] });
  let changed = 0;
  const before = new Set(filesOf(source).filter(isCode));
  const after = filesOf(artifact).filter(isCode);
  for (const path of after) {
    // What was compiled is not what the tests import.
    if (!before.delete(path) && !settings.bundle) continue;
    const text = readFileSync(join(artifact, path));
    if (existsSync(join(folder, path)) && text.equals(readFileSync(join(folder, path)))) continue;
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
    changed++;
  }
  // What is a part of another file now.
  for (const path of before) rmSync(join(folder, path));
  for (const place of [artifact, source]) rmSync(place, { recursive: true, force: true });
  return { changed, merged: before.size };
}

function main() {
  const folder = join(settings.out, 'packages');
  install(folder);
  let suites = list.suites.filter(({ package: pin }) => (!settings.only || named(pin, settings.only)) && !(settings.skip && named(pin, settings.skip)));
  if (settings.sample && settings.sample < suites.length) {
    // Another part each day, so that all come round.
    const day = Math.floor(Date.now() / 86_400_000);
    suites = Array.from({ length: settings.sample }, (_, index) => suites[(day * settings.sample + index) % suites.length]);
  }
  const rows = [];
  const misses = [];
  let merged = 0;
  let mergedIn = 0;
  for (const entry of suites) {
    const name = nameOf(entry.package);
    const fresh = () => {
      const copy = join(folder, 'copies', name);
      rmSync(copy, { recursive: true, force: true });
      cpSync(join(folder, 'node_modules', name), copy, { recursive: true });
      return copy;
    };
    const whole = { tests: ['test/', 'test.js', 'node_modules/'], run: ['test/*.js'], ...entry };
    const before = suite(fresh(), whole);
    if (before.reason) {
      say(`${entry.package}: fails as it is: ${before.reason}`);
      rows.push([entry.package, 'fails as it is']);
      continue;
    }
    const row = [entry.package, String(before.passed)];
    for (const profile of settings.profiles) {
      const attempt = (options) => {
        const copy = fresh();
        try {
          const done = harden(copy, profile, options, whole);
          if (!done.changed) return 'nothing was hardened';
          merged += done.merged;
          mergedIn += done.merged > 0;
        } catch (error) {
          return `refused: ${error.stderr ?? error.message}`;
        }
        const after = suite(copy, whole);
        if (after.reason) return after.reason;
        return after.passed === before.passed ? null : `${after.passed} assertions instead of ${before.passed}`;
      };
      const miss = attempt([]);
      // A suite that asks for the names of functions says so to its author, who keeps them.
      const kept = miss && attempt(['--keep-names']);
      row.push(!miss ? 'passes' : kept ? 'FAILS' : 'passes with names kept');
      if (kept) misses.push(`${entry.package}, ${profile}: ${kept}`);
    }
    say(row.join(', '));
    rows.push(row);
  }
  const lines = [
    `| package | assertions | ${settings.profiles.join(' | ')} |`, `|---|---|${settings.profiles.map(() => '---|').join('')}`,
    ...rows.map((row) => `| ${row.join(' | ')} |`), '', ...misses.map((miss) => `- ${miss}`),
    ...(settings.bundle ? [`${merged} files became a part of others, in ${mergedIn} builds`] : []),
  ];
  writeFileSync(join(settings.out, settings.bundle ? 'packages-bundled.md' : 'packages.md'), lines.join('\n') + '\n');
  process.stdout.write(lines.join('\n') + '\n');
  if (misses.length) process.exitCode = 1;
}

main();
