// Runs test262 tests, each variant in a fresh realm, for `test262.mjs`, which sends them by IPC.
//
// A message `{ id, file, flags, includes, variants: [{ id, code, module }] }` is answered by
// `{ id, results: [null | reason] }`. A test that never ends is ended by the parent.
import { readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import vm from 'node:vm';

const root = process.argv[2];
// Promises that a test rejects and leaves alone say nothing about it, and nor do errors of what it left behind.
process.on('unhandledRejection', () => {});
process.on('uncaughtException', () => {});

/** How often an asynchronous test gets its turn before the wait is counted in time, and that time. */
const TURNS = 100;
const WAIT_MS = 2000;

const harness = new Map();
function harnessScript(name) {
  if (!harness.has(name)) {
    const file = join(root, 'harness', name);
    harness.set(name, new vm.Script(readFileSync(file, 'utf8'), { filename: file }));
  }
  return harness.get(name);
}

function define(object, name, value) {
  Object.defineProperty(object, name, { value, writable: true, configurable: true, enumerable: false });
}

/** Makes a realm with what test262 asks of a host. */
function realm(print, load) {
  const context = vm.createContext(vm.constants.DONT_CONTEXTIFY);
  const global = vm.runInContext('globalThis', context);
  const inside = vm.runInContext('({ error: (name, text) => new globalThis[name](text), detach: buffer => { buffer.transfer(); } })', context);
  define(global, 'print', print);
  define(global, '$262', {
    global,
    createRealm: () => realm(print, load).global.$262,
    detachArrayBuffer: inside.detach,
    evalScript: (text) => new vm.Script(text, { importModuleDynamically: load(context) }).runInContext(context),
    gc: globalThis.gc,
    agent: undefined,
  });
  return { context, global };
}

/** Loads modules below the test's folder; the test itself and its fixtures may have other text than on disk. */
function loader(file, texts) {
  const folder = dirname(file);
  const byContext = new Map();
  return (context) => {
    if (byContext.has(context)) return byContext.get(context).load;
    const modules = new Map();
    const make = (specifier, attributes) => {
      const path = join(folder, specifier);
      const type = attributes?.type ?? '';
      const key = type + ' ' + path;
      if (!modules.has(key)) modules.set(key, create(path, type));
      return modules.get(key);
    };
    const create = (path, type) => {
      const text = texts.get(basename(path)) ?? readFileSync(path, 'utf8');
      if (type === 'json') {
        const value = vm.runInContext('JSON.parse', context)(text);
        return new vm.SyntheticModule(['default'], function () { this.setExport('default', value); }, { context });
      }
      if (type !== '') throw vm.runInContext('new TypeError("no such type of module")', context);
      return new vm.SourceTextModule(text, {
        context, identifier: path, importModuleDynamically: load,
        initializeImportMeta: (meta) => { meta.url = 'file://' + path; },
      });
    };
    const link = async (module) => {
      if (module.status === 'unlinked') await module.link((specifier, _, extra) => make(specifier, extra.attributes ?? extra.assert));
      return module;
    };
    const load = async (specifier, _, attributes) => {
      const module = make(specifier, attributes);
      // Modules of one graph are linked once: a second import meets them linked, evaluated or failed.
      await link(module);
      if (module.status === 'linked') await module.evaluate();
      else if (module.status === 'evaluating' || module.status === 'evaluated') await module.evaluate();
      if (module.status === 'errored') throw module.error;
      return module;
    };
    byContext.set(context, { load, make, link });
    return load;
  };
}

async function runVariant(test, code, module) {
  let said;
  const print = (text) => {
    text = String(text);
    if (!text.startsWith('Test262:Async')) return;
    // A test that ends twice is wrong.
    said = said === undefined ? text : 'Test262:AsyncTestFailure: ended twice';
  };
  const file = join(root, test.file);
  const texts = new Map(Object.entries(test.fixtures ?? {}));
  texts.set(basename(file), code);
  const load = loader(file, texts);
  const { context } = realm(print, load);
  const isAsync = test.flags.includes('async');
  if (!test.flags.includes('raw')) {
    harnessScript('assert.js').runInContext(context);
    harnessScript('sta.js').runInContext(context);
    if (isAsync) harnessScript('doneprintHandle.js').runInContext(context);
    for (const name of test.includes) harnessScript(name).runInContext(context);
  }
  if (module) {
    await load(context)('./' + basename(file), undefined, undefined);
  } else {
    new vm.Script(code, { filename: file, importModuleDynamically: load(context) }).runInContext(context);
  }
  if (isAsync) {
    for (let n = 0; said === undefined && n < TURNS; n++) await turn();
    const end = Date.now() + WAIT_MS;
    while (said === undefined && Date.now() < end) await sleep(20);
    if (said !== 'Test262:AsyncTestComplete') throw said ?? 'the test never ended';
  }
}

function text(error) {
  try {
    if (error !== null && typeof error === 'object') {
      const name = error.constructor?.name ?? error.name ?? 'Error';
      return `${name}: ${error.message}`;
    }
    return String(error);
  } catch {
    return 'an error that cannot be shown';
  }
}

async function answer(test) {
  const results = [];
  for (const { code, module } of test.variants) {
    try {
      await runVariant(test, code, module);
      results.push(null);
    } catch (error) {
      results.push(text(error).slice(0, 400) || 'threw nothing');
    }
  }
  process.send({ id: test.id, results });
}

// One at a time: a test that is not over sees nothing of the next.
let last = Promise.resolve();
process.on('message', (test) => { last = last.then(() => answer(test)); });
process.on('disconnect', () => process.exit());
