// Runs test262 differentially: a test that passes as it is must pass transformed.
//
// `node test262.mjs '<settings as JSON>'`; the settings are written by `cargo xtask conformance`.
import { fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join, matchesGlob } from 'node:path';

import { ours, peer, peerNames } from './subjects.mjs';

const settings = JSON.parse(process.argv[2]);
const { test262, out, revision } = settings;
const WORKERS = 2;
/** Tests that a worker has in hand at once, so that it never waits. */
const AHEAD = 8;
/** A worker that answers nothing for this long meets a test that does not end. */
const STUCK_MS = 30_000;
/** Realms are not always given back: a worker ends after so many tests. */
const TESTS_A_WORKER = 600;

const say = (text) => process.stderr.write(text + '\n');
const sha = (...parts) => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(String(part.length)).update(part);
  return hash.digest('base64url').slice(0, 22);
};

/** Reads the tests that should pass. */
function tests() {
  const found = [];
  const fixtures = new Map();
  const walk = (folder) => {
    for (const entry of readdirSync(join(test262, folder), { withFileTypes: true })) {
      const file = `${folder}/${entry.name}`;
      if (entry.isDirectory()) walk(file);
      else if (file.includes('_FIXTURE') && file.endsWith('.js')) fixtures.set(file, readFileSync(join(test262, file), 'utf8'));
      else if (file.endsWith('.js')) found.push(file);
    }
  };
  for (const tree of settings.trees) walk(`test/${tree}`);
  const named = (file, pattern) => file.includes(pattern) || matchesGlob(file, pattern);
  let files = found.filter((file) => (!settings.only || named(file, settings.only)) && !(settings.skip && named(file, settings.skip)));
  if (settings.sample) {
    // The same tests each time, spread over all.
    files = files.map((file) => [sha(file), file]).sort().slice(0, settings.sample).map(([, file]) => file);
  }
  files.sort();
  const list = [];
  for (const file of files) {
    const source = readFileSync(join(test262, file), 'utf8');
    const front = /\/\*---([\s\S]*?)---\*\//.exec(source)?.[1] ?? '';
    if (/^negative:/m.test(front)) continue;
    const array = (key) => {
      const text = new RegExp(`^${key}:\\s*\\[([^\\]]*)\\]`, 'm').exec(front)?.[1] ?? '';
      return text.split(',').map((word) => word.trim()).filter((word) => word !== '');
    };
    const flags = array('flags');
    const strict = { id: 'strict', text: `"use strict";\n${source}`, module: false };
    const sloppy = { id: 'sloppy', text: source, module: false };
    let variants = [sloppy, strict];
    if (flags.includes('module')) variants = [{ id: 'module', text: source, module: true }];
    else if (flags.includes('raw') || flags.includes('noStrict')) variants = [sloppy];
    else if (flags.includes('onlyStrict')) variants = [strict];
    list.push({ file, flags, includes: array('includes'), variants, usesFixtures: source.includes('_FIXTURE') });
  }
  return { list, fixtures };
}

/** Remembers what passed: the same text in the same engine passes again. */
class Memory {
  constructor() {
    const engine = [process.version, revision, readFileSync(new URL('./worker.mjs', import.meta.url), 'utf8')];
    this.engine = sha(...engine);
    this.file = join(out, `passed-${this.engine}`);
    this.known = new Map();
    if (existsSync(this.file)) {
      for (const line of readFileSync(this.file, 'utf8').split('\n')) {
        const [key, reason] = line.split('\t');
        if (key) this.known.set(key, reason === undefined ? null : reason);
      }
    }
    this.fresh = [];
  }
  note(key, result) {
    this.known.set(key, result);
    this.fresh.push(result === null ? key : `${key}\t${result.replace(/[\t\n\r]/g, ' ')}`);
    if (this.fresh.length > 500) this.save();
  }
  save() {
    if (this.fresh.length) appendFileSync(this.file, this.fresh.join('\n') + '\n');
    this.fresh = [];
  }
}

