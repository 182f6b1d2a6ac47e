// `node score.mjs [--json] [--limit <seconds>] <original> <obfuscated>`: how much of the original comes back.
//
// Four kinds of knowledge are looked for in the obfuscated file and in what four public deobfuscators make of it.
// A thing counts as recovered when it stands in any of the five. The score is 100 less the mean of the four shares.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe } from './describe.mjs';

export const TOOLS = ['webcrack', 'synchrony', 'restringer', 'obfuscator-io-deobfuscator'];
/** Strings longer than this are also looked for inside others: what is only joined is not hidden. */
const PARTS = 3;
const KINDS = ['bindings', 'properties', 'strings', 'shapes'];
const here = path.dirname(fileURLToPath(import.meta.url));

/** Runs a script of this folder, and returns what it printed, or why it failed. */
function run(script, args, limit) {
  return new Promise(resolve => {
    const child = spawn(process.execPath, ['--max-old-space-size=2048', path.join(here, script), ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    let [stdout, stderr, late] = ['', '', false];
    child.stdout.on('data', data => (stdout += data));
    child.stderr.on('data', data => (stderr += data));
    const timer = setTimeout(() => {
      late = true;
      process.kill(-child.pid, 'SIGKILL');
    }, limit * 1000);
    child.on('close', code => {
      clearTimeout(timer);
      const failed = late ? `not done in ${limit} s` : code ? lastLine(stderr) || `exit code ${code}` : null;
      resolve({ stdout, failed });
    });
  });
}

function lastLine(text) {
  return text.split('\n').find(line => /^\w*(Error|FATAL)/.test(line.trim()))?.trim();
}

export async function score(original, obfuscated, limit) {
  const open = await run('public.mjs', [original], 60);
  if (open.failed) throw new Error(`loading ${original}: ${open.failed}`);
  const known = new Set(JSON.parse(open.stdout));
  const again = await run('public.mjs', [original, obfuscated], 60);
  const broken = again.failed ?? (again.stdout === open.stdout ? null : 'it exports something else');
  const wanted = describe(fs.readFileSync(original, 'utf8'));
  for (const kind of ['bindings', 'properties', 'strings']) {
    for (const name of wanted[kind]) if (known.has(name)) wanted[kind].delete(name);
  }

  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'score-'));
  const outputs = [{ tool: 'none', file: obfuscated }];
  const failed = {};
  for (const tool of TOOLS) {
    const file = path.join(folder, `${tool}.js`);
    const done = await run('deobfuscate.mjs', [tool, obfuscated, file], limit);
    if (done.failed) failed[tool] = done.failed;
    else outputs.push({ tool, file });
  }

  const recovered = Object.fromEntries(KINDS.map(kind => [kind, new Map()]));
  for (const { tool, file } of outputs) {
    let found;
    try {
      found = describe(fs.readFileSync(file, 'utf8'));
    } catch (error) {
      failed[tool] = `what it wrote is not JavaScript: ${error.message}`;
      continue;
    }
    const note = (kind, what) => recovered[kind].set(what, [...(recovered[kind].get(what) ?? []), tool]);
    for (const name of wanted.bindings) if (found.bindings.has(name)) note('bindings', name);
    for (const name of wanted.properties) {
      if (found.properties.has(name) || found.strings.has(name)) note('properties', name);
    }
    const all = [...found.strings].join('\0');
    for (const text of wanted.strings) {
      const part = text.length > PARTS && all.includes(text);
      if (part || found.strings.has(text) || found.properties.has(text)) note('strings', text);
    }
    for (const [shape, count] of wanted.shapes) {
      const there = Math.min(count, found.shapes.get(shape) ?? 0);
      for (let each = 0; each < there; each++) note('shapes', `${shape}#${each}`);
    }
  }
  if (process.env.KEEP) console.error(`outputs kept in ${folder}`);
  else fs.rmSync(folder, { recursive: true });

  const totals = {
    ...Object.fromEntries(KINDS.slice(0, 3).map(kind => [kind, wanted[kind].size])),
    shapes: [...wanted.shapes.values()].reduce((sum, count) => sum + count, 0),
  };
  // A module without any of a kind has nothing to lose there, and the kind is left out of its mean.
  const counted = KINDS.filter(kind => totals[kind] > 0);
  const shares = Object.fromEntries(counted.map(kind => [kind, recovered[kind].size / totals[kind]]));
  const mean = counted.reduce((sum, kind) => sum + shares[kind], 0) / counted.length;
  const list = Object.fromEntries(KINDS.map(kind => [kind, Object.fromEntries(recovered[kind])]));
  return { score: 100 * (1 - mean), broken, shares, totals, failed, recovered: list };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const args = process.argv.slice(2);
  const json = args.includes('--json') && args.splice(args.indexOf('--json'), 1);
  const at = args.indexOf('--limit');
  const limit = at < 0 ? 60 : Number(args.splice(at, 2)[1]);
  const result = await score(path.resolve(args[0]), path.resolve(args[1]), limit);
  if (json) console.log(JSON.stringify(result));
  else print(result);
}

function print({ score: figure, broken, shares, totals, failed, recovered }) {
  console.log(`score ${figure.toFixed(1)}`);
  if (broken) console.log(`broken: ${broken}`);
  for (const kind of KINDS) {
    console.log(`\n${kind}: ${(shares[kind] ?? 0).toFixed(2)} of ${totals[kind]} recovered`);
    for (const [what, tools] of Object.entries(recovered[kind])) {
      console.log(`  ${JSON.stringify(what)}  (${tools.join(', ')})`);
    }
  }
  for (const [tool, why] of Object.entries(failed)) console.log(`\n${tool} failed: ${why}`);
}
