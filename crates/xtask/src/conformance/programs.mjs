// Compares what random programs print before and after: `cargo xtask conformance programs`.
//
// `node --experimental-vm-modules programs.mjs '<settings as JSON>'`. The programs are those that
// `crates/harden/tests/random_programs.mjs` makes of a seed, which is printed: the same seed makes the same.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { format } from 'node:util';
import vm from 'node:vm';

import { program } from '../../../harden/tests/random_programs.mjs';
import { ours } from './subjects.mjs';

const settings = JSON.parse(process.argv[2]);
const say = (text) => process.stderr.write(text + '\n');
process.on('unhandledRejection', () => {});

/** Runs a program in a realm of its own and returns the lines that it prints. */
async function run(name, text) {
  const lines = [];
  const context = vm.createContext(vm.constants.DONT_CONTEXTIFY);
  const global = vm.runInContext('globalThis', context);
  global.console = { log: (...values) => lines.push(format(...values)) };
  try {
    if (name.endsWith('.mjs')) {
      const module = new vm.SourceTextModule(text, { context });
      await module.link(() => {});
      await module.evaluate();
    } else if (name.endsWith('.script.js')) {
      new vm.Script(text).runInContext(context, { timeout: 10_000 });
    } else {
      const module = { exports: {} };
      new vm.Script(`(function (exports, require, module, __filename, __dirname) {${text}\n})`).runInContext(context)(module.exports, () => {}, module, '', '');
    }
  } catch (error) {
    lines.push(`threw ${error?.name ?? typeof error}`);
  }
  for (let n = 0; n < 3; n++) await turn();
  return lines;
}

async function main() {
  const seed = settings.seed ?? Math.floor(Math.random() * 1e9);
  const count = settings.sample ?? 2000;
  say(`random programs: seed ${seed}, ${count} of them`);
  const programs = Array.from({ length: count }, (_, at) => program(seed + at));
  const before = new Map();
  let lines = 0;
  for (const { name, text } of programs) {
    const said = await run(name, text);
    lines += said.length;
    before.set(name, said);
  }
  say(`  they print ${lines} lines`);
  const table = ['| | programs | differ | refused |', '|---|---|---|---|'];
  const found = join(settings.out, 'programs');
  mkdirSync(found, { recursive: true });
  for (const profile of settings.profiles) {
    const [subject] = ours(settings.transformer, profile);
    const answers = await subject.transform(programs.map(({ name, text }) => ({ id: name, path: name, text })));
    let differ = 0;
    let refused = 0;
    for (const { name, text } of programs) {
      const answer = answers.get(name);
      if (answer.code === undefined) {
        refused++;
        say(`  ${profile} refuses ${name}: ${answer.refused.split('\n')[0]}`);
        continue;
      }
      const [expected, actual] = [before.get(name), await run(name, answer.code)];
      const at = expected.findIndex((line, index) => line !== actual[index]);
      if (at === -1 && expected.length === actual.length) continue;
      differ++;
      if (differ <= 20) say(`  ${profile} ${name}: line ${at}: ${expected[at]} became ${actual[at === -1 ? expected.length : at]}`.slice(0, 240));
      writeFileSync(join(found, `${profile}_${name}`), answer.code);
      writeFileSync(join(found, name), text);
    }
    table.push(`| ${profile} | ${count} | ${differ} | ${refused} |`);
    if (differ + refused) process.exitCode = 1;
  }
  process.stdout.write(`seed ${seed}, ${lines} lines\n\n${table.join('\n')}\n`);
}

await main();
