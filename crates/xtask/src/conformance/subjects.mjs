// What is measured: our own build and its peers, each a way to turn many programs into others.
//
// A subject has a name, its version, and `transform(programs)`: programs are `{ id, text, module }`, the answer is
// a Map from id to `{ code }` or `{ refused }`. `keeps` names the subject that is the same but for its keeping the
// names of functions and classes.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { join } from 'node:path';

/** Hardens programs with the developer-only transformer, all in one process. */
export async function harden(transformer, options, programs) {
  const child = spawn(transformer, ['--threads', '2', ...options], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'close');
  const answers = new Map();
  const read = (async () => {
    // Not by `readline`, which takes U+2028 for the end of a line.
    let rest = '';
    for await (const text of child.stdout.setEncoding('utf8')) {
      const lines = (rest + text).split('\n');
      rest = lines.pop();
      for (const line of lines) {
        const { id, ...answer } = JSON.parse(line);
        answers.set(id, answer);
      }
    }
  })();
  for (const { id, text, module, path = module ? 'program.mjs' : 'program.js' } of programs) {
    const line = JSON.stringify({ id, path, text }) + '\n';
    if (!child.stdin.write(line)) await once(child.stdin, 'drain');
  }
  child.stdin.end();
  await read;
  const [code] = await ended;
  if (code !== 0) throw new Error(`the transformer ended with ${code}`);
  return answers;
}

export function ours(transformer, profile) {
  const options = ['--profile', profile];
  const name = `${profile}, keep names`;
  return [
    { name: profile, version: 'this workspace', keeps: name, ours: true, transform: (programs) => harden(transformer, options, programs) },
    { name, version: 'this workspace', ours: true, transform: (programs) => harden(transformer, [...options, '--keep-names'], programs) },
  ];
}

/** Each peer as its documentation says to minify, then with its way to keep names. */
const PEERS = {
  esbuild: (module) => (keepNames) => ({ text }) =>
    module.transformSync(text, { minify: true, keepNames, legalComments: 'none', logLevel: 'silent', target: 'esnext' }).code,
  '@swc/core': (swc) => (keep) => ({ text, module }) =>
    swc.minifySync(text, { module, compress: { keep_fnames: keep, keep_classnames: keep }, mangle: { keep_fnames: keep, keep_classnames: keep } }).code,
  terser: (terser) => (keep) => async ({ text, module }) =>
    (await terser.minify(text, { module, keep_fnames: keep, keep_classnames: keep, compress: {}, mangle: {} })).code,
  'oxc-minify': (oxc) => (keep) => ({ text, module }) => {
    const keepNames = { function: keep, class: keep };
    const done = oxc.minifySync(module ? 'program.mjs' : 'program.js', text, { module, compress: { keepNames }, mangle: { keepNames: keep } });
    if (done.errors?.length) throw new Error(done.errors[0].message);
    return done.code;
  },
};

export const peerNames = Object.keys(PEERS);

export async function peer(tools, name) {
  const folder = join(tools, 'harden-peers');
  const require = createRequire(join(folder, 'package.json'));
  const version = require(`${name}/package.json`).version;
  const module = await import(require.resolve(name));
  const make = PEERS[name](module.default ?? module);
  const each = (minify) => async (programs) => {
    const answers = new Map();
    for (const program of programs) {
      try {
        answers.set(program.id, { code: await minify(program) });
      } catch (error) {
        answers.set(program.id, { refused: String(error.message).split('\n').slice(0, 3).join(' ') });
      }
    }
    return answers;
  };
  const keeping = `${name}, keep names`;
  return [
    { name, version, keeps: keeping, transform: each(make(false)) },
    { name: keeping, version, transform: each(make(true)) },
  ];
}
