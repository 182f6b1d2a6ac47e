// Loads the tools that are measured from the folder that they were installed in: BENCH_LIBRARIES.
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

export const require = createRequire(path.join(process.env.BENCH_LIBRARIES, 'package.json'));

export function load(name) {
  return import(pathToFileURL(require.resolve(name)));
}
