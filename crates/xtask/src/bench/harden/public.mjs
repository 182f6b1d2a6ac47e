// `node public.mjs <module> [<text>]`: prints the names that users of a module see, as a JSON list.
//
// They are found by loading it: what it exports, the properties of that, and of their prototypes. Nobody can hide
// them, and no tool is charged for them. With a second file the module is loaded with that one's text in its place.
import fs from 'node:fs';
import { registerHooks } from 'node:module';
import { pathToFileURL } from 'node:url';

const url = pathToFileURL(process.argv[2]).href;
if (process.argv[3]) {
  registerHooks({
    load(asked, context, next) {
      const loaded = next(asked, context);
      return asked === url ? { ...loaded, source: fs.readFileSync(process.argv[3], 'utf8') } : loaded;
    },
  });
}

const DEPTH = 4;
const names = new Set(['default', 'module', 'exports', 'require', 'prototype', 'constructor', '__esModule']);
const seen = new Set([Object.prototype, Function.prototype, Array.prototype, RegExp.prototype, Error.prototype]);

function look(value, depth) {
  if (value === null || !['object', 'function'].includes(typeof value)) return;
  if (depth > DEPTH || seen.has(value)) return;
  seen.add(value);
  for (const name of Object.getOwnPropertyNames(value)) {
    if (Array.isArray(value) || (typeof value === 'function' && ['length', 'name', 'arguments', 'caller'].includes(name))) continue;
    names.add(name);
    const { value: inner } = Object.getOwnPropertyDescriptor(value, name);
    look(inner, depth + 1);
  }
  if (typeof value === 'object') look(Object.getPrototypeOf(value), depth + 1);
}

look(await import(url), 0);
console.log(JSON.stringify([...names].sort()));
process.exit(0);