/** Runs jobs `{ file, flags, includes, fixtures, variants }` and hands each job's results to `each`. */
async function run(jobs, each) {
  const queue = jobs.map((job, id) => ({ id, ...job })).reverse();
  let done = 0;
  const began = Date.now();
  let told = began;
  const worker = () => new Promise((resolve) => {
    const child = fork(new URL('./worker.mjs', import.meta.url), [test262], {
      execArgv: ['--experimental-vm-modules', '--expose-gc', '--no-warnings', '--stack-size=900'],
      serialization: 'advanced', stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    const inHand = [];
    let sent = 0;
    let timer;
    let ending = false;
    const rearm = () => {
      clearTimeout(timer);
      timer = setTimeout(() => child.kill('SIGKILL'), STUCK_MS);
    };
    const feed = () => {
      while (inHand.length < AHEAD && queue.length && sent < TESTS_A_WORKER) {
        const job = queue.pop();
        inHand.push(job);
        sent++;
        const { each: _, ...message } = job;
        child.send(message, () => {});
      }
      if (!inHand.length && !ending) {
        ending = true;
        clearTimeout(timer);
        child.disconnect();
      }
    };
    child.on('message', ({ id, results }) => {
      rearm();
      const at = inHand.findIndex((job) => job.id === id);
      const [job] = inHand.splice(at, 1);
      each(job, results);
      done++;
      if (Date.now() - told > 20_000) {
        told = Date.now();
        say(`  ${done} of ${jobs.length}, ${((told - began) / 1000).toFixed(0)} s`);
      }
      feed();
    });
    child.on('error', () => {});
    child.on('exit', () => {
      clearTimeout(timer);
      // Tests run in the order they were sent: the first one in hand is the one that ended the worker.
      const culprit = inHand.shift();
      if (culprit) {
        done++;
        each(culprit, culprit.variants.map(() => 'ended the process, or did not end'));
      }
      queue.push(...inHand.reverse());
      resolve();
    });
    rearm();
    feed();
  });
  await Promise.all(Array.from({ length: WORKERS }, async () => {
    while (queue.length) await worker();
  }));
}

/** Runs variants of tests, but for those that are known. Returns a Map from `file variant` to null or a reason. */
async function results(memory, list) {
  const found = new Map();
  const jobs = [];
  for (const test of list) {
    const fixtures = Object.entries(test.fixtures ?? {}).flat().join('\0');
    const unknown = [];
    for (const variant of test.variants) {
      const key = sha(test.file, variant.id, fixtures, variant.code);
      if (memory.known.has(key)) found.set(`${test.file} ${variant.id}`, memory.known.get(key));
      else unknown.push({ ...variant, key });
    }
    if (unknown.length) jobs.push({ ...test, variants: unknown });
  }
  await run(jobs, (job, outcomes) => {
    job.variants.forEach((variant, index) => {
      const outcome = outcomes[index];
      found.set(`${job.file} ${variant.id}`, outcome);
      // What fails may have failed for lack of time.
      if (outcome === null || job.remember) memory.note(variant.key, outcome);
    });
  });
  memory.save();
  return found;
}

async function main() {
  mkdirSync(out, { recursive: true });
  const memory = new Memory();
  const { list, fixtures } = tests();
  const baselineOnly = list.map((test) => ({
    ...test, remember: true, variants: test.variants.map(({ id, text, module }) => ({ id, module, code: text })),
  }));
  say(`test262 ${revision}: ${list.length} positive tests, Node.js ${process.version}`);
  const baseline = await results(memory, baselineOnly);
  const passing = [];
  for (const test of list) {
    const variants = test.variants.filter(({ id }) => baseline.get(`${test.file} ${id}`) === null);
    if (variants.length) passing.push({ ...test, variants });
  }
  say(`  ${passing.length} pass as they are`);

  const subjects = [];
  for (const profile of settings.profiles) subjects.push(...ours(settings.transformer, profile));
  for (const name of settings.peers ? peerNames : []) subjects.push(...await peer(settings.tools, name));
  const measured = [];
  for (const subject of subjects) {
    if (settings.names === 'keep' && subject.keeps || settings.names === 'shorten' && !subject.keeps) continue;
    measured.push(await measure(memory, subject, passing, fixtures));
  }
  report(measured, list.length, passing);
}

async function measure(memory, subject, passing, fixtures) {
  say(`${subject.name}: transforming`);
  const programs = [];
  for (const [file, text] of fixtures) programs.push({ id: file, text, module: true });
  for (const test of passing) {
    for (const { id, text, module } of test.variants) programs.push({ id: `${test.file} ${id}`, text, module });
  }
  const began = Date.now();
  const answers = await subject.transform(programs);
  const transformMs = Date.now() - began;
  say(`  ${programs.length} programs in ${(transformMs / 1000).toFixed(1)} s; running`);
  const byFolder = new Map();
  for (const [file, text] of fixtures) {
    const folder = dirname(file);
    if (!byFolder.has(folder)) byFolder.set(folder, {});
    // A fixture that is no module is there to be refused.
    byFolder.get(folder)[file.slice(folder.length + 1)] = answers.get(file)?.code ?? text;
  }
  const misses = [];
  const jobs = [];
  let unprotected = 0;
  let bytesIn = 0;
  let bytesOut = 0;
  for (const test of passing) {
    const variants = [];
    for (const variant of test.variants) {
      const answer = answers.get(`${test.file} ${variant.id}`);
      if (answer?.code === undefined) {
        misses.push({ file: test.file, variant: variant.id, reason: `refused: ${answer?.refused ?? 'nothing was said'}` });
        continue;
      }
      if (answer.unprotected) unprotected++;
      bytesIn += variant.text.length;
      bytesOut += answer.code.length;
      variants.push({ id: variant.id, module: variant.module, code: answer.code });
    }
    const used = test.usesFixtures ? byFolder.get(dirname(test.file)) : undefined;
    jobs.push({ file: test.file, flags: test.flags, includes: test.includes, fixtures: used, variants });
  }
  const outcome = await results(memory, jobs);
  for (const job of jobs) {
    for (const { id, code } of job.variants) {
      const reason = outcome.get(`${job.file} ${id}`);
      if (reason !== null) misses.push({ file: job.file, variant: id, reason, code });
    }
  }
  const failed = new Set(misses.map(({ file }) => file));
  say(`  ${passing.length - failed.size} of ${passing.length} pass, ${failed.size} do not`);
  return { ...subject, transform: undefined, transformMs, misses, failed, unprotected, bytesIn, bytesOut };
}

function report(measured, positive, passing) {
  const total = passing.length;
  const byName = new Map(measured.map((subject) => [subject.name, subject]));
  const percent = (part) => (100 * part / total).toFixed(2);
  const rows = measured.map((subject) => {
    const keeping = byName.get(subject.keeps);
    // Only a name differs where the same transformation passes once it keeps names.
    const forgiven = keeping ? [...subject.failed].filter((file) => !keeping.failed.has(file)) : undefined;
    return { subject, forgiven, passed: total - subject.failed.size };
  });
  const lines = [
    `test262 ${revision}, Node.js ${process.version}: ${positive} positive tests, ${total} pass as they are.`, '',
    '| | version | passed | % | % when only names changed | names kept (direct eval, with, ...) | size |', '|---|---|---|---|---|---|---|',
  ];
  for (const { subject, forgiven, passed } of rows) {
    lines.push(`| ${subject.name} | ${subject.version} | ${passed} | ${percent(passed)} | ${forgiven ? percent(passed + forgiven.length) : '-'} | ${subject.ours ? subject.unprotected : '-'} | ${(subject.bytesOut / subject.bytesIn).toFixed(2)} |`);
  }
  for (const { subject, forgiven } of rows.filter(({ subject }) => subject.ours)) {
    lines.push('', `## ${subject.name}: ${subject.failed.size} misses`, '');
    const seen = new Set();
    for (const { file, variant, reason } of subject.misses) {
      if (seen.has(file)) continue;
      seen.add(file);
      lines.push(`- ${file.replace('test/', '')} (${variant})${forgiven?.includes(file) ? ' only a name' : ''}: ${reason.split('\n')[0]}`);
    }
  }
  const text = lines.join('\n') + '\n';
  writeFileSync(join(out, 'test262.md'), text);
  const data = rows.map(({ subject, forgiven, passed }) => ({
    name: subject.name, version: subject.version, passed, total, forgiven, misses: subject.misses, transformMs: subject.transformMs,
  }));
  writeFileSync(join(out, 'test262.json'), JSON.stringify({ revision, node: process.version, positive, rows: data }, null, 1));
  process.stdout.write(lines.slice(0, rows.length + 4).join('\n') + `\n\nEvery miss stands in ${join(out, 'test262.md')}\n`);
}

await main();
