// Runs every case of a folder and prints what each wrote, as JSON by case.
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { format } from 'node:util';
import vm from 'node:vm';

const folder = resolve(process.argv[2]);
const require = createRequire(join(folder, 'index.js'));
const outputs = {};
let current;
// JSON readers refuse half a surrogate pair.
const half = (unit) => '<' + unit.charCodeAt(0).toString(16) + '>';
console.log = (...values) => current.push(format(...values).replace(/\p{Surrogate}/gu, half));
const said = (error) => current.push('threw ' + (error?.name ?? typeof error));
process.on('uncaughtException', said);
process.on('unhandledRejection', said);
const settle = async () => { for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate); };

for (const file of readdirSync(folder).filter((name) => /\.(js|mjs|cjs)$/.test(name)).sort()) {
  current = outputs[file] = [];
  const path = join(folder, file);
  try {
    if (file.endsWith('.script.js')) vm.runInThisContext(readFileSync(path, 'utf8'), { filename: file });
    else if (file.endsWith('.mjs')) await import(pathToFileURL(path));
    else require(path);
  } catch (error) {
    said(error);
  }
  // A case that waits for something else than a turn of the loop says for what.
  await globalThis.settled;
  delete globalThis.settled;
  await settle();
}
process.stdout.write(JSON.stringify(outputs));
